"""The script Claude Code runs: `python -I -S hook.py [--data-dir DIR]`. As small as can be, since it is compiled each
time; what it does is in `capture`, which is cached.
"""

import sys

# -I and -S leave out site-packages; only the folder that holds this package is added, at the end.
sys.path.append(__file__.rsplit("/", 4)[0])

from session_mgmt_mcp.adapters.claude_code.capture import main

main(sys.argv[1:])

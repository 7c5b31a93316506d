"""Memory and history for AI coding assistants, on an append-only event log.

This file imports next to nothing: a hook pays for every import.
"""

import sys

__version__ = "0.1.0"

if sys.platform == "win32":
    raise ImportError(
        "session-mgmt-mcp needs flock and POSIX renames, which Windows does not have; run it inside WSL, "
        "where the assistant runs too"
    )

"""The command line's entry point."""

import os
import sys

from session_mgmt_mcp.tools.cli import main as run


def main() -> int:
    os.umask(0o077)  # also what the engines write into the views holds what was said
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a locale without some letters
    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())

"""The command line's entry point."""

import sys

from session_mgmt_mcp.tools.cli import main as run


def main() -> int:
    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())

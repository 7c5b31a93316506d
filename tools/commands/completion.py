"""`completion`: print a script that completes this program's command line in a shell."""

import argparse
import sys

from session_mgmt_mcp.tools.cli import emit_json

EXAMPLE = "session-mgmt-mcp completion bash > ~/.local/share/bash-completion/completions/session-mgmt-mcp"
SHELLS = ("bash", "zsh", "fish")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=SHELLS, help="the shell the script is for")


def run(args: argparse.Namespace) -> int:
    from session_mgmt_mcp.tools.completions import script

    made = script(args.shell)
    if args.json:
        emit_json({"shell": args.shell, "script": made})
    else:
        sys.stdout.write(made)
    return 0

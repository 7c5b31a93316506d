"""The command line: one module a command, imported only when it is asked for."""

import argparse
import importlib
import json
import os
import sys
from collections.abc import Sequence
from typing import Any, Protocol

from session_mgmt_mcp import __version__
from session_mgmt_mcp.core.errors import SessionMgmtError

# name -> one line of help; the module is tools.commands.<name with - as _>
COMMANDS = {
    "setup": "find assistants, backfill their history, register hooks and the MCP server",
    "import": "append transcripts to the log",
    "search": "find moments in all sessions",
    "sessions": "list sessions",
    "show": "print a session, or what lies around a position",
    "remember": "store a reflection",
    "status": "what is captured, how far the views are, what is wrong",
    "replay": "rebuild the views from the log",
    "maintain": "seal the log, import live transcripts, publish the views",
    "pause": "stop capturing",
    "resume": "go on capturing",
    "demo": "play a small bundled session through the whole path and search it",
}


class Command(Protocol):
    """What a command module offers."""

    EXAMPLE: str  # one command line, shown by --help

    def configure(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, args: argparse.Namespace) -> int:
        """The exit code. `args.json` is set for every command."""


def emit_json(value: Any) -> None:
    """One JSON object on stdout, for machines."""
    json.dump(value, sys.stdout, ensure_ascii=False)
    sys.stdout.write("\n")


def note(message: str) -> None:
    """A line for people, on stderr."""
    print(message, file=sys.stderr)


def _load(name: str) -> Command:
    module: Command = importlib.import_module(
        f"session_mgmt_mcp.tools.commands.{name.replace('-', '_')}{'_' if name == 'import' else ''}"
    )
    return module


def _top_parser() -> argparse.ArgumentParser:
    lines = "\n".join(f"  {name:10} {text}" for name, text in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="session-mgmt-mcp",
        description="Memory and history for AI coding assistants.",
        epilog=f"commands:\n{lines}\n\nexample:\n  session-mgmt-mcp search 'why did the login test fail'\n\n"
        "exit codes: 0 done · 1 done in part, or failed · 2 wrong request · 3 data folder unusable · "
        "4 log corrupt · 5 could not be made durable · 6 settings file malformed · 130 interrupted",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("command", choices=COMMANDS, metavar="command", help="see below")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit code."""
    top = _top_parser().parse_args(argv)
    command = _load(top.command)
    parser = argparse.ArgumentParser(
        prog=f"session-mgmt-mcp {top.command}",
        description=COMMANDS[top.command].capitalize() + ".",
        epilog=f"example:\n  {command.EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout, for machines")
    command.configure(parser)
    args = parser.parse_args(top.arguments)
    try:
        return command.run(args)
    except SessionMgmtError as error:
        if args.json:
            emit_json({"error": {"kind": error.kind, "message": str(error)}})
        note(f"session-mgmt-mcp {top.command}: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        note("interrupted; run it again to go on")
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0

"""The command line: one module a command, imported only when it is asked for."""

import argparse
import errno
import importlib
import json
import os
import sys
from collections.abc import Sequence
from typing import Any, Protocol

from session_mgmt_mcp import __version__
from session_mgmt_mcp.core.errors import AppendError, DataFolderError, InputError, SessionMgmtError
from session_mgmt_mcp.tools import settings_file

# name -> one line of help; the module is tools.commands.<name with - as _>
COMMANDS = {
    "setup": "find assistants, backfill their history, register hooks and the MCP server",
    "import": "append transcripts to the log",
    "search": "find moments in all sessions",
    "sessions": "list sessions",
    "show": "print a session, or what lies around a position",
    "timeline": "walk through what happened: the newest, one session, or around a position",
    "stats": "activity over time, projects, tools, files, tokens",
    "projects": "list projects with their folders; join what was moved or renamed",
    "brief": "what a session that starts here is told",
    "checkpoint": "mark how a session stands, or end it with a handoff",
    "export": "write a session as Markdown, whole or as a handoff",
    "remember": "store a reflection",
    "status": "what is captured, how far the views are, what is wrong",
    "audit": "verify the log, list who did what when, sign the chain head and check signed ones",
    "permissions": "what may be done without asking, as the user said it: listed, granted, revoked, checked",
    "keys": "who may ask over HTTP: keys made, listed, revoked, rotated",
    "forget": "take events out of log, views and backups for good",
    "doctor": "find what is wrong with data folder, locks, journal, views and registration; --fix mends it",
    "retention": "how long and how much is kept: show it, set it, apply it",
    "replay": "rebuild the views from the log",
    "backup": "bring the log to another place, incrementally, and check what is there",
    "restore": "bring a log back from a backup, whole or up to a moment",
    "embed": "give every passage its vector, so that search finds it by meaning",
    "maintain": "seal the log, import live transcripts, publish the views",
    "ignore": "leave out projects, and what stands in files of some paths",
    "pause": "stop capturing",
    "resume": "go on capturing",
    "serve": "the MCP server: over HTTP for many clients (--http), or on stdio for one",
    "config": "the settings in force and where each comes from; check a file of them, write one to begin with",
    "load-test": "many clients of the service at once: how fast, and whether each finds what it stored",
    "bench": "how fast search is on this log; reads only",
    "completion": "print a shell's script that completes commands, options and values",
    "demo": "play a small bundled session through the whole path and search it",
}


EXIT_CODES = (
    "exit codes: 0 done · 1 done in part, or something to mend · 2 wrong request · 3 data folder unusable · "
    "4 log corrupt · 5 could not be made durable · 6 settings malformed, or no model to embed with · 130 interrupted"
)
_DUCKDB_INTERRUPTED = "Query interrupted"  # what it makes of Ctrl-C within a query


class Command(Protocol):
    """What a command module offers."""

    EXAMPLE: str  # one command line, shown by --help

    def configure(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, args: argparse.Namespace) -> int:
        """The exit code. `args.json` is set for every command."""


def emit_json(value: Any) -> None:
    """One JSON object on stdout, for machines: ASCII, so that no locale and no odd file name can break it."""
    sys.stdout.write(json.dumps(value) + "\n")


def note(message: str) -> None:
    """A line for people, on stderr."""
    print(message, file=sys.stderr)


def _load(name: str) -> Command:
    module: Command = importlib.import_module(
        f"session_mgmt_mcp.tools.commands.{name.replace('-', '_')}{'_' if name == 'import' else ''}"
    )
    return module


def _top_parser() -> argparse.ArgumentParser:
    width = max(map(len, COMMANDS))
    lines = "\n".join(f"  {name:{width}} {text}" for name, text in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="session-mgmt-mcp",
        description="Memory and history for AI coding assistants.",
        epilog=f"commands:\n{lines}\n\nexample:\n  session-mgmt-mcp search 'why did the login test fail'\n\n"
        + EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("command", choices=COMMANDS, metavar="command", help="see below")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit code."""
    given = sys.argv[1:] if argv is None else argv
    if not given:
        _top_parser().print_help(sys.stderr)
        return InputError.exit_code
    top = _top_parser().parse_args(given)
    settings_file.use()
    try:
        return _run(top.command, top.arguments)
    except KeyboardInterrupt:
        pass
    except RuntimeError as error:
        if str(error) != _DUCKDB_INTERRUPTED:
            raise
    note("interrupted; run it again to go on")
    return 130


def parser_of(name: str) -> tuple[Command, argparse.ArgumentParser]:
    """A command and the parser of its arguments."""
    command = _load(name)
    parser = argparse.ArgumentParser(
        prog=f"session-mgmt-mcp {name}",
        description=f"{COMMANDS[name][0].upper()}{COMMANDS[name][1:]}.",
        epilog=f"example:\n  {command.EXAMPLE}\n\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout, for machines")
    command.configure(parser)
    return command, parser


def _run(name: str, arguments: Sequence[str]) -> int:
    command, parser = parser_of(name)
    args = parser.parse_args(arguments)
    try:
        _refuse_broken_text(args)
        return command.run(args)
    except SessionMgmtError as error:
        return _failed(name, args, error)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return _failed(name, args, _in_our_words(error))


def _refuse_broken_text(args: argparse.Namespace) -> None:
    """Raise InputError for a word whose bytes are no text; a path may be any bytes."""
    for value in vars(args).values():
        for word in value if isinstance(value, list) else [value]:
            if isinstance(word, str) and not word.isascii() and _is_broken(word):
                raise InputError(f"{word!a} is no UTF-8 text; check the terminal's encoding")


def _is_broken(word: str) -> bool:
    try:
        word.encode()
    except UnicodeEncodeError:
        return True
    return False


def _failed(name: str, args: argparse.Namespace, error: SessionMgmtError) -> int:
    if args.json:
        emit_json({"error": {"kind": error.kind, "message": str(error)}})
    note(f"session-mgmt-mcp {name}: {error}")
    return error.exit_code


def _in_our_words(error: OSError) -> SessionMgmtError:
    """What the system refused, as an error that names the mend."""
    what = f"{error.filename or 'a file'}: {error.strerror or error}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return AppendError(f"{what}; free some space, then run it again: what was acknowledged is safe")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return DataFolderError(f"{what}; make it accessible, or set SESSION_MGMT_DATA_DIR")
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EIO):
        return DataFolderError(f"{what}; if it is in the data folder, restore it from a backup")
    return SessionMgmtError(f"{what}; `session-mgmt-mcp status --verify` checks the log")

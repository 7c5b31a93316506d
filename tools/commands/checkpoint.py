"""`checkpoint`: mark how a session stands, or end it."""

import argparse
import os

import msgspec

from session_mgmt_mcp.core.errors import InputError
from session_mgmt_mcp.tools import lifecycle
from session_mgmt_mcp.tools.app import App
from session_mgmt_mcp.tools.cli import emit_json, note

EXAMPLE = "session-mgmt-mcp checkpoint --note 'the parser works, the tests of dates do not yet'"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--session",
        help="the session, or the beginning of its id (default: the one this runs in, else the project's last)",
    )
    parser.add_argument("--note", default="", help="what the log cannot know")
    parser.add_argument(
        "--end", action="store_true", help="the last one: close the session and print its handoff"
    )
    parser.add_argument("--key", help="the same key again is stored once")


def run(args: argparse.Namespace) -> int:
    with App.open() as app:
        session = args.session or _here(app)
        if args.end:
            made: lifecycle.Handoff | lifecycle.Checkpoint = lifecycle.end(app, session, args.note, args.key)
        else:
            made = lifecycle.checkpoint(app, session, args.note, args.key)
    if args.json:
        emit_json(msgspec.to_builtins(made))
        return 0
    print(made.text)
    taken = "ended" if args.end else "checkpoint taken"
    note(f"\n{taken if made.appended else 'known already'}: session {made.session}, position {made.position}")
    return 0


def _here(app: App) -> str:
    """The session of the assistant this was started from, or the last one of this folder's project."""
    folder = lifecycle.here()
    found = lifecycle.current_session(app, os.getppid(), folder)
    if found is None and folder is None:
        raise InputError("which session? Give --session; `session-mgmt-mcp sessions` lists them")
    return found or lifecycle.last_session(app, folder or "")

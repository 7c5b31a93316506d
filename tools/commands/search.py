"""`search`: find moments in all sessions."""

import argparse
import os
from datetime import datetime

from session_mgmt_mcp.core.errors import InputError
from session_mgmt_mcp.tools.app import App
from session_mgmt_mcp.tools.cli import emit_json, note
from session_mgmt_mcp.tools.render import moment_json, print_moments

EXAMPLE = "session-mgmt-mcp search 'flaky date test' --project ~/shop --limit 5"
LIMIT_MAX = 1000


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("query", nargs="+", help="words that will have been said or written")
    parser.add_argument("--limit", type=int, default=10, help="how many at most (default: %(default)s)")
    parser.add_argument("--session", help="only in this session")
    parser.add_argument("--project", type=folder, help="only in this folder and below")
    parser.add_argument("--assistant", help="only of this assistant, such as claude-code")
    parser.add_argument("--kind", help="only this kind of action, such as PromptSubmitted or ToolReturned")
    parser.add_argument(
        "--after", type=moment, metavar="DATE", help="not before this date or time (ISO 8601)"
    )
    parser.add_argument("--before", type=moment, metavar="DATE", help="before this date or time (ISO 8601)")


def run(args: argparse.Namespace) -> int:
    """0, also where nothing was found."""
    if not 1 <= args.limit <= LIMIT_MAX:
        raise InputError(f"--limit {args.limit}: give a number from 1 to {LIMIT_MAX}")
    with App.open() as app:
        app.views.refresh()
        found = app.views.search(
            " ".join(args.query),
            limit=args.limit,
            session=args.session,
            project=args.project,
            assistant=args.assistant,
            kind=args.kind,
            after=args.after,
            before=args.before,
        )
    if args.json:
        emit_json({"results": [moment_json(m) for m in found]})
    elif found:
        print_moments(found)
        note(f"\nwhat lies around one: session-mgmt-mcp show --around {found[0].position}")
    else:
        note("nothing found; try other words, or fewer filters")
    return 0


def folder(text: str) -> str:
    """A folder as sessions record it: absolute. What is neither here nor relative is taken as it is."""
    expanded = os.path.expanduser(text)
    relative = not os.path.isabs(expanded) and os.path.isdir(expanded)
    return os.path.abspath(expanded) if relative else expanded


def moment(text: str) -> int:
    """An ISO date or time as µs since the epoch; local time where it names no zone."""
    try:
        return int(datetime.fromisoformat(text).timestamp() * 1e6)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no date; write 2026-03-01 or 2026-03-01T14:30"
        ) from None

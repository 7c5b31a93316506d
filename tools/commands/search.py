"""`search`: find moments in all sessions."""

import argparse
import os

from session_mgmt_mcp.core.errors import InputError
from session_mgmt_mcp.projections.query_times import EXAMPLES, parse_time
from session_mgmt_mcp.tools.app import App
from session_mgmt_mcp.tools.cli import emit_json, note
from session_mgmt_mcp.tools.render import moment_json, print_moments
from session_mgmt_mcp.tools.terminal import add_pager_option, output

EXAMPLE = (
    'session-mgmt-mcp search \'flaky "date test" file:test_dates.py after:"last week"\' --project ~/shop'
)
LIMIT_MAX = 1000
LANGUAGE = (
    'words; "exact phrase"; -without; filters: file: project: session: assistant: tool: kind: actor: branch: after: '
    "before: re: (all in one pair of quotes for the shell)"
)
SINGLE = ("session", "project", "assistant", "actor", "branch", "after", "before")
ANY_OF = {
    "kind": "only this kind of action, such as prompt, reply, call, edit or result",
    "tool": "only calls and results of this tool",
    "file": "only what has to do with this file: a name, the end of a path, folder/ or a glob",
    "regex": "only texts this regular expression is found in",
}


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("query", nargs="*", help=LANGUAGE)
    parser.add_argument("--limit", type=int, default=10, help="how many at most (default: %(default)s)")
    parser.add_argument("--session", help="only in this session")
    parser.add_argument(
        "--project", type=folder, help="only in this folder, or folders of this name, and below"
    )
    parser.add_argument("--assistant", help="only of this assistant, such as claude-code")
    for name, text in ANY_OF.items():
        parser.add_argument(f"--{name}", action="append", help=f"{text}; given again: any of them")
    parser.add_argument("--actor", help="only by user, assistant, tool or whom else it names")
    parser.add_argument("--branch", help="only on this git branch")
    parser.add_argument("--after", type=moment, metavar="DATE", help=f"not before this: {EXAMPLES}")
    parser.add_argument("--before", type=moment, metavar="DATE", help="before this")
    add_pager_option(parser)


def run(args: argparse.Namespace) -> int:
    """0, also where nothing was found; 1 where not everything could be looked through."""
    if not 1 <= args.limit <= LIMIT_MAX:
        raise InputError(f"--limit {args.limit}: give a number from 1 to {LIMIT_MAX}")
    asked = {name: getattr(args, name) for name in (*SINGLE, *ANY_OF)}
    with App.open() as app:
        app.views.refresh()
        found = app.views.search(" ".join(args.query), limit=args.limit, **asked)
    if args.json:
        emit_json({"results": [moment_json(m) for m in found], "note": found.note})
    elif found:
        with output(pager=not args.no_pager) as out:
            print_moments(found, out)
        note(f"\nwhat lies around one: session-mgmt-mcp show --around {found[0].position}")
    else:
        note("nothing found; try other words, or fewer filters")
    if found.note and not args.json:
        note(f"not all was searched: {found.note}")
    return 1 if found.note else 0


def folder(text: str) -> str:
    """A folder as sessions record it: absolute. What is neither here nor relative is taken as it is."""
    expanded = os.path.expanduser(text)
    relative = not os.path.isabs(expanded) and os.path.isdir(expanded)
    return os.path.abspath(expanded) if relative else expanded


def moment(text: str) -> int:
    """A date or time as µs since the epoch; local time where it names no zone."""
    try:
        return parse_time(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from None

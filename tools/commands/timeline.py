"""`timeline`: walk through what happened, page by page."""

import argparse

from session_mgmt_mcp.core.errors import InputError
from session_mgmt_mcp.projections.results import TimelinePage
from session_mgmt_mcp.tools.app import App
from session_mgmt_mcp.tools.cli import emit_json, note
from session_mgmt_mcp.tools.render import page_json, print_turns
from session_mgmt_mcp.tools.terminal import add_pager_option, output

EXAMPLE = "session-mgmt-mcp timeline --around 1042 --limit 30"


def configure(parser: argparse.ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "session",
        nargs="?",
        help="a session's id, or the beginning of it (default: the newest of all sessions)",
    )
    what.add_argument("--around", type=int, metavar="POSITION", help="the turns around a position")
    what.add_argument("--cursor", metavar="CURSOR", help="the page that an earlier one named")
    parser.add_argument("--limit", type=int, default=20, help="turns at most (default: %(default)s)")
    parser.add_argument("--full", action="store_true", help="whole texts, not their beginnings")
    add_pager_option(parser)


def run(args: argparse.Namespace) -> int:
    """0, also where nothing was captured yet."""
    if args.limit < 1:
        raise InputError(f"--limit {args.limit}: give a number from 1 on")
    with App.open() as app:
        page = app.views.timeline(
            session=args.session,
            around=args.around,
            before=args.limit // 2,
            after=(args.limit - 1) // 2,
            cursor=args.cursor or "",
            limit=args.limit,
        )
    if args.json:
        emit_json(page_json(page))
    elif page.turns:
        with output(pager=not args.no_pager) as out:
            print_turns(page.turns, out, full=args.full, mixed=True)
        _name_pages(page, args.limit)
    else:
        note("nothing yet; `session-mgmt-mcp setup` starts capturing and imports what is there")
    return 0


def _name_pages(page: TimelinePage, limit: int) -> None:
    for name, cursor in (("earlier", page.earlier), ("later", page.later)):
        if cursor:
            note(f"{name}: session-mgmt-mcp timeline --cursor={cursor} --limit {limit}")

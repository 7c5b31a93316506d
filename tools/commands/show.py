"""`show`: print a session, what lies around a position, or one event as it was recorded."""

import argparse
import sys

from session_mgmt_mcp.core.blobs import as_captured
from session_mgmt_mcp.core.errors import InputError
from session_mgmt_mcp.projections.results import TimelinePage
from session_mgmt_mcp.tools.app import App
from session_mgmt_mcp.tools.cli import emit_json, note
from session_mgmt_mcp.tools.render import page_json, print_session_head, print_turns, session_json
from session_mgmt_mcp.tools.terminal import add_pager_option, output

EXAMPLE = "session-mgmt-mcp show --around 1042"


def configure(parser: argparse.ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("session", nargs="?", help="a session's id, or the beginning of it")
    what.add_argument("--around", type=int, metavar="POSITION", help="the turns around a position")
    what.add_argument("--raw", type=int, metavar="POSITION", help="the event there, as it was recorded")
    parser.add_argument("--limit", type=int, default=40, help="turns at most (default: %(default)s)")
    parser.add_argument("--cursor", default="", help="go on from where an earlier page ended")
    parser.add_argument("--full", action="store_true", help="whole texts, not their beginnings")
    add_pager_option(parser)


def run(args: argparse.Namespace) -> int:
    if args.limit < 1:
        raise InputError(f"--limit {args.limit}: give a number from 1 on")
    if args.cursor and not args.session:
        raise InputError("--cursor goes on with a session: name the session too")
    with App.open() as app:
        if args.raw is not None:
            return _raw(app, args)
        if args.around is not None:
            half = max(1, args.limit // 2)
            page = app.views.timeline(around=args.around, before=half, after=half)
            shown = None
        else:
            shown = app.views.session(args.session)
            page = app.views.timeline(session=shown.session, cursor=args.cursor, limit=args.limit)
    if args.json:
        emit_json({**({} if shown is None else {"session": session_json(shown)}), **page_json(page)})
    else:
        with output(pager=not args.no_pager) as out:
            if shown is not None:
                print_session_head(shown, out)
            print_turns(page.turns, out, full=args.full)
        _how_to_go_on(page, args)
    return 0


def _how_to_go_on(page: TimelinePage, args: argparse.Namespace) -> None:
    if page.later and args.session:
        note(f"\nmore: session-mgmt-mcp show {args.session} --cursor {page.later}")


def _raw(app: App, args: argparse.Namespace) -> int:
    event = app.log.get([args.raw]).get(args.raw)
    if event is None:
        raise InputError(f"position {args.raw} is not in the log, which ends at {app.log.head().position}")
    payload = event.payload if event.payload is None else as_captured(event.payload, app.log)
    text = payload.decode("utf-8", "replace") if payload is not None else None
    if args.json:
        envelope = event.envelope
        emit_json(
            {
                "position": event.position,
                "event_id": event.event_id.hex(),
                "stream": envelope.stream,
                "event_type": envelope.event_type,
                "recorded_at": envelope.recorded_at,
                "occurred_at": envelope.occurred_at,
                "actor": envelope.actor,
                "source": envelope.source,
                "payload": text,
            }
        )
    elif text is None:
        note(f"the payload of position {args.raw} was forgotten")
    else:
        sys.stdout.write(text + "\n")
    return 0

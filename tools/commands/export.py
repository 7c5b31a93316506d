"""`export`: a session as Markdown, whole or as a handoff."""

import argparse
import contextlib
import sys
from pathlib import Path

import msgspec

from session_mgmt_mcp.core.errors import InputError
from session_mgmt_mcp.tools import exporting
from session_mgmt_mcp.tools.app import App
from session_mgmt_mcp.tools.cli import emit_json, note

EXAMPLE = "session-mgmt-mcp export 4e27c414 --handoff --to handoff.md"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("session", help="a session's id, or the beginning of it")
    parser.add_argument(
        "--handoff", action="store_true", help="what it came to, not all that was said and done"
    )
    parser.add_argument("--to", type=Path, metavar="FILE", help="write there, replacing it (default: stdout)")
    parser.add_argument("--upto", type=int, metavar="POSITION", help="as it stood at a position of the log")
    parser.add_argument(
        "--detail",
        choices=("concise", "full"),
        default="concise",
        help="of a whole session: results cut, or all of it with thinking and notes (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    if args.upto is not None and args.upto < 1:
        raise InputError(f"--upto {args.upto}: positions count from 1")
    with App.open() as app:
        if args.json:
            emit_json(_story(app, args))
            if args.to is None:
                return 0
        written = _written(app, args)
    if args.to is not None:
        note(f"{args.to}: {written:,} bytes")
    return 0


def _written(app: App, args: argparse.Namespace) -> int:
    if args.handoff:
        return exporting.write(exporting.handoff_pieces(app, args.session, upto=args.upto), args.to)
    with contextlib.ExitStack() as stack:
        report = None
        if args.to is not None:
            from session_mgmt_mcp.tools.progress import stages

            report = stack.enter_context(stages())
        else:
            with contextlib.suppress(AttributeError):  # a stream of tests
                sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
        pieces = exporting.session_pieces(
            app, args.session, upto=args.upto, detail=args.detail, report=report
        )
        return exporting.write(pieces, args.to)


def _story(app: App, args: argparse.Namespace) -> dict[str, object]:
    from session_mgmt_mcp.projections.briefing import earlier_score
    from session_mgmt_mcp.projections.quality import assess

    full = app.views.session(args.session).session
    story = app.views.story(full, args.upto)
    quality = assess(story.facts, earlier_score(app.views, full, args.upto))
    return {"story": msgspec.to_builtins(story), "quality": msgspec.to_builtins(quality)}

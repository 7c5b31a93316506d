"""`embed`: give every passage its vector, now and here."""

import argparse
import os

import msgspec

from session_mgmt_mcp.core.errors import InputError, LockTimeoutError
from session_mgmt_mcp.tools.app import App
from session_mgmt_mcp.tools.cli import emit_json
from session_mgmt_mcp.tools.embedding import EmbedReport, embed
from session_mgmt_mcp.tools.progress import quiet, stages

EXAMPLE = "session-mgmt-mcp embed --workers 2"
_NICENESS = 19


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workers", type=int, metavar="N", help="threads (default: MAX_WORKERS, else 1)")
    parser.add_argument("--limit", type=int, metavar="N", help="stop after about N new passages")
    parser.add_argument(
        "--behind",
        action="store_true",
        help="at the lowest priority, without a word; ends if another process is at it",
    )


def run(args: argparse.Namespace) -> int:
    """0 when no passage is left, or --limit was reached. Interrupted, the next run goes on."""
    for name in ("workers", "limit"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise InputError(f"--{name} is {value}; it must be at least 1")
    with App.open() as app:
        if args.behind:
            return _behind(app, args)
        with stages() as show:
            report = embed(app.log, workers=args.workers, limit=args.limit, report=show)
    if args.json:
        emit_json(msgspec.to_builtins(report))
    else:
        _print(report)
    return 0


def _behind(app: App, args: argparse.Namespace) -> int:
    os.nice(_NICENESS)
    try:
        report = embed(app.log, workers=args.workers, limit=args.limit, behind=True, report=quiet)
    except LockTimeoutError:  # another process is at it
        return 0
    if args.json:
        emit_json(msgspec.to_builtins(report))
    return 0


def _print(report: EmbedReport) -> None:
    pace = f" · {report.rate:,.0f} a second" if report.embedded else ""
    print(f"{report.embedded} new passages embedded{pace}; {report.vectors} have a vector")
    if report.left:
        print(f"about {report.left} are left: run it again to go on")
    for damaged in report.damaged:
        print(f"was damaged and made anew: {damaged}")

"""`forget`: take events out of the log for good, by position, session, project, words or pattern."""

import argparse
import sys

from session_mgmt_mcp.core.errors import InputError
from session_mgmt_mcp.tools import forgetting
from session_mgmt_mcp.tools.app import App
from session_mgmt_mcp.tools.cli import emit_json, note
from session_mgmt_mcp.tools.commands.search import folder
from session_mgmt_mcp.tools.forget_match import matcher
from session_mgmt_mcp.tools.forget_report import ForgetReport
from session_mgmt_mcp.tools.forget_select import Selectors
from session_mgmt_mcp.tools.forgetting import Plan
from session_mgmt_mcp.tools.progress import stages
from session_mgmt_mcp.tools.render import label, minute

EXAMPLE = "session-mgmt-mcp forget --pattern 'acme-[0-9a-f]{32}' --reason 'a leaked key'"
_LISTED_MAX = 5


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("positions", nargs="*", type=int, metavar="POSITION", help="events by their position")
    parser.add_argument("--session", help="everything of this session")
    parser.add_argument("--project", type=folder, help="everything of this folder and below")
    parser.add_argument("--query", metavar="WORDS", help="events that hold all of these words")
    parser.add_argument(
        "--pattern",
        metavar="REGEX",
        help="events this regular expression matches anywhere, and other files that hold it; - reads it from stdin, "
        "so that no shell history keeps it",
    )
    parser.add_argument("--reason", default="", help="kept in the log, unlike words and pattern")
    parser.add_argument("--dry-run", action="store_true", help="only show what would be removed")
    parser.add_argument("--yes", action="store_true", help="do not ask")


def run(args: argparse.Namespace) -> int:
    """0 when nothing is left, 1 when something is left to do or the answer was no. Several selectors narrow down."""
    selectors = _selectors(args)
    with App.open() as app:
        with stages() as say:
            planned = forgetting.plan(app, selectors, say)
        if args.dry_run or not args.json:
            _show(planned, args)
        if args.dry_run:
            return 0
        if not _confirmed(planned, args):
            note("nothing was forgotten")
            return 1
        with stages() as say:
            report = forgetting.carry_out(app, selectors, planned, args.reason, say)
    if args.json:
        emit_json(forgetting.as_json(planned, report))
    else:
        _tell(report)
    return 1 if report.findings else 0


def _selectors(args: argparse.Namespace) -> Selectors:
    pattern = sys.stdin.readline().rstrip("\n") if args.pattern == "-" else args.pattern
    wanted = Selectors(tuple(args.positions), args.session, args.project, matcher(args.query, pattern))
    if not wanted.positions and not wanted.scans:
        raise InputError(
            "nothing was chosen: name positions, --session, --project, --query or --pattern; "
            "`session-mgmt-mcp search` shows positions"
        )
    return wanted


def _confirmed(planned: Plan, args: argparse.Namespace) -> bool:
    if args.yes or planned.empty:
        return True
    if not sys.stdin.isatty() or args.pattern == "-" or args.json:
        raise InputError("forgetting cannot be undone: look at it with --dry-run, then say --yes")
    try:
        answer = input("Forget this for good? It cannot be undone. [y/N] ")
    except EOFError:
        return False
    return answer.strip().lower() in ("y", "yes")


def _show(planned: Plan, args: argparse.Namespace) -> None:
    if args.json:
        emit_json(forgetting.as_json(planned))
        return
    chosen = planned.selection
    if planned.empty:
        before = f"; {chosen.gone} of it were forgotten before" if chosen.gone else ""
        print(f"nothing to forget: no event holds it{before}")
        return
    print(
        f"{len(chosen.named)} events of {len(chosen.sessions)} sessions, {len(chosen.twins)} other reports of the same "
        f"facts, {len(chosen.blobs)} large contents only they refer to, {len(planned.files)} other files:"
    )
    for sample in chosen.samples:
        print(f"{sample.position:>8}  {minute(sample.occurred_at)}  {label(sample.what)}: {sample.line}")
    if len(chosen.named) > len(chosen.samples):
        print(f"          … and {len(chosen.named) - len(chosen.samples)} more")
    for what, positions in (("other reports", chosen.twins), ("large contents", chosen.blobs)):
        if positions:
            more = f" and {len(positions) - _LISTED_MAX} more" if len(positions) > _LISTED_MAX else ""
            print(f"{what}: positions {', '.join(map(str, positions[:_LISTED_MAX]))}{more}")
    for name in planned.files:
        print(f"file: {name}")


def _tell(report: ForgetReport) -> None:
    if report.forgotten or report.completed:
        print(f"{report.forgotten} payloads are gone from the log and its views")
    if report.completed:
        print(f"{report.completed} of an earlier forgetting that was interrupted were completed")
    for name in report.files_removed:
        print(f"removed {name}")
    for name in report.files_masked:
        print(f"overwritten in {name}")
    for line in report.backups:
        print(line)
    for path in report.transcripts:
        print(f"the assistant's own transcript still holds it: {path}")
    for finding in report.findings:
        print(f"to do: {finding}")

"""`retention`: how long and how much is kept; shows it, sets it, applies it."""

import argparse
import sys
import time
from collections import defaultdict
from typing import Any

import msgspec

from session_mgmt_mcp.core.errors import DataFolderError, InputError
from session_mgmt_mcp.tools import forgetting, retention
from session_mgmt_mcp.tools.app import MAINTENANCE_WAIT_S, App
from session_mgmt_mcp.tools.cli import emit_json, note
from session_mgmt_mcp.tools.forget_report import ForgetReport, report_json
from session_mgmt_mcp.tools.maintenance import maintenance_lock
from session_mgmt_mcp.tools.progress import stages
from session_mgmt_mcp.tools.render import iso, minute
from session_mgmt_mcp.tools.retention import Policy, RetentionPlan, megabytes

EXAMPLE = "session-mgmt-mcp retention --max-age 365d --quota 10GB"
_AGES_DAYS = (7, 30, 90, 365)
_LISTED_MAX = 20


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--max-age", metavar="AGE", help="of a session since its last activity: 365d, 52w, 1y, or none"
    )
    parser.add_argument("--quota", metavar="SIZE", help="of the whole data folder: 10GB, 500MB, or none")
    parser.add_argument("--automatic", choices=("yes", "no"), help="have maintenance apply it (default: no)")
    parser.add_argument("--apply", action="store_true", help="remove now what the policy does not keep")
    parser.add_argument(
        "--reflections", action="store_true", help="with --apply: reflections of those sessions too"
    )
    parser.add_argument("--yes", action="store_true", help="do not ask")


def run(args: argparse.Namespace) -> int:
    """0, 1 where something is to mend or the answer was no. Whole sessions are removed, the least recently active first."""
    with App.open() as app:
        policy = _policy(app, args)
        with stages() as say:
            say("adding up sessions", 0, 0)
            planned = retention.plan(app.log, policy, reflections=args.reflections)
        if not args.json:
            _show(app, planned)
        report = None
        if args.apply and planned.removals:
            if not _confirmed(args):
                note("nothing was removed")
                return 1
            report = _apply(app, planned, args.reflections)
        findings = [*retention.findings(app), *(report.findings if report else ())]
        if args.json:
            emit_json(_as_json(app, planned, report, findings))
        else:
            _tell(report, findings)
    return 1 if findings else 0


def _policy(app: App, args: argparse.Namespace) -> Policy:
    changes: dict[str, Any] = {}
    if args.max_age is not None:
        changes["max_age_days"] = retention.parse_age(args.max_age)
    if args.quota is not None:
        changes["quota_bytes"] = retention.parse_size(args.quota)
    if args.automatic is not None:
        changes["automatic"] = args.automatic == "yes"
    try:
        before = retention.load(app.log.folder)
    except DataFolderError:
        if len(changes) < 3:  # half of a policy that nobody can read would be a guess
            raise
        before = Policy()
    policy = msgspec.structs.replace(before, **changes)
    if policy.automatic and policy.keeps_everything:
        raise InputError("--automatic yes has nothing to apply: give --max-age or --quota too")
    if policy != before or changes:
        retention.save(app.log.folder, policy)
    return policy


def _confirmed(args: argparse.Namespace) -> bool:
    if args.yes:
        return True
    if not sys.stdin.isatty() or args.json:
        raise InputError("removing cannot be undone: look at it without --apply, then say --yes")
    try:
        answer = input("Remove these sessions for good? It cannot be undone. [y/N] ")
    except EOFError:
        return False
    return answer.strip().lower() in ("y", "yes")


def _apply(app: App, planned: RetentionPlan, reflections: bool) -> ForgetReport:
    with stages() as say, maintenance_lock(app.log.folder, MAINTENANCE_WAIT_S):
        report = retention.apply(app.log, planned, say, reflections=reflections)
    return forgetting.followed_up(app, report)


def _show(app: App, planned: RetentionPlan) -> None:
    policy, sizes = planned.policy, planned.sizes
    print(f"max age    {f'{policy.max_age_days} days' if policy.max_age_days else 'none: kept for ever'}")
    print(f"quota      {megabytes(policy.quota_bytes) if policy.quota_bytes else 'none'}")
    print(
        f"automatic  {'yes: maintenance applies it' if policy.automatic else 'no: nothing is removed by itself'}"
    )
    print(
        f"data       {megabytes(sizes['total'])}: "
        + ", ".join(f"{name} {megabytes(size)}" for name, size in sizes.items() if name != "total")
    )
    projects = _by_project(app, planned)
    for project, row in list(projects.items())[:_LISTED_MAX]:
        print(f"{megabytes(row['bytes']):>10}  {row['sessions']:>5} sessions  {project or 'no project'}")
    if len(projects) > _LISTED_MAX:
        print(f"{'':10}  … and {len(projects) - _LISTED_MAX} more projects; --json has them all")
    for age, row in _by_age(planned).items():
        print(f"{megabytes(row['bytes']):>10}  {row['sessions']:>5} sessions  last active {age}")
    if not planned.removals:
        print("to remove  nothing")
        return
    gone = sum(r.usage.payload_bytes for r in planned.removals)
    print(f"to remove  {len(planned.removals)} sessions with {megabytes(gone)} of captured text:")
    for removal in planned.removals[:_LISTED_MAX]:
        usage = removal.usage
        print(f"  {minute(usage.active_at)}  {usage.session}  {usage.events} events  by {removal.why}")
    if len(planned.removals) > _LISTED_MAX:
        print(f"  … and {len(planned.removals) - _LISTED_MAX} more")


def _by_project(app: App, planned: RetentionPlan) -> dict[str, dict[str, int]]:
    """Captured bytes and sessions, the largest first."""
    with app.views.reading() as files:
        found = files.fetch(
            "SELECT session, mode(project) FROM all_rows WHERE project <> '' GROUP BY session"
        )
    projects = {session: project for session, project in found}
    return _summed(planned, lambda s: projects.get(s.session, ""), by_size=True)


def _by_age(planned: RetentionPlan) -> dict[str, dict[str, int]]:
    now_us = time.time() * 1e6

    def age(usage: Any) -> str:
        days = (now_us - usage.active_at) / 86_400e6
        limit = next((d for d in _AGES_DAYS if days < d), None)
        return f"less than {limit} days ago" if limit else f"{_AGES_DAYS[-1]} days ago or more"

    return _summed(planned, age, by_size=False)


def _summed(planned: RetentionPlan, group: Any, *, by_size: bool) -> dict[str, dict[str, int]]:
    out: dict[str, dict[str, int]] = defaultdict(lambda: {"sessions": 0, "bytes": 0})
    for usage in reversed(planned.sessions):
        row = out[group(usage)]
        row["sessions"] += 1
        row["bytes"] += usage.payload_bytes
    return dict(sorted(out.items(), key=lambda item: -item[1]["bytes"]) if by_size else out.items())


def _as_json(
    app: App, planned: RetentionPlan, report: ForgetReport | None, findings: list[str]
) -> dict[str, Any]:
    value: dict[str, Any] = {
        "policy": msgspec.to_builtins(planned.policy),
        "sizes": planned.sizes,
        "projects": _by_project(app, planned),
        "ages": _by_age(planned),
        "removals": [
            {
                "session": r.usage.session,
                "active_at": iso(r.usage.active_at),
                "events": r.usage.events,
                "bytes": r.usage.payload_bytes,
                "why": r.why,
            }
            for r in planned.removals
        ],
        "findings": findings,
    }
    if report is not None:
        value["applied"] = report_json(report)
    return value


def _tell(report: ForgetReport | None, findings: list[str]) -> None:
    if report is not None:
        print(f"removed    {report.forgotten} payloads")
        for line in report.backups:
            print(line)
    for finding in findings:
        print(f"to mend    {finding}")

"""Forgetting, whole: what is chosen is taken out of the log, its views, the other files of the data folder and its backups."""

from typing import Any, NamedTuple

import msgspec

from session_mgmt_mcp.core.errors import InputError, SessionMgmtError
from session_mgmt_mcp.core.events import ranges_of
from session_mgmt_mcp.core.log.spool import drain
from session_mgmt_mcp.core.redact import redact
from session_mgmt_mcp.tools import forget_files, forget_finish, forget_transcripts
from session_mgmt_mcp.tools.app import MAINTENANCE_WAIT_S, App
from session_mgmt_mcp.tools.forget_files import Cleaned, Traces
from session_mgmt_mcp.tools.forget_match import Matcher
from session_mgmt_mcp.tools.forget_report import ForgetReport, report_json
from session_mgmt_mcp.tools.forget_select import Say, Selection, Selectors, events_at, joined, select
from session_mgmt_mcp.tools.holders import WAIT_S, wait_for_holders
from session_mgmt_mcp.tools.maintenance import keep_briefs, maintenance_lock


class Plan(NamedTuple):
    """What a forgetting would remove."""

    selection: Selection
    files: list[str]  # beside log and views, that hold some of it; names relative to the data folder

    @property
    def empty(self) -> bool:
        return not self.selection.positions and not self.files


def plan(app: App, selectors: Selectors, say: Say) -> Plan:
    """Look, and change nothing. Raises InputError, LogCorruptError."""
    selection = select(app, selectors, say)
    say("looking through the other files", 0, 0)
    return Plan(selection, forget_files.holding(app.log.folder, _traces(app, selectors, selection)))


def carry_out(
    app: App,
    selectors: Selectors,
    planned: Plan,
    reason: str,
    say: Say,
    *,
    wait_s: float | None = None,
    actor: str = "user",
) -> ForgetReport:
    """Forget what was planned, and what was appended since and is chosen by the same selectors.

    May be interrupted anywhere: maintenance, or forgetting again, completes it. Raises InputError (the reason holds what
    is to be forgotten), LockTimeoutError, AppendError, LogCorruptError.
    """
    if selectors.matcher.pattern is not None and selectors.matcher.matches(reason.encode()):
        raise InputError(
            "--reason holds what --pattern matches, and reasons are kept for ever; word it otherwise"
        )
    with maintenance_lock(app.log.folder, MAINTENANCE_WAIT_S):
        say("draining the spool", 0, 0)
        completed = len(forget_finish.complete(app.log, say))
        drain(app.log)
        since = select(app, selectors, say, after=planned.selection.head)
        selection = joined(app, planned.selection, since)
        positions = [e.position for e in events_at(app, selection.positions) if e.payload is not None]
        files = _take_out(app, selectors, selection, positions, reason, say, actor)
        if positions:
            keep_briefs(app.log, say)  # they were removed with the rest
    report = ForgetReport(
        forgotten=len(positions),
        ranges=ranges_of(positions),
        twins=len(set(positions).intersection(selection.twins)),
        blobs=len(set(positions).intersection(selection.blobs)),
        completed=completed,
        upto=selection.head,
        files_removed=files.removed,
        files_masked=files.masked,
        transcripts=tuple(forget_transcripts.still_holding(selection, selectors.matcher)),
        findings=tuple(_findings(selection, files)),
    )
    say("waiting for other processes to close deleted files", 0, 0)
    return followed_up(app, report, wait_s)


def followed_up(app: App, report: ForgetReport, wait_s: float | None = None) -> ForgetReport:
    """The report with what became of backups, and of the other processes that have deleted files open."""
    backups, failed = _after_forget(app, report)
    app.views.close()  # this process holds older views too
    concerned = report.forgotten or report.completed
    holders = wait_for_holders(app.log.folder, WAIT_S if wait_s is None else wait_s) if concerned else []
    held = (
        f"process {h.pid} ({h.command}) still has {h.files} deleted files open; it lets go at its next use of the "
        "history, at the latest when it ends"
        for h in holders
    )
    return msgspec.structs.replace(
        report, backups=backups, holders=tuple(holders), findings=(*report.findings, *held, *failed)
    )


def _take_out(
    app: App,
    selectors: Selectors,
    selection: Selection,
    positions: list[int],
    reason: str,
    say: Say,
    actor: str,
) -> Cleaned:
    """The files first: once the payloads are gone, nobody knows any more what to look for."""
    traces = _traces(app, selectors, selection)
    files = forget_files.clean(app.log.folder, traces)
    if positions:
        said = redact(reason.encode()).decode("utf-8", "replace")
        forget_finish.take_out(app.log, positions, selection.named, said, say, actor)
    return files


def _traces(app: App, selectors: Selectors, selection: Selection) -> Traces:
    """A file beside the log is of no session: the pattern counts there only where it was given alone."""
    narrowed = selectors.session is not None or selectors.project is not None or bool(selectors.positions)
    matcher = Matcher() if narrowed else Matcher((), selectors.matcher.pattern)
    whole = narrowed and not selectors.positions and not selectors.matcher
    return forget_files.traces_of(
        matcher,
        events_at(app, selection.positions[: forget_files.EVENTS_MAX]),
        selection.sessions if whole else (),
    )


def _after_forget(app: App, report: ForgetReport) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What the backups' part says, and what failed."""
    from session_mgmt_mcp.tools import backups

    try:
        lines = tuple(backups.after_forget(app, report))
        return lines, tuple(line for line in lines if "still holds" in line)
    except (SessionMgmtError, OSError) as error:
        return (), (f"backups may still hold it: {error}; back up there again to take it out",)


def _findings(selection: Selection, files: Cleaned) -> list[str]:
    out = []
    if selection.tombstones:
        listed = ", ".join(map(str, selection.tombstones[:5]))
        out.append(f"positions {listed} match too, but say what was forgotten or forked, and have to stay")
    return out + [f"{name} still holds it; look at it and remove it, or forget again" for name in files.left]


def as_json(planned: Plan, report: ForgetReport | None = None) -> dict[str, Any]:
    """Plan and outcome as plain data; no text but the samples' masked lines."""
    selection = planned.selection
    value: dict[str, Any] = {
        "planned": {
            "events": len(selection.positions),
            "named": len(selection.named),
            "twins": list(selection.twins),
            "blobs": list(selection.blobs),
            "ranges": ranges_of(selection.positions),
            "sessions": selection.sessions,
            "samples": [s._asdict() for s in selection.samples],
            "files": planned.files,
            "forgotten_before": selection.gone,
        }
    }
    if report is not None:
        value |= report_json(report)
    return value

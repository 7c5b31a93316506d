"""Forgetting in two steps over MCP: a preview with a code that stands for exactly what it showed, then the deed."""

import hashlib

from session_mgmt_mcp.adapters.mcp.services import Choice, Forgotten, Preview
from session_mgmt_mcp.core.errors import InputError
from session_mgmt_mcp.core.events import ranges_of
from session_mgmt_mcp.tools import forgetting
from session_mgmt_mcp.tools.app import App
from session_mgmt_mcp.tools.forget_match import matcher
from session_mgmt_mcp.tools.forget_select import Selectors

HOLDERS_WAIT_S = 3.0  # for other processes to close deleted files; a client waits for its answer meanwhile
_DIGEST_CHARS = 12


def preview(app: App, choice: Choice) -> Preview:
    """Look, and change nothing. Raises InputError, LogCorruptError."""
    return _preview(app, choice, forgetting.plan(app, _selectors(choice), _silent))


def confirmed(app: App, choice: Choice, code: str, reason: str, actor: str = "user") -> Forgotten | Preview:
    """Forget it, where the code stands for what would be forgotten of the log as it was then; else a new preview.

    What the same choice names of the events appended since goes too: the calls of these two steps are recorded as well,
    and may hold the very words. Raises InputError, LockTimeoutError, AppendError, LogCorruptError.
    """
    selectors = _selectors(choice)
    planned = forgetting.plan(app, selectors, _silent)
    head, _, digest = code.strip().partition("-")
    if not head.isdecimal() or len(digest) != _DIGEST_CHARS:
        raise InputError(f"confirm={code[:40]!r} is no code of forget; call it without confirm to get one")
    if planned.empty or _digest(app, choice, planned, int(head)) != digest:
        return _preview(app, choice, planned)
    wait_s = HOLDERS_WAIT_S
    report = forgetting.carry_out(app, selectors, planned, reason, _silent, wait_s=wait_s, actor=actor)
    return Forgotten(report.forgotten + report.completed, report.transcripts, report.findings)


def _selectors(choice: Choice) -> Selectors:
    wanted = Selectors(choice.positions, choice.session, choice.project, matcher(choice.query, None))
    if not wanted.positions and not wanted.scans:
        raise InputError(
            "nothing was chosen: give positions, session, project or query; search shows positions"
        )
    return wanted


def _preview(app: App, choice: Choice, planned: forgetting.Plan) -> Preview:
    chosen = planned.selection
    code = "" if planned.empty else f"{chosen.head}-{_digest(app, choice, planned, chosen.head)}"
    return Preview(
        code=code,
        events=len(chosen.positions),
        other_reports=len(chosen.positions) - len(chosen.named),
        files=len(planned.files),
        gone=chosen.gone,
        sessions=chosen.sessions,
        samples=tuple((s.position, s.occurred_at, s.what, s.line) for s in chosen.samples),
    )


def _digest(app: App, choice: Choice, planned: forgetting.Plan, head: int) -> str:
    """Of the choice and the events it names up to `head`, in this log alone."""
    named = ranges_of(p for p in planned.selection.named if p <= head)
    said = f"{app.log.log_id}\0{tuple(choice)!r}\0{head}\0{named!r}"
    return hashlib.sha256(said.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST_CHARS]


def _silent(*_: object) -> None:
    return None

"""What start, checkpoint, end and status answer."""

import json
from typing import Any

from session_mgmt_mcp.adapters.mcp.render import fence, one_line
from session_mgmt_mcp.adapters.mcp.services import Marked, Told
from session_mgmt_mcp.projections.times import minute


def brief(told: Told) -> str:
    """What a session needs to know at its start."""
    if not told.text.strip():
        where = f" of {one_line(told.project, 200)}" if told.project else ""
        return f"Nothing is recorded{where} yet. Work as always; it is recorded as it happens."
    return fence(told.text, note=False)


def handoff(told: Told) -> str:
    """A session's handoff as it stands."""
    return f"The handoff of session {one_line(told.session, 128)}.\n{fence(told.text)}"


def checkpointed(done: Marked) -> str:
    """What was stored, and what it says."""
    return f"{_stored('Checkpoint', done)}\n{fence(done.text, note=False)}"


def ended(done: Marked) -> str:
    """The handoff of a session that was closed."""
    return (
        f"{_stored('Handoff', done)}\n{fence(done.text)}\n"
        "The next session in this project is told of it at its start. Going on here opens the session again."
    )


def _stored(what: str, done: Marked) -> str:
    session = one_line(done.session, 128)
    if done.appended:
        return f"{what} of session {session} stored, durably, at position {done.position}."
    return f"{what} of session {session} was stored before, at position {done.position}; nothing was added."


def status(values: dict[str, Any], *, detailed: bool) -> str:
    """What matters, a line each; in detail everything as JSON."""
    if detailed:
        return json.dumps(values, ensure_ascii=False, indent=1, default=str)
    views = values.get("views") or {}
    lines = [
        f"{values.get('events', values.get('position', 0)):,} events recorded in {values.get('folder', '?')}",
        f"{views.get('sessions', 0):,} sessions, {views.get('actions', 0):,} actions",
        _capture(values),
        _search(views),
        f"this session: {values.get('session') or 'not known'}",
        *(f"to mend: {finding}" for finding in values.get("findings", ())),
    ]
    return "\n".join(one_line(line, 600) for line in lines)


def _capture(values: dict[str, Any]) -> str:
    since = values.get("paused_since")
    if since is not None:
        return f"capture is paused since {minute(since)}: nothing is recorded"
    waiting = values.get("spooled", 0)
    return f"capture runs; {waiting} events wait to be appended" if waiting else "capture runs"


def _search(views: dict[str, Any]) -> str:
    vectors = views.get("vectors")
    if vectors is None:
        return "search finds everything recorded by its words"
    waiting, passages = vectors.get("waiting", 0), vectors.get("passages", 0)
    meaning = f"by meaning {passages:,} of {passages + waiting:,} passages"
    if vectors.get("unavailable"):
        meaning = "by meaning nothing"
    return f"search finds everything recorded by its words, {meaning}"

"""What people see in a terminal. Everything goes to stdout; colour only where it is a terminal."""

import contextlib
import sys
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from session_mgmt_mcp.projections.results import Moment, SessionSummary, Turn

_LABELS = {
    "PromptSubmitted": "prompt",
    "AssistantReplied": "reply",
    "AssistantThought": "thought",
    "ToolCalled": "call",
    "ToolReturned": "result",
    "ContextCompacted": "compaction",
    "SessionStarted": "start",
    "SessionEnded": "end",
    "SessionTitled": "title",
    "ReflectionRemembered": "reflection",
    "ContextNoted": "note",
    "RecordUnknown": "unknown",
}
TURN_CHARS = 600
PIPE_COLUMNS = 1000
SHORT_ID = 8  # enough to name a session to `show`


def console() -> Console:
    """Rich on stdout; plain text, cut nowhere, where that is no terminal."""
    return Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else PIPE_COLUMNS)


def iso(us: int) -> str | None:
    """ISO 8601 in UTC with milliseconds, None for an unknown time."""
    if not us:
        return None
    return _utc(us).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _utc(us: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)


def minute(us: int) -> str:
    """Local time to the minute, for people."""
    if not us:
        return "time unknown"
    moment = _utc(us)
    with contextlib.suppress(OverflowError, ValueError):  # the first and last day there is, in another zone
        moment = moment.astimezone()
    return moment.isoformat(" ", "minutes")[:16]


def label(kind: str, tool: str = "") -> str:
    """A short word for an action's kind."""
    word = _LABELS.get(kind, kind)
    return f"{word} {tool}" if tool else word


def moment_json(moment: Moment) -> dict[str, Any]:
    """The search contract's object, and what else is known."""
    return {
        "session": moment.session,
        "position": moment.position,
        "record": moment.record,
        "occurred_at": iso(moment.occurred_at),
        "project": moment.project,
        "assistant": moment.assistant,
        "actor": moment.actor,
        "excerpt": moment.excerpt,
        "score": round(moment.score, 6),
        "why": moment.why,
        "kind": moment.kind,
        "tool": moment.tool,
        "files": list(moment.files),
        "copies": moment.copies,
    }


def turn_json(turn: Turn) -> dict[str, Any]:
    return {
        "session": turn.session,
        "position": turn.position,
        "record": turn.record,
        "occurred_at": iso(turn.occurred_at),
        "project": turn.project,
        "assistant": turn.assistant,
        "actor": turn.actor,
        "kind": turn.kind,
        "tool": turn.tool,
        "files": list(turn.files),
        "is_error": turn.is_error,
        "text": turn.text,
    }


def session_json(session: SessionSummary) -> dict[str, Any]:
    return {
        "session": session.session,
        "assistant": session.assistant,
        "project": session.project,
        "branch": session.branch,
        "title": session.title,
        "started_at": iso(session.started_at),
        "ended_at": iso(session.ended_at),
        "prompts": session.prompts,
        "tool_calls": session.tool_calls,
        "actions": session.actions,
        "first_position": session.first_position,
        "last_position": session.last_position,
    }


def print_moments(moments: Iterable[Moment]) -> None:
    out = console()
    for moment in moments:
        head = Text.assemble(
            (minute(moment.occurred_at), "cyan"),
            "  ",
            (label(moment.kind, moment.tool), "bold"),
            f"  {moment.project or 'no project'}",
        )
        out.print(head)
        out.print(Text(f"  {moment.excerpt}"))
        copies = f" · {moment.copies} copies" if moment.copies > 1 else ""
        out.print(
            Text(f"  position {moment.position} · session {moment.session}{copies} · {moment.why}", "dim")
        )


def print_sessions(sessions: Iterable[SessionSummary]) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("last active", no_wrap=True, min_width=16)
    table.add_column("session", no_wrap=True, min_width=SHORT_ID)
    table.add_column("prompts", justify="right", no_wrap=True, min_width=7)
    table.add_column("calls", justify="right", no_wrap=True, min_width=5)
    table.add_column("project", no_wrap=True, overflow="ellipsis", ratio=2)
    table.add_column("title", no_wrap=True, overflow="ellipsis", ratio=3)
    for session in sessions:
        table.add_row(
            minute(session.ended_at),
            session.session[:SHORT_ID],
            str(session.prompts),
            str(session.tool_calls),
            session.project,
            " ".join(session.title.split())[:80],
        )
    console().print(table)


def print_turns(turns: Iterable[Turn], *, full: bool = False) -> None:
    out = console()
    for turn in turns:
        failed = (" failed", "red") if turn.is_error else ""
        head = Text.assemble(
            (f"{turn.position:>7}", "dim"),
            "  ",
            (minute(turn.occurred_at), "cyan"),
            "  ",
            (f"{turn.actor} · {label(turn.kind, turn.tool)}", "bold"),
            failed,
        )
        out.print(head)
        text = turn.text if full or len(turn.text) <= TURN_CHARS else turn.text[:TURN_CHARS] + " …"
        for line in text.splitlines():
            out.print(Text(f"         {line}"))

"""How moments, turns and sessions look: as JSON, on a terminal, and as plain text."""

import contextlib
import os
import re
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from session_mgmt_mcp.projections.results import Moment, SessionSummary, TimelinePage, Turn
from session_mgmt_mcp.tools.terminal import Output, printable, shown

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
SHORT_ID = 8  # enough to name a session to `show`
_PATH_CHARS = 30
_SESSION_CHARS = 24
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_SPANS = (  # unit, its plural, seconds
    ("min", "min", 60),
    ("h", "h", 3600),
    ("day", "days", 86_400),
    ("week", "weeks", 7 * 86_400),
    ("month", "months", 30 * 86_400),
    ("year", "years", 365 * 86_400),
)
_ACTOR_STYLES = {"user": "bold green", "assistant": "bold blue", "tool": "yellow", "system": "dim"}
_MARK_STYLE = "bold magenta"
_INDENT = 9  # of a turn's text: below its time


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


def ago(us: int, now_s: float | None = None) -> str:
    """How long ago, in the largest unit that fits: "5 min ago", "2 days ago"; "" for an unknown time."""
    if not us:
        return ""
    passed = (time.time() if now_s is None else now_s) - us / 1e6
    if passed < 60:
        return "just now" if passed > -60 else "in the future"
    one, many, seconds = next(span for span in reversed(_SPANS) if passed >= span[2])
    count = int(passed // seconds)
    return f"{count} {one if count == 1 else many} ago"


def short_session(session: str) -> str:
    """Enough of an id to name it to `show`: the beginning of a UUID, more of an id whose beginning says less."""
    return session[:SHORT_ID] if _UUID.fullmatch(session) else session[:_SESSION_CHARS]


def short_path(path: str) -> str:
    """A path for a line that has other things to say too: from ~, and the last two parts of a long one."""
    home = os.path.expanduser("~")
    if home not in ("", "/") and (path == home or path.startswith(home + "/")):
        path = "~" + path[len(home) :]
    parts = path.rstrip("/").split("/")
    return path if len(path) <= _PATH_CHARS or len(parts) < 3 else "…/" + "/".join(parts[-2:])


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


def page_json(page: TimelinePage) -> dict[str, Any]:
    return {"turns": [turn_json(t) for t in page.turns], "earlier": page.earlier, "later": page.later}


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


def print_moments(moments: Iterable[Moment], out: Output) -> None:
    """Search results, each in three parts: when and what, the text with the matching words marked, where."""
    for number, moment in enumerate(moments):
        if out.live and number:
            out.console.print()
        what = label(moment.kind, moment.tool)
        project = printable(moment.project) or "no project"
        when = minute(moment.occurred_at)
        if out.live:
            head = Text.assemble(
                (ago(moment.occurred_at), "cyan"), (f"  {when}", "dim"), "  ", _who(moment.actor, what), "  "
            )
            head.append(short_path(project), "cyan")
        else:
            head = Text.assemble((when, "cyan"), "  ", (printable(what), "bold"), f"  {project}")
        out.console.print(head)
        excerpt = Text(shown(moment.excerpt))
        for start, end in moment.marks:
            excerpt.stylize(_MARK_STYLE, start, end)
        _print_text(out, excerpt, 2)
        copies = f" · {moment.copies} copies" if moment.copies > 1 else ""
        where = f"position {moment.position} · session {printable(moment.session)}{copies} · {printable(moment.why)}"
        _print_text(out, Text(where, "dim"), 2)


def _who(actor: str, what: str) -> Text:
    """Who did what, coloured by who; a speaker's name stands out like a user's."""
    style = _ACTOR_STYLES.get(actor, "bold magenta" if actor.startswith("agent:") else "bold green")
    return Text(printable(f"{actor} · {what}"), style)


def _print_text(out: Output, text: Text, indent: int) -> None:
    """Text indented: on a terminal all lines that it wraps to."""
    if out.live:
        out.console.print(Padding(text, (0, 0, 0, indent)))
    elif out.console.color_system is None:  # rich would take its time to find out that there is nothing to do
        lines = text.plain.splitlines()
        out.console.file.write("".join(f"{' ' * indent}{line}\n" for line in lines))
    else:
        for line in text.split():
            out.console.print(Text.assemble(" " * indent, line))


def print_sessions(sessions: Iterable[SessionSummary], out: Output) -> None:
    table = Table(box=None, pad_edge=False)
    if out.live:
        table.add_column("", style="cyan", no_wrap=True, min_width=13)
    table.add_column("last active", no_wrap=True, min_width=16, style="dim" if out.live else "")
    table.add_column("session", no_wrap=True, min_width=SHORT_ID, style="bold")
    table.add_column("prompts", justify="right", no_wrap=True, min_width=7)
    table.add_column("calls", justify="right", no_wrap=True, min_width=5)
    table.add_column("project", no_wrap=True, overflow="ellipsis", ratio=2)
    table.add_column("title", no_wrap=True, overflow="ellipsis", ratio=3)
    for session in sessions:
        row = (
            minute(session.ended_at),
            Text(printable(short_session(session.session))),
            str(session.prompts),
            str(session.tool_calls),
            Text(printable(short_path(session.project) if out.live else session.project)),
            Text(" ".join(printable(session.title).split())[:80]),
        )
        table.add_row(*([ago(session.ended_at)] if out.live else []), *row)
    out.console.print(table)


def print_session_head(session: SessionSummary, out: Output) -> None:
    """What a session is, before its turns; on a terminal alone."""
    if not out.live:
        return
    out.console.print(Text(printable(session.title) or "no title", "bold"))
    facts = (
        session.session,
        session.assistant,
        short_path(session.project),
        session.branch,
        f"{session.prompts} prompts, {session.tool_calls} calls",
        f"{minute(session.started_at)} – {minute(session.ended_at)}",
        ago(session.ended_at),
    )
    out.console.print(Text(printable(" · ".join(filter(None, facts))), "dim"))


def print_turns(turns: Iterable[Turn], out: Output, *, full: bool = False, mixed: bool = False) -> None:
    """Turns in their order. `mixed`: of several sessions, so each change of session is said."""
    before = ("", "")
    for turn in turns:
        when = minute(turn.occurred_at)
        here = (turn.session, when[:10] if turn.occurred_at else before[1])
        if out.live and here != before:
            named = printable(" · ".join(filter(None, (turn.session, short_path(turn.project), here[1]))))
            passed = ago(turn.occurred_at)
            title = Text.assemble(f"{named} ", (f"· {passed} " if passed else "", "cyan"))
            out.console.print(Rule(title, align="left", style="dim"))
        elif mixed and here[0] != before[0]:
            out.console.print(Text(printable(f"session {turn.session} · {turn.project or 'no project'}")))
        before = here
        _print_turn(turn, out, when, full)


def _print_turn(turn: Turn, out: Output, when: str, full: bool) -> None:
    what = label(turn.kind, turn.tool)
    head = Text.assemble(
        (f"{turn.position:>7}", "dim"),
        "  ",
        (when[-5:] if out.live and turn.occurred_at else when, "cyan"),
        "  ",
        _who(turn.actor, what),
        (" failed", "red") if turn.is_error else "",
    )
    out.console.print(head)
    text = turn.text if full or len(turn.text) <= TURN_CHARS else turn.text[:TURN_CHARS] + " …"
    if text:
        _print_text(out, Text(printable(text)), _INDENT)

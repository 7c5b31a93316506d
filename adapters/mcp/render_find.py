"""What search, timeline and audit answer; every cut says how to go on."""

from collections.abc import Sequence

from session_mgmt_mcp.adapters.mcp.render import (
    FRAME_TOKENS,
    PAGED_TOKENS,
    count,
    cut_to,
    fence,
    fitting,
    indented,
    named,
    one_line,
    short_id,
)
from session_mgmt_mcp.core.envelope import Event
from session_mgmt_mcp.projections.audit import AuditRow
from session_mgmt_mcp.projections.kinds import name_of
from session_mgmt_mcp.projections.results import Moment, SessionSummary, TimelinePage, Turn
from session_mgmt_mcp.projections.times import minute, span
from session_mgmt_mcp.projections.tokens import estimate

EXCERPT_CHARS = {False: 300, True: 700}  # concise, detailed
TURN_CHARS_MAX = 300
TURN_CHARS_MIN = 60
WHAT_CHARS = {False: 110, True: 240}
HEAD_CHARS_MAX = 600
USUAL = "claude-code"  # an assistant that is said only where a session is listed
EXPECTED = {  # who does what, so that it need not be said
    "PromptSubmitted": ("user",),
    "AssistantReplied": ("assistant",),
    "AssistantThought": ("assistant",),
    "ToolCalled": ("assistant",),
    "ToolReturned": ("tool",),
}


def moments(
    found: Sequence[Moment], query: str, filters: Sequence[str], budget_tokens: int, *, detailed: bool = False
) -> str:
    """A search's answer, best first."""
    if not found:
        hint = f" Or leave out {', '.join(filters)}." if filters else ""
        return f"Nothing recorded matches {one_line(query, 200)!r}. Try fewer or other words.{hint}"
    known: set[str] = set()  # sessions whose project was said
    parts = [_moment(m, EXCERPT_CHARS[detailed], known, why=detailed) for m in found]
    shown = fitting(parts, budget_tokens)
    order = "best first" if any(m.score for m in found) else "newest first"
    go_on = f"Go on: timeline(around={found[0].position}) shows what happened around one of them"
    lines = [
        f"{count(shown, 'moment')}, {order}; [n] is the position in the log.",
        fence("\n".join(parts[:shown])),
        f"{go_on}; with format=detailed in full.",
    ]
    if shown < len(found):
        lines.append(
            f"{count(len(found) - shown, 'moment')} left out for length: a larger budget_tokens shows them."
        )
    return "\n".join(lines)


def sessions(found: Sequence[SessionSummary], project: str | None, limit: int, budget_tokens: int) -> str:
    """A list of sessions, newest first."""
    if not found:
        where = f" in {one_line(project, 200)}; leave out project to see all" if project else ""
        return f"No session recorded{where}."
    parts = [
        f"session {one_line(short_id(s.session), 128)} · {span(s.started_at, s.ended_at)} · {s.assistant} · "
        f"{one_line(s.project, 200)} · {count(s.prompts, 'prompt')}, {count(s.tool_calls, 'tool call')}"
        f"{chr(10) + '  ' if s.title else ''}{one_line(s.title, 160)}"
        for s in found
    ]
    shown = fitting(parts, budget_tokens)
    more = ""
    if shown < len(found):
        more = f" {count(len(found) - shown, 'more')[:-5]}left out for length: a larger budget_tokens shows them."
    elif len(found) == limit:
        more = f" There may be more: limit={min(limit * 2, 100)}."
    return (
        f"{count(shown, 'session')}, newest first.\n{fence(chr(10).join(parts[:shown]))}\n"
        f"Go on: timeline(session=…) shows one of them, start(session=…) takes it up.{more}"
    )


def timeline(page: TimelinePage, budget_tokens: int, around: int | None = None) -> str:
    """Turns in order, each cut to a line; where the budget is small, first the lines get shorter."""
    if not page.turns:
        return "No turns there. search finds positions; timeline() without arguments lists sessions."
    one = len({t.session for t in page.turns}) == 1
    heads = [_turn_head(turn, with_session=not one) for turn in page.turns]
    left = budget_tokens - PAGED_TOKENS - sum(map(estimate, heads))
    chars = max(TURN_CHARS_MIN, min(TURN_CHARS_MAX, left * 3 // len(heads)))
    parts, cut = [], None
    for turn, head in zip(page.turns, heads, strict=True):
        said = _without(turn.text, turn.files)
        text = one_line(said, chars)
        if len(text) < len(said) and text.endswith("…"):
            text += f" [{len(turn.text):,} characters]"
            cut = cut or turn.position
        parts.append(f"{head}\n  {text}".rstrip())
    first, last = _window(page.turns, parts, budget_tokens, around)
    head = _session_line(page.turns[0]) if one else ""
    notes = [f"Whole texts: timeline(around={cut}, format=detailed)."] if cut is not None else []
    if last - first < len(parts):
        left_out = count(len(parts) - (last - first), "turn")
        notes.append(
            f"{left_out} of this page not shown for length: ask again with limit={last - first}, or more budget_tokens."
        )
    return "\n".join([fence(head + "\n".join(parts[first:last])), *notes, *_pages(page, bool(notes))])


def timeline_detail(page: TimelinePage, budget_tokens: int) -> str:
    """Turns with their whole text, as far as the budget goes."""
    if not page.turns:
        return timeline(page, budget_tokens)
    one = len({t.session for t in page.turns}) == 1
    parts: list[str] = [_session_line(page.turns[0]).rstrip()] if one else []
    notes: list[str] = []
    left = budget_tokens - PAGED_TOKENS
    for index, turn in enumerate(page.turns):
        head = _turn_head(turn, with_session=not one)
        left -= estimate(head)
        if left <= 0 and index:
            more = count(len(page.turns) - index, "turn")
            notes.append(f"{more} of this page not shown: timeline(around={turn.position}, format=detailed).")
            break
        text = turn.text if estimate(turn.text) <= left else cut_to(turn.text, max(left, 20))
        if len(text) < len(turn.text):
            notes.append(
                f"Position {turn.position} is cut after {len(text):,} of {len(turn.text):,} characters: "
                f"timeline(around={turn.position}, format=raw) gives it as recorded, in parts."
            )
        left -= estimate(text)
        parts.append(f"{head}\n{indented(text)}".rstrip())
    return "\n".join([fence("\n\n".join(parts)), *notes, *_pages(page, bool(notes))])


def event(found: Event, offset: int, budget_tokens: int) -> str:
    """One event as recorded: its envelope and a part of its payload, with how to get the rest."""
    e = found.envelope
    head = (
        f"[{found.position}] {minute(e.occurred_at or e.recorded_at)} · {e.event_type} · {e.stream} · actor {e.actor}"
        f" · read from {e.source}"
    )
    head = one_line(head, HEAD_CHARS_MAX)
    if found.payload is None:
        return f"{fence(head)}\nIts payload was forgotten on request; only this metadata is left."
    text = found.payload.decode("utf-8", "replace")
    part = cut_to(text[offset : offset + budget_tokens * 6], budget_tokens - FRAME_TOKENS)
    end = offset + len(part)
    go_on = (
        f"Go on: timeline(around={found.position}, format=raw, offset={end})."
        if end < len(text)
        else "That is its end."
    )
    return f"{fence(f'{head}{chr(10)}{part}')}\nCharacters {offset:,} to {end:,} of {len(text):,}. {go_on}"


def audit(
    rows: Sequence[AuditRow],
    below: int | None,
    given: Sequence[str],
    budget_tokens: int,
    *,
    detailed: bool = False,
) -> str:
    """Who did what when, newest first; a line each, below the session it is of."""
    if not rows:
        hint = f" Leave out {' or '.join(given)}, or try search." if given else ""
        return f"Nothing recorded for that.{hint}"
    parts, session = [], None
    for row in rows:
        line = _audit_line(row, WHAT_CHARS[detailed])
        if row.session != session:
            session = row.session
            line = f"{_row_session(row)}\n{line}"
        parts.append(line)
    shown = fitting(parts, budget_tokens)
    while 1 < shown < len(rows) and rows[shown - 1].position == rows[shown].position:
        shown -= 1  # an event's rows stay together
    if shown < len(rows):
        below = rows[shown - 1].position
    errors = sum(row.is_error for row in rows[:shown])
    failed = f", {count(errors, 'failure')}" if errors else ""
    go_on = f"Older: audit(cursor={str(below)!r}) with the same arguments." if below else "That is all of it."
    return (
        f"{count(shown, 'line')}{failed}, newest first; [n] is the position in the log.\n"
        f"{fence(chr(10).join(parts[:shown]))}\n"
        f"Go on: timeline(around={rows[0].position}) shows one in its place. {go_on}"
    )


def _moment(m: Moment, chars: int, known: set[str], *, why: bool) -> str:
    place = [f"session {short_id(m.session)}", m.assistant if m.assistant != USUAL else ""]
    if m.session not in known:
        known.add(m.session)
        place.append(f"project {m.project}" if m.project else "")
    parts = [_head(m, *place), f"  {one_line(m.excerpt, chars)}"]
    copies = f"{m.copies - 1} more with the same text" if m.copies > 1 else ""
    if said := " · ".join(s for s in (f"why: {m.why}" if why and m.why else "", copies) if s):
        parts.append(f"  {one_line(said, 200)}")
    return "\n".join(parts)


def _turn_head(turn: Turn, *, with_session: bool) -> str:
    place = (f"session {short_id(turn.session)}", f"project {turn.project}") if with_session else ()
    return _head(turn, *place) + (" · error" if turn.is_error else "")


def _head(what: Moment | Turn, *place: str) -> str:
    parts = [
        f"[{what.position}] {minute(what.occurred_at)}",
        _deed(what.actor, what.kind, what.tool),
        *place,
        named(what.files, what.project),
    ]
    return one_line(" · ".join(p for p in parts if p), HEAD_CHARS_MAX)


def _deed(actor: str, kind: str, tool: str) -> str:
    """What was done, and by whom where the kind does not say it."""
    by = "" if actor in EXPECTED.get(kind, ()) else f"{actor} "
    return f"{by}{name_of(kind)} {tool}".strip()


def _session_line(turn: Turn) -> str:
    return (
        one_line(f"session {turn.session} · {turn.assistant} · project {turn.project}", HEAD_CHARS_MAX) + "\n"
    )


def _audit_line(row: AuditRow, chars: int) -> str:
    files = named(row.files, row.project, 3)
    parts = [
        f"[{row.position}] {minute(row.occurred_at)} {_deed(row.actor, row.kind, row.tool)}",
        "error" if row.is_error else "",
        one_line(files, 200),
        one_line(_without(row.what, row.files), chars),
    ]
    return " · ".join(p for p in parts if p)


def _without(text: str, files: Sequence[str]) -> str:
    """The text without the file it begins with, as calls do: the line above names it."""
    return text.removeprefix(files[0]).strip() if files else text.strip()


def _row_session(row: AuditRow) -> str:
    where = f" · project {row.project}" if row.project else ""
    return one_line(f"session {row.session} · {row.assistant}{where}", HEAD_CHARS_MAX)


def _window(
    turns: Sequence[Turn], parts: Sequence[str], budget_tokens: int, around: int | None
) -> tuple[int, int]:
    """The turns that fit: from the first on, or around a position."""
    fit = fitting(parts, budget_tokens, PAGED_TOKENS)
    if fit == len(parts) or around is None:
        return 0, fit
    first = last = min(range(len(turns)), key=lambda i: abs(turns[i].position - around))
    last += 1
    while True:
        grown = (max(0, first - 1), min(len(parts), last + 1))
        if (
            grown == (first, last)
            or fitting(parts[grown[0] : grown[1]], budget_tokens, PAGED_TOKENS) < grown[1] - grown[0]
        ):
            return first, last
        first, last = grown


def _pages(page: TimelinePage, cut: bool) -> list[str]:
    lines = []
    if page.earlier:
        lines.append(f"Earlier: timeline(cursor={page.earlier!r}).")
    if page.later:
        lines.append(f"Later: timeline(cursor={page.later!r}).")
    return lines if lines or cut else ["That is all of it."]

"""Actions as flat rows, the one shape the query view, the lexical index and the readers share."""

from typing import Any, NamedTuple

from session_mgmt_mcp.core import actions as a
from session_mgmt_mcp.core import interpret as interpretation
from session_mgmt_mcp.core.envelope import Event

TEXT_CHARS_MAX = 64 * 1024
EDIT_CHARS_MAX = 16 * 1024
ORDINAL_BITS = 10
ORDINALS_MAX = 1 << ORDINAL_BITS
_RANKS = {"record": 0, "document": 1, "command": 2, "hook": 3}


class Row(NamedTuple):
    """One action. `id` is position << 10 | ordinal within the event; `seq` counts the session's rows from 1."""

    id: int
    key: str
    session: str
    assistant: str
    occurred_at: int  # µs since the epoch, 0 where unknown
    actor: str
    kind: str
    source: str
    record: str
    project: str
    branch: str
    parent: str
    tool: str
    tool_use_id: str
    files: tuple[str, ...]
    is_error: bool
    origin: str  # of titles, notices and unknown records
    reason: str  # why a session started or ended, what compacted a context
    leaf: str  # of a summary: the record whose session it describes
    text_digest: str
    text: str  # at most TEXT_CHARS_MAX characters; what was cut is said at its end
    edit: str  # old and new text of edits, bounded likewise
    seq: int

    @property
    def position(self) -> int:
        return self.id >> ORDINAL_BITS


class UsageRow(NamedTuple):
    """Tokens of one model message as one record reports them; the last report of a message counts."""

    id: int
    session: str
    message_id: str
    model: str
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int


class Interpreted(NamedTuple):
    """What one event comes to. Keys that end in `:` are not completed yet, `seq` is 0."""

    rows: list[Row]
    usage: list[UsageRow]
    forgotten: list[a.FactsForgotten]


def source_rank(source: str) -> int:
    """0 is the best source of a fact; sources this version does not know come last."""
    return _RANKS.get(source, len(_RANKS))


def interpretation_version() -> int:
    """A change of it makes every projection rebuild itself."""
    return int(interpretation.INTERPRETATION_VERSION)


def interpret_event(event: Event) -> Interpreted:
    """The rows of one event."""
    return rows_of(event, interpretation.interpret(event))


def rows_of(event: Event, actions: list[Any]) -> Interpreted:
    """Rows of the actions of an event. More than 1024 actions in one event: the last row says how many were left."""
    out = Interpreted([], [], [])
    source = str(event.envelope.source)
    left = len(actions) - ORDINALS_MAX
    for ordinal, action in enumerate(actions[:ORDINALS_MAX]):
        row_id = event.position << ORDINAL_BITS | ordinal
        if isinstance(action, a.UsageReported):
            out.usage.append(_usage(row_id, action))
        elif isinstance(action, a.FactsForgotten):
            out.forgotten.append(action)
        else:
            out.rows.append(_row(row_id, source, action))
    if left > 0 and out.rows:
        last = out.rows[-1]
        out.rows[-1] = last._replace(text=f"{last.text}\n[{left} more actions of this event are in the log]")
    return out


def _usage(row_id: int, action: a.UsageReported) -> UsageRow:
    return UsageRow(
        row_id,
        action.session,
        action.message_id,
        action.model,
        action.input_tokens,
        action.output_tokens,
        action.cache_read_tokens,
        action.cache_write_tokens,
    )


def _clean(text: str) -> str:
    """Text DuckDB, Parquet and tantivy all take: no lone surrogates, no NUL."""
    if text.isascii():
        return text.replace("\0", " ") if "\0" in text else text
    return text.encode("utf-8", "replace").decode().replace("\0", " ")


def _bounded(text: str, limit: int) -> str:
    if len(text) <= limit:
        return _clean(text)
    note = f"\n[cut: {len(text)} characters in all, the log has them]"
    return _clean(text[: limit - len(note)]) + note


def _row(row_id: int, source: str, action: a.Action) -> Row:
    text = action.text
    if isinstance(action, a.ToolCalled) and action.command and action.command not in text:
        text = f"{text}\n{action.command}".strip()
    if isinstance(action, a.ReflectionRemembered) and action.tags:
        text = f"{text}\n#{' #'.join(action.tags)}"
    reason = getattr(action, "reason", "") or getattr(action, "trigger", "")
    short = (
        action.key,
        action.session,
        action.assistant,
        action.actor,
        action.record,
        action.project,
        action.branch,
        action.parent,
        getattr(action, "tool", ""),
        getattr(action, "tool_use_id", ""),
        getattr(action, "origin", ""),
        reason,
        getattr(action, "leaf", ""),
    )
    joined = "".join(short)
    if not joined.isascii() or "\0" in joined:
        short = tuple(map(_clean, short))  # type: ignore[assignment]
    (
        key,
        session,
        assistant,
        actor,
        record,
        project,
        branch,
        parent,
        tool,
        tool_use_id,
        origin,
        reason,
        leaf,
    ) = short
    return Row(
        id=row_id,
        key=key,
        session=session,
        assistant=assistant,
        occurred_at=action.occurred_at,
        actor=actor,
        kind=type(action).__name__,
        source=source,
        record=record,
        project=project,
        branch=branch,
        parent=parent,
        tool=tool,
        tool_use_id=tool_use_id,
        files=tuple(map(_clean, getattr(action, "files", ()))),
        is_error=bool(getattr(action, "is_error", False)),
        origin=origin,
        reason=reason,
        leaf=leaf,
        text_digest=action.text_digest,
        text=_bounded(text, TEXT_CHARS_MAX),
        edit=_bounded(getattr(action, "edit_text", ""), EDIT_CHARS_MAX),
        seq=0,
    )

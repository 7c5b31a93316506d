"""Actions as flat rows, the one shape the query view, the lexical index and the readers share."""

from typing import Any, NamedTuple, TypeVar

from session_mgmt_mcp.core import actions as a
from session_mgmt_mcp.core import interpret as interpretation
from session_mgmt_mcp.core.envelope import Event

TEXT_CHARS_MAX = 64 * 1024
EDIT_CHARS_MAX = 16 * 1024
ORDINAL_BITS = 10
ORDINALS_MAX = 1 << ORDINAL_BITS
# 0 is the best source of a fact; sources this version does not know come last
RANKS = {"record": 0, "document": 1, "command": 2, "hook": 3}
_PLAIN = (a.PromptSubmitted, a.AssistantReplied, a.AssistantThought)  # kinds with nothing but what all have
Texts = TypeVar("Texts", bound=tuple[str, ...])


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
    first = event.position << ORDINAL_BITS
    for row_id, action in enumerate(actions[:ORDINALS_MAX], first):
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
    kind = type(action)
    text, tool, tool_use_id, origin, reason, leaf, edit = action.text, "", "", "", "", "", ""
    files: tuple[str, ...] = ()
    is_error = False
    if isinstance(action, a.ToolCalled):
        tool, tool_use_id, files, edit = action.tool, action.tool_use_id, action.files, action.edit_text
        if action.command and action.command not in text:
            text = f"{text}\n{action.command}".strip()
    elif isinstance(action, a.ToolReturned):
        tool, tool_use_id, files = action.tool, action.tool_use_id, action.files
        is_error = action.is_error
    elif kind not in _PLAIN:
        origin, leaf = getattr(action, "origin", ""), getattr(action, "leaf", "")
        reason = getattr(action, "reason", "") or getattr(action, "trigger", "")
        if isinstance(action, a.ReflectionRemembered) and action.tags:
            text = f"{text}\n#{' #'.join(action.tags)}"
    head = (action.key, action.session, action.assistant)
    where = (action.record, action.project, action.branch, action.parent, tool, tool_use_id)
    rest = (origin, reason, leaf)
    joined = f"{''.join(head)}{action.actor}{''.join(where)}{''.join(rest)}"
    actor = action.actor
    if not joined.isascii() or "\0" in joined:
        head, where, rest, actor = _all_clean(head), _all_clean(where), _all_clean(rest), _clean(actor)
    return Row._make(
        (
            row_id,
            *head,
            action.occurred_at,
            actor,
            kind.__name__,
            source,
            *where,
            tuple(map(_clean, files)) if files else (),
            is_error,
            *rest,
            action.text_digest,
            _bounded(text, TEXT_CHARS_MAX),
            _bounded(edit, EDIT_CHARS_MAX) if edit else "",
            0,
        )
    )


def _all_clean(texts: Texts) -> Texts:
    return tuple(map(_clean, texts))  # type: ignore[return-value]

"""Records of the generic import format: one thing said or done each, in a shape any history can be brought into.

The format is defined in `adapters/generic/FORMAT.md`.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from session_mgmt_mcp.core.actions import (
    AssistantReplied,
    AssistantThought,
    ContextCompacted,
    ContextNoted,
    PromptSubmitted,
    RecordUnknown,
    ReflectionRemembered,
    SessionTitled,
    ToolCalled,
    ToolReturned,
    text_digest,
)
from session_mgmt_mcp.core.envelope import Event
from session_mgmt_mcp.core.interpret.facts import Facts
from session_mgmt_mcp.core.interpret.json_record import read_object

DEFAULT_ASSISTANT = "generic"
NAME_CHARS_MAX = 512
_ASSISTANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_RESERVED = "session-mgmt"  # the log's own streams
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_TIME_MAX = (datetime(9999, 12, 31, tzinfo=UTC) - _EPOCH) // _MICROSECOND
# Numbers below are seconds, milliseconds, microseconds: as seconds each bound lies beyond the year 5000, as the next
# unit before 1974.
_UNITS = ((10**11, 1_000_000), (10**14, 1_000), (10**17, 1))


class EntryError(ValueError):
    """A record of the generic format that cannot be taken; the message says why."""


class Entry(msgspec.Struct):
    """One record; `adapters/generic/FORMAT.md` says what the fields mean."""

    session: str | int
    text: str | None = None
    record: str | int | None = None
    time: str | int | float | None = None
    actor: str | None = None
    kind: str | None = None
    assistant: str | None = None
    project: str | None = None
    branch: str | None = None
    files: list[str] | str | None = None
    tool: str | None = None
    call: str | int | None = None
    edit: str | None = None
    is_error: bool | None = None
    title: str | None = None
    tags: list[str] | None = None

    @property
    def speaker(self) -> str:
        """The actor; the roles every history has are written small."""
        if not self.actor:
            return _ACTORS.get(self.what, "system")
        return self.actor.lower() if self.actor.lower() in _KINDS_OF_ACTORS else self.actor

    @property
    def what(self) -> str:
        """The kind, from the actor where none is given: a name that is no role is a person's."""
        if self.kind:
            return self.kind.lower()
        actor = (self.actor or "").lower()
        return _KINDS_OF_ACTORS.get(actor) or ("reply" if actor.startswith("agent:") else "prompt")

    @property
    def is_known(self) -> bool:
        return self.what in _INTERPRETED

    @property
    def says_nothing(self) -> bool:
        return not ((self.text or "").strip() or self.files or self.tool or self.edit or self.title)


FIELDS = frozenset(Entry.__struct_fields__)
_KINDS_OF_ACTORS = {"user": "prompt", "assistant": "reply", "tool": "result", "system": "note"}
_ACTORS = {
    "prompt": "user",
    "reply": "assistant",
    "thought": "assistant",
    "call": "assistant",
    "result": "tool",
}
_objects = msgspec.json.Decoder(dict[str, Any])


def read_fields(raw: bytes) -> dict[str, Any]:
    """A line's fields, known or not. Raises NotAnObjectError."""
    return read_object(raw, _objects)


def read_entry(fields: dict[str, Any]) -> Entry:
    """Raises EntryError where a field is missing or of another type."""
    try:
        entry = msgspec.convert(fields, Entry)
    except msgspec.ValidationError as error:
        raise EntryError(
            str(error).replace(" - at `$.", " in `").replace("Object missing", "misses the")
        ) from None
    if not (entry.actor or entry.kind):
        raise EntryError("names neither `actor` nor `kind`; give the one who spoke")
    if entry.session == "":
        raise EntryError("`session` is empty; give the id of the session")
    for name in ("session", "record", "call", "actor"):
        if len(str(getattr(entry, name))) > NAME_CHARS_MAX:
            raise EntryError(f"`{name}` is longer than {NAME_CHARS_MAX} characters")
    if entry.assistant and (not _ASSISTANT.fullmatch(entry.assistant) or entry.assistant == _RESERVED):
        raise EntryError(
            f"`assistant` is {entry.assistant[:80]!r}; give letters, digits, . _ - and not {_RESERVED!r}"
        )
    return entry


def microseconds(time: str | float | None) -> int:
    """µs since the epoch of an ISO 8601 time (UTC where it names no zone) or of a number of seconds, ms or µs.

    0 where it is unknown: None, "" or 0. Raises EntryError.
    """
    if time in (None, "", 0):
        return 0
    try:
        moment = _of_number(time) if isinstance(time, int | float) else _of_text(time)
    except (ValueError, OverflowError):
        moment = 0
    if not 0 < moment <= _TIME_MAX:
        raise EntryError(
            f"`time` is {time!r:.60}; give ISO 8601 with a zone, or seconds or milliseconds since 1970"
        )
    return moment


def _of_text(time: str) -> int:
    text = time.strip()
    if text.isdigit() and len(text) > 8:
        return _of_number(int(text))
    moment = datetime.fromisoformat(text)
    return ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH) // _MICROSECOND


def _of_number(time: float) -> int:
    scale = next((scale for bound, scale in _UNITS if abs(time) < bound), 0)
    return round(time * scale)


def interpret_entry(event: Event, payload: bytes) -> Facts:
    """Raises NotAnObjectError, EntryError."""
    entry = read_entry(read_fields(payload))
    facts = Facts(
        event,
        record="" if entry.record is None else str(entry.record),
        project=entry.project or "",
        branch=entry.branch or "",
    )
    if not entry.says_nothing:
        what = entry.what
        if what in _INTERPRETED:
            _INTERPRETED[what](facts, entry)
        else:
            facts.add(RecordUnknown, origin=f"generic/{what}", text=entry.text or "", actor=entry.speaker)
    if entry.title and entry.title.strip() and entry.what != "title":
        _title(facts, entry.title)
    return facts


def _said(action: type[Any], **fields: Any) -> Callable[[Facts, Entry], None]:
    """An action that is nothing but its text."""

    def add(facts: Facts, entry: Entry) -> None:
        if entry.text and entry.text.strip():
            facts.add(action, text=entry.text, actor=entry.speaker, **fields)

    return add


def _called(facts: Facts, entry: Entry) -> None:
    facts.add(
        ToolCalled,
        key=_call_key("call", facts, entry),
        text=entry.text or "",
        actor=entry.speaker,
        tool=entry.tool or "",
        tool_use_id=_call_id(entry),
        files=_files(entry),
        edit_text=entry.edit or "",
    )


def _returned(facts: Facts, entry: Entry) -> None:
    facts.add(
        ToolReturned,
        key=_call_key("return", facts, entry),
        text=entry.text or "",
        actor=entry.speaker,
        tool=entry.tool or "",
        tool_use_id=_call_id(entry),
        files=_files(entry),
        is_error=bool(entry.is_error),
    )


def _remembered(facts: Facts, entry: Entry) -> None:
    _said(ReflectionRemembered, tags=tuple(entry.tags or ()))(facts, entry)


def _titled(facts: Facts, entry: Entry) -> None:
    _title(facts, entry.title or entry.text or "")


def _title(facts: Facts, text: str) -> None:
    # Every record of a session may say its title: the same text is one fact.
    key = f"title:{facts.shared['assistant']}/{facts.session}:{text_digest(text)}"
    facts.add(SessionTitled, key=key, text=text, origin="custom", actor="system")


def _call_id(entry: Entry) -> str:
    return "" if entry.call is None else str(entry.call)


def _call_key(kind: str, facts: Facts, entry: Entry) -> str:
    """A call's id need be unique in its session only; a key is one fact everywhere."""
    call = _call_id(entry)
    return f"{kind}:{facts.shared['assistant']}/{facts.session}:{call}" if call else ""


def _files(entry: Entry) -> tuple[str, ...]:
    files = [entry.files] if isinstance(entry.files, str) else entry.files or []
    return tuple(filter(None, files))


_INTERPRETED: dict[str, Callable[[Facts, Entry], None]] = {
    "prompt": _said(PromptSubmitted),
    "reply": _said(AssistantReplied),
    "thought": _said(AssistantThought),
    "call": _called,
    "result": _returned,
    "note": _said(ContextNoted, origin="note"),
    "summary": _said(ContextCompacted),
    "title": _titled,
    "reflection": _remembered,
}
KINDS = frozenset(_INTERPRETED)

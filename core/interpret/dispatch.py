"""The one way from an event to its actions."""

from collections.abc import Callable

from session_mgmt_mcp.core.actions import Action
from session_mgmt_mcp.core.envelope import ACCESS_TYPES, Event, EventType
from session_mgmt_mcp.core.interpret.claude_hook import interpret_hook
from session_mgmt_mcp.core.interpret.claude_record import interpret_record
from session_mgmt_mcp.core.interpret.facts import Facts
from session_mgmt_mcp.core.interpret.generic_record import interpret_entry
from session_mgmt_mcp.core.interpret.own import (
    interpret_access,
    interpret_checkpoint,
    interpret_close,
    interpret_forgotten,
    interpret_fork,
    interpret_grant,
    interpret_join,
    interpret_project,
    interpret_reflection,
    interpret_revocation,
    interpret_switch,
)
from session_mgmt_mcp.core.upcast import upcast

# Raise it whenever the same event yields other actions: views built by another version are rebuilt.
INTERPRETATION_VERSION = 2

UNDECODABLE = "undecodable"

# whatever assistant they are of
_OF_ANY: dict[str, Callable[[Event, bytes], Facts]] = {
    EventType.ENTRY_IMPORTED: interpret_entry,
    EventType.REFLECTION_STORED: interpret_reflection,
    EventType.PAYLOAD_FORGOTTEN: interpret_forgotten,
    EventType.LOG_FORKED: interpret_fork,
    EventType.SESSION_CHECKPOINTED: interpret_checkpoint,
    EventType.SESSION_CLOSED: interpret_close,
    EventType.PERMISSION_GRANTED: interpret_grant,
    EventType.PERMISSION_REVOKED: interpret_revocation,
    EventType.PROJECT_SEEN: interpret_project,
    EventType.PROJECT_JOINED: interpret_join,
    EventType.CAPTURE_PAUSED: lambda event, _: interpret_switch(event),
    EventType.CAPTURE_RESUMED: lambda event, _: interpret_switch(event),
    **dict.fromkeys(ACCESS_TYPES, interpret_access),
}
_CAPTURED: dict[tuple[str, str], Callable[[Event, bytes], Facts]] = {
    ("claude-code", EventType.HOOK_REPORTED): interpret_hook,
    ("claude-code", EventType.RECORD_IMPORTED): interpret_record,
}


def interpret(event: Event) -> list[Action]:
    """The actions an event stands for, in order; a pure function of the event. Never raises.

    Empty for a forgotten payload and for records that are known and say nothing of their own. What cannot be
    read is one RecordUnknown of origin "undecodable"; an unknown kind is one whose origin is its type as
    found.
    """
    if event.payload is None or event.envelope.event_type == EventType.BLOB_STORED:
        return []
    envelope = event.envelope
    handler = _OF_ANY.get(envelope.event_type) or _CAPTURED.get((envelope.assistant, envelope.event_type))
    if handler is None:
        facts = Facts(event)
        facts.unknown(f"{envelope.assistant}/{envelope.event_type}")
        return facts.actions
    try:
        current = upcast(event)
        return handler(current, current.payload or b"").actions
    except Exception:  # noqa: BLE001 - one strange record must not stop a replay; the log keeps it
        facts = Facts(event)
        facts.unknown(UNDECODABLE)
        return facts.actions

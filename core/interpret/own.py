"""The log's own events."""

import msgspec

from session_mgmt_mcp.core.actions import FactsForgotten, ReflectionRemembered
from session_mgmt_mcp.core.envelope import Event, EventType
from session_mgmt_mcp.core.events import LogForked, PayloadForgotten, ReflectionStored
from session_mgmt_mcp.core.interpret.facts import Facts
from session_mgmt_mcp.core.interpret.json_record import read_object

_reflection = msgspec.json.Decoder(ReflectionStored)
_forgotten = msgspec.json.Decoder(PayloadForgotten)
_forked = msgspec.json.Decoder(LogForked)


def interpret_reflection(event: Event, payload: bytes) -> Facts:
    """Raises NotAnObjectError."""
    stored = read_object(payload, _reflection)
    facts = Facts(event, project=stored.project)
    if stored.session:
        facts.shared["session"] = stored.session
    actor = event.envelope.actor
    facts.add(ReflectionRemembered, key=_own_key(event), text=stored.text, tags=stored.tags, actor=actor)
    return facts


def interpret_forgotten(event: Event, payload: bytes) -> Facts:
    """Raises NotAnObjectError."""
    forgotten = read_object(payload, _forgotten)
    facts = Facts(event)
    facts.add(
        FactsForgotten,
        key=_own_key(event),
        text=forgotten.reason,
        actor=event.envelope.actor,
        positions=forgotten.positions,
        action_keys=forgotten.action_keys,
        texts=forgotten.texts,
    )
    return facts


def interpret_fork(event: Event, payload: bytes) -> Facts:
    """The log goes on from a backup, cut at a position. Raises NotAnObjectError."""
    fork = read_object(payload, _forked)
    facts = Facts(event)
    facts.note(
        event.envelope.event_type,
        f"log restored from a backup of {fork.log_id} up to position {fork.position}",
    )
    return facts


def interpret_switch(event: Event) -> Facts:
    """Capture was paused or resumed."""
    facts = Facts(event)
    text = "capture paused" if event.envelope.event_type == EventType.CAPTURE_PAUSED else "capture resumed"
    facts.note(event.envelope.event_type, text)
    return facts


def _own_key(event: Event) -> str:
    return f"own:{event.event_id.hex()}"

"""The log's own events."""

import msgspec

from session_mgmt_mcp.core import events
from session_mgmt_mcp.core.actions import (
    FactsForgotten,
    ReflectionRemembered,
    SessionCheckpointed,
    SessionEnded,
)
from session_mgmt_mcp.core.envelope import Event, EventType
from session_mgmt_mcp.core.events import LogForked, PayloadForgotten, ReflectionStored
from session_mgmt_mcp.core.interpret.facts import Facts
from session_mgmt_mcp.core.interpret.json_record import read_object

_reflection = msgspec.json.Decoder(ReflectionStored)
_forgotten = msgspec.json.Decoder(PayloadForgotten)
_forked = msgspec.json.Decoder(LogForked)
_checkpointed = msgspec.json.Decoder(events.SessionCheckpointed)
_closed = msgspec.json.Decoder(events.SessionClosed)
_granted = msgspec.json.Decoder(events.PermissionGranted)
_revoked = msgspec.json.Decoder(events.PermissionRevoked)
_seen = msgspec.json.Decoder(events.ProjectSeen)
_joined = msgspec.json.Decoder(events.ProjectJoined)
_key_created = msgspec.json.Decoder(events.KeyCreated)
_key_revoked = msgspec.json.Decoder(events.KeyRevoked)
_access_granted = msgspec.json.Decoder(events.AccessGranted)
_access_denied = msgspec.json.Decoder(events.AccessDenied)
_service_started = msgspec.json.Decoder(events.ServiceStarted)
_service_stopped = msgspec.json.Decoder(events.ServiceStopped)


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


def interpret_checkpoint(event: Event, payload: bytes) -> Facts:
    """Raises NotAnObjectError."""
    stored = read_object(payload, _checkpointed)
    facts = Facts(event, project=stored.project, session=stored.session)
    facts.add(
        SessionCheckpointed,
        key=_own_key(event),
        text=stored.note,
        reason=stored.reason,
        actor=event.envelope.actor,
    )
    return facts


def interpret_close(event: Event, payload: bytes) -> Facts:
    """Raises NotAnObjectError."""
    stored = read_object(payload, _closed)
    facts = Facts(event, project=stored.project, session=stored.session)
    facts.add(
        SessionEnded, key=_own_key(event), text=stored.note, reason=stored.reason, actor=event.envelope.actor
    )
    return facts


def interpret_grant(event: Event, payload: bytes) -> Facts:
    """Raises NotAnObjectError."""
    grant = read_object(payload, _granted)
    facts = Facts(event, project=grant.project)
    where = f" in {grant.scope}" if grant.scope else ""
    facts.note(
        event.envelope.event_type,
        f"permission {grant.grant} granted: {grant.operation}{where}. {grant.reason}".strip(),
        event.envelope.actor,
    )
    return facts


def interpret_revocation(event: Event, payload: bytes) -> Facts:
    """Raises NotAnObjectError."""
    revoked = read_object(payload, _revoked)
    facts = Facts(event)
    text = f"permission {revoked.grant} revoked. {revoked.reason}".strip()
    facts.note(event.envelope.event_type, text, event.envelope.actor)
    return facts


def interpret_project(event: Event, payload: bytes) -> Facts:
    """Raises NotAnObjectError."""
    seen = read_object(payload, _seen)
    facts = Facts(event, project=seen.folder)
    facts.note(event.envelope.event_type, seen.folder + events.SEEN_WORDS + seen.root)
    return facts


def interpret_join(event: Event, payload: bytes) -> Facts:
    """Raises NotAnObjectError."""
    joined = read_object(payload, _joined)
    facts = Facts(event, project=joined.new)
    text = joined.old + events.JOINED_WORDS + joined.new
    if joined.old == joined.new:
        text = f"{joined.old} is a project of its own"
    facts.note(event.envelope.event_type, text, event.envelope.actor)
    return facts


def interpret_switch(event: Event) -> Facts:
    """Capture was paused or resumed."""
    facts = Facts(event)
    text = "capture paused" if event.envelope.event_type == EventType.CAPTURE_PAUSED else "capture resumed"
    facts.note(event.envelope.event_type, text)
    return facts


def interpret_access(event: Event, payload: bytes) -> Facts:
    """Keys, who came in with one, who was turned away, and when the service ran. Raises NotAnObjectError."""
    facts = Facts(event)
    facts.note(event.envelope.event_type, said_of_access(event, payload), event.envelope.actor)
    return facts


def said_of_access(event: Event, payload: bytes) -> str:
    """An event of access in one line, for people. Raises NotAnObjectError."""
    match event.envelope.event_type:
        case EventType.KEY_CREATED:
            made = read_object(payload, _key_created)
            where = "all projects" if made.projects is None else ", ".join(made.projects)
            narrowed = f" for {', '.join(made.scopes)}" if made.scopes else ""
            instead = f", instead of {made.replaces}" if made.replaces else ""
            return f"key {made.key} made for {made.name}: {made.role}{narrowed}, {where}{instead}"
        case EventType.KEY_REVOKED:
            gone = read_object(payload, _key_revoked)
            return f"key {gone.key} of {gone.name} revoked. {gone.reason}".strip()
        case EventType.ACCESS_GRANTED:
            came = read_object(payload, _access_granted)
            return f"key {came.key} used from {came.address or 'an unknown address'}"
        case EventType.ACCESS_DENIED:
            denied = read_object(payload, _access_denied)
            times = f" {denied.count} times" if denied.count > 1 else ""
            key = f" with key {denied.key}" if denied.key else ""
            what = f" for {denied.what}" if denied.what else ""
            where = denied.address or "several addresses"
            return f"access denied{times}: {denied.reason}{what}{key} from {where}"
        case EventType.SERVICE_STARTED:
            started = read_object(payload, _service_started)
            return f"service {started.version} started at {started.address}, authentication: {started.auth}"
        case _:
            return f"service stopped. {read_object(payload, _service_stopped).reason}".strip()


def _own_key(event: Event) -> str:
    return f"own:{event.event_id.hex()}"

"""Events: an envelope and a payload, as `core/log/FORMAT.md` section 2 defines them."""

import hashlib
import os
import struct
import time
from enum import StrEnum
from typing import NamedTuple

import msgspec


class Source(StrEnum):
    """Where an event was read. Decides which of two reports of one fact is shown (core/log/FORMAT.md, section 6)."""

    HOOK = "hook"
    RECORD = "record"
    DOCUMENT = "document"
    COMMAND = "command"


class EventType(StrEnum):
    """What happened, in the past tense. A payload's meaning may change under a new `schema_version`."""

    HOOK_REPORTED = "HookReported"  # payload: the hook's JSON as received
    RECORD_IMPORTED = "RecordImported"  # payload: one transcript record as read
    ENTRY_IMPORTED = "EntryImported"  # payload: one record of the generic import format as read
    REFLECTION_STORED = "ReflectionStored"  # payload: core.events.ReflectionStored
    PAYLOAD_FORGOTTEN = "PayloadForgotten"  # payload: core.events.PayloadForgotten
    LOG_FORKED = "LogForked"  # payload: core.events.LogForked
    CAPTURE_PAUSED = "CapturePaused"  # payload: {}
    CAPTURE_RESUMED = "CaptureResumed"  # payload: {}
    SESSION_CHECKPOINTED = "SessionCheckpointed"  # payload: core.events.SessionCheckpointed
    SESSION_CLOSED = "SessionClosed"  # payload: core.events.SessionClosed
    PERMISSION_GRANTED = "PermissionGranted"  # payload: core.events.PermissionGranted
    PERMISSION_REVOKED = "PermissionRevoked"  # payload: core.events.PermissionRevoked
    PROJECT_SEEN = "ProjectSeen"  # payload: core.events.ProjectSeen
    PROJECT_JOINED = "ProjectJoined"  # payload: core.events.ProjectJoined
    KEY_CREATED = "KeyCreated"  # payload: core.events.KeyCreated
    KEY_REVOKED = "KeyRevoked"  # payload: core.events.KeyRevoked
    ACCESS_GRANTED = "AccessGranted"  # payload: core.events.AccessGranted
    ACCESS_DENIED = "AccessDenied"  # payload: core.events.AccessDenied
    SERVICE_STARTED = "ServiceStarted"  # payload: core.events.ServiceStarted
    SERVICE_STOPPED = "ServiceStopped"  # payload: core.events.ServiceStopped
    BLOB_STORED = "BlobStored"  # payload: a large string cut out of others' payloads (core.blobs)


ACCESS_TYPES = (  # what admins alone are shown
    EventType.KEY_CREATED,
    EventType.KEY_REVOKED,
    EventType.ACCESS_GRANTED,
    EventType.ACCESS_DENIED,
    EventType.SERVICE_STARTED,
    EventType.SERVICE_STOPPED,
)


class Envelope(msgspec.Struct, array_like=True, frozen=True):
    """An event's metadata. The field order is the on-disk format."""

    stream: str
    event_type: str
    schema_version: int
    recorded_at: int  # µs since the epoch, the wall clock; position is the order
    occurred_at: int  # µs since the epoch, 0 where the source does not say
    actor: str
    source: str
    correlation_id: bytes | None = None
    causation_id: bytes | None = None

    @property
    def assistant(self) -> str:
        return self.stream.partition("/")[0]

    @property
    def session(self) -> str:
        return self.stream.partition("/")[2]


class NewEvent(NamedTuple):
    """An event to append. `payload` is already redacted."""

    event_id: bytes  # 16 bytes: `capture_id` or `uuid7`
    envelope: Envelope
    payload: bytes


class Event(NamedTuple):
    """An event as read back. `payload` is None where it was forgotten."""

    position: int
    event_id: bytes
    envelope: Envelope
    payload: bytes | None


class Receipt(NamedTuple):
    """What became of one appended event; given only once it is durable."""

    position: int
    appended: bool  # False: its id was in the log before
    changed: bool  # only for duplicates: the payload differs from the stored one


def capture_id(*parts: str | bytes) -> bytes:
    """The 16-byte id that decides what is stored once (FORMAT.md section 5)."""
    joined = b"".join(
        struct.pack("<I", len(raw)) + raw for raw in (p.encode() if isinstance(p, str) else p for p in parts)
    )
    return hashlib.sha256(b"capture\0" + joined).digest()[:16]


def uuid7(now_us: int | None = None) -> bytes:
    """A UUIDv7 (RFC 9562): 48 bits of milliseconds, then random; sorts by time."""
    ms = (now_us if now_us is not None else time.time_ns() // 1000) // 1000
    r = os.urandom(10)
    return ms.to_bytes(6, "big") + bytes((0x70 | r[0] & 15, r[1], 0x80 | r[2] & 63)) + r[3:]


def now_us() -> int:
    """The wall clock in µs since the epoch."""
    return time.time_ns() // 1000


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Envelope).decode


def encode_envelope(envelope: Envelope) -> bytes:
    return _encode(envelope)


def decode_envelope(raw: bytes | memoryview) -> Envelope:
    """Raises msgspec.DecodeError / ValidationError if the bytes are no envelope."""
    return _decode(raw)

"""Events written under an earlier schema version, read as the current one. The log keeps them as they were written."""

from collections.abc import Callable

import msgspec

from session_mgmt_mcp.core.envelope import Event, EventType
from session_mgmt_mcp.core.events import PayloadForgotten, ranges_of


class _PayloadForgotten1(msgspec.Struct, frozen=True):
    positions: tuple[int, ...] = ()
    event_ids: tuple[str, ...] = ()
    action_keys: tuple[str, ...] = ()
    reason: str = ""


_decode_forgotten_1 = msgspec.json.Decoder(_PayloadForgotten1).decode


def _forgotten_1_to_2(payload: bytes) -> bytes:
    """Positions became ranges. Version 1 kept no order of texts."""
    old = _decode_forgotten_1(payload)
    ids = tuple(i for _, i in sorted(zip(old.positions, old.event_ids, strict=False)))
    return msgspec.json.encode(PayloadForgotten(ranges_of(old.positions), ids, old.action_keys, old.reason))


Step = Callable[[bytes], bytes]
# (event type, from version) -> the payload of the next version; pure, and never changed once released
STEPS: dict[tuple[str, int], Step] = {
    (EventType.PAYLOAD_FORGOTTEN.value, 1): _forgotten_1_to_2,
}


def upcast(event: Event) -> Event:
    """The event in the newest schema version this program knows; itself where it is that already, newer or forgotten.

    Raises msgspec.MsgspecError where the payload is not what its version says.
    """
    envelope, payload = event.envelope, event.payload
    if payload is None:
        return event
    version = envelope.schema_version
    while (step := STEPS.get((str(envelope.event_type), version))) is not None:
        payload = step(payload)
        version += 1
    if version == envelope.schema_version:
        return event
    return event._replace(envelope=msgspec.structs.replace(envelope, schema_version=version), payload=payload)

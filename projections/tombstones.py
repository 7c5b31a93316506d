"""What must be known of forgotten events before the log is read: which they are, and which places in the order they keep.

A tombstone lies after the events it is about, so a projection that reads the log in order would meet it too late.
"""

from collections.abc import Iterable
from typing import NamedTuple

from session_mgmt_mcp.core.actions import FactsForgotten
from session_mgmt_mcp.core.envelope import Event, EventType
from session_mgmt_mcp.core.interpret import interpret
from session_mgmt_mcp.core.log.forget import tombstone_positions
from session_mgmt_mcp.core.log.log import FileLog
from session_mgmt_mcp.core.ports import EventLog
from session_mgmt_mcp.projections.facts import Known
from session_mgmt_mcp.projections.rows import ORDINAL_BITS


class Tombstones:
    """What some tombstones of a log say. `last`: the position of the last of them, 0 for none."""

    def __init__(self) -> None:
        self.positions: set[int] = set()
        self.last = 0
        self._texts: dict[int, list[tuple[str, str]]] = {}

    def add(self, event: Event) -> None:
        """Take in a PayloadForgotten."""
        for action in interpret(event):
            if isinstance(action, FactsForgotten):
                self.positions.update(action.positions)
                for position, kind, digest in action.texts:
                    self._texts.setdefault(position, []).append((kind, digest))
        self.last = max(self.last, event.position)

    def covers(self, event: Event) -> bool:
        """Whether the payload is gone, or about to be: a tombstone comes before the payload is taken out."""
        return event.payload is None or event.position in self.positions

    def places(self, event: Event) -> "list[Place]":
        """The places a forgotten event keeps in the order."""
        envelope = event.envelope
        return [
            Place(event.position << ORDINAL_BITS | i, envelope.session, kind, str(envelope.source), digest)
            for i, (kind, digest) in enumerate(self._texts.get(event.position, ()))
        ]


class Place(NamedTuple):
    """A record of the table `places`."""

    id: int
    session: str
    kind: str
    source: str
    text_digest: str

    @property
    def known(self) -> Known:
        """What `Facts` takes."""
        return Known(self.id, "", self.kind, self.source, self.text_digest, "", "")


def tombstones_between(log: EventLog, after: int, upto: int) -> Tombstones:
    """What the tombstones at positions after < position <= upto say."""
    out = Tombstones()
    for event in _forgetting(log, after, upto):
        out.add(event)
    return out


def _forgetting(log: EventLog, after: int, upto: int) -> Iterable[Event]:
    if isinstance(log, FileLog):
        if after < upto:
            yield from log.get(p for p in tombstone_positions(log) if after < p <= upto).values()
        return
    for batch in log.read(after, upto):
        for event in batch:
            if event.envelope.event_type == EventType.PAYLOAD_FORGOTTEN:
                yield event

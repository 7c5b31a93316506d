"""An event log in memory that keeps the port's promises; for tests that need a log and no files."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence

from session_mgmt_mcp.core.envelope import Event, NewEvent, Receipt, encode_envelope
from session_mgmt_mcp.core.ports import Head

BATCH = 256


class MemoryLog:
    """See `core.ports.EventLog`. A frame is one call of `append`; `seal()` seals up to the end."""

    def __init__(self, log_id: str = "0123456789abcdef0123456789abcdef") -> None:
        self._log_id = log_id
        self._events: list[Event] = []
        self._position_of: dict[bytes, int] = {}
        self._payloads_read: dict[int, bytes] = {}
        start = hashlib.sha256(b"session-mgmt-mcp" + bytes.fromhex(log_id)).digest()
        self._chains: dict[int, bytes] = {0: start}
        self._chain = start
        self._sealed = 0
        self.appends = 0

    @property
    def log_id(self) -> str:
        return self._log_id

    def append(self, events: Sequence[NewEvent], *, dedupe: bool = True) -> list[Receipt]:
        receipts = [self._append_one(event, dedupe) for event in events]
        self.appends += 1
        self._chains[len(self._events)] = self._chain
        return receipts

    def _append_one(self, event: NewEvent, dedupe: bool) -> Receipt:
        known = self._position_of.get(event.event_id) if dedupe else None
        if known is not None:
            return Receipt(known, False, self._payloads_read[known] != event.payload)
        position = len(self._events) + 1
        self._events.append(Event(position, event.event_id, event.envelope, event.payload))
        self._position_of.setdefault(event.event_id, position)
        self._payloads_read[position] = event.payload
        leaf = hashlib.sha256(
            b"\0"
            + position.to_bytes(8, "little")
            + event.event_id
            + hashlib.sha256(event.payload).digest()
            + encode_envelope(event.envelope)
        )
        self._chain = hashlib.sha256(self._chain + leaf.digest()).digest()
        return Receipt(position, True, False)

    def read(self, after: int = 0, upto: int | None = None) -> Iterator[list[Event]]:
        end = len(self._events) if upto is None else min(upto, len(self._events))
        for start in range(after, end, BATCH):
            yield self._events[start : min(start + BATCH, end)]

    def get(self, positions: Iterable[int]) -> dict[int, Event]:
        return {p: self._events[p - 1] for p in positions if 0 < p <= len(self._events)}

    def head(self) -> Head:
        return Head(len(self._events), self._chain)

    def sealed(self) -> Head:
        return Head(self._sealed, self._chains[self._sealed])

    def chain_at(self, position: int) -> bytes | None:
        return self._chains.get(position)

    def seal(self) -> None:
        """Treat everything appended so far as sealed."""
        self._sealed = len(self._events)

    def forget(self, position: int) -> None:
        """Drop a payload as `forget` would; ids and chain stay."""
        self._events[position - 1] = self._events[position - 1]._replace(payload=None)

    @property
    def events(self) -> list[Event]:
        """All events in order."""
        return list(self._events)

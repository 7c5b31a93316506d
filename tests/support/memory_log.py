"""An event log in memory that keeps the port's promises; for tests that need a log and no files."""

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from threading import Lock

from session_mgmt_mcp.core.envelope import Event, NewEvent, Receipt, encode_envelope
from session_mgmt_mcp.core.errors import InputError
from session_mgmt_mcp.core.ports import Head

BATCH = 256


class MemoryLog:
    """See `core.ports.EventLog`. A frame is one call of `append` that added something; `seal()` seals up to the end.

    The chain is FORMAT.md's; `salts` holds what it was made with, by position. Thread-safe.
    """

    def __init__(self, log_id: str = "0123456789abcdef0123456789abcdef") -> None:
        self._log_id = log_id
        self._lock = Lock()
        self._events: list[Event] = []
        self._position_of: dict[bytes, int] = {}
        self._digests: dict[int, bytes] = {}
        start = hashlib.sha256(b"session-mgmt-mcp" + bytes.fromhex(log_id)).digest()
        self._chains: dict[int, bytes] = {0: start}
        self._sealed = 0
        self.salts: dict[int, bytes] = {}
        self.appends = 0

    @property
    def log_id(self) -> str:
        return self._log_id

    def append(self, events: Sequence[NewEvent], *, dedupe: bool = True) -> list[Receipt]:
        for event in events:
            if len(event.event_id) != 16:
                raise InputError(
                    f"an event id has 16 bytes, not {len(event.event_id)}: {event.event_id.hex()}"
                )
        with self._lock:
            self.appends += 1
            before = len(self._events)
            receipts: list[Receipt] = []
            leaves: list[bytes] = []
            added: list[Event] = []
            for event in events:
                known = self._position_of.get(event.event_id) if dedupe else None
                if known is not None:
                    receipts.append(Receipt(known, False, self._differs(known, event.payload)))
                    continue
                position = before + len(added) + 1
                added.append(Event(position, event.event_id, event.envelope, event.payload))
                leaves.append(self._leaf(position, event))
                self._position_of.setdefault(event.event_id, position)
                receipts.append(Receipt(position, True, False))
            if added:
                chain = hashlib.sha256(self._chains[before] + b"".join(leaves)).digest()
                self._chains[before + len(added)] = chain
                self._events += added  # last: who reads meanwhile sees the whole of it or nothing
            return receipts

    def _differs(self, position: int, payload: bytes) -> bool:
        """Whether a duplicate's payload is another than the stored one; of a forgotten one nothing is said."""
        digest = self._digests.get(position)
        return digest is not None and digest != hashlib.sha256(payload).digest()

    def _leaf(self, position: int, event: NewEvent) -> bytes:
        self.salts[position] = os.urandom(16)
        if event.payload:
            self._digests[position] = hashlib.sha256(event.payload).digest()
        return hashlib.sha256(
            b"\0"
            + position.to_bytes(8, "little")
            + event.event_id
            + hashlib.sha256(self.salts[position] + event.payload).digest()
            + encode_envelope(event.envelope)
        ).digest()

    def read(self, after: int = 0, upto: int | None = None) -> Iterator[list[Event]]:
        end = len(self._events) if upto is None else min(upto, len(self._events))
        for start in range(max(after, 0), end, BATCH):
            yield self._events[start : min(start + BATCH, end)]

    def get(self, positions: Iterable[int]) -> dict[int, Event]:
        return {p: self._events[p - 1] for p in positions if 0 < p <= len(self._events)}

    def positions_of(self, event_ids: Sequence[bytes]) -> dict[bytes, int]:
        return {i: self._position_of[i] for i in event_ids if i in self._position_of}

    def head(self) -> Head:
        position = len(self._events)
        return Head(position, self._chains[position])

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
        self._digests.pop(position, None)
        self.salts.pop(position)

    @property
    def events(self) -> list[Event]:
        """All events in order."""
        return list(self._events)

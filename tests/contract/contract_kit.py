"""What the contract of logs is written with: events, readings, an independent chain, threads, and what a backend gives."""

import hashlib
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import msgspec

from session_mgmt_mcp.core.envelope import Envelope, Event, NewEvent, uuid7
from session_mgmt_mcp.core.ports import EventLog

NOON = 1_770_000_000_000_000


class Backend(Protocol):
    """One empty log, and what the port leaves to the backend."""

    def open(self) -> EventLog:
        """One more handle on the log, as another process has it."""

    def close(self, log: EventLog) -> None: ...

    def seal(self, log: EventLog) -> None:
        """Make everything appended so far immutable: `sealed()` reaches it afterwards."""

    def forget(self, log: EventLog, positions: Sequence[int]) -> int:
        """Take these payloads out for good; how many events of its own that appended."""

    def salts(self, log: EventLog) -> dict[int, bytes]:
        """The 16 bytes each payload was hashed with (FORMAT.md section 2), by position."""


def new(payload: bytes = b"x", event_id: bytes | None = None, **fields: object) -> NewEvent:
    envelope = Envelope("claude-code/s-1", "HookReported", 1, NOON, NOON, "tool", "hook")
    return NewEvent(event_id or uuid7(), msgspec.structs.replace(envelope, **fields), payload)


def numbered(start: int, count: int) -> list[NewEvent]:
    return [new(b"event %d" % k) for k in range(start, start + count)]


def everything(log: EventLog, after: int = 0, upto: int | None = None) -> list[Event]:
    return [event for batch in log.read(after, upto) for event in batch]


def chains(log_id: str, frames: Iterable[Sequence[Event]], salts: dict[int, bytes]) -> dict[int, bytes]:
    """The chain after each frame as FORMAT.md section 2 words it, computed without the product's code."""

    def sha(*parts: bytes) -> bytes:
        return hashlib.sha256(b"".join(parts)).digest()

    chain = sha(b"session-mgmt-mcp", bytes.fromhex(log_id))
    out = {0: chain}
    for frame in frames:
        leaves = []
        for event in frame:
            envelope = msgspec.msgpack.encode(list(msgspec.structs.astuple(event.envelope)))
            hashed = sha(salts[event.position], event.payload or b"")
            leaves.append(sha(b"\0", event.position.to_bytes(8, "little"), event.event_id, hashed, envelope))
        chain = sha(chain, *leaves)
        out[frame[-1].position] = chain
    return out


def in_threads(*actions: Callable[[], None]) -> None:
    """Run all of them at once; raise what any raised."""
    errors: list[BaseException] = []
    gate = threading.Barrier(len(actions))

    def run(action: Callable[[], None]) -> None:
        try:
            gate.wait()
            action()
        except BaseException as error:  # noqa: BLE001 - told to the test below
            errors.append(error)

    threads = [threading.Thread(target=run, args=(action,)) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]

"""Writes small logs in this program's format, to be kept and read for ever.

    python tests/formats/write.py [CASE...]        writes tests/formats/v<format version>/<case>

Run once for a released format version, before the version changes; a case that is there already is left alone. The same
code writes the same bytes: ids, times and salts come from a seed. Beside each case, `<case>.json` says what a reader
must see. Journals are stored without their trailing zeros and empty folders not at all: see `stored.py`.
"""

import contextlib
import hashlib
import itertools
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import msgspec
import stored

from session_mgmt_mcp.core.envelope import Envelope, EventType, NewEvent, capture_id, encode_envelope
from session_mgmt_mcp.core.events import ReflectionStored
from session_mgmt_mcp.core.log.forget import finish, forget
from session_mgmt_mcp.core.log.frame import FORMAT_VERSION
from session_mgmt_mcp.core.log.log import FileLog
from session_mgmt_mcp.core.log.seal import seal

NOON = 1_770_000_000_000_000
SECOND = 1_000_000


@contextlib.contextmanager
def determined(seed: str) -> Iterator[None]:
    """Random bytes and the time of day come from a seed."""
    count, clock = itertools.count(), itertools.count(NOON * 1000, SECOND * 1000)

    def random_bytes(size: int) -> bytes:
        return hashlib.shake_256(f"{seed} {next(count)}".encode()).digest(size)

    with mock.patch.object(os, "urandom", random_bytes), mock.patch.object(time, "time_ns", clock.__next__):
        yield


def hook(session: str, number: int, **fields: object) -> NewEvent:
    payload = {"session_id": session, "hook_event_name": "PostToolUse", "tool_use_id": f"toolu_{number}"}
    at = NOON + number * SECOND
    envelope = Envelope(f"claude-code/{session}", EventType.HOOK_REPORTED, 1, at, at, "tool", "hook")
    return NewEvent(_id("hook", session, number), envelope, msgspec.json.encode({**payload, **fields}))


def record(session: str, uuid: str, text: str) -> NewEvent:
    payload = {
        "type": "user",
        "uuid": uuid,
        "sessionId": session,
        "message": {"role": "user", "content": text},
    }
    envelope = Envelope(
        *(f"claude-code/{session}", EventType.RECORD_IMPORTED, 1, NOON, NOON - SECOND, "user", "record"),
        *(b"c" * 16, _id("cause", uuid, 0)),
    )
    return NewEvent(capture_id("claude-code", "record", uuid), envelope, msgspec.json.encode(payload))


def reflection(text: str) -> NewEvent:
    envelope = Envelope(
        "session-mgmt/log", EventType.REFLECTION_STORED, 1, NOON, NOON, "user", "command", None, None
    )
    payload = msgspec.json.encode(ReflectionStored(text, ("format", "Größe"), "/home/u/app", "s-1"))
    return NewEvent(capture_id("session-mgmt", "command", text), envelope, payload)


def odd() -> list[NewEvent]:
    """What a reader must not stumble over: an unknown type, no bytes, all bytes, odd text, a time before 1970."""
    envelope = Envelope("other-assistant/Zoë 日本", "NotYetKnown", 7, NOON, -5, "agent:ü", "document")
    payloads = (b"", bytes(range(256)), "\U0001f600 \r\n\0".encode(), b"x" * 3_000)
    return [NewEvent(_id("odd", "", k), envelope, payload) for k, payload in enumerate(payloads)]


def _id(*parts: object) -> bytes:
    return hashlib.sha256(repr(parts).encode()).digest()[:16]


def fill(log: FileLog) -> None:
    """Two journals' worth: single events, batches, a duplicate, odd ones."""
    log.append([hook("s-1", 1)])
    log.append([record("s-1", "u-1", "Why did the login test fail?"), record("s-1", "u-2", "Größe 日本")])
    log.append(odd(), dedupe=False)
    log.roll()
    log.append([hook("s-1", 2), record("s-1", "u-1", "copied by a resumed session"), reflection("keep it")])
    log.append([hook("s-2", 3)])


# -- the cases ---------------------------------------------------------------------------------------------------


def journals(folder: Path) -> None:
    """A closed journal and an open one; nothing sealed yet."""
    with FileLog(folder, create=True) as log:
        fill(log)


def sealed(folder: Path) -> None:
    """Two segments and an open journal."""
    with FileLog(folder, create=True) as log:
        fill(log)
        seal(log.folder, log.log_id)
        log.roll()
        seal(log.folder, log.log_id)
        log.append([hook("s-2", 4), hook("s-2", 5)])


def forgotten_1(folder: Path) -> None:
    """Forgotten by a PayloadForgotten of schema version 1, which listed positions."""
    sealed(folder)
    with FileLog(folder) as log:
        ids = [log.get([p])[p].event_id.hex() for p in (2, 9)]
        payload = {
            "positions": [2, 9],
            "event_ids": ids,
            "action_keys": ["record:u-1"],
            "reason": "a key in it",
        }
        envelope = Envelope(
            "session-mgmt/log", EventType.PAYLOAD_FORGOTTEN, 1, NOON, NOON, "user", "command", None, None
        )
        log.append([NewEvent(_id("forgotten", "", 1), envelope, msgspec.json.encode(payload))])
        log.roll()
        seal(log.folder, log.log_id)
        finish(log)
        log.append([hook("s-2", 6)])


def forgotten_2(folder: Path) -> None:
    """Forgotten by a PayloadForgotten of schema version 2, with ranges."""
    sealed(folder)
    with FileLog(folder) as log:
        forget(log, [2, 3, 9], lambda _: ["record:u-1", "record:u-2"], "a key in it")
        log.append([hook("s-2", 6)])


def compacted(folder: Path) -> None:
    """Small segments merged into one, the next one small again."""
    from session_mgmt_mcp.core.log.compact import compact

    with FileLog(folder, create=True) as log:
        for number in range(12):
            log.append([hook("s-1", number), hook("s-2", number)])
            log.roll()
            seal(log.folder, log.log_id)
        compact(log.folder, log.log_id)
        log.append([hook("s-3", 1)])
        log.roll()
        seal(log.folder, log.log_id)
        log.append([hook("s-3", 2)])


def forked(folder: Path) -> None:
    """A point-in-time restore, cut inside a frame, that went on as a log of its own."""
    from session_mgmt_mcp.core.backup.create import create
    from session_mgmt_mcp.core.backup.local import LocalStore
    from session_mgmt_mcp.core.backup.restore import Point, restore

    source, store = folder.with_name("source"), LocalStore(str(folder.with_name("store")))
    sealed(source)
    with FileLog(source) as log:
        create(log, store)
    restore(store, str(folder), point=Point(position=5))
    with FileLog(folder) as log:
        log.append([hook("s-9", 1)])


def spooled(folder: Path) -> None:
    """An event a hook could not append, and what a torn tail left in quarantine."""
    sealed(folder)
    event = hook("s-2", 7)
    envelope = encode_envelope(event.envelope)
    raw = len(envelope).to_bytes(4, "little") + envelope + event.payload
    (folder / "spool" / f"{event.event_id.hex()}.event").write_bytes(raw)
    [journal] = (folder / "journal").iterdir()
    content = journal.read_bytes()
    end = len(content.rstrip(b"\0"))
    journal.write_bytes(content[:end] + b"\x01torn" + content[end + 5 :])
    (folder / "tail.shm").unlink()
    with FileLog(folder) as log:
        log.append([])


CASES: dict[str, Callable[[Path], None]] = {
    "journals": journals,
    "sealed": sealed,
    "forgotten-1": forgotten_1,
    "forgotten-2": forgotten_2,
    "compacted": compacted,
    "forked": forked,
    "spooled": spooled,
}


def make(name: str, folder: Path) -> None:
    """One case as a data folder; the same bytes every time."""
    with determined(name):
        CASES[name](folder)


def main(names: list[str]) -> None:
    for name in names or CASES:
        target = stored.HERE / f"v{FORMAT_VERSION}" / name
        if target.exists():
            print(f"{name}: kept as it is")
            continue
        with tempfile.TemporaryDirectory() as base:
            folder = Path(base) / name
            make(name, folder)
            stored.store(folder, target)
            shutil.rmtree(folder)
        print(f"{name}: written")


if __name__ == "__main__":
    main(sys.argv[1:])

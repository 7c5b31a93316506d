"""What must be true of a log after a power cut, and what is wrong with one where it is not."""

import contextlib
import os
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from log_kit import HINTS
from sim_parquet import PARQUET

from session_mgmt_mcp.core.envelope import Event
from session_mgmt_mcp.core.log.frame import HEADER, entries_of, scan
from session_mgmt_mcp.core.log.journals import list_journals
from session_mgmt_mcp.core.log.seal import read_journal

if TYPE_CHECKING:
    from sim_backup import Made


class Expected(NamedTuple):
    """What must be found after a cut. Payloads name events: each is unique."""

    submitted: frozenset[bytes]
    acknowledged: dict[bytes, int]  # position; 0 where only told that it was taken
    forgettable: dict[int, bytes]  # position: payload that somebody began to forget
    forgotten: frozenset[bytes]  # somebody was told that these are gone
    backups: "dict[str, Made]"  # snapshots that somebody was told of, by id
    restored: frozenset[str]  # folders that somebody was told of

    def digest(self, state: bytes) -> bytes:
        """Of these expectations of the state of that digest."""
        parts = (sorted(self.submitted), sorted(self.acknowledged.items()), sorted(self.forgettable.items()))
        return sha256(
            repr(
                (state, *parts, sorted(self.forgotten), sorted(self.backups), sorted(self.restored))
            ).encode()
        ).digest()[:8]


def judge(found: list[Event], expected: Expected, whole: bool = True) -> list[str]:
    """What is wrong with the events of a log. `whole`: all that was acknowledged must be there by now."""
    wrong = []
    if [e.position for e in found] != list(range(1, len(found) + 1)):
        wrong.append("positions have gaps")
    at: dict[bytes, int] = {}
    for e in found:
        if e.envelope.stream == "session-mgmt/log":
            continue
        payload = expected.forgettable.get(e.position) if e.payload is None else e.payload
        if payload is None or payload not in expected.submitted:
            wrong.append(f"position {e.position} holds what nobody submitted: {payload!r:.40}")
        elif payload in at:
            wrong.append(f"{payload[:12]!r} is stored twice, at {at[payload]} and {e.position}")
        else:
            at[payload] = e.position
        if e.payload in expected.forgotten:
            wrong.append(f"the payload of position {e.position} is back")
    for payload, position in expected.acknowledged.items():
        if whole and payload not in at:
            wrong.append(f"{payload[:12]!r} was acknowledged at {position} and is lost")
        elif payload in at and position and at[payload] != position:
            wrong.append(f"{payload[:12]!r} was acknowledged at {position} and is at {at[payload]}")
    return wrong


def snapshot(folder: str) -> dict[str, bytes]:
    """Every file of a folder but its locks and hints."""
    found, folders = {}, [folder]
    while folders:
        for entry in os.scandir(folders.pop()):
            if entry.is_dir():
                folders.append(entry.path)
            elif entry.name not in HINTS:
                with open(entry.path, "rb") as file:
                    found[entry.path[len(folder) + 1 :]] = file.read()
    return found


def payloads_held(folder: str) -> set[bytes]:
    """The payloads in all segments, finished or not and whether a manifest names them, and in all journals."""
    held: set[bytes] = set()
    for path in Path(folder, "segments").iterdir():
        if path.suffix in (".parquet", ".tmp"):
            with contextlib.suppress(OSError, ValueError):  # torn, never published
                table = PARQUET.ParquetFile(path).read(columns=["payload"])
                held.update(p for p in table["payload"].to_pylist() if p is not None)
    for first, name in list_journals(folder):
        header, data = read_journal(name)
        for frame in scan(data[HEADER.size :], HEADER.size, header, first):
            held.update(entry[3] for entry in entries_of(frame, data, 0))
    return held

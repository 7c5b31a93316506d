"""What must be true of a log after a power cut, and what is wrong with one where it is not."""

import os
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq
from log_kit import HINTS

from session_mgmt_mcp.core.envelope import Event
from session_mgmt_mcp.core.log.frame import HEADER, entries_of, scan
from session_mgmt_mcp.core.log.journals import list_journals
from session_mgmt_mcp.core.log.seal import read_journal


class Expected(NamedTuple):
    """What must be found after a cut. Payloads name events: each is unique."""

    submitted: frozenset[bytes]
    acknowledged: dict[bytes, int]  # position; 0 where only told that it was taken
    forgettable: dict[int, bytes]  # position: payload that somebody began to forget
    forgotten: frozenset[bytes]  # somebody was told that these are gone


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
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in Path(folder).rglob("*")
        if path.is_file() and path.name not in HINTS
    }


def files_with(folder: str, payloads: set[bytes]) -> list[str]:
    """Segments, finished or not, and journals that hold one of these payloads."""
    found = []
    for path in Path(folder, "segments").iterdir():
        if path.suffix in (".parquet", ".tmp") and path.read_bytes()[-4:] == b"PAR1":
            try:
                held = set(pq.read_table(path, columns=["payload"])["payload"].to_pylist())
            except (OSError, ValueError):
                continue  # torn, never published
            if held & payloads:
                found.append(path.name)
    for first, name in list_journals(folder):
        header, data = read_journal(name)
        for frame in scan(data[HEADER.size :], HEADER.size, header, first):
            if any(e[3] in payloads for e in entries_of(frame, data, 0)):
                found.append(os.path.basename(name))
    return found

"""What the log did to itself, which the views have no row of, and the ids of events by position; straight from the log's files."""

import contextlib
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec

from session_mgmt_mcp.core.envelope import ACCESS_TYPES, Event
from session_mgmt_mcp.core.events import PayloadForgotten
from session_mgmt_mcp.core.interpret.json_record import NotAnObjectError
from session_mgmt_mcp.core.interpret.own import said_of_access
from session_mgmt_mcp.core.log.forget import tombstone_positions
from session_mgmt_mcp.core.log.log import FileLog
from session_mgmt_mcp.core.log.manifest import SegmentEntry
from session_mgmt_mcp.core.log.segment import open_segment, read_group
from session_mgmt_mcp.core.upcast import upcast

_TRIES = 5
_RANGES_SHOWN = 5
T = TypeVar("T")
_decode = msgspec.json.Decoder(PayloadForgotten).decode


def own_events(log: FileLog) -> list[Event]:
    """What the log did to itself and the views show nothing of: its tombstones, in order."""
    return [event for _, event in sorted(log.get(tombstone_positions(log)).items())]


def describe(event: Event) -> str:
    """What a tombstone, or an event of access, says, for people."""
    if event.envelope.event_type in ACCESS_TYPES:
        try:
            return said_of_access(event, event.payload or b"")
        except NotAnObjectError:
            return "its payload was forgotten, or is damaged"
    try:
        said = _decode(upcast(event).payload or b"")
    except msgspec.MsgspecError:
        return "forgot payloads; which ones is written in a form this version does not read"
    if not said.ranges:
        return f"keeps {len(said.event_ids)} events forgotten that were never here: {said.reason}"
    count = sum(last - first + 1 for first, last in said.ranges)
    shown = ", ".join(str(a) if a == b else f"{a}–{b}" for a, b in said.ranges[:_RANGES_SHOWN])
    more = len(said.ranges) - _RANGES_SHOWN
    where = f"{shown} and {more} more ranges" if more > 0 else shown
    reason = f": {said.reason}" if said.reason else ""
    return f"forgot {count} payload{'' if count == 1 else 's'}, at {where}{reason}"


class EventIds:
    """Looks up event ids by position; remembers the last row group and the unsealed tail."""

    def __init__(self, log: FileLog) -> None:
        self._log = log
        self._group: dict[int, bytes] = {}
        self._tail: dict[int, bytes] | None = None

    def __call__(self, positions: Sequence[int]) -> dict[int, bytes]:
        """Ids of the events at these positions, which are in order."""
        out: dict[int, bytes] = {}
        at = 0
        while at < len(positions):
            position = positions[at]
            if position not in self._group:
                self._load(position)
            while at < len(positions) and positions[at] in self._group:
                out[positions[at]] = self._group[positions[at]]
                at += 1
            if at < len(positions) and positions[at] == position:
                at += 1  # it is not in the log
        return out

    def _load(self, position: int) -> None:
        if position > self._log.sealed().position:
            if self._tail is None:
                batches = self._log.read(self._log.sealed().position)
                self._tail = {event.position: event.event_id for batch in batches for event in batch}
            self._group = self._tail
            return
        self._group = _again(self._log, lambda: _ids_around(self._log, position))


def _ids_around(log: FileLog, position: int) -> dict[int, bytes]:
    """Ids of the row group that holds `position`."""
    entry = _entries(log, position)[0]
    path = f"{log.folder}/segments/{entry.file}"
    with contextlib.closing(open_segment(path)) as file:
        first = entry.first
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if position < first + rows:
                ids = read_group(file, group, ["event_id"], path).column("event_id").to_pylist()
                return dict(zip(range(first, first + rows), ids, strict=True))
            first += rows
    return {}


def _entries(log: FileLog, position: int) -> Sequence[SegmentEntry]:
    """The segments from the one that holds `position` on."""
    segments = log.reader.manifest().segments
    return segments[bisect_left(segments, position, key=lambda entry: entry.last) :]


def _again(log: FileLog, look: Callable[[], T]) -> T:
    """What `look` finds; files that were replaced meanwhile are looked for anew by the newest manifest."""
    for _ in range(_TRIES - 1):
        with contextlib.suppress(FileNotFoundError):
            return look()
    return look()

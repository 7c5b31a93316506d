"""What each session occupies in the log, and when it was last active. Reads no payload."""

import struct
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from session_mgmt_mcp.core.envelope import EventType
from session_mgmt_mcp.core.errors import LogCorruptError
from session_mgmt_mcp.core.log.log import FileLog
from session_mgmt_mcp.core.log.segment import check_ids, compute, read_tables

_COLUMNS = ("position", "stream", "event_type", "recorded_at", "occurred_at")
_IDS_HEAD = 16 + 4 * 4097  # magic, count, zero, fan-out (FORMAT.md, section 4)
_ID_ROW = struct.Struct("<16sQII")
_OWN = "session-mgmt/"  # streams of the log itself
_TRIES = 5


class SessionUsage(NamedTuple):
    """A session's events that are not forgotten."""

    stream: str  # <assistant>/<session>
    active_at: int  # µs since the epoch: the last thing that happened in it
    events: int
    payload_bytes: int  # as captured; on disk they are compressed

    @property
    def session(self) -> str:
        return self.stream.partition("/")[2]


def usage_of_sessions(log: FileLog, *, reflections: bool = False) -> list[SessionUsage]:
    """All sessions, the least recently active first; stored reflections count only where asked for."""
    found: dict[str, _Sums] = {}
    for table in _tables(log, reflections):
        summed = table.group_by("stream").aggregate(
            [("occurred_at", "max"), ("recorded_at", "max"), ("position", "count"), ("length", "sum")]
        )
        for row in summed.to_pylist():
            sums = found.setdefault(row["stream"], _Sums())
            sums.occurred_at = max(sums.occurred_at, row["occurred_at_max"])
            sums.recorded_at = max(sums.recorded_at, row["recorded_at_max"])
            sums.events += row["position_count"]
            sums.payload_bytes += row["length_sum"]
    out = [
        SessionUsage(stream, s.occurred_at or s.recorded_at, s.events, s.payload_bytes)
        for stream, s in found.items()
    ]
    return sorted(out, key=lambda s: (s.active_at, s.stream))


class _Sums:
    """An event without a time of its own says nothing about when its session was active, unless none has one."""

    def __init__(self) -> None:
        self.occurred_at = self.recorded_at = self.events = self.payload_bytes = 0


def positions_of_streams(log: FileLog, streams: Collection[str], *, reflections: bool = False) -> list[int]:
    """Positions of the streams' events that are not forgotten."""
    wanted, is_in = pa.array(sorted(streams), pa.string()), compute().is_in
    return [
        int(position)
        for table in _tables(log, reflections)
        for position in table.filter(is_in(table.column("stream"), value_set=wanted))
        .column("position")
        .to_pylist()
    ]


def _tables(log: FileLog, reflections: bool) -> list[pa.Table]:
    """Position, stream, time and payload length of every event with a payload, without the log's own streams."""
    for _ in range(_TRIES):
        try:
            manifest = log.reader.manifest()
            tables = [t for entry in manifest.segments for t in _sealed(log.folder, entry.file, entry.ids)]
            return [_kept(table, reflections) for table in (*tables, *_unsealed(log, manifest.last))]
        except FileNotFoundError as error:  # compacted or rewritten meanwhile
            missing = error
    raise LogCorruptError(f"{missing.filename} is missing; restore it from a backup") from missing


def _kept(table: pa.Table, reflections: bool) -> pa.Table:
    pc = compute()
    mask = pc.and_(
        pc.greater(table.column("length"), 0), pc.invert(pc.starts_with(table.column("stream"), _OWN))
    )
    if not reflections:
        mask = pc.and_(mask, pc.not_equal(table.column("event_type"), EventType.REFLECTION_STORED.value))
    return table.filter(mask)


def _sealed(folder: str, file: str, ids: str) -> Iterator[pa.Table]:
    lengths = _lengths(f"{folder}/segments/{ids}")
    for table in read_tables(f"{folder}/segments/{file}", _COLUMNS):
        column = [lengths.get(p, 0) for p in table.column("position").to_pylist()]
        yield _table(table, column)


def _lengths(path: str) -> dict[int, int]:
    """Payload lengths by position, 0 where forgotten. Raises LogCorruptError."""
    check_ids(path)
    raw = Path(path).read_bytes()[_IDS_HEAD:-4]
    return {position: length for _, position, _, length in _ID_ROW.iter_unpack(raw)}


def _unsealed(log: FileLog, last: int) -> Iterator[pa.Table]:
    for batch in log.read(last):
        envelopes = [event.envelope for event in batch]
        columns = {
            "position": pa.array([event.position for event in batch], pa.uint64()),
            "stream": pa.array([e.stream for e in envelopes], pa.string()),
            "event_type": pa.array([str(e.event_type) for e in envelopes], pa.string()),
            "recorded_at": pa.array([e.recorded_at for e in envelopes], pa.int64()),
            "occurred_at": pa.array([e.occurred_at for e in envelopes], pa.int64()),
        }
        yield _table(pa.table(columns), [len(event.payload or b"") for event in batch])


def _table(table: pa.Table, lengths: list[int]) -> pa.Table:
    return table.append_column("length", pa.array(lengths, pa.int64()))

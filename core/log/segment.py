"""Sealed segments: Parquet files of events, and the id files beside them (FORMAT.md section 4)."""

import mmap
import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from session_mgmt_mcp.core.envelope import Envelope, Event, decode_envelope
from session_mgmt_mcp.core.errors import LogCorruptError
from session_mgmt_mcp.core.log.durable import sha256

ROW_GROUP_EVENTS = 500
SCHEMA = pa.schema(
    [
        pa.field("position", pa.uint64(), nullable=False),
        pa.field("frame", pa.uint64(), nullable=False),
        pa.field("event_id", pa.binary(16), nullable=False),
        pa.field("stream", pa.string(), nullable=False),
        pa.field("event_type", pa.string(), nullable=False),
        pa.field("schema_version", pa.int32(), nullable=False),
        pa.field("recorded_at", pa.int64(), nullable=False),
        pa.field("occurred_at", pa.int64(), nullable=False),
        pa.field("actor", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("envelope", pa.binary(), nullable=False),
        pa.field("payload_hash", pa.binary(32), nullable=False),
        pa.field("payload_salt", pa.binary(16)),
        pa.field("payload", pa.binary()),
    ]
)
_READ = ["position", "event_id", "envelope", "payload"]


class Row(NamedTuple):
    """One event as a segment stores it."""

    position: int
    frame: int
    event_id: bytes
    envelope: bytes
    payload_hash: bytes
    payload_salt: bytes | None
    payload: bytes | None


def to_table(rows: Sequence[Row]) -> pa.Table:
    """The Arrow table of these rows. Raises LogCorruptError where an envelope does not decode."""
    envelopes = [_envelope(row) for row in rows]
    columns: list[list[Any]] = [
        [r.position for r in rows],
        [r.frame for r in rows],
        [r.event_id for r in rows],
        [e.stream for e in envelopes],
        [e.event_type for e in envelopes],
        [e.schema_version for e in envelopes],
        [e.recorded_at for e in envelopes],
        [e.occurred_at for e in envelopes],
        [e.actor for e in envelopes],
        [e.source for e in envelopes],
        [r.envelope for r in rows],
        [r.payload_hash for r in rows],
        [r.payload_salt for r in rows],
        [r.payload for r in rows],
    ]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)]
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


def _envelope(row: Row) -> Envelope:
    try:
        return decode_envelope(row.envelope)
    except msgspec.MsgspecError as error:
        raise LogCorruptError(f"the envelope of position {row.position} does not decode: {error}") from error


def write_segment(path: str, rows: Sequence[Row]) -> None:
    """Write (not sync) a segment file."""
    pq.write_table(
        to_table(rows),
        path,
        compression="zstd",
        compression_level=3,
        row_group_size=ROW_GROUP_EVENTS,
        use_dictionary=["stream", "event_type", "actor", "source"],
        write_statistics=["position", "occurred_at"],
        write_page_checksum=True,
    )


def read_rows(path: str) -> Iterator[list[Row]]:
    """All rows, a row group at a time. Raises LogCorruptError naming the file."""
    with open_segment(path) as file:
        for group in range(file.num_row_groups):
            table = read_group(file, group, [f.name for f in SCHEMA], path)
            yield [
                Row(*values)
                for values in zip(
                    *(
                        table.column(name).to_pylist()
                        for name in (
                            "position",
                            "frame",
                            "event_id",
                            "envelope",
                            "payload_hash",
                            "payload_salt",
                            "payload",
                        )
                    ),
                    strict=True,
                )
            ]


def open_segment(path: str) -> pq.ParquetFile:
    """Raises FileNotFoundError, LogCorruptError. Pages are checked against their checksums when they are read."""
    try:
        file = pq.ParquetFile(path, memory_map=True, page_checksum_verification=True)
        if file.schema_arrow.equals(SCHEMA):
            return file
        file.close()
        raise LogCorruptError(f"{path} has other columns than a segment; restore it from a backup")
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        raise LogCorruptError(f"{path} cannot be read: {error}; restore it from a backup") from error


def read_group(file: pq.ParquetFile, group: int, columns: list[str], path: str) -> pa.Table:
    try:
        return file.read_row_group(group, columns=columns, use_threads=False)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise LogCorruptError(f"{path} is damaged: {error}; restore it from a backup") from error


def group_events(file: pq.ParquetFile, group: int, path: str, first: int) -> list[Event]:
    """The events of one row group, which begins at position `first`."""
    table = read_group(file, group, _READ, path)
    positions, *columns = (table.column(name).to_pylist() for name in _READ)
    if positions != list(range(first, first + len(positions))):
        raise LogCorruptError(
            f"{path} is damaged: position {first} is not where it was; restore it from a backup"
        )
    try:
        return [Event(p, i, decode_envelope(e), x) for p, i, e, x in zip(positions, *columns, strict=True)]
    except msgspec.MsgspecError as error:
        raise LogCorruptError(f"{path} is damaged: {error}; restore it from a backup") from error


def sha256_of(path: str) -> str:
    """Hex digest of a file."""
    digest = sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return str(digest.hexdigest())


# -- ids ---------------------------------------------------------------------------------------------------------

_IDS_MAGIC = b"SMIDS001"
_FAN_OUT = 4096
_HEAD = struct.Struct(f"<8sII{_FAN_OUT + 1}I")
_ID_ROW = struct.Struct("<16sQII")


class Known(NamedTuple):
    """What is kept of an id: where its event is, and crc32 and length of the payload (0, 0 where forgotten)."""

    position: int
    crc: int
    length: int


def bucket_of(event_id: bytes) -> int:
    return int.from_bytes(event_id[14:], "big") & 0xFFF


def encode_ids(known: "Sequence[tuple[bytes, Known]]") -> bytes:
    """The bytes of an id file."""
    ordered = sorted(known, key=lambda item: (bucket_of(item[0]), item[0]))
    counts = [0] * (_FAN_OUT + 1)
    for event_id, _ in ordered:
        counts[bucket_of(event_id) + 1] += 1
    for b in range(_FAN_OUT):
        counts[b + 1] += counts[b]
    raw = _HEAD.pack(_IDS_MAGIC, len(ordered), 0, *counts)
    raw += b"".join(_ID_ROW.pack(event_id, *k) for event_id, k in ordered)
    return raw + crc32(raw).to_bytes(4, "little")


class IdFile:
    """Memory-mapped ids of one segment."""

    def __init__(self, path: str) -> None:
        """Map and check the file: an id overlooked would be stored twice. Raises LogCorruptError, FileNotFoundError."""
        check_ids(path)
        with open(path, "rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        head = _HEAD.unpack_from(self._map)
        self.count = head[1]
        self._fan = head[3:]

    def find(self, event_id: bytes) -> Known | None:
        bucket = bucket_of(event_id)
        low, high = self._fan[bucket], self._fan[bucket + 1]
        if low == high:
            return None
        rows = self._map[_HEAD.size + low * _ID_ROW.size : _HEAD.size + high * _ID_ROW.size]
        at = rows.find(event_id)
        while at >= 0 and at % _ID_ROW.size:
            at = rows.find(event_id, at + 1)
        return Known(*_ID_ROW.unpack_from(rows, at)[1:]) if at >= 0 else None

    def close(self) -> None:
        self._map.close()


def check_ids(path: str) -> None:
    """Raises LogCorruptError where magic, length or the file's own crc do not fit."""
    raw = memoryview(Path(path).read_bytes())
    if len(raw) < _HEAD.size + 4 or raw[:8] != _IDS_MAGIC:
        raise LogCorruptError(f"{path} is no id file; restore it from a backup")
    if len(raw) != _HEAD.size + int.from_bytes(raw[8:12], "little") * _ID_ROW.size + 4:
        raise LogCorruptError(f"{path} is cut short; restore it from a backup")
    if crc32(raw[:-4]) != int.from_bytes(raw[-4:], "little"):
        raise LogCorruptError(f"{path} does not match its own checksum; restore it from a backup")


def sync_path(path: str) -> None:
    """Sync a file that another library wrote."""
    from session_mgmt_mcp.core.log.durable import sync_file

    fd = os.open(path, os.O_RDONLY)
    try:
        sync_file(fd)
    finally:
        os.close(fd)

"""Sealed segments: Parquet files of events, and the id files beside them (FORMAT.md section 4)."""

import errno
import mmap
import os
import struct
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import accumulate
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from zlib import crc32

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from session_mgmt_mcp.core.envelope import Envelope, Event, decode_envelope
from session_mgmt_mcp.core.errors import DataFolderError, LogCorruptError, SessionMgmtError
from session_mgmt_mcp.core.log.durable import sha256

T = TypeVar("T")

# A read of one event decodes its row group; a row group is also what is held in memory at a time.
ROW_GROUP_EVENTS = 1000
ROW_GROUP_BYTES = 2 << 20  # before compression; one event may be larger
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
EVENT_COLUMNS = ["position", "event_id", "envelope", "payload"]


def to_table(
    first: int,
    frames: pa.Array,
    ids: pa.Array,
    envelopes: pa.Array,
    hashes: pa.Array,
    salts: pa.Array,
    payloads: pa.Array,
) -> pa.Table:
    """The table of events whose positions count from `first`; the envelopes' fields become columns of their own.

    Raises LogCorruptError where an envelope does not decode.
    """
    decoded = _decoded(envelopes, first)
    columns: dict[str, Any] = {
        "position": range(first, first + len(decoded)),
        "frame": frames,
        "event_id": ids,
        "envelope": envelopes,
        "payload_hash": hashes,
        "payload_salt": salts,
        "payload": payloads,
    }
    for name in ("stream", "event_type", "schema_version", "recorded_at", "occurred_at", "actor", "source"):
        columns[name] = map(attrgetter(name), decoded)
    return pa.Table.from_arrays(
        [
            column if isinstance(column, pa.Array) else pa.array(column, field.type, size=len(decoded))
            for field in SCHEMA
            for column in (columns[field.name],)
        ],
        schema=SCHEMA,
    )


def _decoded(envelopes: pa.Array, first: int) -> list[Envelope]:
    raw = envelopes.to_pylist()
    try:
        return [decode_envelope(e) for e in raw]
    except msgspec.MsgspecError:
        for k, e in enumerate(raw):
            try:
                decode_envelope(e)
            except msgspec.MsgspecError as error:
                raise LogCorruptError(
                    f"the envelope of position {first + k} does not decode: {error}; restore it from a backup"
                ) from error
        raise


def row_groups(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same events in tables of the size of a row group. The same events always give the same tables."""
    pending: list[pa.Table] = []
    rows = size = 0
    for table in tables:
        at = 0
        while at < table.num_rows:
            part = table.slice(at, ROW_GROUP_EVENTS - rows)
            while part.num_rows > 1 and size + part.nbytes > ROW_GROUP_BYTES:
                part = part.slice(0, part.num_rows // 2)
            if pending and size + part.nbytes > ROW_GROUP_BYTES:
                yield pa.concat_tables(pending)
                pending, rows, size = [], 0, 0
                continue
            pending.append(part)
            rows, size, at = rows + part.num_rows, size + part.nbytes, at + part.num_rows
            if rows == ROW_GROUP_EVENTS:
                yield pa.concat_tables(pending)
                pending, rows, size = [], 0, 0
    if pending:
        yield pa.concat_tables(pending)


def segment_writer(path: str, level: int) -> pq.ParquetWriter:
    """A writer whose every `write_table` of a row group becomes one; `level` of zstd."""
    return pq.ParquetWriter(
        path,
        SCHEMA,
        compression="zstd",
        compression_level=level,
        use_dictionary=["stream", "event_type", "actor", "source"],
        write_statistics=["position", "occurred_at"],
        write_page_checksum=True,
    )


def read_tables(path: str, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """The row groups of a segment, one after the other. Raises LogCorruptError naming the file, FileNotFoundError."""
    names = list(columns) if columns is not None else SCHEMA.names
    with open_segment(path) as file:
        for group in range(file.num_row_groups):
            yield read_group(file, group, names, path)


def compute() -> Any:
    """`pyarrow.compute`; it takes long to import, and whoever only reads or appends does without it."""
    import pyarrow.compute

    return pyarrow.compute


def ahead(items: Iterator[T]) -> Iterator[T]:
    """The same items, the next one made in another thread while this one is looked at."""
    from concurrent.futures import ThreadPoolExecutor  # not at the top: see `compute`

    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(next, items, None)
        while (item := pending.result()) is not None:
            pending = pool.submit(next, items, None)
            yield item


def without_payloads(table: pa.Table, positions: Collection[int]) -> pa.Table:
    """The same events, the payloads and salts at these positions forgotten."""
    pc = compute()
    gone = pc.is_in(table.column("position"), value_set=pa.array(sorted(positions), pa.uint64()))
    for name in ("payload_salt", "payload"):
        at, field = SCHEMA.get_field_index(name), SCHEMA.field(name)
        nothing = pa.scalar(None, field.type)
        table = table.set_column(at, field, pc.if_else(gone, nothing, table.column(name)))
    return table


class SegmentTables:
    """The events of segment files that follow each other, a row group at a time; can be passed more than once."""

    def __init__(self, paths: Sequence[str], change: Callable[[pa.Table], pa.Table] | None = None) -> None:
        """`change` is applied to every table: see `without_payloads`."""
        self.paths = paths
        self.change = change

    def __iter__(self) -> Iterator[pa.Table]:
        for path in self.paths:
            for table in read_tables(path):
                yield table if self.change is None else self.change(table)


def open_segment(path: str, metadata: pq.FileMetaData | None = None) -> pq.ParquetFile:
    """Open a segment; with the `metadata` of an earlier opening it is not parsed again.

    Raises FileNotFoundError, LogCorruptError, DataFolderError. Pages are checked against their checksums when they are
    read.
    """
    try:
        file = pq.ParquetFile(path, metadata=metadata, memory_map=True, page_checksum_verification=True)
        if file.schema_arrow.equals(SCHEMA):
            return file
        file.close()
        raise LogCorruptError(f"{path} has other columns than a segment; restore it from a backup")
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: str, error: Exception) -> SessionMgmtError:
    """What the system refuses, descriptors or rights, is no damage; what the library cannot read is."""
    code = getattr(error, "errno", None)
    if code is not None and code != errno.EIO:
        return DataFolderError(f"{path} cannot be read: {os.strerror(code)}; mend that and try again")
    return LogCorruptError(f"{path} is damaged: {error}; restore it from a backup")


def read_group(file: pq.ParquetFile, group: int, columns: list[str], path: str) -> pa.Table:
    try:
        return file.read_row_group(group, columns=columns, use_threads=False)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def events_of(table: pa.Table, path: str, positions: Sequence[int]) -> list[Event]:
    """The events of a table with EVENT_COLUMNS, which must be at these positions. Raises LogCorruptError."""
    found, *columns = (table.column(name).to_pylist() for name in EVENT_COLUMNS)
    if found != list(positions):
        raise LogCorruptError(
            f"{path} is damaged: position {positions[0]} is not where it was; restore it from a backup"
        )
    try:
        return [Event(p, i, decode_envelope(e), x) for p, i, e, x in zip(found, *columns, strict=True)]
    except msgspec.MsgspecError as error:
        raise LogCorruptError(f"{path} is damaged: {error}; restore it from a backup") from error


def group_events(file: pq.ParquetFile, group: int, path: str, first: int) -> list[Event]:
    """The events of one row group, which begins at position `first`."""
    table = read_group(file, group, EVENT_COLUMNS, path)
    return events_of(table, path, range(first, first + table.num_rows))


def sha256_of(path: str) -> str:
    """Hex digest of a file."""
    digest = sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return str(digest.hexdigest())


class Row(NamedTuple):
    """One event as a segment stores it."""

    position: int
    frame: int
    event_id: bytes
    envelope: bytes
    payload_hash: bytes
    payload_salt: bytes | None
    payload: bytes | None


def table_of(rows: Sequence[Row]) -> pa.Table:
    """The table of rows that follow each other."""
    fields = [SCHEMA.field(name) for name in Row._fields[1:]]
    columns = list(zip(*rows, strict=True))
    return to_table(
        rows[0].position, *(pa.array(c, f.type) for c, f in zip(columns[1:], fields, strict=True))
    )


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


class IdRows:
    """Collects the rows of an id file from a segment's tables."""

    def __init__(self) -> None:
        self.forgotten = 0  # events without a payload
        self._rows: list[bytes] = []  # bucket, big endian, before each

    def add(self, table: pa.Table) -> None:
        payloads = table.column("payload").to_pylist()
        self.forgotten += table.column("payload").null_count
        columns = (table.column(name).to_pylist() for name in ("event_id", "position"))
        self._rows += [
            _LOW_BITS[i[14]] + i[15:] + _ID_ROW.pack(i, p, crc32(x or b""), len(x or b""))
            for i, p, x in zip(*columns, payloads, strict=True)
        ]

    def encode(self) -> bytes:
        """The bytes of the id file. An id that is there twice is found at its first position."""
        self._rows.sort(key=itemgetter(slice(0, 18)))
        held = Counter(map(itemgetter(slice(0, 2)), self._rows))
        counts = (held[b.to_bytes(2, "big")] for b in range(_FAN_OUT))
        raw = _HEAD.pack(_IDS_MAGIC, len(self._rows), 0, *accumulate(counts, initial=0))
        raw += b"".join(map(itemgetter(slice(2, None)), self._rows))
        return raw + crc32(raw).to_bytes(4, "little")


_LOW_BITS = [bytes((b & 0xF,)) for b in range(256)]


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

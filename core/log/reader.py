"""Reading the log in order, from segments and journals, while others append, roll, seal and compact."""

from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from threading import Lock
from typing import NamedTuple, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from session_mgmt_mcp.core.envelope import Event
from session_mgmt_mcp.core.errors import LogCorruptError
from session_mgmt_mcp.core.log.columns import CHAIN_COLUMNS, ChainWalk
from session_mgmt_mcp.core.log.frame import HEADER, decode_header, scan
from session_mgmt_mcp.core.log.journals import first_chain, list_journals
from session_mgmt_mcp.core.log.manifest import Manifest, SegmentEntry, load_manifest, versions
from session_mgmt_mcp.core.log.segment import EVENT_COLUMNS, events_of, open_segment, read_group
from session_mgmt_mcp.core.log.tail import NoJournalError, TailCursor, VanishedError
from session_mgmt_mcp.core.ports import Head

_GROUPS_KEPT = 4
_FILES_KEPT = 4
_CHAINS_KEPT = 64
_TRIES = 5
K = TypeVar("K")
T = TypeVar("T")


class _Opened(NamedTuple):
    """What is kept of a segment that was opened: parsing it anew costs more than a read."""

    metadata: pq.FileMetaData
    lasts: list[int]  # last position of each row group


class _Group(NamedTuple):
    """A row group that was read."""

    path: str
    first: int  # position
    table: pa.Table

    @property
    def last(self) -> int:
        return self.first + int(self.table.num_rows) - 1

    def events(self, positions: Sequence[int] | range) -> list[Event]:
        """The events at these positions of the group, in order."""
        table = self.table
        if isinstance(positions, range):
            table = table.slice(positions[0] - self.first, len(positions))
        else:
            table = table.take([p - self.first for p in positions])
        return events_of(table, self.path, positions)


class LogReader:
    """Reads one data folder; takes no lock. Thread-safe."""

    def __init__(self, folder: str, origin: str) -> None:
        """`origin`: of the log's FORMAT.json; what its chain begins with."""
        self.folder = folder
        self._origin = first_chain(origin)
        self._lock = Lock()
        self._manifest = load_manifest(folder)
        # Each goes on from where it was; one for all would start over at every change of use.
        self._reading, self._heading, self._getting = (TailCursor(folder) for _ in range(3))
        self._kept_lock = Lock()
        self._groups: OrderedDict[tuple[str, int], _Group] = OrderedDict()
        self._opened: OrderedDict[str, _Opened] = OrderedDict()
        self._chains: OrderedDict[tuple[str, int], bytes | None] = OrderedDict()

    def close(self) -> None:
        with self._lock:
            for cursor in (self._reading, self._heading, self._getting):
                cursor.close()

    def manifest(self) -> Manifest:
        """The newest manifest. What was kept of files it does not name is let go: they may hold forgotten payloads."""
        found = versions(self.folder)
        if found and found[-1] != self._manifest.version:
            manifest = load_manifest(self.folder)
            with self._kept_lock:
                self._manifest = manifest
                named = {entry.file for entry in manifest.segments}
                for file in [file for file in self._opened if file not in named]:
                    del self._opened[file]
                for kept in (self._groups, self._chains):
                    for key in [key for key in kept if key[0] not in named]:
                        del kept[key]
        return self._manifest

    def _keep(self, kept: "OrderedDict[K, T]", key: K, file: str, value: T, limit: int) -> T:
        """Keep a value for its next use, unless its file was replaced meanwhile."""
        with self._kept_lock:
            if any(entry.file == file for entry in self._manifest.segments):
                kept[key] = value
                while len(kept) > limit:
                    kept.popitem(last=False)
        return value

    def _kept(self, kept: "OrderedDict[K, T]", key: K) -> T | None:
        with self._kept_lock:
            if key not in kept:
                return None
            kept.move_to_end(key)
            return kept[key]

    def head(self) -> Head:
        """The last event that can be read now."""

        def look() -> Head:
            with self._lock:
                try:
                    return Head(*self._heading.head(self.manifest().last))
                except NoJournalError:
                    return self.sealed()

        return self._retried(look)

    def _retried(self, look: Callable[[], T]) -> T:
        """What `look` finds, tried again while files are replaced under its hands."""
        for left in reversed(range(_TRIES)):
            try:
                return look()
            except VanishedError as error:
                if not left:
                    raise self._broken(error) from error
        raise AssertionError("unreachable: the last try returns or raises")

    def _broken(self, missing: VanishedError) -> LogCorruptError:
        return LogCorruptError(f"{self.folder}: {missing}; restore the missing files from a backup")

    def sealed(self) -> Head:
        manifest = self.manifest()
        return Head(manifest.last, manifest.chain or self._origin)

    # -- the chain -----------------------------------------------------------------------------------------------

    def chain_at(self, position: int) -> bytes | None:
        """The chain after `position` where a frame ends there, None where none does or the log does not reach it."""
        if position == 0:
            return self._origin
        if position < 0:
            return None
        return self._retried(lambda: self._chain_at(position))

    def _chain_at(self, position: int) -> bytes | None:
        manifest = self.manifest()
        if position > manifest.last:
            return self._chain_in_journal(position)
        entry = _entry_of(manifest, position)
        if entry.last == position:
            return bytes.fromhex(entry.chain)
        key = (entry.file, position)
        if key in self._chains:
            return self._kept(self._chains, key)
        return self._keep(self._chains, key, entry.file, self._chain_within(entry, position), _CHAINS_KEPT)

    def _chain_within(self, entry: SegmentEntry, position: int) -> bytes | None:
        """Computed from the leaves, going on from the nearest position before that is known."""
        start, chain = entry.first - 1, bytes.fromhex(entry.chain_before)
        with self._kept_lock:
            for (file, known), found in self._chains.items():
                if file == entry.file and found is not None and start < known < position:
                    start, chain = known, found
        walk = ChainWalk(chain, start + 1, {position})
        path, file = self._open(entry)
        with file:
            lasts = self._layout(entry, file).lasts
            for group in range(bisect_left(lasts, start + 1), len(lasts)):
                table = read_group(file, group, CHAIN_COLUMNS, path)
                first = lasts[group] - table.num_rows + 1
                walk.take(table.slice(max(0, start + 1 - first)), path)
                if (
                    walk.next > position + 1
                ):  # the event after it was passed: its frame has ended, if it does there
                    break
        return walk.chains.get(position)

    def _chain_in_journal(self, position: int) -> bytes | None:
        journals = list_journals(self.folder)
        at = bisect_right(journals, position, key=lambda journal: journal[0]) - 1
        if at < 0:
            if journals:
                raise VanishedError(f"the journals begin at {journals[0][0]}, expected position {position}")
            return None
        first, path = journals[at]
        try:
            raw = Path(path).read_bytes()
        except FileNotFoundError:
            raise VanishedError(f"{path} is gone") from None
        header = decode_header(raw[: HEADER.size], path)
        for frame in scan(memoryview(raw)[HEADER.size :], HEADER.size, header, first):
            if frame.count and frame.first + frame.count - 1 == position:
                return frame.chain
        return None

    # -- events --------------------------------------------------------------------------------------------------

    def read(self, after: int = 0, upto: int | None = None) -> Iterator[list[Event]]:
        """Batches in order, without gaps. Raises LogCorruptError where the files do not continue each other."""
        return self._read(self._reading, after, upto)

    def _read(self, cursor: TailCursor, after: int, upto: int | None) -> Iterator[list[Event]]:
        position = after
        while upto is None or position < upto:
            try:
                events = self._retried(lambda at=position: self._next_batch(cursor, at))  # type: ignore[misc]
            except NoJournalError:
                return
            if not events:
                return
            position = events[-1].position
            if upto is not None and position > upto:
                events = [e for e in events if e.position <= upto]
            yield events

    def get(self, positions: Iterable[int]) -> dict[int, Event]:
        """The events at these positions; those that do not exist are left out."""
        wanted = sorted({p for p in positions if p > 0})
        out: dict[int, Event] = {}
        at = 0
        while at < len(wanted) and wanted[at] <= self.manifest().last:
            events = self._retried(lambda k=at: self._sealed_events(wanted, k))  # type: ignore[misc]
            out.update((e.position, e) for e in events)
            at += len(events)
        if at < len(wanted):
            named = set(wanted[at:])
            for batch in self._read(self._getting, wanted[at] - 1, wanted[-1]):
                out.update((e.position, e) for e in batch if e.position in named)
        return out

    def _sealed_events(self, wanted: list[int], at: int) -> list[Event]:
        """Those of the wanted positions, from the one at index `at` on, that lie in its row group."""
        group = self._group(self.manifest(), wanted[at])
        return group.events(wanted[at : bisect_right(wanted, group.last)])

    def _next_batch(self, cursor: TailCursor, after: int) -> list[Event]:
        manifest = self.manifest()
        if after < manifest.last:
            group = self._group(manifest, after + 1)
            return group.events(range(after + 1, group.last + 1))
        with self._lock:
            return cursor.read(after)

    def _group(self, manifest: Manifest, position: int) -> _Group:
        """The row group of a sealed position."""
        entry = _entry_of(manifest, position)
        opened = self._kept(self._opened, entry.file)
        if opened is not None:
            number = bisect_left(opened.lasts, position)
            group = self._kept(self._groups, (entry.file, number))
            if group is not None:
                return group
        path, file = self._open(entry)
        with file:
            lasts = self._layout(entry, file).lasts
            number = bisect_left(lasts, position)
            table = read_group(file, number, EVENT_COLUMNS, path)
        group = _Group(path, lasts[number] - table.num_rows + 1, table)
        return self._keep(self._groups, (entry.file, number), entry.file, group, _GROUPS_KEPT)

    def _open(self, entry: SegmentEntry) -> tuple[str, pq.ParquetFile]:
        """Path and open file of a segment. Raises VanishedError, LogCorruptError."""
        path = f"{self.folder}/segments/{entry.file}"
        opened = self._kept(self._opened, entry.file)
        try:
            return path, open_segment(path, opened.metadata if opened is not None else None)
        except FileNotFoundError:
            raise VanishedError(f"{path} is gone") from None

    def _layout(self, entry: SegmentEntry, file: pq.ParquetFile) -> _Opened:
        """Where the row groups of an open segment end."""
        known = self._kept(self._opened, entry.file)
        if known is not None:
            return known
        metadata = file.metadata
        lasts, last = [], entry.first - 1
        for group in range(metadata.num_row_groups):
            last += metadata.row_group(group).num_rows
            lasts.append(last)
        if last != entry.last:
            raise LogCorruptError(
                f"{self.folder}/segments/{entry.file} holds {last - entry.first + 1} events; "
                "restore it from a backup"
            )
        return self._keep(self._opened, entry.file, entry.file, _Opened(metadata, lasts), _FILES_KEPT)


def _entry_of(manifest: Manifest, position: int) -> SegmentEntry:
    """The segment that holds a sealed position."""
    return manifest.segments[bisect_left(manifest.segments, position, key=lambda s: s.last)]

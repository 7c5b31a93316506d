"""Taking forgotten payloads out of every snapshot of a backup (FORMAT.md, Purge)."""

import os
import re
import shutil
import tempfile
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import pyarrow as pa

from session_mgmt_mcp.core.backup.layout import (
    Piece,
    Snapshot,
    SnapshotName,
    all_snapshots,
    forgotten_ids,
    identify,
    list_snapshots,
    object_name,
    put_forgotten,
    put_snapshot,
    read_forgotten,
    read_snapshots,
)
from session_mgmt_mcp.core.backup.running import alone, is_alive
from session_mgmt_mcp.core.backup.store import BLOCK, ObjectStore, checked, put_whole
from session_mgmt_mcp.core.backup.tail import parse_piece, table_of
from session_mgmt_mcp.core.errors import LogCorruptError
from session_mgmt_mcp.core.events import PayloadForgotten
from session_mgmt_mcp.core.log.manifest import SegmentEntry
from session_mgmt_mcp.core.log.seal import put_segment
from session_mgmt_mcp.core.log.segment import SegmentTables, read_tables, without_payloads

_SCRATCH = re.compile(r"session-mgmt-purge-(\d+)-\w+")
PURGING = "taking forgotten payloads out of the backup"
Progress = Callable[[str, int, int], None]


class Purged(NamedTuple):
    """What a purge did."""

    snapshots: int  # that were replaced
    objects: int  # that were removed
    left: bool  # to the backup that is being made there


def purge(
    store: ObjectStore,
    tombstones: Iterable[PayloadForgotten],
    progress: Progress | None = None,
    scratch: str | None = None,
) -> Purged:
    """Leave no payload these tombstones name, nor any noted before, in any snapshot; and note them in the backup.

    Where a backup is being made there, it is only noted: that backup does the rest when it ends (`left`). Rewritten
    files pass through a private folder in `scratch` (default: the system's temporary folder). May be interrupted and
    run again. Raises LogCorruptError for a snapshot or object that does not check, DestinationError.
    """
    if identify(store) is None:
        return Purged(0, 0, False)
    put_forgotten(store, tombstones)
    with alone(store) as is_alone:
        if not is_alone:
            return Purged(0, 0, True)
        return purge_alone(store, progress, scratch)


def purge_alone(store: ObjectStore, progress: Progress | None = None, scratch: str | None = None) -> Purged:
    """What is noted as forgotten leaves the snapshots; within `alone`. Objects no snapshot names go too: what an
    interrupted backup left may hold those payloads.
    """
    wanted = forgotten_ids(read_forgotten(store))
    if not wanted:
        return Purged(0, 0, False)
    with _scratch(scratch) as folder:
        cleaner = _Cleaner(store, wanted, folder)
        stale = [(name, snapshot) for name, snapshot in read_snapshots(store) if cleaner.concerns(snapshot)]
        for done, (name, snapshot) in enumerate(stale):
            if progress is not None:
                progress(PURGING, done, len(stale))
            cleaner.replace(name, snapshot)
    return Purged(cleaner.replaced, drop_unneeded(store), False)


def drop_unneeded(store: ObjectStore) -> int:
    """Remove replaced snapshots, and objects no snapshot names; how many. Within `alone`. Raises LogCorruptError."""
    current = {found.name for found in list_snapshots(store)}
    removed = 0
    for found in all_snapshots(store):
        if found.name not in current:
            store.delete(found.name)
            removed += 1
    needed = {object_name(d) for _, snapshot in read_snapshots(store) for d in snapshot.objects()}
    for stored in list(store.list("objects")):
        if stored.name not in needed:
            store.delete(stored.name)
            removed += 1
    return removed


def drop_leftovers(store: ObjectStore) -> None:
    """Remove what interrupted puts left. Within `alone`; marks and notes are put at any time and are left alone."""
    for prefix in ("objects", "snapshots"):
        for stored in list(store.list(prefix)):
            if stored.name.endswith(".tmp"):
                store.delete(stored.name)


@contextmanager
def _scratch(parent: str | None) -> Iterator[str]:
    """A private folder. Those that killed processes left in `parent` are removed: they hold what was to be forgotten."""
    base = parent or tempfile.gettempdir()
    for name in os.listdir(base):
        left = _SCRATCH.fullmatch(name)
        if left and not is_alive(int(left[1])):
            shutil.rmtree(f"{base}/{name}", ignore_errors=True)
    folder = tempfile.mkdtemp(prefix=f"session-mgmt-purge-{os.getpid()}-", dir=base)
    os.mkdir(f"{folder}/segments", 0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Cleaner:
    """Rewrites segments and tails without the wanted payloads; each file once, however many snapshots share it."""

    def __init__(self, store: ObjectStore, wanted: dict[int, str], folder: str) -> None:
        self._store, self._wanted, self._folder = store, wanted, folder
        self._positions = sorted(wanted)
        self._done: dict[str, SegmentEntry] = {}  # by SHA-256 of the segment or piece that was rewritten
        self.replaced = 0
        self._clean: set[str] = set()  # segments that hold none of them, whatever their counts say

    def concerns(self, snapshot: Snapshot) -> bool:
        """Whether it may hold a wanted payload."""
        ids = set(self._wanted.values())
        return (
            any(self._stale(entry) for entry in snapshot.segments)
            or any(self._named(piece.first, piece.last) for piece in snapshot.tail)
            or any(file.name.removesuffix(".event") in ids for file in snapshot.spool)
        )

    def replace(self, name: SnapshotName, snapshot: Snapshot) -> None:
        """Store the snapshot without the payloads, then remove the one that had them."""
        segments = [self._segment(entry) for entry in snapshot.segments]
        tail = snapshot.tail
        if any(self._named(piece.first, piece.last) for piece in tail):
            # frames cannot do without a payload: the whole tail becomes segments
            segments += [self._sealed(piece) for piece in tail if piece.last >= piece.first]
            tail = ()
        ids = set(self._wanted.values())
        spool = tuple(file for file in snapshot.spool if file.name.removesuffix(".event") not in ids)
        if (tuple(segments), tail, spool) == (snapshot.segments, snapshot.tail, snapshot.spool):
            return
        new = Snapshot(
            version=snapshot.version,
            log_id=snapshot.log_id,
            origin=snapshot.origin,
            format_line=snapshot.format_line,
            position=snapshot.position,
            chain=snapshot.chain,
            created_at=snapshot.created_at,
            generation=snapshot.generation + 1,
            segments=tuple(segments),
            tail=tail,
            spool=spool,
        )
        self._store.sync(sorted(object_name(digest) for digest in new.objects()))
        put_snapshot(self._store, new)
        self._store.delete(name.name)
        self.replaced += 1

    def _named(self, first: int, last: int) -> int:
        """How many wanted positions lie there."""
        return bisect_right(self._positions, last) - bisect_left(self._positions, first)

    def _stale(self, entry: SegmentEntry) -> bool:
        """Payloads are null where they were forgotten and nowhere else, so their number tells."""
        return entry.sha256 not in self._clean and entry.forgotten < self._named(entry.first, entry.last)

    def _segment(self, entry: SegmentEntry) -> SegmentEntry:
        if not self._stale(entry):
            return entry
        if entry.sha256 not in self._done:
            path = f"{self._folder}/{entry.sha256}"
            self._fetch(entry.sha256, path)
            gone = self._wanted_in(read_tables(path, ["position", "event_id", "payload_salt"]))
            if gone:
                tables = SegmentTables([path], lambda table: without_payloads(table, gone))
                self._done[entry.sha256] = self._put(tables, entry)
            else:  # those positions are of another log's events: a copy that went its own way
                self._clean.add(entry.sha256)
                self._done[entry.sha256] = entry
            os.unlink(path)
        return self._done[entry.sha256]

    def _sealed(self, piece: Piece) -> SegmentEntry:
        if piece.sha256 not in self._done:
            name = object_name(piece.sha256)
            raw = b"".join(checked(self._blocks(name), piece.sha256, f"{self._store.url}/{name}"))
            found = parse_piece(raw, piece, f"{self._store.url}/{name}")
            table = table_of(found, name)
            self._done[piece.sha256] = self._put([without_payloads(table, self._wanted_in([table]))], piece)
        return self._done[piece.sha256]

    def _wanted_in(self, tables: Iterable[pa.Table]) -> list[int]:
        """The wanted positions whose payload is there, and whose event is the one that was forgotten."""
        columns = ("position", "event_id", "payload_salt")
        return [
            position
            for table in tables
            for position, event_id, salt in zip(
                *(table.column(name).to_pylist() for name in columns), strict=True
            )
            if salt is not None and self._wanted.get(position) == event_id.hex()
        ]

    def _put(self, tables: Iterable[pa.Table], of: SegmentEntry | Piece) -> SegmentEntry:
        """Store a segment and its ids."""
        chains = bytes.fromhex(of.chain_before), bytes.fromhex(of.chain)
        entry = put_segment(self._folder, tables, *chains)
        for file, digest in ((entry.file, entry.sha256), (entry.ids, entry.ids_sha256)):
            path, name = f"{self._folder}/segments/{file}", object_name(digest)
            put_whole(self._store, name, partial(_read, path), digest, path)
            os.unlink(path)
        return entry

    def _blocks(self, name: str) -> Iterator[bytes]:
        try:
            yield from self._store.blocks(name)
        except FileNotFoundError:
            raise LogCorruptError(
                f"{self._store.url}/{name} is missing; use another snapshot or backup"
            ) from None

    def _fetch(self, digest: str, path: str) -> None:
        name = object_name(digest)
        with open(path, "xb") as file:
            file.writelines(checked(self._blocks(name), digest, f"{self._store.url}/{name}"))


def _read(path: str) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            yield block

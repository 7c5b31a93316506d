"""Making a backup while hooks, servers and maintenance are at work (FORMAT.md, Backup). Takes no lock."""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import NamedTuple

from session_mgmt_mcp.core.backup.layout import (
    VERSION,
    Piece,
    Snapshot,
    SnapshotName,
    SpoolFile,
    claim,
    find_snapshot,
    list_snapshots,
    object_name,
    put_forgotten,
    put_snapshot,
)
from session_mgmt_mcp.core.backup.retain import Keep, tidy
from session_mgmt_mcp.core.backup.running import adding
from session_mgmt_mcp.core.backup.store import BLOCK, ObjectStore, is_whole, put_whole
from session_mgmt_mcp.core.backup.tail import OpenJournal, chain_after, open_journals, take_piece
from session_mgmt_mcp.core.envelope import now_us
from session_mgmt_mcp.core.errors import AppendError, InputError, LogCorruptError
from session_mgmt_mcp.core.log.durable import sha256
from session_mgmt_mcp.core.log.folder import format_line, read_format
from session_mgmt_mcp.core.log.forget import tombstones
from session_mgmt_mcp.core.log.journals import first_chain
from session_mgmt_mcp.core.log.log import FileLog
from session_mgmt_mcp.core.log.manifest import Manifest, load_manifest, versions
from session_mgmt_mcp.core.log.spool import spooled

_ROUNDS = 20
COPYING = "copying to the backup"
Progress = Callable[[str, int, int], None]  # what is being done, bytes done, bytes in all


class Backup(NamedTuple):
    """A finished backup."""

    snapshot: str  # its id
    position: int  # of the last event in it
    chain: str  # after it, hex
    new: bool  # False: nothing had changed since the snapshot named
    bytes: int  # it needs in all
    copied_objects: int
    copied_bytes: int
    purged: int  # snapshots that were rewritten without payloads forgotten since
    dropped: int  # snapshots that `keep` did not keep
    left: bool  # True: another backup is being made there, so nothing was removed


def create(
    log: FileLog, store: ObjectStore, progress: Progress | None = None, keep: Keep | None = None
) -> Backup:
    """Bring everything durable in `log` into `store` as a snapshot. May be interrupted and run again.

    Payloads forgotten since are taken out of older snapshots; with `keep`, snapshots it does not keep are removed.

    Raises InputError (a foreign place, or one that holds another history of this log), LogCorruptError,
    DestinationError, AppendError (the log's disk takes nothing).
    """
    claim(store, log.log_id, log.origin)
    before = newest(store)
    if before is not None:
        refuse_other_history(log, before, store.url)
    copy = _Copy(log, store, before, progress)
    with adding(store):
        snapshot, done = _copy_and_commit(copy, before)
    tidied = tidy(log, store, keep, progress)
    return Backup(
        done.id,
        snapshot.position,
        snapshot.chain,
        before is None or done.created_at != before.created_at,
        sum(size for size in snapshot.objects().values() if size > 0),
        copy.copied_objects,
        copy.copied_bytes,
        *tidied,
    )


def _copy_and_commit(copy: "_Copy", before: Snapshot | None) -> tuple[Snapshot, SnapshotName]:
    folder = copy.log.folder
    for _ in range(_ROUNDS):
        version = versions(folder)
        try:
            snapshot = copy.take()
        except FileNotFoundError as error:
            if versions(folder) == version:
                raise LogCorruptError(f"{error.filename} is missing; restore it from a backup") from error
            continue  # compacted or forgotten meanwhile: what was copied stays
        return snapshot, _commit(copy.store, snapshot, before)
    raise LogCorruptError(
        f"the segments of {folder} were replaced {_ROUNDS} times during one backup; try again"
    )


def newest(store: ObjectStore) -> Snapshot | None:
    """The newest snapshot, None where there is none. Raises LogCorruptError where it does not check."""
    return find_snapshot(store, None)[1] if list_snapshots(store) else None


def refuse_other_history(log: FileLog, snapshot: Snapshot, url: str) -> None:
    """Raise InputError where this log does not go on from the snapshot: restored from an older one, or a copy."""
    head = log.head().position
    if snapshot.position <= head:
        chain = log.chain_at(snapshot.position)
        if chain is not None and chain.hex() == snapshot.chain:
            return
        why = f"its position {snapshot.position} holds another event than this log's"
    else:
        why = f"it goes up to position {snapshot.position}, this log only to {head}"
    raise InputError(
        f"{url} holds another history of this log ({why}), left as it is; restore it, or name a new place for this one"
    )


def _commit(store: ObjectStore, snapshot: Snapshot, before: Snapshot | None) -> SnapshotName:
    """Store the snapshot, unless it says nothing new."""
    if before is not None and _same(snapshot, before):
        return SnapshotName(before.position, before.created_at, before.generation, "")
    known = {object_name(digest) for digest in before.objects()} if before else set()
    store.sync(sorted({object_name(digest) for digest in snapshot.objects()} - known))
    return put_snapshot(store, snapshot)


def _same(one: Snapshot, other: Snapshot) -> bool:
    return (one.position, one.chain, one.segments, one.spool) == (
        other.position,
        other.chain,
        other.segments,
        other.spool,
    )


class _Copy:
    """One pass over the log."""

    def __init__(
        self, log: FileLog, store: ObjectStore, before: Snapshot | None, progress: Progress | None
    ) -> None:
        self.log = log
        self.store = store
        self.copied_objects = self.copied_bytes = 0
        self._trusted = {object_name(digest) for digest in before.objects()} if before else set()
        self._there: dict[str, int] = {}
        self._say = progress or (lambda *_: None)
        self._done = self._total = 0

    def take(self) -> Snapshot:
        """Copy what is not there; what was copied, as a snapshot. Raises FileNotFoundError where a file vanished."""
        folder, self._done = self.log.folder, 0
        self._there = {stored.name: stored.bytes for stored in self.store.list("objects")}
        # By the appender's own means, which know of failed syncs; where it cannot, reading the journals says why.
        with contextlib.suppress(AppendError):
            self.log.append([], dedupe=False)
        # The spool first: what is drained from it meanwhile is in the journals read later, never in neither.
        spool = tuple(self._spool())
        # Then the journals are opened, then the manifest is read: together they have no gap, whoever seals meanwhile.
        with open_journals(folder) as journals:
            manifest = load_manifest(folder)
            self._total = sum(e.bytes for e in manifest.segments)
            self._say(COPYING, 0, self._total)
            self._segments(manifest)
            origin = first_chain(self.log.origin)
            tail = tuple(self._tail(journals, manifest.last, manifest.chain or origin))
        self._say(COPYING, self._total, self._total)
        # After the journals: every tombstone in this snapshot is noted before the snapshot counts.
        put_forgotten(self.store, tombstones(self.log))
        return Snapshot(
            version=VERSION,
            log_id=self.log.log_id,
            origin=self.log.origin,
            format_line=format_line(read_format(folder)).decode(),
            position=tail[-1].last if tail else manifest.last,
            chain=tail[-1].chain if tail else (manifest.chain or origin).hex(),
            created_at=now_us(),
            generation=0,
            segments=manifest.segments,
            tail=tail,
            spool=spool,
        )

    def passed(self, size: int) -> None:
        """Say that so many bytes of the object at hand are through."""
        self._say(COPYING, min(self._done + size, self._total), self._total)

    def _segments(self, manifest: Manifest) -> None:
        for entry in manifest.segments:
            for file, digest in ((entry.ids, entry.ids_sha256), (entry.file, entry.sha256)):
                path = f"{self.log.folder}/segments/{file}"
                size = entry.bytes if file == entry.file else -1
                self._put(digest, size, partial(_blocks, path), path)
            self._done += entry.bytes
            self._say(COPYING, self._done, self._total)

    def _tail(self, journals: list[OpenJournal], last: int, chain: bytes) -> Iterator[Piece]:
        for at, journal in enumerate(journals):
            if journal.first <= last:
                continue  # sealed; its unlinking was interrupted or is yet to come
            found = take_piece(self.log.folder, journal, last=at == len(journals) - 1)
            if found.header.log_id.hex() != self.log.log_id:
                raise LogCorruptError(f"{journal.path} is of another log; move it out of the data folder")
            after, end = chain_after(found.frames, found.raw, found.header)
            if found.header.first != last + 1 or found.header.chain != chain:
                raise LogCorruptError(f"{journal.path} does not continue the log at position {last + 1}")
            if end > last:
                digest = sha256(found.raw).hexdigest()
                self._put(digest, len(found.raw), partial(_whole, found.raw), journal.path)
                yield Piece(last + 1, end, chain.hex(), after.hex(), digest, len(found.raw))
            last, chain = end, after

    def _spool(self) -> Iterator[SpoolFile]:
        for path in spooled(self.log.folder):
            with contextlib.suppress(FileNotFoundError):  # drained: it is in the journal now
                with open(path, "rb") as file:
                    raw = file.read()
                digest = sha256(raw).hexdigest()
                self._put(digest, len(raw), partial(_whole, raw), path)
                yield SpoolFile(os.path.basename(path), digest, len(raw))

    def _put(self, digest: str, size: int, blocks: Callable[[], Iterable[bytes]], path: str) -> None:
        """Store an object, unless it is there; what no snapshot vouches for is read back."""
        name = object_name(digest)
        is_there = name in self._there and size in (-1, self._there[name])
        if is_there and (name in self._trusted or is_whole(self.store, name, digest)):
            self._trusted.add(name)
            return
        counted = _Counted(self, blocks)
        put_whole(self.store, name, counted.blocks, digest, path)
        self._there[name] = counted.bytes
        self._trusted.add(name)
        self.copied_objects += 1
        self.copied_bytes += counted.bytes


class _Counted:
    """Blocks, counted while they pass, with progress."""

    def __init__(self, copy: _Copy, blocks: Callable[[], Iterable[bytes]]) -> None:
        self._copy, self._blocks, self.bytes = copy, blocks, 0

    def blocks(self) -> Iterator[bytes]:
        self.bytes = 0
        for block in self._blocks():
            self.bytes += len(block)
            self._copy.passed(self.bytes)
            yield block


def _whole(raw: bytes) -> list[bytes]:
    return [raw]


def _blocks(path: str) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            yield block

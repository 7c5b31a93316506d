"""Bringing a log back from a backup: built beside the folder, verified, then switched in (FORMAT.md, Restore)."""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain as joined
from typing import NamedTuple

import msgspec

from session_mgmt_mcp.core.backup.cut import Chosen, Cut, choose, cut_segment, times_of
from session_mgmt_mcp.core.backup.layout import (
    Identity,
    Piece,
    Snapshot,
    SpoolFile,
    find_snapshot,
    identify,
    list_snapshots,
    object_name,
    read_forgotten,
)
from session_mgmt_mcp.core.backup.store import ObjectStore, checked
from session_mgmt_mcp.core.backup.tail import Frames, parse_piece, table_of
from session_mgmt_mcp.core.envelope import Envelope, EventType, NewEvent, Source, now_us, uuid7
from session_mgmt_mcp.core.errors import DataFolderError, InputError, LockTimeoutError, LogCorruptError
from session_mgmt_mcp.core.events import LogForked, PayloadForgotten
from session_mgmt_mcp.core.log import folder as folders
from session_mgmt_mcp.core.log.durable import preallocate, sync_file, sync_folder, write_at, write_new
from session_mgmt_mcp.core.log.forget import apply_tombstones
from session_mgmt_mcp.core.log.frame import FORMAT_VERSION
from session_mgmt_mcp.core.log.journals import first_chain, journal_name, try_lock
from session_mgmt_mcp.core.log.log import FileLog
from session_mgmt_mcp.core.log.manifest import Manifest, SegmentEntry, publish
from session_mgmt_mcp.core.log.segment import read_tables, sha256_of
from session_mgmt_mcp.core.log.verify import verify

_TRIES = 3
FETCHING, VERIFYING = "reading the backup", "verifying the restored log"
Progress = Callable[[str, int, int], None]


class Point(NamedTuple):
    """Where to cut: after a position, or before the first event recorded after a time (µs since 1970)."""

    position: int | None = None
    time_us: int | None = None


class Restored(NamedTuple):
    """A log that was switched in."""

    folder: str
    snapshot: str  # id
    log_id: str
    position: int  # of the last event that came from the backup
    chain: str  # after it, hex
    events: int  # in the log now: with the LogForked and PayloadForgotten that were appended
    forked_from: str  # the log id it had; "" where it was not cut
    chosen: Chosen | None  # where a time was asked for


def restore(
    store: ObjectStore,
    to: str,
    *,
    snapshot: str | None = None,
    point: Point | None = None,
    tombstones: Sequence[PayloadForgotten] = (),
    progress: Progress | None = None,
) -> Restored:
    """Bring a snapshot (default: the newest) back into `to`, which is absent or empty. May be run again.

    With `point` the log is cut there and goes on as a fork with an id of its own. Payloads that the backup or
    `tombstones` say were forgotten are taken out before the folder is switched in. Raises InputError (the request),
    LogCorruptError (the backup does not check; nothing is switched in), DestinationError, DataFolderError.
    """
    target = os.path.realpath(to)
    identity = identify(store)
    if identity is None:
        raise InputError(f"{store.url} holds no backup")
    _drop_finished(target)
    _refuse_taken(target)
    folders.refuse_network(target)
    for left in reversed(range(_TRIES)):
        name, found = find_snapshot(store, snapshot)
        try:
            return _restore(store, found, identity, target, point, tombstones, progress)
        except LogCorruptError:
            if not left or name in list_snapshots(store):
                raise
            # a purge replaced it meanwhile
    raise AssertionError("unreachable: the last try returns or raises")


def _restore(
    store: ObjectStore,
    found: Snapshot,
    identity: Identity,
    target: str,
    point: Point | None,
    tombstones: Sequence[PayloadForgotten],
    progress: Progress | None,
) -> Restored:
    if found.log_id != identity.log_id:
        raise LogCorruptError(f"the snapshot {found.id} in {store.url} is of another log; move it away")
    if point is not None and point.position is not None and not 1 <= point.position <= found.position:
        raise InputError(
            f"position {point.position} is not in the snapshot {found.id}, which holds 1 to {found.position}"
        )
    forgotten = [*read_forgotten(store), *tombstones]
    with _staging(target) as data:
        done = _Build(store, found, data, progress).run(point, forgotten, target)
        _switch(data, target)
    return done


def _refuse_taken(target: str) -> None:
    try:
        names = os.listdir(target)
    except FileNotFoundError:
        return
    except OSError as error:
        raise DataFolderError(f"cannot restore to {target}: {error.strerror}; name another folder") from error
    if names:
        what = "a log already" if "FORMAT.json" in names else min(names)
        raise InputError(f"{target} holds {what}: restore to an absent or empty folder")


def _drop_finished(target: str) -> None:
    """Remove what a restore left beside the target that was interrupted after it had switched the log in."""
    base = f"{target}.restoring"
    if os.path.exists(f"{base}/restoring.lock") and os.path.exists(f"{target}/FORMAT.json"):
        folders.sync_names(target)
        if not os.path.exists(f"{base}/data"):
            shutil.rmtree(base)


@contextlib.contextmanager
def _staging(target: str) -> Iterator[str]:
    """The folder beside the target where the log is built. What an interrupted restore left there is gone on with."""
    base = f"{target}.restoring"
    mark = f"{base}/restoring.lock"
    try:
        if os.path.isdir(base) and os.listdir(base) and not os.path.exists(mark):
            raise InputError(f"{base} is in the way and not of an interrupted restore; move it")
        os.makedirs(base, 0o700, exist_ok=True)
        lock = try_lock(mark)
        if lock is None:
            raise LockTimeoutError(f"another restore to {target} is at work")
    except OSError as error:
        raise DataFolderError(f"cannot restore to {target}: {base}: {error.strerror}") from error
    try:
        sync_folder(base)  # before anything else is in it: without the mark it would be taken for another's
        yield f"{base}/data"
        shutil.rmtree(base)
        sync_folder(os.path.dirname(base))
    finally:
        os.close(lock)


def _switch(data: str, target: str) -> None:
    """Give the verified log its name. Everything in it is durable first."""
    for parent, _, _ in os.walk(data):
        sync_folder(parent)
    sync_folder(os.path.dirname(data))
    try:
        os.rename(data, target)
    except OSError as error:
        raise DataFolderError(
            f"cannot give the restored log the name {target}: {error.strerror}; name an absent folder"
        ) from error
    folders.sync_names(target)


class _Build:
    """One restored log in the making."""

    def __init__(self, store: ObjectStore, snapshot: Snapshot, data: str, progress: Progress | None) -> None:
        self._store, self._snapshot, self._data = store, snapshot, data
        self._say = progress or (lambda *_: None)
        self._done = 0
        self._total = 0

    def run(self, point: Point | None, forgotten: Sequence[PayloadForgotten], target: str) -> Restored:
        """Fill the folder and prove it."""
        snapshot = self._snapshot
        self._prepare()
        entries, pieces = self._fetch(point)
        chosen, upto = self._upto(point, entries, pieces)
        if upto is None:
            log_id, cut = snapshot.log_id, Cut(snapshot.position, bytes.fromhex(snapshot.chain), 0, b"")
            self._write("FORMAT.json", snapshot.format_line.encode())
            self._publish(log_id, entries)
            self._journals(pieces)
            self._spool(snapshot.spool)
        else:
            log_id = os.urandom(16).hex()
            format_ = folders.Format(log_id, snapshot.origin, now_us())
            self._write("FORMAT.json", folders.format_line(format_))
            entries, cut = self._cut(entries, pieces, upto)
            self._publish(log_id, entries)
        with FileLog(self._data) as log:
            self._check_head(log, cut)
            if upto is not None:
                _append_fork(log, snapshot, cut)
            self._forget(log, forgotten)
        proved = verify(self._data, log_id, lambda at, end: self._say(VERIFYING, at, end))
        return Restored(
            target,
            snapshot.id,
            log_id,
            cut.position,
            cut.chain.hex(),
            proved.events,
            "" if upto is None else snapshot.log_id,
            chosen,
        )

    # -- files ---------------------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        """Make the folders; leave nothing of an interrupted attempt but segments, which are used if they are right."""
        os.makedirs(self._data, 0o700, exist_ok=True)
        for name in os.listdir(self._data):
            path = f"{self._data}/{name}"
            if name != "segments":
                shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)
        for name in folders.FOLDERS:
            os.makedirs(f"{self._data}/{name}", 0o700, exist_ok=True)

    def _fetch(self, point: Point | None) -> tuple[list[SegmentEntry], list[tuple[Piece, Frames]]]:
        """Bring the segments and read the tail, as far as they are needed."""
        last = point.position if point is not None and point.position is not None else None
        entries = [e for e in self._snapshot.segments if last is None or e.first <= last]
        pieces = [p for p in self._snapshot.tail if last is None or p.first <= last]
        self._total = sum(e.bytes for e in entries) + sum(p.bytes for p in pieces)
        wanted = {name for entry in entries for name in (entry.file, entry.ids)}
        for name in os.listdir(f"{self._data}/segments"):
            if name not in wanted:
                os.unlink(f"{self._data}/segments/{name}")
        for entry in entries:
            self._file(entry.ids_sha256, f"segments/{entry.ids}")
            self._file(entry.sha256, f"segments/{entry.file}")
        return entries, [(piece, self._piece(piece)) for piece in pieces]

    def _file(self, digest: str, name: str) -> None:
        """Bring an object as a file of a segment, unless it is there and right."""
        path = f"{self._data}/{name}"
        if os.path.exists(path):
            if sha256_of(path) == digest:
                return
            os.unlink(path)
        fd = os.open(path + ".tmp", os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            for block in self._object(digest):
                view = memoryview(block)
                while view:
                    view = view[os.write(fd, view) :]
            os.fchmod(fd, 0o400)
            sync_file(fd)
        finally:
            os.close(fd)
        os.rename(path + ".tmp", path)

    def _object(self, digest: str) -> Iterator[bytes]:
        """An object's blocks, counted. Raises LogCorruptError where it is missing or not what its name says."""
        where = self._where(digest)
        try:
            for block in checked(self._store.blocks(object_name(digest)), digest, where):
                self._done = min(self._done + len(block), self._total)
                self._say(FETCHING, self._done, self._total)
                yield block
        except FileNotFoundError:
            raise LogCorruptError(f"{where} is missing; restore another snapshot") from None

    def _where(self, digest: str) -> str:
        return f"{self._store.url}/{object_name(digest)}"

    def _piece(self, piece: Piece) -> Frames:
        return parse_piece(b"".join(self._object(piece.sha256)), piece, self._where(piece.sha256))

    def _journals(self, pieces: Iterable[tuple[Piece, Frames]]) -> None:
        for piece, found in pieces:
            fd = os.open(
                f"{self._data}/journal/{journal_name(piece.first)}",
                os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC,
                0o600,
            )
            try:
                preallocate(fd, found.header.capacity)
                write_at(fd, found.raw, 0)
                sync_file(fd)
            finally:
                os.close(fd)

    def _spool(self, files: Iterable[SpoolFile]) -> None:
        for file in files:
            if "/" in file.name or not file.name.endswith(".event"):
                raise LogCorruptError(f"{self._store.url}: {file.name!r} is no name of a spooled event")
            self._write(f"spool/{file.name}", b"".join(self._object(file.sha256)))

    def _write(self, name: str, data: bytes) -> None:
        write_new(f"{self._data}/{name}", data)

    def _publish(self, log_id: str, entries: Sequence[SegmentEntry]) -> None:
        """Write the manifest and remove segments it does not name: the cut ones, and what an interruption left."""
        if entries:
            publish(self._data, Manifest(0, FORMAT_VERSION, "", None, 0, ()), log_id, tuple(entries))
        named = {name for entry in entries for name in (entry.file, entry.ids)}
        for name in os.listdir(f"{self._data}/segments"):
            if name not in named:
                os.unlink(f"{self._data}/segments/{name}")

    # -- the cut -------------------------------------------------------------------------------------------------

    def _upto(
        self, point: Point | None, entries: Sequence[SegmentEntry], pieces: Sequence[tuple[Piece, Frames]]
    ) -> tuple[Chosen | None, int | None]:
        """The position a time stands for, and the last position to keep; None for all, without a cut."""
        if point is None or point.time_us is None:
            return None, point.position if point is not None else None
        columns = ("position", "recorded_at")
        times = joined(
            *(times_of(read_tables(f"{self._data}/segments/{e.file}", columns)) for e in entries),
            times_of(table_of(found, self._where(piece.sha256)) for piece, found in pieces),
        )
        chosen = choose(times, point.time_us)
        if not chosen.position:
            raise InputError(f"nothing in the snapshot {self._snapshot.id} was recorded up to that time")
        return chosen, chosen.position

    def _cut(
        self, entries: Sequence[SegmentEntry], pieces: Sequence[tuple[Piece, Frames]], upto: int
    ) -> tuple[list[SegmentEntry], Cut]:
        """Everything up to a position as segments; the frame it lies in is shortened."""
        kept = [e for e in entries if e.last <= upto]
        last = kept[-1].last if kept else 0
        chain = bytes.fromhex(kept[-1].chain) if kept else first_chain(self._snapshot.origin)
        cut = Cut(last, chain, last, chain)
        for entry in entries[len(kept) : len(kept) + 1]:
            if entry.first <= upto:
                path = f"{self._data}/segments/{entry.file}"
                shorter, cut = cut_segment(self._data, path, entry, upto)
                kept.append(shorter)
        for piece, found in pieces:
            if piece.first <= upto and piece.last >= piece.first:
                where = self._where(piece.sha256)
                shorter, cut = cut_segment(self._data, where, piece, upto, [table_of(found, where)])
                kept.append(shorter)
        return kept, cut

    # -- proof ---------------------------------------------------------------------------------------------------

    def _check_head(self, log: FileLog, cut: Cut) -> None:
        head = log.head()
        if (head.position, head.chain) != (cut.position, cut.chain):
            raise LogCorruptError(
                f"the snapshot {self._snapshot.id} of {self._store.url} ends at position {head.position}, not as it says"
            )

    def _forget(self, log: FileLog, forgotten: Sequence[PayloadForgotten]) -> None:
        """Take out what was forgotten after the snapshot was made."""
        lock = try_lock(f"{self._data}/maintenance.lock")
        if lock is None:
            raise LockTimeoutError(f"another process is at work in {self._data}")
        try:
            apply_tombstones(log, forgotten, self._say)
        finally:
            os.close(lock)


def _append_fork(log: FileLog, snapshot: Snapshot, cut: Cut) -> None:
    fork = LogForked(
        snapshot.log_id, snapshot.origin, cut.position, cut.whole_position, cut.whole_chain.hex(), snapshot.id
    )
    now = now_us()
    envelope = Envelope("session-mgmt/log", EventType.LOG_FORKED, 1, now, now, "user", Source.COMMAND)
    log.append([NewEvent(uuid7(now), envelope, msgspec.json.encode(fork))], dedupe=False)

"""Backups of an app's log: opening destinations, remembering them, and what forgetting means for them."""

import contextlib
import fcntl
import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from session_mgmt_mcp.core.backup.check import Checked, check
from session_mgmt_mcp.core.backup.create import Backup, Progress, create
from session_mgmt_mcp.core.backup.layout import Snapshot, identify, list_snapshots, read_snapshots
from session_mgmt_mcp.core.backup.local import LocalStore
from session_mgmt_mcp.core.backup.purge import purge
from session_mgmt_mcp.core.backup.restore import Point, Restored, restore
from session_mgmt_mcp.core.backup.retain import Keep, scratch_of
from session_mgmt_mcp.core.backup.store import ObjectStore
from session_mgmt_mcp.core.envelope import now_us
from session_mgmt_mcp.core.errors import InputError, SessionMgmtError
from session_mgmt_mcp.core.events import PayloadForgotten
from session_mgmt_mcp.core.log.durable import sync_folder, write_new
from session_mgmt_mcp.core.log.forget import tombstones
from session_mgmt_mcp.core.log.log import FileLog
from session_mgmt_mcp.core.settings import data_dir
from session_mgmt_mcp.tools.app import App

RECORD = "backups.json"
_EPOCH = datetime.fromtimestamp(0, UTC)


class Destination(msgspec.Struct, frozen=True):
    """A place this log was backed up to, as of the last backup there."""

    url: str  # without a password; a folder as absolute path
    at: int  # µs since the epoch
    position: int
    snapshot: str


class _Record(msgspec.Struct, frozen=True):
    destinations: tuple[Destination, ...] = ()


# -- commands ----------------------------------------------------------------------------------------------------


def open_store(destination: str) -> ObjectStore:
    """A local folder, or any URL fsspec can open. Raises InputError, DestinationError."""
    if not destination:
        raise InputError("name a folder or a URL for the backup")
    path = destination.removeprefix("file://")
    if path != destination or "://" not in destination:
        return LocalStore(os.path.expanduser(path))
    from session_mgmt_mcp.adapters.objects.store import FsspecStore

    return FsspecStore(destination)


def back_up(app: App, destination: str, keep: Keep | None = None, progress: Progress | None = None) -> Backup:
    """Bring the log into `destination` and remember that place. Raises what `core.backup.create` does."""
    store = open_store(destination)
    _refuse_inside(app.folder, store)
    done = create(app.log, store, progress, keep)
    _remember(app.folder, Destination(store.url, now_us(), done.position, done.snapshot))
    return done


def check_backup(destination: str, snapshot: str | None = None, progress: Progress | None = None) -> Checked:
    """Read a whole snapshot. Raises LogCorruptError naming the object that fails."""
    return check(open_store(destination), snapshot, progress)


def snapshots(destination: str) -> list[Snapshot]:
    """What can be restored, the newest last."""
    store = open_store(destination)
    return [snapshot for _, snapshot in read_snapshots(store)] if identify(store) is not None else []


def restore_log(
    destination: str,
    to: Path,
    *,
    snapshot: str | None = None,
    point: Point | None = None,
    live: Path | None = None,
    progress: Progress | None = None,
) -> tuple[Restored, list[str]]:
    """`core.backup.restore`, with what the live log of the same origin forgot since; and notes for people.

    `live`: that log's data folder (default: the default one, where there is one).
    """
    store = open_store(destination)
    identity = identify(store)
    forgotten, notes = _live_tombstones(live, identity.origin) if identity is not None else ([], [])
    done = restore(store, str(to), snapshot=snapshot, point=point, tombstones=forgotten, progress=progress)
    newest = list_snapshots(store)[-1]
    if not done.forked_from and done.snapshot != newest.id:
        notes.append(
            f"{store.url} holds a newer snapshot, {newest.id}: back the restored log up to a place of its own"
        )
    return done, notes


def _live_tombstones(live: Path | None, origin: str) -> tuple[list[PayloadForgotten], list[str]]:
    folder = live or data_dir()
    if live is None and not (folder / "FORMAT.json").exists():
        return [], []
    try:
        with FileLog(folder) as log:
            if log.origin == origin:
                return tombstones(log), []
    except SessionMgmtError as error:
        if live is not None:
            raise
        note = f"what {folder} forgot since the last backup there is not known, because it cannot be read: {error}"
        return [], [note]
    if live is not None:
        raise InputError(f"{live} holds another log than the backup: name the folder this backup was made of")
    return [], []


# -- forgetting --------------------------------------------------------------------------------------------------


def after_forget(app: App, report: object = None) -> list[str]:
    """Take what was forgotten out of every place this log was backed up to; a line for people about each.

    Raises nothing for a place that cannot be reached: its line names the mend.
    """
    destinations = known_destinations(app.folder)
    forgotten = tombstones(app.log) if destinations else []
    return [_purge_one(destination.url, forgotten, app.folder) for destination in destinations]


def _purge_one(url: str, forgotten: Sequence[PayloadForgotten], folder: Path) -> str:
    mend = f"`session-mgmt-mcp backup {url}` takes it out"
    try:
        store = open_store(url)
        if identify(store) is None:
            return (
                f"backup {url}: nothing is there; a copy that was moved or unplugged still holds it: {mend}"
            )
        done = purge(store, forgotten, scratch=scratch_of(str(folder)))
    except (SessionMgmtError, OSError) as error:
        return f"backup {url}: still holds what was forgotten ({error}); {mend}"
    if done.left:
        return f"backup {url}: the backup that is being made there takes it out; if it fails, {mend}"
    return f"backup {url}: {done.snapshots} snapshots rewritten, {done.objects} files removed"


# -- backups.json ------------------------------------------------------------------------------------------------


def known_destinations(folder: Path) -> list[Destination]:
    """Where this data folder was backed up to. Raises InputError where the file that says so is damaged."""
    try:
        raw = (folder / RECORD).read_bytes()
    except FileNotFoundError:
        return []
    try:
        return list(msgspec.json.decode(raw, type=_Record).destinations)
    except msgspec.MsgspecError as error:
        raise InputError(
            f"{folder / RECORD} is damaged ({error}): remove it and back up to each place again"
        ) from error


def _remember(folder: Path, destination: Destination) -> None:
    with _locked(folder):
        others = [d for d in known_destinations(folder) if d.url != destination.url]
        raw = msgspec.json.format(msgspec.json.encode(_Record((*others, destination))))
        temporary = f"{folder}/{RECORD}.{os.urandom(4).hex()}.tmp"
        write_new(temporary, raw + b"\n")
        os.rename(temporary, folder / RECORD)
        sync_folder(str(folder))


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Two backups to different places end at once: neither may overwrite what the other noted."""
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _refuse_inside(folder: Path, store: ObjectStore) -> None:
    if not isinstance(store, LocalStore):
        return
    inner, outer = os.path.realpath(store.folder), os.path.realpath(folder)
    if inner == outer or inner.startswith(outer + "/"):
        raise InputError(f"{store.folder} is inside the data folder {folder}: name a place on another disk")


def parse_time(text: str) -> int:
    """µs since 1970 of an ISO date or time; the local zone unless one is given. Raises InputError.

    A date alone means its first moment.
    """
    try:
        return (datetime.fromisoformat(text).astimezone() - _EPOCH) // timedelta(microseconds=1)
    except (ValueError, OverflowError, OSError):
        raise InputError(f"{text!r} is no time: write 2026-01-31 or 2026-01-31T15:04:05[+01:00]") from None

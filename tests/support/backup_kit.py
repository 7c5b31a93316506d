"""What tests of backups share: a log with a known history, stores that fail, what a restored log says."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from log_kit import content, event, seal_all

from session_mgmt_mcp.adapters.objects.store import FsspecStore
from session_mgmt_mcp.core.backup.local import LocalStore
from session_mgmt_mcp.core.backup.restore import Point, Restored, restore
from session_mgmt_mcp.core.backup.store import ObjectStore, Stored
from session_mgmt_mcp.core.envelope import Event
from session_mgmt_mcp.core.log.log import FileLog
from session_mgmt_mcp.core.log.verify import verify

T = TypeVar("T")
_numbers = itertools.count()


def memory_store() -> FsspecStore:
    """An empty place in memory, through fsspec."""
    return FsspecStore(f"memory://backup-{next(_numbers)}")


def make_store(kind: str, tmp_path: Path) -> ObjectStore:
    """`memory` and `files` go through fsspec: whole puts, and those written aside and renamed."""
    if kind == "memory":
        return memory_store()
    return FsspecStore(f"file://{tmp_path}/backup") if kind == "files" else LocalStore(f"{tmp_path}/backup")


def copied(store: ObjectStore) -> FsspecStore:
    """The same backup in a place of its own."""
    copy = memory_store()
    for stored in store.list():
        copy.put(stored.name, store.blocks(stored.name))
    return copy


def fill(log: FileLog, frames: int, size: int = 3, word: bytes = b"event") -> None:
    """So many appends of `size` events each."""
    first = log.head().position + 1
    for frame in range(frames):
        at = first + frame * size
        log.append([event(b"%s %d" % (word, at + k)) for k in range(size)], dedupe=False)


def sealed_and_open(folder: Path) -> FileLog:
    """A log of two segments and an open journal: 3 × 12 events in frames of three."""
    log = FileLog(folder, create=True)
    for _ in range(2):
        fill(log, 4)
        seal_all(log)
    fill(log, 4)
    return log


def restored(
    store: ObjectStore, to: Path, point: Point | None = None, **options: object
) -> tuple[Restored, list[Event]]:
    """Restore, verify once more, and what the log says."""
    done = restore(store, str(to), point=point, **options)  # type: ignore[arg-type]
    verify(str(to), done.log_id)
    with FileLog(to) as log:
        return done, content(log)


# Kill at every step only in the full gate; else at some, so that every kind of step is met.
EVERY_STEP = [pytest.param(1, marks=pytest.mark.slow), 4]


class Killed(BaseException):
    """The process ended here, for all the code under test can tell."""


class FailingStore:
    """A store in which the nth change kills the process, before or after it took effect."""

    def __init__(self, store: ObjectStore, at: int, *, after: bool) -> None:
        self.store, self.at, self.after, self.calls = store, at, after, 0

    @property
    def url(self) -> str:
        return self.store.url

    def _call(self, change: Callable[[], T]) -> T:
        self.calls += 1
        if self.calls == self.at and not self.after:
            raise Killed
        result = change()
        if self.calls == self.at:
            raise Killed
        return result

    def put(self, name: str, blocks: Iterable[bytes]) -> bool:
        return self._call(lambda: self.store.put(name, blocks))

    def sync(self, names: Iterable[str]) -> None:
        self._call(lambda: self.store.sync(names))

    def delete(self, name: str) -> None:
        self._call(lambda: self.store.delete(name))

    def blocks(self, name: str) -> Iterator[bytes]:
        return self.store.blocks(name)

    def list(self, prefix: str = "") -> Iterator[Stored]:
        return self.store.list(prefix)

"""Backups while others append, seal, compact, forget and back up: each snapshot is one moment of the log."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from backup_kit import FailingStore, fill, make_store, memory_store, restored, sealed_and_open
from log_kit import content, event, seal_all

from session_mgmt_mcp.core.backup import create as create_module
from session_mgmt_mcp.core.backup import running
from session_mgmt_mcp.core.backup.check import check
from session_mgmt_mcp.core.backup.create import create
from session_mgmt_mcp.core.backup.layout import IDENTITY, identify, list_snapshots
from session_mgmt_mcp.core.backup.purge import purge
from session_mgmt_mcp.core.backup.retain import Keep
from session_mgmt_mcp.core.backup.running import adding, alone
from session_mgmt_mcp.core.envelope import now_us
from session_mgmt_mcp.core.log.forget import forget, tombstones
from session_mgmt_mcp.core.log.log import FileLog
from session_mgmt_mcp.core.log.seal import seal

pytestmark = pytest.mark.slow


class _Workers:
    """Threads that do something until they are stopped; an error in one fails the test."""

    def __init__(self, *actions: Callable[[], None]) -> None:
        self._stop, self._errors = threading.Event(), list[BaseException]()
        self._threads = [threading.Thread(target=self._run, args=(action,)) for action in actions]

    def _run(self, action: Callable[[], None]) -> None:
        try:
            while not self._stop.is_set():
                action()
        except BaseException as error:  # noqa: BLE001 - raised in the test's own thread
            self._errors.append(error)

    def __enter__(self) -> None:
        for thread in self._threads:
            thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        if self._errors:
            raise self._errors[0]


@pytest.mark.parametrize("kind", ["local", pytest.param("memory", marks=pytest.mark.slow)])
def test_four_writers_and_a_sealer_do_not_disturb_a_backup(tmp_path: Path, kind: str) -> None:
    store = make_store(kind, tmp_path)
    folder = tmp_path / "data"
    with FileLog(folder, create=True) as log:
        writers = [FileLog(folder) for _ in range(4)]
        acknowledged: list[tuple[int, int]] = []  # (of backup, position acknowledged before it began)
        with _Workers(*(lambda w=w: fill(w, 1) for w in writers), lambda: seal_all(log)):
            for number in range(6):
                with FileLog(folder) as mine:
                    [receipt] = mine.append([event(b"before backup %d" % number)])
                    acknowledged.append((create(mine, store).position, receipt.position))
        for writer in writers:
            writer.close()
        everything = content(log)
    assert all(position >= before for position, before in acknowledged)
    found = list_snapshots(store)
    assert len(found) == 6
    for name in (found[0], found[-1]):
        done, events = restored(store, tmp_path / name.id, snapshot=name.id)
        assert events == everything[: done.position]


def test_a_log_that_is_sealed_in_the_middle_of_a_backup_is_backed_up_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = memory_store()
    with sealed_and_open(tmp_path / "data") as log:

        def sealed_first(folder: str) -> object:
            manifest = original(folder)
            fill(log, 1)
            seal_all(log)  # the journals that were opened have lost their names by now
            return manifest

        original = create_module.load_manifest
        monkeypatch.setattr(create_module, "load_manifest", sealed_first)
        assert create(log, store).position == 39
        _, events = restored(store, tmp_path / "back")
        assert events == content(log)


def test_segments_that_vanish_during_a_backup_are_looked_for_in_the_next_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = memory_store()
    with sealed_and_open(tmp_path / "data") as log:
        calls: list[int] = []

        def forgotten_first(folder: str) -> object:
            manifest = original(folder)
            if not calls:
                calls.append(1)
                forget(log, [2], lambda _: ())
            return manifest

        original = create_module.load_manifest
        monkeypatch.setattr(create_module, "load_manifest", forgotten_first)
        create(log, store)
        _, events = restored(store, tmp_path / "back")
        assert events == content(log)
        assert events[1].payload is None


def test_a_payload_forgotten_while_its_file_is_copied_is_not_in_the_backup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = memory_store()
    with sealed_and_open(tmp_path / "data") as log:

        def forget_then(*args: object) -> object:
            forget(log, [2], lambda _: ())
            purge(store, tombstones(log))  # leaves it to the backup that is at work
            return original(*args)

        original = create_module.put_snapshot
        monkeypatch.setattr(create_module, "put_snapshot", forget_then)
        assert create(log, store).purged == 1
        monkeypatch.undo()
        _, events = restored(store, tmp_path / "back")
        assert events[1].payload is None
        assert check(store).position == 36


def test_nobody_removes_objects_while_a_backup_is_made(tmp_path: Path) -> None:
    store = memory_store()
    with sealed_and_open(tmp_path / "data") as log:
        create(log, store)
        with adding(store):
            with alone(store) as is_alone:
                assert not is_alone
            forget(log, [2], lambda _: ())
            assert purge(store, tombstones(log)).left
            fill(log, 1)
            done = create(log, store, keep=Keep(1, None))
            assert (done.dropped, done.left) == (0, True)
        with alone(store) as is_alone:
            assert is_alone
        assert list(store.list("running")) == []
        assert purge(store, tombstones(log)).snapshots == 1


def test_marks_of_the_dead_count_no_longer(tmp_path: Path) -> None:
    store = memory_store()
    done = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True
    )
    child = int(done.stdout)
    machine = running._machine()
    elsewhere = "0" * 16
    yesterday = now_us() - running.GRACE_US - 1
    store.put(f"running/{now_us():020}-backup-{machine}-{child}-00000000", [b"\n"])  # was killed here
    store.put(
        f"running/{now_us():020}-backup-{machine}-{os.getpid()}-00000000", [b"\n"]
    )  # had this process' id
    store.put(f"running/{yesterday:020}-backup-{elsewhere}-1-00000000", [b"\n"])
    before_boot = machine[:8] + f"{int(machine[8:12], 16) ^ 1:04x}" + machine[12:]
    # the power went
    store.put(f"running/{now_us():020}-backup-{before_boot}-{os.getpid()}-00000000", [b"\n"])
    with alone(store) as is_alone:
        assert is_alone
    store.put(f"running/{now_us():020}-backup-{elsewhere}-1-00000000", [b"\n"])
    with alone(store) as is_alone:
        assert not is_alone


@pytest.mark.parametrize(
    "kind", ["local", "files"]
)  # readers of one file in fsspec's memory share its cursor
def test_backups_at_once_all_succeed(tmp_path: Path, kind: str) -> None:
    store = make_store(kind, tmp_path)
    with sealed_and_open(tmp_path / "data") as log:
        threads = [threading.Thread(target=create, args=(log, store)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert list_snapshots(store)
        for found in list_snapshots(store):
            assert check(store, found.id).chain == log.head().chain.hex()
        assert seal(log.folder, log.log_id).last == 24


def test_a_snapshot_that_is_purged_while_it_is_restored_is_restored_purged(tmp_path: Path) -> None:
    class PurgedMeanwhile(FailingStore):
        """Purges before the first object is read."""

        def blocks(self, name: str) -> Iterator[bytes]:
            if name.startswith("objects/") and not self.calls:
                self.calls = 1
                forget(log, [2], lambda _: ())
                assert purge(self.store, tombstones(log)).snapshots == 1
            return super().blocks(name)

    store = memory_store()
    with sealed_and_open(tmp_path / "data") as log:
        create(log, store)
        _, events = restored(PurgedMeanwhile(store, 0, after=False), tmp_path / "back")
    assert [e.position for e in events if e.payload is None] == [2]


def test_a_place_that_another_backup_claims_this_moment_is_no_foreign_one(tmp_path: Path) -> None:
    class Late(FailingStore):
        """Made between the look for it and the look around."""

        def blocks(self, name: str) -> Iterator[bytes]:
            if name == IDENTITY and not self.calls:
                self.calls = 1
                raise FileNotFoundError(name)
            return super().blocks(name)

    store = memory_store()
    with sealed_and_open(tmp_path / "data") as log:
        create(log, store)
        found = identify(Late(store, 0, after=False))
        assert found is not None and found.log_id == log.log_id


def test_a_mark_of_this_process_that_has_not_its_name_yet_stays() -> None:
    store = memory_store()
    with adding(store):
        (mark,) = store.list("running")
        unfinished = f"{mark.name}.00ff.tmp"
        store.put(unfinished, [b"\n"])
        with alone(store, wait_s=0.0) as is_alone:
            assert not is_alone
        assert unfinished in [stored.name for stored in store.list("running")]

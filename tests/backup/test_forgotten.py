"""What was forgotten stays forgotten: in the backup, and in whatever is restored from it."""

import subprocess
import sys
from pathlib import Path

import pytest
from backup_kit import (
    EVERY_STEP,
    FailingStore,
    Killed,
    copied,
    fill,
    make_store,
    memory_store,
    restored,
    sealed_and_open,
)
from log_kit import content, event, files_with, seal_all

from session_mgmt_mcp.core.backup.check import check
from session_mgmt_mcp.core.backup.create import create
from session_mgmt_mcp.core.backup.layout import list_snapshots
from session_mgmt_mcp.core.backup.purge import purge
from session_mgmt_mcp.core.backup.restore import Point
from session_mgmt_mcp.core.backup.store import ObjectStore
from session_mgmt_mcp.core.envelope import NewEvent
from session_mgmt_mcp.core.log.forget import forget, tombstones
from session_mgmt_mcp.core.log.log import FileLog

SECRET = b"hunter2-the-secret"


def _with_secrets(folder: Path) -> FileLog:
    """36 events, then a secret in a segment (37) and one in the open journal (38)."""
    log = sealed_and_open(folder)
    log.append([event(b"in a segment " + SECRET)])
    seal_all(log)
    log.append([event(b"in the journal " + SECRET)])
    return log


def _forget(log: FileLog, *positions: int) -> None:
    forget(log, positions, lambda _: (), "a test")


def _holding(store: ObjectStore, scratch: Path) -> list[str]:
    """Objects that hold the secret, Parquet pages unpacked."""
    scratch.mkdir()
    for number, stored in enumerate(store.list()):
        raw = b"".join(store.blocks(stored.name))
        suffix = ".parquet" if raw[:4] == b"PAR1" else ".bin"
        (scratch / f"{number}{suffix}").write_bytes(raw)
    return files_with(scratch, [SECRET])


@pytest.mark.parametrize("kind", ["local", "memory"])
def test_a_purge_leaves_no_byte_of_it_in_any_snapshot(tmp_path: Path, kind: str) -> None:
    store = make_store(kind, tmp_path)
    with _with_secrets(tmp_path / "data") as log:
        create(log, store)
        fill(log, 1)
        create(log, store)
        before = content(log)
        assert len(_holding(store, tmp_path / "before")) == 3  # a segment, and the journal at two moments
        _forget(log, 37, 38)
        assert purge(store, tombstones(log)).snapshots == 2
        assert _holding(store, tmp_path / "after") == []
        assert purge(store, tombstones(log))[:2] == (0, 0)
    for found in list_snapshots(store):
        assert check(store, found.id).position == found.position
        _, events = restored(store, tmp_path / found.id, snapshot=found.id)
        for event_, old in zip(events[: found.position], before, strict=False):
            assert event_ == (old if old.position not in (37, 38) else old._replace(payload=None))
        assert files_with(tmp_path / found.id, [SECRET]) == []


def test_an_older_backup_restored_beside_the_live_log_has_no_byte_of_it(tmp_path: Path) -> None:
    store = memory_store()
    with _with_secrets(tmp_path / "data") as log:
        create(log, store)
        secrets = [NewEvent(e.event_id, e.envelope, e.payload or b"") for e in content(log)[36:]]
        _forget(log, 37, 38)
        done, events = restored(store, tmp_path / "back", tombstones=tombstones(log))
    assert done.position == 38
    assert [e.payload for e in events[36:38]] == [None, None]
    assert files_with(tmp_path / "back", [SECRET]) == []
    with FileLog(tmp_path / "back") as back:
        assert [r.appended for r in back.append(secrets)] == [False, False]


@pytest.mark.parametrize("position", [37, 38])
def test_a_cut_out_of_a_purged_backup_verifies(tmp_path: Path, position: int) -> None:
    store = memory_store()
    with _with_secrets(tmp_path / "data") as log:
        create(log, store)
        _forget(log, 37, 38)
        create(log, store)
    _, events = restored(store, tmp_path / "fork", Point(position=position))
    assert [e.position for e in events if e.payload is None] == list(range(37, position + 1))
    assert files_with(tmp_path / "fork", [SECRET]) == []


def test_the_next_backup_takes_out_what_was_forgotten_meanwhile(tmp_path: Path) -> None:
    store = memory_store()
    with _with_secrets(tmp_path / "data") as log:
        create(log, store)
        _forget(log, 37, 38)
        assert create(log, store).purged == 1
    assert _holding(store, tmp_path / "after") == []


@pytest.mark.parametrize("stride", EVERY_STEP)
@pytest.mark.parametrize("after", [False, True])
def test_a_purge_killed_at_any_step_is_finished_by_the_next(tmp_path: Path, after: bool, stride: int) -> None:
    backup = memory_store()
    with _with_secrets(tmp_path / "data") as log:
        create(log, backup)
        _forget(log, 37, 38)
        for step in range(1, 60, stride):
            store = copied(backup)
            try:
                purge(FailingStore(store, step, after=after), tombstones(log))
            except Killed:
                check(store)
                purge(store, tombstones(log))
                check(store)
                assert _holding(store, tmp_path / f"after-{step}") == []
                continue
            break
        else:
            pytest.fail("the purge never got through")
    assert step > 8


def test_what_an_interrupted_backup_left_does_not_keep_the_payload(tmp_path: Path) -> None:
    with _with_secrets(tmp_path / "data") as log:
        for step in range(3, 20):
            store = memory_store()
            with pytest.raises(Killed):
                create(log, FailingStore(store, step, after=True))
            if _holding(store, tmp_path / f"step-{step}"):
                break
        assert list_snapshots(store) == []
        _forget(log, 37, 38)
        purge(store, tombstones(log))
    assert _holding(store, tmp_path / "after") == []


def test_rewritten_files_that_a_killed_purge_left_are_removed_by_the_next(tmp_path: Path) -> None:
    store = memory_store()
    ended = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True
    )
    with _with_secrets(tmp_path / "data") as log:
        create(log, store)
        left = Path(log.folder) / "views" / f"session-mgmt-purge-{int(ended.stdout)}-ab12"
        left.mkdir()
        (left / "segment").write_bytes(SECRET)
        _forget(log, 37, 38)
        create(log, store)
        assert list((Path(log.folder) / "views").iterdir()) == []


def test_a_spooled_event_that_was_forgotten_leaves_the_backup(tmp_path: Path) -> None:
    store = memory_store()
    with _with_secrets(tmp_path / "data") as log:
        spooled = content(log)[36]
        path = Path(log.folder) / "spool" / f"{spooled.event_id.hex()}.event"
        path.write_bytes(b"\x04\0\0\0spooled " + SECRET)
        create(log, store)
        path.unlink()
        _forget(log, 37, 38)
        purge(store, tombstones(log))
    assert _holding(store, tmp_path / "after") == []


def test_a_purge_leaves_another_histories_events_alone(tmp_path: Path) -> None:
    store = memory_store()
    with _with_secrets(tmp_path / "data") as log:
        create(log, store)
        restored(store, tmp_path / "copy", Point(position=36))
        with FileLog(tmp_path / "copy") as copy:
            fill(copy, 1)
            _forget(copy, 38)  # another event than the 38th of the log
            purge(store, tombstones(copy))
        _, events = restored(store, tmp_path / "back")
        assert events[:38] == content(log)

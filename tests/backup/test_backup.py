"""What a backup promises: everything durable is in it, nothing is copied twice, nobody else's place is touched."""

import os
from pathlib import Path

import pytest
from backup_kit import (
    EVERY_STEP,
    FailingStore,
    Killed,
    fill,
    make_store,
    memory_store,
    restored,
    sealed_and_open,
)
from log_kit import content, seal_all, snapshot

from session_mgmt_mcp.core.backup.check import check
from session_mgmt_mcp.core.backup.create import create
from session_mgmt_mcp.core.backup.layout import list_snapshots
from session_mgmt_mcp.core.backup.local import LocalStore
from session_mgmt_mcp.core.backup.retain import Keep
from session_mgmt_mcp.core.errors import InputError, LogCorruptError
from session_mgmt_mcp.core.log.compact import compact
from session_mgmt_mcp.core.log.log import FileLog

KINDS = ["local", "memory", "files"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_backup_restores_to_the_same_log(tmp_path: Path, kind: str) -> None:
    store = make_store(kind, tmp_path)
    with sealed_and_open(tmp_path / "data") as log:
        done = create(log, store)
        assert (done.position, done.chain) == (log.head().position, log.head().chain.hex())
        back, events = restored(store, tmp_path / "back")
        assert events == content(log)
        with FileLog(tmp_path / "back") as again:
            assert (again.log_id, again.head()) == (log.log_id, log.head())
    assert back.forked_from == ""


@pytest.mark.parametrize("kind", KINDS)
def test_the_next_backup_copies_only_what_is_new(tmp_path: Path, kind: str) -> None:
    store = make_store(kind, tmp_path)
    with sealed_and_open(tmp_path / "data") as log:
        first = create(log, store)
        assert first.copied_objects == 5  # two segments with their ids, one journal
        fill(log, 1)
        assert create(log, store).copied_objects == 1  # the journal
        seal_all(log)
        assert create(log, store).copied_objects == 2  # the segment it became, and its ids
        last = create(log, store)
    assert (last.new, last.copied_objects) == (False, 0)
    assert [found.position for found in list_snapshots(store)] == [36, 39, 39]


def test_after_a_compaction_only_the_merged_segment_is_copied(tmp_path: Path) -> None:
    store = memory_store()
    with FileLog(tmp_path / "data", create=True) as log:
        for _ in range(8):
            fill(log, 2)
            seal_all(log)
        fill(log, 1)
        create(log, store)  # its snapshot ends in a journal
        seal_all(log)
        assert len(compact(log.folder, log.log_id).segments) < 4
        done = create(log, store, keep=Keep(1, None))
        assert (done.new, done.dropped, done.copied_objects) == (True, 1, len(list(store.list("objects"))))
        _, events = restored(store, tmp_path / "back")
        assert events == content(log)


def test_an_object_that_was_removed_is_brought_again(tmp_path: Path) -> None:
    store = memory_store()
    with sealed_and_open(tmp_path / "data") as log:
        create(log, store)
        for stored in list(store.list("objects")):
            store.delete(stored.name)
        assert create(log, store).copied_objects == 5
        assert check(store).position == 36


def test_an_empty_log_is_backed_up_and_restored(tmp_path: Path) -> None:
    store = memory_store()
    with FileLog(tmp_path / "data", create=True) as log:
        assert create(log, store).position == 0
    done, events = restored(store, tmp_path / "back")
    assert (done.position, events) == (0, [])


def test_what_hooks_left_in_the_spool_is_in_the_backup(tmp_path: Path) -> None:
    store = memory_store()
    with sealed_and_open(tmp_path / "data") as log:
        path = Path(log.folder) / "spool" / f"{'ab' * 16}.event"
        path.write_bytes(b"\x04\0\0\0spooled")
        create(log, store)
    restored(store, tmp_path / "back")
    assert (tmp_path / "back" / "spool" / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_another_logs_backup_is_refused_untouched(tmp_path: Path, kind: str) -> None:
    store = make_store(kind, tmp_path)
    with sealed_and_open(tmp_path / "data") as log:
        create(log, store)
    before = [(o, b"".join(store.blocks(o.name))) for o in store.list()]
    with sealed_and_open(tmp_path / "other") as other, pytest.raises(InputError, match="another log"):
        create(other, store)
    assert [(o, b"".join(store.blocks(o.name))) for o in store.list()] == before


def test_a_folder_with_other_things_is_refused_untouched(tmp_path: Path) -> None:
    place = tmp_path / "backup"
    place.mkdir()
    (place / "letter.txt").write_text("dear")
    with sealed_and_open(tmp_path / "data") as log, pytest.raises(InputError, match=r"letter\.txt"):
        create(log, LocalStore(str(place)))
    assert snapshot(place) == {"letter.txt": b"dear"}


@pytest.mark.parametrize("longer", [False, True])
def test_a_copy_that_went_its_own_way_is_refused(tmp_path: Path, longer: bool) -> None:
    store = memory_store()
    with sealed_and_open(tmp_path / "data") as log:
        create(log, store)
        restored(store, tmp_path / "copy")
        fill(log, 2)
        create(log, store)
    with FileLog(tmp_path / "copy") as copy:
        fill(copy, 3 if longer else 1, word=b"other")
        with pytest.raises(InputError, match="another history"):
            create(copy, store)
    assert [found.position for found in list_snapshots(store)] == [36, 42]


def test_a_rotten_segment_is_not_backed_up(tmp_path: Path) -> None:
    store = memory_store()
    with sealed_and_open(tmp_path / "data") as log:
        path = min((tmp_path / "data" / "segments").glob("*.parquet"))
        raw = bytearray(path.read_bytes())
        raw[len(raw) // 2] ^= 1
        os.chmod(path, 0o600)
        path.write_bytes(raw)
        with pytest.raises(LogCorruptError, match=path.name):
            create(log, store)
    assert list_snapshots(store) == []


def test_a_missing_segment_is_named(tmp_path: Path) -> None:
    with sealed_and_open(tmp_path / "data") as log:
        path = min((tmp_path / "data" / "segments").glob("*.parquet"))
        path.unlink()
        with pytest.raises(LogCorruptError, match=path.name):
            create(log, memory_store())


@pytest.mark.parametrize("stride", EVERY_STEP)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("after", [False, True])
def test_a_backup_killed_at_any_step_is_finished_by_the_next(
    tmp_path: Path, kind: str, after: bool, stride: int
) -> None:
    with sealed_and_open(tmp_path / "data") as log:
        for step in range(1, 60, stride):
            store = make_store(kind, tmp_path / str(step))
            failing = FailingStore(store, step, after=after)
            try:
                create(log, failing)
            except Killed:
                objects = {o.name for o in store.list("objects") if not o.name.endswith(".tmp")}
                done = create(log, store)
                assert done.copied_objects == 5 - len(objects)
                assert check(store).chain == log.head().chain.hex()
                continue
            break
        else:
            pytest.fail("the backup never got through")
    assert step > 10


def test_an_object_that_was_left_half_written_is_copied_again(tmp_path: Path) -> None:
    store = LocalStore(str(tmp_path / "backup"))
    with sealed_and_open(tmp_path / "data") as log:
        with pytest.raises(Killed):
            create(log, FailingStore(store, 5, after=True))
        whole = next(path for path in (tmp_path / "backup" / "objects").rglob("*") if path.is_file())
        whole.write_bytes(whole.read_bytes()[:-1] + b"?")
        create(log, store)
        assert check(store).position == log.head().position


@pytest.mark.parametrize("kind", KINDS)
def test_every_flipped_byte_of_a_backup_is_found(tmp_path: Path, kind: str) -> None:
    store = make_store(kind, tmp_path)
    with sealed_and_open(tmp_path / "data") as log:
        create(log, store)
    names = [o.name for o in store.list() if not o.name.startswith("running/")]
    assert len(names) == 7
    for number, name in enumerate(names):
        raw = b"".join(store.blocks(name))
        for at in {0, len(raw) // 3, len(raw) - 1}:
            broken = bytearray(raw)
            broken[at] ^= 4
            store.delete(name)
            store.put(name, [bytes(broken)])
            with pytest.raises(LogCorruptError):
                check(store)
            with pytest.raises(LogCorruptError):
                restored(store, tmp_path / f"back-{number}-{at}")
            assert not (tmp_path / f"back-{number}-{at}").exists()
        store.delete(name)
        store.put(name, [raw])
    assert check(store).position == 36


def test_a_missing_object_is_found(tmp_path: Path) -> None:
    store = memory_store()
    with sealed_and_open(tmp_path / "data") as log:
        create(log, store)
    store.delete(next(o.name for o in store.list("objects")))
    with pytest.raises(LogCorruptError, match="missing"):
        check(store)
    with pytest.raises(LogCorruptError, match="missing"):
        restored(store, tmp_path / "back")


# -- retention ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_removed_unless_asked(tmp_path: Path, kind: str) -> None:
    store = make_store(kind, tmp_path)
    with sealed_and_open(tmp_path / "data") as log:
        for _ in range(4):
            fill(log, 1)
            create(log, store)
    assert len(list_snapshots(store)) == 4


@pytest.mark.parametrize("kind", KINDS)
def test_retention_keeps_what_the_kept_snapshots_need(tmp_path: Path, kind: str) -> None:
    store = make_store(kind, tmp_path)
    with sealed_and_open(tmp_path / "data") as log:
        for _ in range(4):
            fill(log, 1)
            create(log, store)
        seal_all(log)
        assert create(log, store, keep=Keep(2, None)).dropped == 3
        assert [found.position for found in list_snapshots(store)] == [48, 48]
        for found in list_snapshots(store):
            assert check(store, found.id).position == 48
        objects = [o for o in store.list("objects")]
        assert len(objects) == 7  # three segments with ids, and the last journal before it was sealed
        assert create(log, store, keep=Keep(None, 0)).dropped == 1
    restored(store, tmp_path / "back")


def test_retention_leaves_a_backup_that_is_being_made_its_objects(tmp_path: Path) -> None:
    store = memory_store()
    with sealed_and_open(tmp_path / "data") as log:
        create(log, store)
        fill(log, 1)
        with pytest.raises(Killed):
            create(log, FailingStore(store, 3, after=True))  # its mark stays: this process lives
        store.put(f"running/{2**60:020}-backup-{'0' * 16}-1-00000000", [b"\n"])  # of another machine
        fill(log, 1)
        assert create(log, store, keep=Keep(1, None)).dropped == 0
        assert len(list_snapshots(store)) == 2

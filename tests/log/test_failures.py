"""What fails while the log is used: syncs, full disks, locks, forks, boots, other systems, races of maintenance."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from log_kit import content, event, events, frames_of, journal_paths, payloads, seal_all, snapshot

from session_mgmt_mcp.adapters.claude_code import capture as hook
from session_mgmt_mcp.core.errors import AppendError, DataFolderError, InputError, LockTimeoutError
from session_mgmt_mcp.core.log import appender, durable, journals, spool
from session_mgmt_mcp.core.log import seal as sealing
from session_mgmt_mcp.core.log.log import FileLog
from session_mgmt_mcp.core.log.manifest import load_manifest, publish
from session_mgmt_mcp.core.log.seal import seal
from session_mgmt_mcp.core.log.verify import verify

HOOK = b'{"session_id":"s-1","hook_event_name":"PostToolUse","tool_use_id":"toolu_%d"}'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    FileLog(folder, create=True).close()
    return folder


def fail_once(code: int, real: Callable[..., object]) -> Callable[..., object]:
    left = [code]

    def call(*arguments: object) -> object:
        if left:
            raise OSError(left.pop(), os.strerror(code))
        return real(*arguments)

    return call


def in_child(action: Callable[[], object]) -> int:
    """The exit code of a forked child that does this: 0, or 1 where it raised."""
    pid = os.fork()
    if pid == 0:
        try:
            action()
        except BaseException:  # noqa: BLE001 - a child must never return into the test run
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


# -- failed writes and syncs -------------------------------------------------------------------------------------


def test_after_a_failed_sync_the_log_goes_on_in_a_new_file_of_the_same_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FileLog(folder) as log, FileLog(folder) as other:
        log.append(events(b"one"))
        other.append(events(b"two"))
        [path] = journal_paths(folder)
        old, salt = path.stat().st_ino, frames_of(path)[0].salt
        unsure = event(b"three")
        with monkeypatch.context() as patch:
            patch.setattr(appender, "sync_file", fail_once(errno.EIO, durable.sync_file))
            with pytest.raises(AppendError, match="durable"):
                log.append([unsure])
            assert other.append(events(b"four"))[0].position == 4
        header, _, frames = frames_of(path)
        assert path.stat().st_ino != old
        assert header.salt != salt
        assert [f.first for f in frames] == [1, 2, 3, 4]
        assert log.append([unsure])[0][:2] == (3, False)  # its frame read back: told again, it is there once
        assert log.append(events(b"five"))[0].position == 5
        assert payloads(other) == [b"one", b"two", b"three", b"four", b"five"]
        assert verify(log.folder, log.log_id).events == 5


def test_nobody_acknowledges_after_a_sync_of_the_same_journal_failed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel reports a failed write once a descriptor: a later sync that succeeds proves nothing."""
    with FileLog(folder) as log, FileLog(folder) as other:
        log.append(events(b"one"))
        other.append(events(b"two"))
        synced: list[int] = []

        def sync(fd: int) -> None:
            synced.append(fd)
            if len(synced) == 1:  # between the write of `log` and its sync, that of `other` fails
                with pytest.raises(AppendError, match="durable"):
                    other.append(events(b"lost?"))
            elif len(synced) == 2:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            durable.sync_file(fd)

        monkeypatch.setattr(appender, "sync_file", sync)
        with pytest.raises(AppendError, match="append again"):
            log.append(events(b"three"))
        monkeypatch.setattr(appender, "sync_file", durable.sync_file)
        assert log.append(events(b"four"))[0].position == 5
        assert verify(log.folder, log.log_id).events == 5


def test_an_append_that_another_made_durable_needs_no_sync_of_its_own(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FileLog(folder) as log, FileLog(folder) as other:
        log.append(events(b"one"))
        other.append(events(b"two"))
        synced: list[int] = []
        monkeypatch.setattr(appender, "sync_file", synced.append)
        assert log.append([]) == other.append([]) == []
        assert synced == []


def test_a_failed_sync_while_rolling_is_an_error_and_the_next_append_goes_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FileLog(folder) as log:
        log.append(events(b"one"))
        with monkeypatch.context() as patch:
            patch.setattr(appender, "sync_file", fail_once(errno.EIO, durable.sync_file))
            with pytest.raises(AppendError):
                log.roll()
        assert log.append(events(b"two"))[0].position == 2
        assert log.roll() == 2
        assert verify(log.folder, log.log_id).events == 2


def test_a_poisoned_journal_that_lost_durable_bytes_is_not_replaced(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from session_mgmt_mcp.core.errors import LogCorruptError

    with FileLog(folder) as log:
        for k in range(3):
            log.append(events(b"event %d" % k))
        monkeypatch.setattr(appender, "sync_file", fail_once(errno.EIO, durable.sync_file))
        with pytest.raises(AppendError):
            log.append(events(b"unsure"))
        [path] = journal_paths(folder)
        _, _, frames = frames_of(path)
        with path.open("r+b") as file:
            file.seek(frames[1].offset + 70)
            file.write(b"\xff\xff")
        before = snapshot(folder)
        with pytest.raises(LogCorruptError, match="position 2"):
            log.append(events(b"after"))
        assert snapshot(folder) == before


def test_a_full_disk_at_a_roll_is_an_error_and_later_appends_work(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FileLog(folder) as log:
        log.append(events(b"x" * (5 << 20)))
        with monkeypatch.context() as patch:
            patch.setattr(journals, "preallocate", fail_once(errno.ENOSPC, durable.preallocate))
            with pytest.raises(AppendError, match="No space left"):
                log.append(events(b"y" * (5 << 20)))
        assert not list((folder / "journal").glob("*.tmp"))
        assert log.append(events(b"z"))[0].position == 2
        assert log.append(events(b"y" * (5 << 20)))[0].position == 3
        assert verify(log.folder, log.log_id).events == 3


def test_a_short_write_is_taken_back_and_reported(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with FileLog(folder) as log:
        log.append(events(b"one"))
        real, calls = os.pwrite, []

        def short(fd: int, data: bytes, offset: int) -> int:
            calls.append(len(data))
            return real(fd, data[:10] if len(calls) == 1 else data, offset)

        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", short)
            with pytest.raises(AppendError, match="10 of"):
                log.append(events(b"two"))
        assert log.append(events(b"three"))[0].position == 2
        assert payloads(log) == [b"one", b"three"]
        assert not list((folder / "quarantine").iterdir())


def test_short_writes_of_a_new_journal_are_completed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwrite
    target = folder / "x"
    fd = os.open(target, os.O_RDWR | os.O_CREAT)
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: real(fd, data[:7], offset))
    durable.write_at(fd, b"0123456789" * 3, 5)
    os.close(fd)
    assert target.read_bytes() == bytes(5) + b"0123456789" * 3


def test_more_than_64_mib_is_refused_before_anything_is_written(folder: Path) -> None:
    with FileLog(folder) as log:
        log.append(events(b"one"))
        before = snapshot(folder)
        with pytest.raises(InputError, match="in parts"):
            log.append(events(b"x" * (64 << 20)))
        with pytest.raises(InputError, match="16 bytes, not 3"):
            log.append([event(b"x", event_id=b"abc")])
        assert snapshot(folder) == before
        assert log.append([]) == []
        assert log.append(events(b"two"))[0].position == 2


def test_a_frame_larger_than_a_journal_gets_a_journal_of_its_size(folder: Path) -> None:
    large = os.urandom(1 << 20) * 20
    with FileLog(folder) as log:
        log.append(events(large))  # also as the very first
        log.append(events(b"small"))
        log.append(events(large))
        assert [p.stat().st_size >> 20 for p in journal_paths(folder)] == [21, 21]
        assert payloads(log) == [large, b"small", large]
        seal_all(log)
        assert verify(log.folder, log.log_id).events == 3


# -- locks, spool, forks -----------------------------------------------------------------------------------------


def test_a_hook_that_cannot_get_the_lock_spools_and_its_event_is_drained_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hook, "LOCK_TIMEOUT_S", 0.01)
    held = journals.try_lock(str(folder / "append.lock"))
    assert held is not None
    hook.capture(str(folder), HOOK % 1)
    os.close(held)
    [path] = spool.spooled(str(folder))
    with FileLog(folder) as log:
        assert content(log) == []
        real = os.unlink
        monkeypatch.setattr(spool.os, "unlink", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):  # killed between append and unlink
            spool.drain(log)
        monkeypatch.setattr(spool.os, "unlink", real)
        assert spool.spooled(str(folder)) == [path]
        assert spool.drain(log) == (0, 0)
        assert spool.drain(log) == (0, 0)
        [found] = content(log)
        assert (found.payload, found.event_id.hex()) == (HOOK % 1, Path(path).stem)


def test_an_appender_says_which_lock_it_waited_for(folder: Path) -> None:
    held = journals.try_lock(str(folder / "append.lock"))
    assert held is not None
    with FileLog(folder) as log, pytest.raises(LockTimeoutError, match=r"append\.lock was held"):
        log.appender.append([], timeout_s=0.01)
    os.close(held)


def test_what_cannot_be_drained_is_kept_and_holds_up_nothing(folder: Path) -> None:
    good = event(b"good")
    from session_mgmt_mcp.core.envelope import encode_envelope

    envelope = encode_envelope(good.envelope)
    head = len(envelope).to_bytes(4, "little") + envelope
    base = folder / "spool"
    (base / ("0" * 32 + ".event")).write_bytes(head + b"x" * (64 << 20))
    (base / ("1" * 32 + ".event")).write_bytes(b"\xff" * 9)
    (base / "notes.event").write_bytes(head + b"x")
    (base / f"{good.event_id.hex()}.event").write_bytes(head + good.payload)
    with FileLog(folder) as log:
        assert spool.drain(log) == (1, 3)
        assert payloads(log) == [b"good"]
    assert sorted(p.name for p in base.iterdir()) == ["0" * 32 + ".bad", "1" * 32 + ".bad", "notes.bad"]


def test_a_hook_leaves_a_folder_that_is_not_ours_alone(tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir()
    (tmp_path / "thesis.tex").write_text("mine")
    before = snapshot(tmp_path)
    with pytest.raises(DataFolderError, match=r"holds thesis\.tex"):
        hook.capture(str(tmp_path), HOOK % 1)
    assert snapshot(tmp_path) == before


def test_a_forked_child_takes_its_own_lock_and_both_go_on(folder: Path) -> None:
    with FileLog(folder) as log:
        log.append(events(b"parent"))
        assert in_child(lambda: log.append(events(b"child"))) == 0
        assert log.append(events(b"parent again"))[0].position == 3
        # the parent's threads, and what they held, are not in the child
        with log.appender._thread_lock, log.appender._sync_lock:
            assert in_child(lambda: log.appender.append([], timeout_s=5)) == 0
        held = journals.try_lock(str(folder / "append.lock"))
        assert held is not None
        assert in_child(lambda: log.appender.append([], timeout_s=0.01)) == 1
        os.close(held)
        assert payloads(log) == [b"parent", b"child", b"parent again"]


def test_a_data_folder_that_was_removed_is_noticed_before_anything_is_acknowledged(
    folder: Path, tmp_path: Path
) -> None:
    with FileLog(folder) as log:
        log.append(events(b"one"))
        for path in sorted(folder.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        with pytest.raises(AppendError, match="start the program again"):
            log.append(events(b"two"))
        FileLog(folder, create=True).close()
        with pytest.raises(AppendError, match="start the program again"):
            log.append(events(b"two"))


# -- maintenance -------------------------------------------------------------------------------------------------


def test_of_two_sealers_one_publishes_and_both_end_with_the_same_segments(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FileLog(folder) as log:
        log.append(events(b"one", b"two"))
        log.roll()
        log_id = log.log_id
        real, raced = sealing.put_segment, []

        def overtaken(*arguments: object) -> object:
            entry = real(*arguments)  # type: ignore[arg-type]
            if not raced:
                raced.append(1)
                seal(str(folder), log_id)  # the other one, whole, before this one publishes
            return entry

        monkeypatch.setattr(sealing, "put_segment", overtaken)
        manifest = seal(str(folder), log_id)
        assert (manifest.version, len(manifest.segments), manifest.last) == (1, 1, 2)
        assert publish(str(folder), load_manifest(str(folder)), log_id, ()) is not None
        assert publish(str(folder), manifest, log_id, manifest.segments) is None


def test_a_reader_goes_on_while_the_journals_it_reads_are_sealed_away(folder: Path) -> None:
    with FileLog(folder) as log, FileLog(folder) as reader:
        for k in range(6):
            log.append(events(*(b"%d" % (10 * k + i) for i in range(10))))
            log.roll()
        batches = reader.read()
        found = next(batches)
        seal(log.folder, log.log_id)
        for batch in batches:
            found += batch
        assert [e.position for e in found] == list(range(1, 61))
        assert [e.payload for e in found] == [b"%d" % k for k in range(60)]
        assert reader.head() == log.head()


@pytest.mark.parametrize("step", ["put_segment", "publish", "sync_folder", "drop_old"])
def test_a_seal_that_dies_anywhere_is_finished_by_the_next(
    folder: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    with FileLog(folder) as log:
        log.append(events(b"one", b"two"))
        log.roll()
        log.append(events(b"three"))

        def dies(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        real = getattr(sealing, step)
        monkeypatch.setattr(sealing, step, dies)
        with pytest.raises(KeyboardInterrupt):
            seal(log.folder, log.log_id)
        monkeypatch.setattr(sealing, step, real)
        assert payloads(log) == [b"one", b"two", b"three"]
        assert seal(log.folder, log.log_id).last == 2
        assert len(journal_paths(folder)) == 1
        assert payloads(log) == [b"one", b"two", b"three"]
        assert verify(log.folder, log.log_id).events == 3


def test_an_id_stored_by_another_process_is_found_though_its_journal_was_sealed_meanwhile(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between listing the manifests and listing the journals, a sealer publishes and unlinks."""
    from session_mgmt_mcp.core.log import idindex

    known = event(b"known")
    with FileLog(folder) as log, FileLog(folder) as other:
        other.append([known])
        other.roll()
        real, raced = idindex.versions, []

        def overtaken(path: str) -> list[int]:
            found = real(path)
            if not raced:
                raced.append(1)
                seal(path, other.log_id)
            return found

        monkeypatch.setattr(idindex, "versions", overtaken)
        assert log.append([known]) == [(1, False, False)]

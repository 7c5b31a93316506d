"""What others find after a sync failed, its process died, a hint was deleted, or a folder is gone."""

import errno
import os
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from log_kit import content, events, frames_of, journal_paths, payloads, seal_all

from session_mgmt_mcp.adapters.claude_code import capture as hook
from session_mgmt_mcp.core.errors import AppendError, LockTimeoutError, LogCorruptError
from session_mgmt_mcp.core.log import appender, durable, journals, spool
from session_mgmt_mcp.core.log.frame import HEADER, ZEROS_BYTES, zeros_ahead
from session_mgmt_mcp.core.log.log import FileLog
from session_mgmt_mcp.core.log.verify import verify

HOOK = b'{"session_id":"s-1","hook_event_name":"PostToolUse","tool_use_id":"toolu_1"}'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A log of two events, and a third that a process wrote whose sync failed and which died before it could tell."""
    folder = tmp_path / "data"
    with FileLog(folder, create=True) as log:
        log.append(events(b"one"))
        log.append(events(b"two"))
    pid = os.fork()
    if pid == 0:
        appender.sync_file = lambda fd: os._exit(7)
        FileLog(folder).append(events(b"unsure"))
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    return folder


def fails(fd: int) -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_what_a_dead_process_may_have_failed_to_sync_is_written_again_before_the_next_acknowledgement(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its pages may count as written and be on no disk; a later sync that succeeds proves nothing of them."""
    [path] = journal_paths(folder)
    _, raw, frames = frames_of(path)
    unsure = raw[frames[2].offset : frames[2].end]
    done: list[tuple[int, bytes] | None] = []
    real = os.pwrite
    with FileLog(folder) as log, monkeypatch.context() as patch:
        patch.setattr(
            os, "pwrite", lambda fd, data, at: (done.append((at, bytes(data))), real(fd, data, at))[1]
        )
        patch.setattr(appender, "sync_file", lambda fd: (done.append(None), durable.sync_file(fd))[1])
        log.append(events(b"four"))
    assert (frames[2].offset, unsure) in done[: done.index(None)]
    with FileLog(folder) as log, monkeypatch.context() as patch:  # known to be on disk now: not once more
        done.clear()
        patch.setattr(
            os, "pwrite", lambda fd, data, at: (done.append((at, bytes(data))), real(fd, data, at))[1]
        )
        log.append(events(b"five"))
        assert len(done) == 1
        assert payloads(log) == [b"one", b"two", b"unsure", b"four", b"five"]


def test_recovery_writes_again_what_no_later_frame_says_is_on_disk(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "tail.shm").unlink()
    [path] = journal_paths(folder)
    _, raw, frames = frames_of(path)
    done: list[tuple[int, bytes]] = []
    real = os.pwrite
    with FileLog(folder) as log, monkeypatch.context() as patch:
        patch.setattr(
            os, "pwrite", lambda fd, data, at: (done.append((at, bytes(data))), real(fd, data, at))[1]
        )
        log.append([])
    assert (frames[2].offset, raw[frames[2].offset : frames[2].end]) in done
    assert all(at >= frames[2].offset for at, data in done if len(data) > 1)


def test_what_was_written_since_the_boot_and_reads_back_no_more_leaves_the_journal_poisoned(
    folder: Path,
) -> None:
    [path] = journal_paths(folder)
    header, _, frames = frames_of(path)
    with FileLog(folder) as other, path.open("r+b") as file:
        other.append([])  # has the journal open, as a process whose append is under way
        (folder / "tail.shm").write_bytes(hint_before_the_last_sync(folder, frames[1].end))
        file.seek(frames[2].offset)
        file.write(bytes(frames[2].end - frames[2].offset))
        file.flush()
        with FileLog(folder) as log:
            assert log.append(events(b"three"))[0].position == 3
            assert payloads(log) == [b"one", b"two", b"three"]
            assert verify(log.folder, log.origin).events == 3
        assert journals.poisoned_salt(str(folder)) == header.salt
        assert frames_of(path)[0].salt != header.salt
        assert other.append(events(b"four"))[0].position == 4


def hint_before_the_last_sync(folder: Path, durable_upto: int) -> bytes:
    """tail.shm as it was when no more than this was known to be on disk."""
    with FileLog(folder) as log:
        log.append([])
        log.appender.end = durable_upto
        log.appender.store_durable()
        return bytes(log.appender.shm[:])


def test_a_process_that_still_maps_a_deleted_hint_sees_that_a_sync_failed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FileLog(folder) as log:
        log.append(events(b"four"))
        synced: list[int] = []

        def sync(fd: int) -> None:
            synced.append(fd)
            if len(synced) == 1:  # between the write of `log` and its sync, that of another process fails
                (folder / "tail.shm").unlink()  # it makes another one
                with FileLog(folder) as other, pytest.raises(AppendError, match="Input/output error"):
                    other.append(events(b"lost?"))
            elif len(synced) == 2:
                fails(fd)

        monkeypatch.setattr(appender, "sync_file", sync)
        with pytest.raises(AppendError, match="append again"):
            log.append(events(b"five"))
        assert len(synced) == 2
        monkeypatch.setattr(appender, "sync_file", durable.sync_file)
        assert log.append(events(b"six"))[0].position == 6
        assert verify(log.folder, log.origin).events == 6


# -- files, threads, the lock ------------------------------------------------------------------------------------


def test_an_append_whose_log_is_closed_by_another_thread_is_still_made_durable(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, entered, go_on, got = FileLog(folder), threading.Event(), threading.Event(), []

    def sync(fd: int) -> None:
        entered.set()
        assert go_on.wait(30)
        durable.sync_file(fd)

    log.append(events(b"four"))
    fd = log.appender.fd
    monkeypatch.setattr(appender, "sync_file", sync)
    thread = threading.Thread(target=lambda: got.extend(log.append(events(b"five"))))
    thread.start()
    assert entered.wait(30)
    log.close()
    os.fstat(fd)  # still open
    go_on.set()
    thread.join(30)
    assert [r.position for r in got] == [5]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_the_lock_is_asked_for_again_within_an_eighth_of_the_time_waited(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, pauses = [100.0], []

    def sleep(seconds: float) -> None:
        pauses.append((seconds, now[0] - 100))
        now[0] += seconds

    held = journals.try_lock(str(folder / "append.lock"))
    assert held is not None
    monkeypatch.setattr(journals, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
    with FileLog(folder) as log, pytest.raises(LockTimeoutError, match="for 2 s"):
        log.appender.append([], timeout_s=2)
    os.close(held)
    assert all(pause <= min(max(waited / 8, 20e-6), 0.005) for pause, waited in pauses)
    assert 2 < now[0] - 100 < 2.01
    assert len(pauses) < 500


@pytest.mark.parametrize(
    ("offset", "size", "capacity", "zeros"),
    [
        (HEADER.size, 2000, 8 << 20, 0),  # within a block
        (ZEROS_BYTES - 100, 100, 8 << 20, ZEROS_BYTES),  # ends where the next begins
        (ZEROS_BYTES - 100, 300, 8 << 20, ZEROS_BYTES - 200),
        (ZEROS_BYTES - 100, 300, ZEROS_BYTES + 1000, 800),  # no further than the journal
        (ZEROS_BYTES - 100, ZEROS_BYTES, 8 << 20, 0),  # a large frame pays for its own blocks
    ],
)
def test_a_small_frame_that_enters_a_block_writes_it_to_its_end(
    offset: int, size: int, capacity: int, zeros: int
) -> None:
    assert zeros_ahead(offset, size, capacity) == zeros


def test_frames_beyond_zeros_written_ahead_are_found_without_a_hint(folder: Path) -> None:
    with FileLog(folder) as log:
        for k in range(300):
            log.append(events(b"%d " % k + b"x" * 1500), dedupe=False)
    (folder / "tail.shm").unlink()
    with FileLog(folder) as log:
        assert log.append(events(b"after"))[0].position == 304
        assert verify(log.folder, log.origin).events == 304
        assert not list((folder / "quarantine").iterdir())


# -- missing folders ---------------------------------------------------------------------------------------------


def test_a_missing_folder_of_journals_is_refused_with_what_was_lost_and_the_mend(folder: Path) -> None:
    with FileLog(folder) as log:
        seal_all(log)
    for path in journal_paths(folder):
        path.unlink()
    (folder / "journal").rmdir()
    with FileLog(folder) as log:
        for ask in (lambda: log.append(events(b"x")), log.head, lambda: content(log)):
            with pytest.raises(LogCorruptError, match=r"/journal is missing.*backup, or make that folder"):
                ask()
        hook.capture(str(folder), HOOK)  # keeps its event for later
        assert len(spool.spooled(str(folder))) == 1
        (folder / "journal").mkdir()  # the mend it named
        assert spool.drain(log) == (1, 0)
        assert payloads(log) == [b"one", b"two", b"unsure", HOOK]


def test_a_missing_folder_of_manifests_is_refused_with_the_mend(folder: Path) -> None:
    (folder / "manifest").rmdir()
    with pytest.raises(LogCorruptError, match=r"/manifest is missing.*restore it from a backup"):
        FileLog(folder)

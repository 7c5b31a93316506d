"""A healthy log is green whoever works on it meanwhile; what is missing, torn or forgotten by halves is red."""

import fcntl
import os
import shutil
import threading
from functools import partial
from pathlib import Path
from typing import Self

import msgspec
import pytest
from log_kit import content, event, events, journal_paths, seal_all
from verify_kit import check, make_log, parts_of

from session_mgmt_mcp.core.envelope import Envelope, NewEvent, uuid7
from session_mgmt_mcp.core.errors import (
    DataFolderError,
    ForgetUnfinishedError,
    LockTimeoutError,
    LogCorruptError,
)
from session_mgmt_mcp.core.events import PayloadForgotten
from session_mgmt_mcp.core.log import forget as forgetting
from session_mgmt_mcp.core.log import journal_check
from session_mgmt_mcp.core.log import verify as verifying
from session_mgmt_mcp.core.log.compact import compact
from session_mgmt_mcp.core.log.folder import Format, format_line, read_format, read_log_id
from session_mgmt_mcp.core.log.forget import forget
from session_mgmt_mcp.core.log.journals import try_lock
from session_mgmt_mcp.core.log.log import FileLog
from session_mgmt_mcp.core.log.manifest import load_manifest, publish
from session_mgmt_mcp.core.log.seal import put_segment
from session_mgmt_mcp.core.log.segment import SegmentTables, without_payloads
from session_mgmt_mcp.core.log.verify import verify

# -- what else is red --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_log(tmp_path_factory.mktemp("made") / "data")


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "data"))


@pytest.mark.parametrize("name", ["journal", "segments", "manifest"])
def test_a_missing_folder_is_named_with_the_mend(folder: Path, name: str) -> None:
    shutil.rmtree(folder / name)
    with pytest.raises(
        LogCorruptError, match=f"data/{name} is missing: restore the data folder from a backup"
    ):
        check(folder)


@pytest.mark.parametrize("suffix", [".parquet", ".ids"])
def test_a_missing_sealed_file_is_named(folder: Path, suffix: str) -> None:
    path = next(p for p in parts_of(folder) if p.suffix == suffix)
    path.unlink()
    with pytest.raises(LogCorruptError, match=rf"{path.name} is missing; restore it from a backup"):
        check(folder)


def test_a_missing_closed_journal_leaves_a_gap_that_is_named(folder: Path) -> None:
    journals = journal_paths(folder)
    journals[1].unlink()
    with pytest.raises(LogCorruptError, match=rf"{journals[2].name} does not continue the log at position 6"):
        check(folder)


def test_a_journal_cut_before_its_closing_frame_is_named(folder: Path) -> None:
    path = journal_paths(folder)[1]
    path.write_bytes(path.read_bytes().rstrip(b"\0")[:-64] + bytes(300))
    with pytest.raises(LogCorruptError, match=rf"{path.name} is damaged .* before its closing frame"):
        check(folder)


def test_a_torn_append_is_red_until_the_next_append_has_put_it_aside(folder: Path) -> None:
    path = journal_paths(folder)[-1]
    raw = path.read_bytes().rstrip(b"\0")
    path.write_bytes(raw + path.read_bytes()[32:36] + b"torn" + bytes(300))
    message = rf"{path.name}: 8 bytes after the last whole frame, at byte {len(raw)} \(position 10\), are no frame.*"
    with pytest.raises(LogCorruptError, match=message + "the next append moves them to quarantine/"):
        check(folder)
    with FileLog(folder) as log:
        log.append([])
        assert check(folder).events == 9


def test_a_journal_of_another_log_is_refused(folder: Path, tmp_path: Path) -> None:
    with FileLog(tmp_path / "other", create=True) as other:
        other.append(events(b"foreign"))
    [path] = journal_paths(tmp_path / "other")
    target = journal_paths(folder)[-1]
    target.unlink()
    shutil.copy(path, target)
    with pytest.raises(LogCorruptError, match=f"{target.name}: its header is of another position or log"):
        check(folder)


def test_a_sealed_journal_with_other_history_than_its_segment_is_named(folder: Path, tmp_path: Path) -> None:
    """Whole in itself, so nothing but the segments can tell."""
    twin = tmp_path / "twin"
    twin.mkdir()
    for name in ("journal", "segments", "manifest", "quarantine", "spool", "views"):
        (twin / name).mkdir()
    shutil.copy(folder / "FORMAT.json", twin)
    with FileLog(twin) as log:  # the same log id, another history
        log.append(events(*(b"%d" % k for k in range(5))))
        log.roll()
    made = journal_paths(twin)[0]
    (folder / "journal" / made.name).write_bytes(made.read_bytes().rstrip(b"\0") + bytes(200))
    with pytest.raises(LogCorruptError, match=f"{made.name} is not what was sealed at position 5"):
        check(folder)


def test_the_id_of_another_log_is_refused(folder: Path) -> None:
    with pytest.raises(LogCorruptError, match=r"FORMAT\.json is of log"):
        verify(str(folder), "0" * 32)


def test_a_gap_among_the_manifests_that_are_kept_is_red(folder: Path) -> None:
    sorted((folder / "manifest").iterdir())[1].unlink()
    with pytest.raises(LogCorruptError, match="lacks a version before"):
        check(folder)


def test_a_file_that_cannot_be_read_is_no_damage(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str) -> str:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(verifying, "sha256_of", refuse)
    with pytest.raises(DataFolderError, match=r"cannot read .*\.parquet: Permission denied; mend"):
        check(folder)


# -- what was forgotten ------------------------------------------------------------------------------------------


def test_a_payload_gone_without_a_word_is_red(folder: Path) -> None:
    """Everything else fits: the segment was written anew and published as forgetting does it."""
    manifest = load_manifest(str(folder))
    entry = manifest.segments[0]
    tables = SegmentTables([f"{folder}/segments/{entry.file}"], partial(without_payloads, positions=[3]))
    new = put_segment(str(folder), tables, bytes.fromhex(entry.chain_before), bytes.fromhex(entry.chain))
    assert publish(str(folder), manifest, manifest.log_id, (new, *manifest.segments[1:]))
    with pytest.raises(
        LogCorruptError, match="payload of position 3 is gone, and nothing says that it was forgotten"
    ):
        check(folder)


def test_a_payload_that_is_said_to_be_forgotten_and_is_there_is_red_until_it_is_gone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FileLog(folder) as log:
        with monkeypatch.context() as patch:
            patch.setattr(forgetting, "_remove", lambda *_: None)
            forget(log, [1, 3], lambda _: [])
        with pytest.raises(
            ForgetUnfinishedError, match="position 10 says that the payload of position 1 was forgotten"
        ):
            check(folder)
        assert forgetting.finish(log) == [1, 3]
    assert check(folder)[:2] == (10, 3)


def tombstone(version: int, payload: bytes) -> NewEvent:
    envelope = Envelope("session-mgmt/log", "PayloadForgotten", version, 1, 1, "user", "command")
    return NewEvent(uuid7(), envelope, payload)


def test_a_tombstone_for_what_does_not_exist_is_red(folder: Path) -> None:
    with FileLog(folder) as log:
        log.append([tombstone(2, msgspec.json.encode(PayloadForgotten(((99, 120),), (), ())))])
    with pytest.raises(LogCorruptError, match="position 10 forgets position 99, which does not exist"):
        check(folder)


def test_a_tombstone_that_says_nothing_is_red(folder: Path) -> None:
    with FileLog(folder) as log:
        log.append([tombstone(2, b"{}")])
    with pytest.raises(LogCorruptError, match="position 10 does not say what was forgotten"):
        check(folder)


def test_a_tombstone_of_version_1_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with FileLog(tmp_path / "data", create=True) as log:
        log.append(events(b"a", b"b", b"c"))
        log.append([tombstone(1, b'{"positions":[1,3],"event_ids":["",""],"action_keys":[]}')])
        assert forgetting.finish(log) == [1, 3]
    assert check(tmp_path / "data")[:2] == (4, 2)


# -- green -------------------------------------------------------------------------------------------------------


def test_a_whole_log_is_green_and_counted(folder: Path) -> None:
    found = check(folder)
    with FileLog(folder) as log:
        assert found.chain == log.head().chain.hex()
        assert len(content(log)) == found.events == 9
    paths = parts_of(folder)
    assert (found.forgotten, found.segments, found.journals, found.manifests) == (1, 3, 3, 4)
    assert (found.files, found.bytes) == (len(paths), sum(path.stat().st_size for path in paths))


def test_an_empty_log_is_green(tmp_path: Path) -> None:
    FileLog(tmp_path / "data", create=True).close()
    assert check(tmp_path / "data")[:2] == (0, 0)


def test_progress_never_goes_back_and_reaches_the_end(folder: Path) -> None:
    told: list[tuple[int, int]] = []
    verify(str(folder), read_log_id(str(folder)), lambda at, of: told.append((at, of)))
    assert told == sorted(told)
    assert told[-1] == (9, 9)


def test_a_fork_begins_with_the_chain_of_its_origin(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    FileLog(folder, create=True).close()
    own = read_format(str(folder))
    (folder / "FORMAT.json").write_bytes(format_line(Format(own.log_id, "ab" * 16, own.created_at)))
    with FileLog(folder) as log:
        log.append(events(b"one"))
        seal_all(log)
        log.append(events(b"two"))
    assert check(folder).events == 2


def test_an_appender_that_holds_the_lock_for_long_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_check, "LOCK_TIMEOUT_S", 0.001)
    with (folder / "append.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(LockTimeoutError, match=r"append\.lock was held by another process"):
            check(folder)


def test_a_journal_that_is_sealed_away_meanwhile_is_no_loss(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its segment is there before it goes; no manifest is published between the listing and the reading."""
    with FileLog(folder) as log:
        log.append([])
    manifest = load_manifest(str(folder))
    sealed = journal_paths(folder)[0]
    real = verifying.tail

    def overtaken(path: str) -> tuple[list[tuple[int, str]], bytes]:
        found = real(path)
        sealed.unlink()
        return found

    monkeypatch.setattr(verifying, "tail", overtaken)
    assert check(folder)[:1] == (9,)
    assert load_manifest(str(folder)) == manifest


def test_a_log_that_is_sealed_and_compacted_while_it_is_read_is_green(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raced = []
    real = verifying.sha256_of

    def overtaken(path: str) -> str:
        if not raced:
            raced.append(1)
            with FileLog(folder) as log:
                for _ in range(4):
                    log.append(events(b"meanwhile"))
                    seal_all(log)
                manifest = compact(log.folder, log.log_id)
            for entry in manifest.segments:
                assert entry.file not in path
            for name in os.listdir(folder / "segments"):
                if not any(name in (e.file, e.ids) for e in manifest.segments):
                    (folder / "segments" / name).unlink()
        return real(path)

    monkeypatch.setattr(verifying, "sha256_of", overtaken)
    assert check(folder).events == 13


APPENDS = 40  # of each writer: the log stays one that can be read again and again


class Busy:
    """Four writers, until each has had its share, and a maintainer, until the block ends."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.over = threading.Event()
        self.rounds = 0
        self.errors: list[BaseException] = []
        works = [*(partial(self.write, k) for k in range(4)), self.maintain]
        self.threads = [threading.Thread(target=self.run, args=(work,)) for work in works]

    def __enter__(self) -> Self:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join()

    def run(self, work: "partial[None]") -> None:
        try:
            with FileLog(self.folder) as log:
                while not self.over.is_set():
                    work(log)
        except BaseException as error:
            self.errors.append(error)
            raise

    def write(self, index: int, log: FileLog) -> None:
        for _ in range(APPENDS):
            log.append([event(b"%d " % index + os.urandom(20_000)) for _ in range(3)])
        self.over.wait()

    def maintain(self, log: FileLog) -> None:
        lock = try_lock(log.folder + "/maintenance.lock")
        assert lock is not None
        try:
            seal_all(log)
            compact(log.folder, log.log_id)
            self.rounds += 1
        finally:
            os.close(lock)


def test_a_log_under_four_writers_a_sealer_and_a_compactor_is_green(folder: Path) -> None:
    with Busy(folder) as busy:
        seen = 0
        while (len(found := [check(folder) for _ in range(2)]) and busy.rounds < 6) and not busy.errors:
            assert seen <= found[0].events <= found[1].events
            seen = found[1].events
    assert busy.errors == []
    with FileLog(folder) as log:
        assert check(folder).events == log.head().position == len(content(log))

"""Following transcripts that grow."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from memory_log import MemoryLog

from session_mgmt_mcp.adapters.claude_code.importer import Bookmarks, ImportReport, import_files
from session_mgmt_mcp.core.errors import DataFolderError

S1 = "00000001-0000-4000-8000-000000000000"


def line(uuid: str) -> bytes:
    message = {"role": "user", "content": f"say {uuid}"}
    return json.dumps({"type": "user", "uuid": uuid, "sessionId": S1, "message": message}).encode() + b"\n"


@pytest.fixture
def log() -> MemoryLog:
    return MemoryLog()


@pytest.fixture
def transcript(tmp_path: Path) -> Path:
    path = tmp_path / "projects" / f"{S1}.jsonl"
    path.parent.mkdir()
    path.write_bytes(line("u-1") + line("u-2"))
    return path


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "bookmarks.json"


def follow(log: Any, transcript: Path, store: Path) -> ImportReport:
    return import_files([transcript], log, redact=lambda payload: payload, bookmarks=Bookmarks(store))


def append(path: Path, raw: bytes) -> None:
    with path.open("ab") as file:
        file.write(raw)


def test_only_what_was_added_is_read(log: MemoryLog, transcript: Path, store: Path) -> None:
    assert follow(log, transcript, store).read == 2
    assert follow(log, transcript, store).read == 0
    append(transcript, line("u-3"))
    report = follow(log, transcript, store)
    assert (report.read, report.appended) == (1, 1)


def test_a_torn_line_waits_until_it_is_whole(log: MemoryLog, transcript: Path, store: Path) -> None:
    append(transcript, line("u-3")[:20])
    report = follow(log, transcript, store)
    assert (report.read, report.appended, report.errors) == (2, 2, 0)
    append(transcript, line("u-3")[20:])
    report = follow(log, transcript, store)
    assert (report.read, report.appended, report.errors) == (1, 1, 0)


def test_a_whole_line_without_newline_is_taken_at_once_and_never_twice(
    log: MemoryLog, transcript: Path, store: Path
) -> None:
    append(transcript, line("u-3").rstrip(b"\n"))
    assert follow(log, transcript, store).appended == 3
    append(transcript, b"\n" + line("u-4"))
    report = follow(log, transcript, store)
    assert (report.read, report.appended, report.duplicates) == (2, 1, 1)


def test_a_malformed_line_that_is_whole_is_an_error_once(
    log: MemoryLog, transcript: Path, store: Path
) -> None:
    append(transcript, b"{broken}\n")
    report = follow(log, transcript, store)
    assert (report.errors, report.error_samples[0].line) == (1, 3)
    append(transcript, b"{broken again}\n")
    assert [sample.line for sample in follow(log, transcript, store).error_samples] == [4]


def test_a_rewritten_file_is_read_from_its_start(log: MemoryLog, transcript: Path, store: Path) -> None:
    follow(log, transcript, store)
    transcript.write_bytes(line("v-1") + line("v-2") + line("v-3"))  # the same inode
    assert follow(log, transcript, store).appended == 3


def test_a_replaced_file_is_read_from_its_start(log: MemoryLog, transcript: Path, store: Path) -> None:
    follow(log, transcript, store)
    other = transcript.with_suffix(".new")
    other.write_bytes(transcript.read_bytes() + line("u-3"))
    other.replace(transcript)
    report = follow(log, transcript, store)
    assert (report.read, report.appended, report.duplicates) == (3, 1, 2)


def test_a_file_that_shrank_is_read_from_its_start(log: MemoryLog, transcript: Path, store: Path) -> None:
    follow(log, transcript, store)
    os.truncate(transcript, len(line("u-1")))
    assert follow(log, transcript, store).read == 1


def test_nothing_is_bookmarked_before_its_append_is_acknowledged(
    log: MemoryLog, transcript: Path, store: Path
) -> None:
    class Refusing(MemoryLog):
        def append(self, events: Any, *, dedupe: bool = True) -> Any:
            if self.appends == 5:
                raise RuntimeError("not durable")
            return super().append(events, dedupe=dedupe)

    refusing = Refusing()
    append(transcript, b"".join(line(f"n-{n}") for n in range(2600)))
    with pytest.raises(RuntimeError, match="not durable"):
        follow(refusing, transcript, store)
    assert refusing.head().position == 2500
    assert (
        follow(log, transcript, store).read == 602
    )  # the first batch of 2,000 is bookmarked, half of one is not


def test_losing_the_bookmarks_costs_reading_and_nothing_else(
    log: MemoryLog, transcript: Path, store: Path
) -> None:
    follow(log, transcript, store)
    for damage in (b"", b"{", b'{"x": 4}', b"[]"):
        store.write_bytes(damage)
        report = follow(log, transcript, store)
        assert (report.read, report.duplicates) == (2, 2)
    assert store.stat().st_mode & 0o777 == 0o600


def test_files_that_are_gone_lose_their_bookmark_and_no_temporary_file_stays(
    log: MemoryLog, transcript: Path, store: Path
) -> None:
    follow(log, transcript, store)
    other = transcript.with_name("other.jsonl")
    transcript.rename(other)
    follow(log, other, store)
    assert list(json.loads(store.read_bytes())) == [str(other)]
    assert [path.name for path in store.parent.iterdir() if path.is_file()] == [store.name]


def test_bookmarks_that_cannot_be_written_are_an_error_that_names_them(
    log: MemoryLog, transcript: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataFolderError, match=r"gone/bookmarks\.json: cannot be written"):
        follow(log, transcript, tmp_path / "gone" / "bookmarks.json")
    assert log.head().position == 2

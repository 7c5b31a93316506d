"""Any changed byte in any file of the log is found, and the file is named."""

import os
import random
import shutil
from pathlib import Path

import pytest
from log_kit import events, journal_paths, seal_all
from verify_kit import check, make_log, parts_of, trim

from session_mgmt_mcp.core.errors import SessionMgmtError
from session_mgmt_mcp.core.log.folder import read_log_id
from session_mgmt_mcp.core.log.log import FileLog
from session_mgmt_mcp.core.log.seal import seal
from session_mgmt_mcp.core.log.verify import verify


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_log(tmp_path_factory.mktemp("made") / "data")


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "data"))


def pass_over(folder: Path, path: Path, offsets: range, rnd: random.Random) -> list[int]:
    """The offsets at which another byte went unnoticed, or was reported of another file."""
    raw = path.read_bytes()
    path.chmod(0o600)
    log_id = read_log_id(str(folder))
    unnoticed = []
    with path.open("r+b", buffering=0) as file:
        for at in offsets:
            os.pwrite(file.fileno(), bytes([raw[at] ^ rnd.randrange(1, 256)]), at)
            try:
                verify(str(folder), log_id)
                unnoticed.append(at)
            except SessionMgmtError as error:
                if path.name not in str(error):
                    unnoticed.append(at)
            os.pwrite(file.fileno(), raw[at : at + 1], at)
    return unnoticed


def test_a_changed_byte_in_any_file_is_found_and_the_file_is_named(folder: Path) -> None:
    rnd = random.Random(5)
    for path in parts_of(folder):
        step = 1130 if path.suffix == ".ids" else 113  # ids: mostly the fan-out
        offsets = range(rnd.randrange(step), path.stat().st_size, step)
        assert (path.name, pass_over(folder, path, offsets, rnd)) == (path.name, [])
    assert check(folder).events == 9


def test_every_byte_of_format_json_and_of_a_manifest_counts(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with FileLog(folder, create=True) as log:
        log.append(events(b"one"))
        seal_all(log)
    trim(journal_paths(folder)[0])
    for path in (folder / "FORMAT.json", *(folder / "manifest").iterdir()):
        assert pass_over(folder, path, range(path.stat().st_size), random.Random(4)) == []
    assert check(folder).events == 1


@pytest.mark.slow
def test_every_byte_of_every_kind_of_file_counts(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with FileLog(folder, create=True) as log:
        log.append(events(b"one", b"two"))
        log.roll()
        [closed] = journal_paths(folder)[:1]
        raw = closed.read_bytes()
        seal(log.folder, log.log_id)
        closed.write_bytes(raw)
        log.append(events(b"three"))
    for path in journal_paths(folder):
        trim(path)
    rnd = random.Random(6)
    for path in parts_of(folder):
        offsets = range(0, path.stat().st_size, 5 if path.suffix == ".ids" else 1)
        assert (path.name, pass_over(folder, path, offsets, rnd)) == (path.name, [])


def test_zeros_after_the_end_count_up_to_the_end_of_a_whole_journal(tmp_path: Path) -> None:
    with FileLog(tmp_path / "data", create=True) as log:
        log.append(events(b"one"))
    [path] = journal_paths(tmp_path / "data")
    size = path.stat().st_size
    assert pass_over(tmp_path / "data", path, range(4096, size, size // 9), random.Random(1)) == []
    assert pass_over(tmp_path / "data", path, range(size - 1, size), random.Random(1)) == []

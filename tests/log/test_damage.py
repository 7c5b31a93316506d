"""Damaged bytes of a small log: readers refuse it or read what was appended, never anything else.

`test_verify.py` holds that verification is red for each; here it is about whoever only reads.
"""

import os
import shutil
from pathlib import Path

import pytest
from log_kit import content, event, events, frames_of, journal_paths, seal_all

from session_mgmt_mcp.core.envelope import Event
from session_mgmt_mcp.core.errors import SessionMgmtError
from session_mgmt_mcp.core.log.log import FileLog


def make(folder: Path) -> list[Event]:
    """A segment, a closed journal and an open one; what is in them."""
    with FileLog(folder, create=True) as log:
        log.append(events(b"one", b"two"))
        seal_all(log)
        log.append([event(b"three")])
        log.roll()
        log.append([event(b"four")])
        log.append([event(b"five")])
        return content(log)


def read(folder: Path) -> "list[Event] | None":
    """What a reader that knows nothing of it yet sees; None where it is refused by name."""
    (folder / "tail.shm").unlink(missing_ok=True)
    try:
        with FileLog(folder) as log:
            head, found = log.head(), content(log)
            assert head.position == len(found)
            return found
    except SessionMgmtError as error:
        assert str(folder) in str(error) or "position" in str(error)
        return None


def damage(
    path: Path, offsets: "range | list[int]", expected: list[Event], folder: Path, tail_from: int
) -> int:
    """Flip a bit at each offset; how often that was refused. From `tail_from` on, the last event may be gone instead."""
    path.chmod(0o600)
    refused = 0
    for at in offsets:
        with path.open("r+b") as file:
            file.seek(at)
            [byte] = file.read(1)
            file.seek(at)
            file.write(bytes([byte ^ (1 << at % 8)]))
            file.flush()
            found = read(folder)
            file.seek(at)
            file.write(bytes([byte]))
        allowed = [None, expected] if at < tail_from else [None, expected, expected[:-1]]
        assert found in allowed, (path.name, at)
        refused += found is None
    return refused


@pytest.mark.parametrize("step", [41, pytest.param(13, marks=pytest.mark.slow)])
def test_no_damaged_byte_is_read_as_something_else(tmp_path: Path, step: int) -> None:
    folder = tmp_path / "data"
    expected = make(folder)
    last = frames_of(journal_paths(folder)[-1])[2][-1]
    for path in sorted(folder.rglob("*")):
        if path.is_dir() or path.name in ("tail.shm", "append.lock", "maintenance.lock"):
            continue
        size = path.stat().st_size
        if path.suffix == ".ids":  # readers do not look into it; appends are refused (test_faults.py)
            continue
        tail_from = size
        if path.suffix == ".journal":
            size = frames_of(path)[2][-1].end
            tail_from = last.offset if path == journal_paths(folder)[-1] else size
        refused = damage(path, range(0, size, step), expected, folder, tail_from)
        assert refused > 0, path.name
    assert read(folder) == expected


def test_a_journal_cut_at_any_byte_ends_the_log_at_a_whole_frame_or_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    expected = make(folder)
    path = journal_paths(folder)[-1]
    header, raw, frames = frames_of(path)
    keep = tmp_path / "keep"
    shutil.copy(path, keep)
    for cut in range(0, frames[-1].end, 7):
        os.truncate(path, cut)
        found = read(folder)
        whole = header.first - 1 + sum(f.count for f in frames if f.end <= cut)
        assert found is None or found == expected[:whole]
        assert found is not None or cut < 128
        path.write_bytes(raw)
    assert read(folder) == expected

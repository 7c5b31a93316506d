"""Damaged files: torn tails are cut and kept, damage to what was durable is refused by name, nothing wrong is read."""

import os
import random
import struct
from pathlib import Path

import pytest
from log_kit import content, event, events, frames_of, journal_paths, payloads, seal_all, snapshot

from session_mgmt_mcp.core.errors import DataFolderError, LogCorruptError, SessionMgmtError
from session_mgmt_mcp.core.log.frame import encode_frame, frame_at, says_damaged
from session_mgmt_mcp.core.log.log import FileLog
from session_mgmt_mcp.core.log.manifest import load_manifest
from session_mgmt_mcp.core.log.seal import seal
from session_mgmt_mcp.core.log.tail import _BLOCK
from session_mgmt_mcp.core.log.verify import verify


def fresh(folder: Path) -> None:
    """What a boot does: the hint is of another time."""
    (folder / "tail.shm").unlink(missing_ok=True)


def put(folder: Path, path: Path, raw: bytes) -> None:
    path.write_bytes(raw)
    fresh(folder)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A log of five frames in one journal."""
    folder = tmp_path / "data"
    with FileLog(folder, create=True) as log:
        for k in range(5):
            log.append(events(b"event %d" % k))
    return folder


# -- torn tails --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [3, pytest.param(1, marks=pytest.mark.slow)])
def test_a_journal_cut_at_any_byte_of_its_last_frames_keeps_every_whole_frame(
    folder: Path, step: int
) -> None:
    [path] = journal_paths(folder)
    _, raw, frames = frames_of(path)
    for cut in range(frames[3].offset, frames[4].end + 1, step):
        put(folder, path, raw[:cut])
        whole = sum(f.end <= cut for f in frames)
        with FileLog(folder) as log:
            assert len(content(log)) == whole
            [receipt] = log.append(events(b"after"))
            assert receipt.position == whole + 1
            assert payloads(log) == [b"event %d" % k for k in range(whole)] + [b"after"]


def test_any_flipped_bit_of_the_last_frame_takes_that_frame_away_and_no_other(folder: Path) -> None:
    [path] = journal_paths(folder)
    header, raw, frames = frames_of(path)
    last = frames[-1]
    for at in range(last.offset, last.end):
        for bit in range(8):
            flipped = bytearray(raw[last.offset : last.end])
            flipped[at - last.offset] ^= 1 << bit
            assert frame_at(memoryview(flipped), 0, last.offset, header) is None


def test_a_torn_tail_is_kept_in_quarantine_and_recovering_again_changes_nothing(folder: Path) -> None:
    [path] = journal_paths(folder)
    _, raw, frames = frames_of(path)
    torn = raw[frames[4].offset : frames[4].end - 3]
    put(folder, path, raw[: frames[4].end - 3] + bytes(len(raw) - frames[4].end + 3))
    with FileLog(folder) as log:
        log.append([])
    [kept] = (folder / "quarantine").iterdir()
    assert kept.read_bytes() == torn.rstrip(b"\0")
    before = snapshot(folder)
    fresh(folder)
    with FileLog(folder) as log:
        log.append([])
        assert log.head().position == 4
        assert verify(log.folder, log.log_id).events == 4
    assert snapshot(folder) == before


def test_a_payload_that_quotes_a_journal_is_never_taken_for_frames(folder: Path) -> None:
    [path] = journal_paths(folder)
    _, raw, frames = frames_of(path)
    quoted = raw[: frames[4].end]
    with FileLog(folder) as log:
        log.append(events(quoted))
        assert payloads(log)[5] == quoted
    header, raw, frames = frames_of(path)
    outer = frames[5]
    for at in range(outer.offset + 1, outer.end):
        assert frame_at(memoryview(raw), at, 0, header) is None
    put(folder, path, raw[: outer.end - 6])  # torn after the inner copy
    with FileLog(folder) as log:
        log.append(events(b"after"))
        assert payloads(log) == [b"event %d" % k for k in range(5)] + [b"after"]


def test_a_torn_header_of_a_new_journal_takes_back_only_that_journal(folder: Path) -> None:
    with FileLog(folder) as log:
        log.roll()
    new = journal_paths(folder)[-1]
    raw = new.read_bytes()
    put(folder, new, raw[:64] + bytes(len(raw) - 64))
    with FileLog(folder) as log:
        assert log.append(events(b"after"))[0].position == 6
        assert len(content(log)) == 6


# -- damage to what was durable ----------------------------------------------------------------------------------


def test_damage_before_a_frame_that_says_it_was_on_disk_is_refused_and_nothing_changes(folder: Path) -> None:
    [path] = journal_paths(folder)
    _, raw, frames = frames_of(path)
    chosen = random.Random(7)
    for frame in frames[:3]:  # a later frame's durable_upto lies beyond each
        for at in chosen.sample(range(frame.offset, frame.end), 5):
            flipped = bytearray(raw)
            flipped[at] ^= 1 << chosen.randrange(8)
            put(folder, path, bytes(flipped))
            before = snapshot(folder)
            with FileLog(folder) as log:
                with pytest.raises(LogCorruptError, match=r"0001\.journal is damaged at byte"):
                    log.append(events(b"after"))
                with pytest.raises(LogCorruptError, match=r"\.journal is damaged"):
                    content(log)
                with pytest.raises(LogCorruptError, match=r"\.journal is damaged"):
                    log.head()
                with pytest.raises(LogCorruptError, match=r"\.journal is damaged"):
                    verify(log.folder, log.log_id)
            assert snapshot(folder) == before


def test_a_zeroed_frame_in_the_middle_is_refused_by_whoever_appends(folder: Path) -> None:
    [path] = journal_paths(folder)
    _, raw, frames = frames_of(path)
    gone = bytes(frames[1].end - frames[1].offset)
    put(folder, path, raw[: frames[1].offset] + gone + raw[frames[1].end :])
    with FileLog(folder) as log:
        with pytest.raises(LogCorruptError, match="position 2"):
            log.append(events(b"after"))
        with pytest.raises(LogCorruptError, match="position 2"):
            verify(log.folder, log.log_id)


@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_a_closed_journal_that_breaks_off_is_no_end_of_the_log(folder: Path, damage: str) -> None:
    with FileLog(folder) as log:
        log.roll()
        log.append(events(b"in the next journal"))
        log.roll()
        log.append(events(b"in the third"))
    middle = journal_paths(folder)[1]
    raw = middle.read_bytes()
    if damage == "gone":
        middle.unlink()
    elif damage == "cut":
        middle.write_bytes(raw[:140])
    else:
        middle.write_bytes(raw[:200] + bytes([raw[200] ^ 4]) + raw[201:])
    before = snapshot(folder)
    with FileLog(folder) as log:
        for ask in (lambda: content(log), log.head, lambda: verify(log.folder, log.log_id)):
            with pytest.raises(LogCorruptError):
                ask()
        with pytest.raises(LogCorruptError):  # ids that cannot be read must not be stored twice
            log.append(events(b"after"))
        assert snapshot(folder) == before
        with pytest.raises(LogCorruptError):
            seal(log.folder, log.log_id)
        assert log.sealed().position == (5 if damage == "gone" else 0)  # what is whole may be sealed
    assert len(journal_paths(folder)) == len(list(before)) - 1  # FORMAT.json aside: no journal was dropped


def test_a_damaged_journal_header_is_refused_by_name(folder: Path) -> None:
    [path] = journal_paths(folder)
    raw = path.read_bytes()
    for at in (0, 9, 33, 50, 60, 125):
        put(folder, path, raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
        with FileLog(folder) as log, pytest.raises(LogCorruptError, match=path.name):
            log.append(events(b"after"))


def test_a_journal_under_another_position_is_refused(folder: Path) -> None:
    [path] = journal_paths(folder)
    path.rename(path.with_name(f"{9:020d}.journal"))
    fresh(folder)
    with FileLog(folder) as log, pytest.raises(LogCorruptError, match="its header says position 1"):
        log.append(events(b"after"))


def test_a_forgotten_hint_of_an_earlier_boot_cannot_acknowledge_what_is_not_synced(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hint says more is durable than the journal still has: the next append must be synced all the same."""
    with FileLog(folder) as log:
        log.append(events(b"x" * 4000))
    [path] = journal_paths(folder)
    _, raw, frames = frames_of(path)
    path.write_bytes(raw[: frames[-1].offset] + bytes(len(raw) - frames[-1].offset))
    hint = bytearray((folder / "tail.shm").read_bytes())
    hint[8:24] = os.urandom(16)  # another boot
    (folder / "tail.shm").write_bytes(hint)
    synced: list[int] = []
    with FileLog(folder) as log:
        log.append([])
        monkeypatch.setattr("session_mgmt_mcp.core.log.appender.sync_file", synced.append)
        log.append(events(b"short"))
        assert len(synced) == 1


# -- sealed files ------------------------------------------------------------------------------------------------


@pytest.fixture
def sealed(folder: Path) -> Path:
    with FileLog(folder) as log:
        seal_all(log)
        log.append(events(b"in the journal"))
    return folder


def flips(path: Path, count: int) -> "list[tuple[int, int]]":
    chosen = random.Random(11)
    size = path.stat().st_size
    return [(chosen.randrange(size), chosen.randrange(8)) for _ in range(count)]


def flip(raw: bytes, at: int, bit: int) -> bytes:
    return raw[:at] + bytes([raw[at] ^ (1 << bit)]) + raw[at + 1 :]


@pytest.mark.parametrize("many", [100, pytest.param(500, marks=pytest.mark.slow)])
def test_a_flipped_bit_in_a_segment_is_reported_or_harmless_never_read_as_something_else(
    sealed: Path, many: int
) -> None:
    with FileLog(sealed) as log:
        expected, log_id = content(log), log.log_id
    [path] = (sealed / "segments").glob("*.parquet")
    path.chmod(0o600)
    raw = path.read_bytes()
    refused = 0
    for at, bit in flips(path, many):
        path.write_bytes(flip(raw, at, bit))
        with FileLog(sealed) as log:
            try:
                assert content(log) == expected
            except LogCorruptError as error:
                assert path.name in str(error)
                refused += 1
        if at % 16 == 0:
            with pytest.raises(LogCorruptError, match=path.name):
                verify(str(sealed), log_id)
    assert refused > many // 5


def test_a_flipped_bit_in_an_id_file_is_refused_before_an_id_is_stored_twice(sealed: Path) -> None:
    [path] = (sealed / "segments").glob("*.ids")
    path.chmod(0o600)
    raw = path.read_bytes()
    for at, bit in [(0, 0), (9, 1), (len(raw) - 1, 7), *flips(path, 12)]:
        path.write_bytes(flip(raw, at, bit))
        with FileLog(sealed) as log:
            with pytest.raises(LogCorruptError, match=path.name):
                log.append(events(b"after"))
            with pytest.raises(LogCorruptError, match=path.name):
                verify(log.folder, log.log_id)
    for short in (0, 5, len(raw) - 1):
        path.write_bytes(raw[:short])
        with FileLog(sealed) as log, pytest.raises(LogCorruptError, match=path.name):
            log.append(events(b"after"))


@pytest.mark.parametrize("suffix", ["parquet", "ids"])
def test_a_missing_sealed_file_is_named(sealed: Path, suffix: str) -> None:
    [path] = (sealed / "segments").glob(f"*.{suffix}")
    path.unlink()
    with FileLog(sealed) as log:
        with pytest.raises(LogCorruptError, match=path.name):
            verify(log.folder, log.log_id)
        with pytest.raises(LogCorruptError, match=path.name):
            content(log) if suffix == "parquet" else log.append(events(b"after"))


def test_a_damaged_manifest_is_refused_by_name_and_an_older_one_never_takes_its_place(sealed: Path) -> None:
    with FileLog(sealed) as log:
        log_id = log.log_id
        seal_all(log)
    path = max((sealed / "manifest").iterdir())
    raw = path.read_bytes()
    for at, bit in flips(path, 20):
        path.write_bytes(flip(raw, at, bit))
        before = snapshot(sealed)
        for ask in (
            lambda: FileLog(sealed),
            lambda: load_manifest(str(sealed)),
            lambda: verify(str(sealed), log_id),
            lambda: seal(str(sealed), log_id),
        ):
            with pytest.raises(LogCorruptError, match=path.name):
                ask()
        assert snapshot(sealed) == before


def test_a_damaged_older_manifest_fails_verification(sealed: Path) -> None:
    with FileLog(sealed) as log:
        seal_all(log)
        path = min((sealed / "manifest").iterdir())
        raw = path.read_bytes()
        path.write_bytes(flip(raw, 30, 2))
        with pytest.raises(LogCorruptError, match=path.name):
            verify(log.folder, log.log_id)
        assert len(content(log)) == 6


def test_any_flipped_bit_of_format_json_is_refused_or_harmless(folder: Path) -> None:
    path = folder / "FORMAT.json"
    raw = path.read_bytes()
    with FileLog(folder) as log:
        log_id = log.log_id
    for at in range(len(raw)):
        for bit in range(8):
            path.write_bytes(flip(raw, at, bit))
            try:
                with FileLog(folder) as log:
                    assert (log.log_id, at) == (log_id, len(raw) - 1)  # only the line's end does not matter
            except DataFolderError as error:
                assert str(folder) in str(error)


# -- the reader's blocks -----------------------------------------------------------------------------------------


def test_a_frame_that_ends_where_a_block_ends_is_not_the_end_of_the_log(tmp_path: Path) -> None:
    with FileLog(tmp_path / "data", create=True) as log:
        overhead = 64 + 40 + len(envelope_of(b""))
        log.append(events(b"x" * (_BLOCK - overhead)))
        log.append(events(b"behind it"))
        [path] = journal_paths(log.folder)
        assert frames_of(path)[2][0].end == 128 + _BLOCK
        assert log.head().position == 2
    with FileLog(tmp_path / "data") as log:
        assert log.head().position == 2
        assert payloads(log, after=1) == [b"behind it"]


def envelope_of(payload: bytes) -> bytes:
    from session_mgmt_mcp.core.envelope import encode_envelope

    return encode_envelope(event(payload).envelope)


def test_a_later_frame_without_durable_upto_makes_no_damage_of_a_torn_one(folder: Path) -> None:
    """Two writers died in one power cut: the second frame reached the disk, the first did not."""
    [path] = journal_paths(folder)
    header, raw, frames = frames_of(path)
    end = frames[4].end
    later = encode_frame(header, end + 300, 7, end, b"c" * 32, [(b"i" * 16, b"s" * 16, b"e", b"p")])
    torn = b"\x01" + bytes(299) + later
    assert not says_damaged(torn, end, header)
    put(folder, path, raw[:end] + torn + bytes(len(raw) - end - len(torn)))
    with FileLog(folder) as log:
        assert log.append(events(b"after"))[0].position == 6
        assert verify(log.folder, log.log_id).events == 6


def test_lengths_inside_a_frame_that_do_not_add_up_are_refused(folder: Path) -> None:
    [path] = journal_paths(folder)
    header, raw, frames = frames_of(path)
    end = frames[4].end
    frame = bytearray(encode_frame(header, end, 6, 128, b"c" * 32, [(b"i" * 16, b"s" * 16, b"e", b"p")]))
    struct.pack_into("<II", frame, 64 + 32, 1, 900)
    from zlib import crc32

    crc = crc32(frame[64:], crc32(frame[12:64], crc32(struct.pack("<QI", end, len(frame) - 64), header.seed)))
    struct.pack_into("<I", frame, 8, crc)
    path.write_bytes(raw[:end] + frame + raw[end + len(frame) :])
    with FileLog(folder) as log, pytest.raises(SessionMgmtError, match="do not add up"):
        content(log)

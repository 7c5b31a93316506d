"""Merged segments are the log they were merged from: content, ids, chain; whoever reads, seals or dies meanwhile."""

import os
import random
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from folder_copy import copy_folder
from log_kit import content, event, events, files_with, seal_all

from session_mgmt_mcp.core.errors import LogCorruptError
from session_mgmt_mcp.core.log import compact as compacting
from session_mgmt_mcp.core.log import seal as sealing
from session_mgmt_mcp.core.log.compact import compact, plan
from session_mgmt_mcp.core.log.forget import forget
from session_mgmt_mcp.core.log.log import FileLog
from session_mgmt_mcp.core.log.manifest import SegmentEntry, load_manifest
from session_mgmt_mcp.core.log.seal import drop_orphans, seal
from session_mgmt_mcp.core.log.verify import verify

MIB = 1 << 20


def fill(log: FileLog, segments: int = 6) -> None:
    """Segments of frames of one and of three events, one payload of them forgotten."""
    for k in range(segments):
        log.append([event(b"single %d" % k, event_id=b"%016d" % k)])
        log.append(events(*(b"%d of segment %d" % (i, k) for i in range(3))))
        seal_all(log)
    forget(log, [6], lambda _: ["own:6"])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven small segments, and a journal with an event; copied, never used itself."""
    with FileLog(tmp_path_factory.mktemp("made") / "data", create=True) as log:
        fill(log)
        log.append(events(b"in the journal"))
        return Path(log.folder)


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    copy_folder(made, tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def log(folder: Path) -> Iterator[FileLog]:
    with FileLog(folder) as log:
        yield log


def chains(log: FileLog) -> list[bytes | None]:
    return [log.chain_at(position) for position in range(log.head().position + 2)]


def state(log: FileLog) -> tuple[object, ...]:
    """All that compaction must not change."""
    verified = verify(log.folder, log.log_id)
    return content(log), chains(log), log.head(), log.sealed(), verified[:3]


# -- equal to what was merged ------------------------------------------------------------------------------------


def test_a_compacted_log_reads_verifies_and_chains_as_before(folder: Path, log: FileLog) -> None:
    before = state(log)
    manifest = compact(log.folder, log.log_id)
    assert [(s.first, s.last, s.forgotten) for s in manifest.segments] == [(1, 25, 1)]
    assert state(log) == before
    with FileLog(folder) as other:
        assert state(other) == before


def test_the_chain_is_known_at_every_frame_end_and_nowhere_else(log: FileLog) -> None:
    ends = {0, 25, 26} | {4 * k + 1 for k in range(6)} | {4 * k + 4 for k in range(6)}
    compact(log.folder, log.log_id)
    found = chains(log)
    assert {position for position, chain in enumerate(found) if chain is not None} == ends
    with FileLog(log.folder) as other:  # asked in another order, so from other known positions on
        for position in reversed(range(len(found))):
            assert other.chain_at(position) == found[position]
        assert other.chain_at(-1) is None


def test_ids_are_found_in_merged_segments(log: FileLog) -> None:
    compact(log.folder, log.log_id)
    again = [event(b"single %d" % k, event_id=b"%016d" % k) for k in range(6)]
    assert [(r.position, r.appended) for r in log.append(again)] == [(4 * k + 1, False) for k in range(6)]
    with FileLog(log.folder) as other:
        assert [r.changed for r in other.append([event(b"other", event_id=b"%016d" % 2)])] == [True]


def test_frames_and_row_groups_need_not_end_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from session_mgmt_mcp.core.log import segment

    monkeypatch.setattr(segment, "ROW_GROUP_EVENTS", 3)
    with FileLog(tmp_path / "data", create=True) as log:
        for k in range(5):
            log.append(events(*(b"%d %d" % (k, i) for i in range(7))))
            log.append(events(b"x" * 5000))
            seal_all(log)
        before = state(log)
        assert len(compact(log.folder, log.log_id).segments) == 1
        assert state(log) == before
        assert [e.payload for e in log.get([40, 1, 9]).values()] == [b"0 0", b"1 0", b"x" * 5000]


def test_progress_reaches_the_number_of_events(log: FileLog) -> None:
    told: list[tuple[int, int]] = []
    compact(log.folder, log.log_id, lambda at, of: told.append((at, of)))
    assert told == sorted(told)
    assert told[-1] == (25, 25)


def test_compacting_again_changes_nothing(log: FileLog) -> None:
    manifest = compact(log.folder, log.log_id)
    assert compact(log.folder, log.log_id) == manifest


# -- what is merged ----------------------------------------------------------------------------------------------


def entries(*sizes: int) -> list[SegmentEntry]:
    return [SegmentEntry(k + 1, k + 1, f"{k}", "", f"{k}", "", size, "", "") for k, size in enumerate(sizes)]


@pytest.mark.parametrize(
    ("mib", "run"),
    [
        ([], range(0)),
        ([1], range(0)),
        ([1, 1, 1], range(0)),
        ([1, 1, 1, 1], range(4)),
        ([1, 1, 1, 1, 1], range(5)),
        ([16, 1, 1, 1, 1], range(1, 5)),
        ([40, 40], range(2)),
        ([63, 1], range(0)),
        ([64, 1, 1, 1, 1], range(1, 5)),
        ([1, 1, 64, 1, 1], range(0)),  # not across one that is done
        ([60, 60, 60], range(2)),  # never beyond 128 MiB
    ],
)
def test_a_run_is_merged_where_that_makes_it_much_larger(mib: list[int], run: range) -> None:
    assert plan(entries(*(m * MIB for m in mib))) == run


def test_many_events_are_not_put_into_one_segment() -> None:
    large = [
        SegmentEntry(k * 200_000 + 1, (k + 1) * 200_000, f"{k}", "", f"{k}", "", MIB, "", "")
        for k in range(8)
    ]
    assert plan(large) == range(0)


def test_a_byte_is_rewritten_a_few_times_however_long_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = random.Random(1)
    segments: list[SegmentEntry] = []
    written = rewritten = 0
    for _ in range(3000):
        size = chosen.choice((20_000, 300_000, 2 * MIB))
        written += size
        segments = entries(*(s.bytes for s in segments), size)
        while run := plan(segments):
            merged = sum(s.bytes for s in segments[run.start : run.stop])
            assert merged <= 128 * MIB
            rewritten += merged
            sizes = [s.bytes for s in segments]
            segments = entries(*sizes[: run.start], merged, *sizes[run.stop :])
    assert rewritten < 5 * written
    assert len([s for s in segments if s.bytes < 64 * MIB]) < 25


# -- beside others -----------------------------------------------------------------------------------------------


def test_a_reader_goes_on_while_what_it_reads_is_merged_and_the_sources_are_gone(log: FileLog) -> None:
    before = content(log)
    with FileLog(log.folder) as reader:
        batches = reader.read()
        found = next(batches)
        manifest = compact(log.folder, log.log_id)
        drop_orphans(log.folder, manifest, age_s=-1)
        for batch in batches:
            found = found + batch
        assert found == before
        assert reader.get([1, 13, 26]) == {p: before[p - 1] for p in (1, 13, 26)}


def test_a_file_that_vanishes_while_it_is_opened_makes_a_reader_look_again(
    log: FileLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    from session_mgmt_mcp.core.log import reader

    before, real, raced = content(log), reader.open_segment, []

    def overtaken(path: str, *rest: object) -> object:
        if not raced:
            raced.append(1)
            drop_orphans(log.folder, compact(log.folder, log.log_id), age_s=-1)
        return real(path, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(reader, "open_segment", overtaken)
    with FileLog(log.folder) as other:
        assert content(other) == before
        assert raced


@pytest.mark.parametrize("other", [compact, seal])
def test_of_two_that_publish_one_starts_over_and_both_see_the_same_log(
    log: FileLog, monkeypatch: pytest.MonkeyPatch, other: Callable[[str, str], object]
) -> None:
    log.roll()
    before, real, raced = content(log), compacting.put_segment, []

    def overtaken(*given: object) -> object:
        entry = real(*given)  # type: ignore[arg-type]
        if not raced:
            raced.append(1)
            other(log.folder, log.log_id)
        return entry

    monkeypatch.setattr(compacting, "put_segment", overtaken)
    compact(log.folder, log.log_id)
    assert raced
    assert content(log) == before
    assert seal(log.folder, log.log_id).last == 26
    assert verify(log.folder, log.log_id).events == 26


def test_a_server_keeps_nothing_of_a_forgotten_payload(log: FileLog) -> None:
    compact(log.folder, log.log_id)
    with FileLog(log.folder) as server:
        assert server.get([9])[9].payload == b"single 2"
        assert server.chain_at(9) is not None
        forget(log, [9], lambda _: [])
        assert server.get([9])[9].payload is None
        named = {entry.file for entry in load_manifest(log.folder).segments}
        kept = server.reader
        assert {file for file, _ in (*kept._groups, *kept._chains)} | {*kept._opened} <= named
        assert files_with(log.folder, [b"single 2"]) == []


# -- old files ---------------------------------------------------------------------------------------------------


def names(folder: Path) -> set[str]:
    return {path.name for path in (folder / "segments").iterdir()}


def test_merged_files_stay_for_a_while_and_a_later_seal_removes_them(
    folder: Path, log: FileLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = names(folder)
    manifest = compact(log.folder, log.log_id)
    now = {name for entry in manifest.segments for name in (entry.file, entry.ids)}
    assert old < names(folder)
    monkeypatch.setattr(sealing, "REPLACED_AGE_S", 0)
    seal(log.folder, log.log_id)
    assert names(folder) == now


def test_merged_files_go_only_once_the_manifest_without_them_is_there_to_stay(
    folder: Path, log: FileLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who published it may have died before it was synced, so whoever removes the files syncs it."""
    compact(str(folder), log.log_id)
    steps: list[str] = []
    sync, unlink = sealing.sync_folder, os.unlink
    monkeypatch.setattr(sealing, "sync_folder", lambda path: (steps.append(path), sync(path)))
    monkeypatch.setattr(os, "unlink", lambda path: (steps.append("unlink"), unlink(path)))
    drop_orphans(str(folder), load_manifest(str(folder)), age_s=-1)
    assert steps.count("unlink") > 1
    assert f"{folder}/manifest" in steps[: steps.index("unlink")]


def test_what_was_merged_and_then_forgotten_is_gone_from_the_merged_files_too(
    folder: Path, log: FileLog
) -> None:
    compact(log.folder, log.log_id)
    assert files_with(folder, [b"single 3"]) != []
    forget(log, [13], lambda _: [])
    assert files_with(folder, [b"single 3"]) == []


def test_without_room_for_both_nothing_is_merged(log: FileLog, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = load_manifest(log.folder)
    room = sum(entry.bytes for entry in manifest.segments)
    usage = shutil.disk_usage(log.folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=2 * room - 1))
    assert compact(log.folder, log.log_id) == manifest
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=2 * room))
    assert len(compact(log.folder, log.log_id).segments) == 1


# -- damage ------------------------------------------------------------------------------------------------------


def test_a_source_that_rotted_is_refused_by_name_and_keeps_its_name(folder: Path, log: FileLog) -> None:
    manifest = load_manifest(log.folder)
    for entry in manifest.segments[2:4]:
        path = folder / "segments" / entry.file
        raw = path.read_bytes()
        path.chmod(0o600)
        path.write_bytes(raw[:-9] + bytes([raw[-9] ^ 1]) + raw[-8:])
        with pytest.raises(LogCorruptError, match=entry.file):
            compact(log.folder, log.log_id)
        assert load_manifest(log.folder) == manifest
        path.write_bytes(raw)
    assert len(compact(log.folder, log.log_id).segments) == 1


def test_a_merged_file_that_does_not_read_back_as_its_sources_is_not_published(
    folder: Path, log: FileLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest, before = load_manifest(log.folder), names(folder)
    real = sealing.read_tables
    monkeypatch.setattr(sealing, "read_tables", lambda path: (t.slice(1) for t in real(path)))
    with pytest.raises(LogCorruptError, match="does not read back as written"):
        compact(log.folder, log.log_id)
    assert load_manifest(log.folder) == manifest
    assert names(folder) == before


def test_sources_whose_chain_is_not_the_manifests_are_refused(log: FileLog) -> None:
    sources = load_manifest(log.folder).segments
    wrong = type(sources[1])(
        **{f: getattr(sources[1], f) for f in sources[1].__struct_fields__} | {"chain": "00"}
    )
    with pytest.raises(LogCorruptError, match="its chain is not the one"):
        compacting._merge(log.folder, (sources[0], wrong, *sources[2:]), None)


# -- interrupted -------------------------------------------------------------------------------------------------

CALLS = ("open", "write", "chmod", "fsync", "fdatasync", "rename", "link", "unlink", "listdir")


def interrupted(monkeypatch: pytest.MonkeyPatch, at: int, run: Callable[[], object]) -> bool:
    """Whether `run` was ended by an interruption before its call number `at` of the system."""
    count = 0

    def counted(real: Callable[..., object], *given: object, **named: object) -> object:
        nonlocal count
        count += 1
        if count == at:
            raise KeyboardInterrupt
        return real(*given, **named)

    with monkeypatch.context() as patch:
        for name in CALLS:
            patch.setattr(os, name, partial(counted, getattr(os, name)))
        try:
            run()
        except KeyboardInterrupt:
            return True
    return False


@pytest.mark.parametrize("step", [5, pytest.param(1, marks=pytest.mark.slow)])
def test_interrupted_at_any_call_nothing_changes_and_the_next_run_completes_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    with FileLog(folder) as log:
        before = state(log)
        log_id = log.log_id
    calls = 1 - step
    while True:
        calls += step
        copy = tmp_path / f"copy-{calls}"
        copy_log(folder, copy)
        ended = interrupted(monkeypatch, calls, partial(compact, str(copy), log_id))
        with FileLog(copy) as log:
            assert content(log) == before[0]
            assert len(compact(str(copy), log_id).segments) == 1
            assert state(log) == before
        shutil.rmtree(copy)
        if not ended:
            break
    assert calls > 20


def copy_log(folder: Path, copy: Path) -> None:
    """Copy a data folder without its journals' zeros."""
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("*.journal"))
    for path in (folder / "journal").iterdir():
        (copy / "journal" / path.name).write_bytes(path.read_bytes().rstrip(b"\0") + bytes(4096))

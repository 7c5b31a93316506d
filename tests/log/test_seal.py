"""What a seal writes, and what it leaves where it cannot."""

import os
import random
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from zlib import crc32

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from log_kit import content, event, events, frames_of, journal_paths, seal_all

from session_mgmt_mcp.core.envelope import Event
from session_mgmt_mcp.core.errors import LogCorruptError
from session_mgmt_mcp.core.log import seal as sealing
from session_mgmt_mcp.core.log import segment
from session_mgmt_mcp.core.log.frame import entries_of
from session_mgmt_mcp.core.log.log import FileLog
from session_mgmt_mcp.core.log.manifest import load_manifest
from session_mgmt_mcp.core.log.seal import drop_orphans, put_segment, seal
from session_mgmt_mcp.core.log.segment import (
    IdFile,
    Row,
    SegmentTables,
    ahead,
    read_tables,
    row_groups,
    table_of,
    without_payloads,
)
from session_mgmt_mcp.core.log.verify import verify


@pytest.fixture
def log(tmp_path: Path) -> Iterator[FileLog]:
    with FileLog(tmp_path / "data", create=True) as log:
        yield log


def segment_paths(log: FileLog) -> list[str]:
    return [f"{log.folder}/segments/{entry.file}" for entry in load_manifest(log.folder).segments]


# -- content -----------------------------------------------------------------------------------------------------


def rows_of(path: str) -> list[Row]:
    columns = pq.read_table(path, columns=list(Row._fields)).to_pydict()
    return [Row(*values) for values in zip(*(columns[name] for name in Row._fields), strict=True)]


def test_every_column_of_a_segment_is_what_the_journal_held(log: FileLog) -> None:
    rnd = random.Random(3)
    for count in (1, 40, 3, 1):
        log.append([event(rnd.randbytes(rnd.choice((0, 30, 9000)))) for _ in range(count)])
    log.roll()
    _, raw, frames = frames_of(journal_paths(log.folder)[0])
    wanted = []
    for frame in frames[:-1]:
        for k, (event_id, salt, envelope, payload) in enumerate(entries_of(frame, memoryview(raw), 0)):
            digest = sha256(salt + payload).digest()
            wanted.append((frame.first + k, frame.first, event_id, envelope, digest, salt, payload))
    before = content(log)
    seal(log.folder, log.log_id)
    [path] = segment_paths(log)
    assert rows_of(path) == wanted
    assert content(log) == before
    table = pq.read_table(path)
    for e, row in zip(before, table.to_pylist(), strict=True):
        names = ("stream", "event_type", "schema_version", "recorded_at", "occurred_at", "actor", "source")
        assert [row[n] for n in names] == [getattr(e.envelope, n) for n in names]


def test_ids_hold_position_crc_and_length_of_every_event(log: FileLog) -> None:
    new = [event(b"x" * k) for k in range(300)]
    log.append(new)
    manifest = seal_all(log)
    ids = IdFile(f"{log.folder}/segments/{manifest.segments[0].ids}")
    assert ids.count == 300
    for k, e in enumerate(new):
        assert ids.find(e.event_id) == (k + 1, crc32(e.payload), k)
    assert ids.find(bytes(16)) is None
    ids.close()


def test_an_id_that_is_there_twice_is_found_at_its_first_position(log: FileLog) -> None:
    twice = event(b"again", event_id=b"i" * 16)
    log.append([*events(*(b"%d" % k for k in range(255))), twice, twice], dedupe=False)
    ids = IdFile(f"{log.folder}/segments/{seal_all(log).segments[0].ids}")
    found = ids.find(twice.event_id)
    assert found is not None
    assert found.position == 256
    ids.close()


def test_journals_of_many_mebibytes_make_several_segments_of_bounded_row_groups(
    log: FileLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealing, "SEGMENT_BYTES_TARGET", 20 << 20)
    new = [event(os.urandom(1 << 20)) for _ in range(20)]
    for e in new:
        log.append([e])
    log.append(events(os.urandom(9 << 20)))
    log.append(events(*(b"%d" % k for k in range(2500))))
    manifest = seal_all(log)
    assert len(manifest.segments) >= 2
    for path in segment_paths(log):
        for table in read_tables(path):
            assert table.num_rows <= segment.ROW_GROUP_EVENTS
            assert table.num_rows == 1 or table.nbytes <= segment.ROW_GROUP_BYTES
    assert log.get([7])[7].payload == new[6].payload
    assert verify(log.folder, log.log_id).events == 2521


def test_the_same_events_always_make_the_same_row_groups(log: FileLog) -> None:
    log.append(events(*(b"x" * (k % 50) for k in range(3100))))
    seal_all(log)
    table = pa.concat_tables(read_tables(segment_paths(log)[0]))
    rnd = random.Random(2)
    for _ in range(5):
        cuts = sorted(rnd.sample(range(1, 3100), 9))
        parts = [table.slice(a, b - a) for a, b in zip([0, *cuts], [*cuts, 3100], strict=True)]
        groups = list(row_groups(parts))
        assert [g.num_rows for g in groups] == [1000, 1000, 1000, 100]
        assert pa.concat_tables(groups).equals(table)


def test_an_envelope_that_does_not_decode_is_named_with_its_position() -> None:
    row = segment.Row(7, 7, b"i" * 16, b"\xc1", b"h" * 32, None, None)
    with pytest.raises(LogCorruptError, match="the envelope of position 7 does not decode"):
        table_of([row])


def test_payloads_are_taken_out_at_these_positions_only(log: FileLog) -> None:
    log.append(events(b"a", b"b", b"c"))
    seal_all(log)
    [table] = SegmentTables(segment_paths(log), lambda t: without_payloads(t, [2]))
    assert table.column("payload").to_pylist() == [b"a", None, b"c"]
    assert table.column("payload_salt").is_null().to_pylist() == [False, True, False]
    assert table.schema.equals(segment.SCHEMA)


def test_what_is_made_ahead_comes_in_order_and_with_its_errors() -> None:
    def items() -> Iterator[int]:
        yield from range(5)
        raise LogCorruptError("after the fifth")

    found = []
    with pytest.raises(LogCorruptError, match="after the fifth"):
        for item in ahead(items()):
            found.append(item)  # noqa: PERF402 - what came before the error counts
    assert found == [0, 1, 2, 3, 4]


# -- where it cannot ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", ["other", "fewer", "more"])
def test_a_segment_that_does_not_read_back_as_written_is_not_published_and_leaves_nothing(
    log: FileLog, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    log.append(events(*(b"%d" % k for k in range(1500))))
    log.roll()
    real = sealing.read_tables

    def misread(path: str) -> Iterator[pa.Table]:
        tables = list(real(path))
        if change == "other":
            tables[1] = without_payloads(tables[1], [1400])
        return iter({"other": tables, "fewer": tables[:1], "more": [*tables, tables[0]]}[change])

    monkeypatch.setattr(sealing, "read_tables", misread)
    with pytest.raises(LogCorruptError, match="does not read back as written; check the disk"):
        seal(log.folder, log.log_id)
    assert os.listdir(f"{log.folder}/segments") == []
    assert load_manifest(log.folder).version == 0
    monkeypatch.undo()
    assert seal(log.folder, log.log_id).last == 1500


def test_a_full_disk_leaves_no_half_written_segment(log: FileLog, monkeypatch: pytest.MonkeyPatch) -> None:
    log.append(events(b"one"))
    log.roll()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    for step in ("sync_path", "write_new"):
        with monkeypatch.context() as patch:
            patch.setattr(sealing, step, full)
            with pytest.raises(OSError, match="No space left"):
                seal(log.folder, log.log_id)
        assert os.listdir(f"{log.folder}/segments") == []
    assert seal(log.folder, log.log_id).last == 1


def test_a_damaged_journal_is_not_sealed_and_named(log: FileLog) -> None:
    log.append(events(b"one"))
    log.append(events(b"two"))
    log.roll()
    path = journal_paths(log.folder)[0]
    _, raw, frames = frames_of(path)
    path.write_bytes(raw[: frames[1].end - 1] + b"?" + raw[frames[1].end :])
    with pytest.raises(LogCorruptError, match=rf"{path.name} is damaged after position 1"):
        seal(log.folder, log.log_id)


# -- old files ---------------------------------------------------------------------------------------------------


def age(path: str, seconds: float) -> None:
    now = os.path.getmtime(path)
    os.utime(path, (now - seconds, now - seconds))


def test_what_no_manifest_named_is_collected_after_a_day(log: FileLog) -> None:
    log.append(events(b"one"))
    manifest = seal_all(log)
    entry = manifest.segments[0]
    forgotten = SegmentTables(segment_paths(log), lambda t: without_payloads(t, [1]))
    orphan = put_segment(log.folder, forgotten, bytes.fromhex(entry.chain_before), bytes.fromhex(entry.chain))
    for name, seconds in ((orphan.file, 86_300), (orphan.ids, 86_500)):
        age(f"{log.folder}/segments/{name}", seconds)
    drop_orphans(log.folder, manifest)
    assert set(os.listdir(f"{log.folder}/segments")) == {entry.file, entry.ids, orphan.file}


def test_a_damaged_older_manifest_does_not_stop_a_seal(log: FileLog) -> None:
    for k in range(3):
        log.append(events(b"%d" % k))
        seal_all(log)
    Path(log.folder, "manifest", f"{1:020d}.json").write_bytes(b"{}")
    Path(log.folder, "segments", "old.tmp").write_bytes(b"")
    log.append(events(b"last"))
    assert seal_all(log).last == 4
    assert [e.payload for e in content(log)] == [b"0", b"1", b"2", b"last"]
    assert isinstance(content(log)[0], Event)

"""The tables of FORMAT.md sections 1 to 4, byte by byte, against what the code writes."""

import hashlib
import json
import stat
import struct
from pathlib import Path
from zlib import crc32

import msgspec
import pyarrow.parquet as pq
import pytest
from log_kit import event, frames_of, journal_paths, seal_all

from session_mgmt_mcp.core.envelope import Envelope, capture_id, decode_envelope, encode_envelope
from session_mgmt_mcp.core.log.log import FileLog
from session_mgmt_mcp.core.log.segment import Row, table_of


def sha(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


@pytest.fixture
def log(tmp_path: Path) -> FileLog:
    log = FileLog(tmp_path / "data", create=True)
    log.append([event(b"one"), event(b"two, longer")])
    log.append([event(b"three")])
    return log


def test_format_json_is_one_line_with_the_beginning_a_hook_compares(log: FileLog) -> None:
    raw = Path(log.folder, "FORMAT.json").read_bytes()
    assert raw.startswith(b'{"format": "session-mgmt-mcp log", "version": 1, "log_id": "')
    assert raw.endswith(b'"}\n')
    assert raw.count(b"\n") == 1
    found = json.loads(raw)
    assert list(found) == ["format", "version", "log_id", "created_at", "sha256"]
    assert found["log_id"] == log.log_id
    assert len(bytes.fromhex(found["log_id"])) == 16
    body = raw[: raw.index(b', "sha256"')]
    assert found["sha256"] == hashlib.sha256(body).hexdigest()


def test_the_folder_is_private_and_segments_are_read_only(log: FileLog) -> None:
    seal_all(log)
    assert stat.S_IMODE(Path(log.folder).stat().st_mode) == 0o700
    for path in Path(log.folder).rglob("*"):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode & 0o077 == 0, path
        if path.parent.name == "segments":
            assert mode & 0o222 == 0, path


def test_an_envelope_is_a_messagepack_array_of_nine() -> None:
    envelope = Envelope("claude-code/s", "HookReported", 1, 2, 3, "tool", "hook", b"c" * 16, None)
    assert msgspec.msgpack.decode(encode_envelope(envelope)) == [
        *("claude-code/s", "HookReported", 1, 2, 3, "tool", "hook"),
        b"c" * 16,
        None,
    ]
    assert decode_envelope(encode_envelope(envelope)) == envelope


def test_a_journal_header_is_128_bytes_as_in_the_table(log: FileLog) -> None:
    [path] = journal_paths(log.folder)
    assert path.name == "00000000000000000001.journal"
    raw = path.read_bytes()
    assert len(raw) == 8 << 20
    assert raw[:8] == b"SMJRNL01"
    assert struct.unpack_from("<II", raw, 8) == (1, 8)
    assert raw[16:32].hex() == log.log_id
    assert raw[32] & 1
    assert struct.unpack_from("<Q", raw, 48) == (1,)
    assert raw[56:88] == sha(b"session-mgmt-mcp", bytes.fromhex(log.log_id))
    assert raw[88:124] == bytes(36)
    assert struct.unpack_from("<I", raw, 124) == (crc32(raw[:124]),)


def test_a_frame_is_laid_out_as_in_the_table_and_its_chain_adds_up(log: FileLog) -> None:
    [path] = journal_paths(log.folder)
    header, raw, frames = frames_of(path)
    assert [(f.first, f.count) for f in frames] == [(1, 2), (3, 1)]
    at = 128
    chain = raw[56:88]
    for frame in frames:
        mark, length, crc, count, first, durable_upto, after = struct.unpack_from("<4sIIIQQ32s", raw, at)
        body = raw[at + 64 : at + 64 + length]
        assert mark == raw[32:36]
        assert (count, first, at + 64 + length) == (frame.count, frame.first, frame.end)
        assert 128 <= durable_upto <= at
        place = struct.pack("<QI", at, length)
        assert crc == crc32(body, crc32(raw[at + 12 : at + 64], crc32(place, crc32(header.salt))))
        ids = [body[16 * k : 16 * k + 16] for k in range(count)]
        salts = [body[16 * (count + k) : 16 * (count + k) + 16] for k in range(count)]
        sizes = [struct.unpack_from("<II", body, 32 * count + 8 * k) for k in range(count)]
        envelope_at = 40 * count
        payload_at = envelope_at + sum(e for e, _ in sizes)
        leaves = []
        for k in range(count):
            envelope = body[envelope_at : envelope_at + sizes[k][0]]
            payload = body[payload_at : payload_at + sizes[k][1]]
            envelope_at, payload_at = envelope_at + sizes[k][0], payload_at + sizes[k][1]
            leaves.append(sha(b"\0", struct.pack("<Q", first + k), ids[k], sha(salts[k], payload), envelope))
        assert payload_at == length
        chain = sha(chain, *leaves)
        assert after == chain
        at += 64 + length
    assert raw[at:] == bytes(len(raw) - at)
    assert log.head().chain == chain


def test_rolling_leaves_a_closing_frame_and_the_next_journal_continues_the_chain(log: FileLog) -> None:
    chain = log.head().chain
    log.roll()
    closed, following = journal_paths(log.folder)
    _, raw, frames = frames_of(closed)
    assert (frames[-1].count, frames[-1].first, frames[-1].end - frames[-1].offset) == (0, 4, 64)
    assert not raw[frames[-1].end :].strip(b"\0")
    assert following.name == "00000000000000000004.journal"
    assert following.read_bytes()[56:88] == chain


def test_a_capture_id_is_the_hash_of_its_parts_with_their_lengths() -> None:
    parts = [b"claude-code", b"record", b"u-2"]
    joined = b"".join(struct.pack("<I", len(p)) + p for p in parts)
    assert capture_id("claude-code", "record", "u-2") == sha(b"capture\0", joined)[:16]
    assert capture_id("ab", "c") != capture_id("a", "bc")


def test_a_segment_and_its_ids_are_as_in_the_tables(log: FileLog) -> None:
    [entry] = seal_all(log).segments
    path = Path(log.folder, "segments", entry.file)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert entry.file == f"{1:020d}-{3:020d}-{digest[:8]}.parquet"
    assert entry.sha256 == digest
    table = pq.read_table(path)
    assert table.column_names == [
        *("position", "frame", "event_id", "stream", "event_type", "schema_version", "recorded_at"),
        *("occurred_at", "actor", "source", "envelope", "payload_hash", "payload_salt", "payload"),
    ]
    rows = table.to_pylist()
    assert [(r["position"], r["frame"]) for r in rows] == [(1, 1), (2, 1), (3, 3)]
    for row in rows:
        assert row["payload_hash"] == sha(row["payload_salt"], row["payload"])
        assert decode_envelope(row["envelope"]).stream == row["stream"]

    raw = Path(log.folder, "segments", entry.ids).read_bytes()
    assert hashlib.sha256(raw).hexdigest() == entry.ids_sha256
    assert raw[:16] == b"SMIDS001" + struct.pack("<II", 3, 0)
    fan_out = struct.unpack_from("<4097I", raw, 16)
    body = raw[16 + 4 * 4097 : -4]
    found = [struct.unpack_from("<16sQII", body, at) for at in range(0, len(body), 32)]
    expected = [(r["event_id"], r["position"], crc32(r["payload"]), len(r["payload"])) for r in rows]
    bucket = {i: int.from_bytes(i[14:], "big") & 0xFFF for i, *_ in expected}
    assert found == sorted(expected, key=lambda row: (bucket[row[0]], row[0]))
    assert fan_out == tuple(sum(b < limit for b in bucket.values()) for limit in range(4097))
    assert struct.unpack("<I", raw[-4:]) == (crc32(raw[:-4]),)


def test_a_manifest_names_its_segments_and_the_manifest_before_it(log: FileLog) -> None:
    seal_all(log)
    log.append([event(b"four")])
    seal_all(log)
    first, second = sorted(Path(log.folder, "manifest").iterdir())
    assert (first.name, second.name) == (f"{1:020d}.json", f"{2:020d}.json")
    raw = second.read_bytes()
    found = json.loads(raw)
    digest = found.pop("sha256")
    assert digest == hashlib.sha256(json.dumps(found, separators=(",", ":")).encode()[:-1]).hexdigest()
    assert found["version"] == 2
    assert found["format_version"] == 1
    assert found["log_id"] == log.log_id
    assert found["previous"] == hashlib.sha256(first.read_bytes()).hexdigest()
    one, two = found["segments"]
    assert (one["first"], one["last"], two["first"], two["last"]) == (1, 3, 4, 4)
    assert one["chain"] == two["chain_before"]
    assert two["chain"] == log.head().chain.hex()
    assert list(one) == [
        *("first", "last", "file", "sha256", "ids", "ids_sha256", "bytes", "chain_before", "chain"),
        "forgotten",
    ]


def test_only_the_last_eight_manifests_are_kept(log: FileLog) -> None:
    for _ in range(10):
        log.append([event(b"more")])
        seal_all(log)
    names = sorted(p.name for p in Path(log.folder, "manifest").iterdir())
    assert names == [f"{v:020d}.json" for v in range(3, 11)]


def test_salt_and_payload_columns_alone_may_be_null() -> None:
    row = Row(1, 1, b"i" * 16, encode_envelope(event(b"").envelope), b"h" * 32, None, None)
    table = table_of([row])
    assert [f.name for f in table.schema if f.nullable] == ["payload_salt", "payload"]

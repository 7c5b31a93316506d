"""Large strings stored once: cut out of payloads, referred to, put back byte for byte."""

import base64
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_mgmt_mcp.adapters.claude_code import capture as hook
from session_mgmt_mcp.adapters.claude_code.importer import import_files, new_event
from session_mgmt_mcp.core.blob_refs import orphaned_blobs
from session_mgmt_mcp.core.blobs import EVENT_TYPE, as_captured, blob_id, expand, references, split
from session_mgmt_mcp.core.envelope import Event, capture_id
from session_mgmt_mcp.core.interpret.claude_types import read_record
from session_mgmt_mcp.core.interpret.dispatch import interpret
from session_mgmt_mcp.core.log.durable import sha256
from session_mgmt_mcp.core.log.forget import forget
from session_mgmt_mcp.core.log.frame import BLOB_BYTES_MIN
from session_mgmt_mcp.core.log.log import FileLog
from session_mgmt_mcp.core.log.seal import seal

ORIGINAL = 'def f(x):\n    return "a\\b" + x  # ü\n' * 400
IMAGE = base64.b64encode(random.Random(1).randbytes(9000)).decode()


def record(uuid: str, **result: object) -> bytes:
    content = [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "done"}]
    message = {"role": "user", "content": content}
    fields = {"type": "user", "uuid": uuid, "sessionId": "s-1", "timestamp": "2026-01-02T03:04:05Z"}
    return json.dumps({**fields, "message": message, "toolUseResult": result}, ensure_ascii=False).encode()


def hook_payload(n: int) -> bytes:
    said = {"session_id": "s-1", "hook_event_name": "PostToolUse", "tool_name": "Edit", "n": n}
    response = {"filePath": "/p/a.py", "originalFile": ORIGINAL, "structuredPatch": []}
    return json.dumps({**said, "tool_response": response}, ensure_ascii=False, separators=(",", ":")).encode()


def content(log: FileLog) -> list[Event]:
    return [event for batch in log.read() for event in batch]


def blobs_of(log: FileLog) -> list[Event]:
    return [event for event in content(log) if event.envelope.event_type == EVENT_TYPE]


def import_lines(log: FileLog, folder: Path, *lines: bytes) -> int:
    folder.mkdir(exist_ok=True)
    path = folder / "s-1.jsonl"
    path.write_bytes(b"\n".join(lines) + b"\n")
    return import_files([path], log, redact=lambda raw: raw).appended


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
def test_whole_files_and_images_are_cut_out_and_put_back_byte_for_byte(separators: tuple[str, str]) -> None:
    value = {"a": {"originalFile": ORIGINAL}, "b": [{"type": "base64", "data": IMAGE}], "c": "data"}
    payload = json.dumps(value, separators=separators).encode()
    rest, found = split(payload)
    assert len(found) == 2
    assert len(rest) < 400
    json.loads(rest)
    assert expand(rest, lambda ids: {i: c for i, c in found if i in ids}) == payload


def test_short_strings_and_long_texts_that_are_searched_stay() -> None:
    for value in ({"originalFile": "x" * (BLOB_BYTES_MIN - 1)}, {"stdout": ORIGINAL}, {"data": ORIGINAL}):
        payload = json.dumps({"pad": "y" * BLOB_BYTES_MIN, **value}).encode()
        assert split(payload) == (payload, [])


def test_a_quoted_payload_within_a_string_is_not_cut() -> None:
    inner = json.dumps({"originalFile": ORIGINAL})
    payload = json.dumps({"stdout": inner}).encode()
    assert split(payload) == (payload, [])


@given(
    st.lists(
        st.sampled_from(
            [b'"originalFile":"', b'"data":"', b'"', b"\\", b'\\"', b"{", b"x" * BLOB_BYTES_MIN, b",", b"A"]
        ),
        max_size=14,
    )
)
def test_whatever_is_cut_out_of_whatever_bytes_is_put_back(parts: list[bytes]) -> None:
    payload = b"".join(parts)
    rest, found = split(payload)
    assert expand(rest, lambda _: dict(found)) == payload


def test_the_id_is_made_of_the_content() -> None:
    assert blob_id(b"abc") == capture_id("session-mgmt", "blob", sha256(b"abc").digest())


def test_text_that_only_looks_like_a_reference_stays() -> None:
    for text in (
        b'"session-mgmt:blob:"',
        b'"session-mgmt:blob:zz:1"',
        b'"session-mgmt:blob:' + b"g" * 32 + b':1"',
    ):
        assert references(text) == []
        assert expand(text, lambda _: {}) == text


def test_records_with_the_same_original_store_it_once(tmp_path: Path) -> None:
    with FileLog(tmp_path / "data", create=True) as log:
        lines = [record(f"u-{k}", originalFile=ORIGINAL) for k in range(3)]
        assert import_lines(log, tmp_path / "t", *lines) == 3
        [blob] = blobs_of(log)
        assert blob.payload == json.dumps(ORIGINAL, ensure_ascii=False).encode()[1:-1]
        records = [e for e in content(log) if e.envelope.event_type != EVENT_TYPE]
        assert [as_captured(e.payload or b"", log) for e in records] == lines


def test_importing_again_adds_no_blob_to_a_log_that_holds_its_records_whole(tmp_path: Path) -> None:
    line = record("u-1", originalFile=ORIGINAL)
    with FileLog(tmp_path / "data", create=True) as log:
        log.append([new_event(read_record(line), line, "s-1")])  # as an earlier version stored it
        assert import_lines(log, tmp_path / "t", line) == 0
        assert len(content(log)) == 1


@pytest.mark.parametrize("sealed", [False, True])
def test_hooks_and_the_transcript_share_one_copy(tmp_path: Path, sealed: bool) -> None:
    folder = tmp_path / "data"
    with FileLog(folder, create=True) as log:
        hook.capture(str(folder), hook_payload(1))
        if sealed:
            log.roll()
            seal(str(folder), log.log_id)
        hook.capture(str(folder), hook_payload(2))
        import_lines(log, tmp_path / "t", record("u-1", originalFile=ORIGINAL))
        assert len(blobs_of(log)) == 1
        hooks = [
            e for e in content(log) if e.envelope.source == "hook" and e.envelope.event_type != EVENT_TYPE
        ]
        assert [as_captured(e.payload or b"", log) for e in hooks] == [hook_payload(1), hook_payload(2)]


def test_a_blob_found_in_the_middle_of_a_payload_does_not_count_as_stored(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    _, [(event_id, _)] = split(hook_payload(1))
    with FileLog(folder, create=True) as log:
        hook.capture(str(folder), b'{"session_id":"s","x":"' + event_id + b'"}')
        hook.capture(str(folder), hook_payload(1))
        assert len(blobs_of(log)) == 1


def test_a_blob_is_nothing_people_are_shown(tmp_path: Path) -> None:
    with FileLog(tmp_path / "data", create=True) as log:
        import_lines(log, tmp_path / "t", record("u-1", originalFile=ORIGINAL))
        assert [interpret(blob) for blob in blobs_of(log)] == [[]]


def test_a_hook_with_a_blob_imports_nothing_slow(tmp_path: Path) -> None:
    code = (
        "import sys; sys.path.append(sys.argv[1]); sys.argv = ['hook', '--data-dir', sys.argv[2]]\n"
        "from session_mgmt_mcp.adapters.claude_code.capture import main\n"
        "main(sys.argv[1:])\n"
        "slow = {'re', 'json', 'typing', 'hashlib', 'pathlib', 'msgspec', 'pyarrow', 'collections'}\n"
        "print(sorted(slow & set(sys.modules)))"
    )
    command = [
        sys.executable,
        "-I",
        "-S",
        "-c",
        code,
        str(Path(hook.__file__).parents[3]),
        str(tmp_path / "data"),
    ]
    with FileLog(tmp_path / "data", create=True) as log:
        for n in range(2):  # the first one also makes the journal
            done = subprocess.run(command, input=hook_payload(n), capture_output=True, check=True)
        assert done.stdout.decode().strip() == "[]"
        assert len(content(log)) == 3


def test_a_blob_goes_with_the_last_event_that_refers_to_it(tmp_path: Path) -> None:
    with FileLog(tmp_path / "data", create=True) as log:
        import_lines(log, tmp_path / "t", *(record(f"u-{k}", originalFile=ORIGINAL) for k in range(2)))
        [blob] = blobs_of(log)
        first, second = (e.position for e in content(log) if e.envelope.event_type != EVENT_TYPE)
        assert orphaned_blobs(log, [first]) == set()
        assert orphaned_blobs(log, [first, second]) == {blob.position}


@pytest.mark.parametrize("by_hook", [False, True])
def test_what_is_captured_with_a_forgotten_content_keeps_it(tmp_path: Path, by_hook: bool) -> None:
    folder = tmp_path / "data"
    with FileLog(folder, create=True) as log:
        import_lines(log, tmp_path / "t", record("u-1", originalFile=ORIGINAL))
        forget(log, [1, 2], lambda _: [])
        if by_hook:
            hook.capture(str(folder), hook_payload(1))
        else:
            import_lines(log, tmp_path / "t", record("u-2", originalFile=ORIGINAL))
        assert import_lines(log, tmp_path / "t", record("u-1", originalFile=ORIGINAL)) == 0
        last = content(log)[-1].payload
        assert last == (hook_payload(1) if by_hook else record("u-2", originalFile=ORIGINAL))
        assert content(log)[:2] == [e._replace(payload=None) for e in content(log)[:2]]

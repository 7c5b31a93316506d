"""The five worked examples of FORMAT.md section 7, as they are printed there."""

import hashlib
import json
from pathlib import Path

import msgspec
import pytest
from log_kit import content, event, files_with, seal_all

from session_mgmt_mcp.adapters.claude_code.importer import import_files
from session_mgmt_mcp.core.envelope import Envelope, EventType, NewEvent, capture_id
from session_mgmt_mcp.core.errors import InputError
from session_mgmt_mcp.core.events import PayloadForgotten
from session_mgmt_mcp.core.interpret.dispatch import interpret
from session_mgmt_mcp.core.log.forget import forget
from session_mgmt_mcp.core.log.log import FileLog
from session_mgmt_mcp.core.log.manifest import load_manifest
from session_mgmt_mcp.core.log.verify import verify
from session_mgmt_mcp.projections.rows import RANKS


@pytest.fixture
def log(tmp_path: Path) -> FileLog:
    return FileLog(tmp_path / "data", create=True)


def user_record(uuid: str, session: str, text: str) -> dict[str, object]:
    return {
        "type": "user",
        "uuid": uuid,
        "sessionId": session,
        "timestamp": "2026-02-03T10:00:00.000Z",
        "message": {"role": "user", "content": text},
    }


def write_session(folder: Path, session: str, *records: dict[str, object]) -> Path:
    path = folder / f"{session}.jsonl"
    path.write_text("".join(json.dumps({**r, "sessionId": session}) + "\n" for r in records))
    return path


def import_one(log: FileLog, path: Path) -> tuple[int, int, int]:
    report = import_files([path], log, redact=lambda raw: raw)
    return report.appended, report.duplicates, report.changed


# -- 1. one fact, hook and transcript ----------------------------------------------------------------------------


def test_a_hook_and_the_transcript_report_one_fact_as_two_events_with_one_key(
    log: FileLog, tmp_path: Path
) -> None:
    hook = {
        "session_id": "s-1",
        "hook_event_name": "PostToolUse",
        "tool_name": "Bash",
        "tool_input": {"command": "ls"},
        "tool_response": {"stdout": "wheel.py"},
        "tool_use_id": "toolu_1",
    }
    log.append([event(json.dumps(hook).encode())])
    result = user_record("u-2", "s-1", "")
    result["message"] = {
        "role": "user",
        "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "wheel.py"}],
    }
    assert import_one(log, write_session(tmp_path, "s-1", result)) == (1, 0, 0)

    reported, imported = content(log)
    assert imported.event_id.hex() == "fea2d81f379a0317a7fea2016fe0d483"
    assert reported.event_id[6] >> 4 == 7  # a UUIDv7
    assert "return:toolu_1" in [a.key for a in interpret(reported)]
    assert [a.key for a in interpret(imported)] == ["return:toolu_1"]
    assert RANKS[imported.envelope.source] < RANKS[reported.envelope.source]


# -- 2. a resumed session ----------------------------------------------------------------------------------------


def test_a_resumed_session_stores_its_copied_records_once(log: FileLog, tmp_path: Path) -> None:
    one, two = user_record("u-1", "s-1", "first"), user_record("u-2", "s-1", "second")
    original = write_session(tmp_path, "s-1", one, two)
    resumed = write_session(tmp_path, "s-2", one, two, user_record("u-3", "s-2", "third"))

    report = import_files([original, resumed], log, redact=lambda raw: raw)

    assert (report.appended, report.duplicates, report.changed) == (3, 2, 2)
    assert [(e.event_id, e.envelope.stream) for e in content(log)] == [
        (capture_id("claude-code", "record", "u-1"), "claude-code/s-1"),
        (capture_id("claude-code", "record", "u-2"), "claude-code/s-1"),
        (capture_id("claude-code", "record", "u-3"), "claude-code/s-2"),
    ]


# -- 3. a forked session -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("first", "second"), [("s-3", "s-4"), ("s-4", "s-3")])
def test_the_order_of_import_of_forks_changes_a_stream_and_no_count(
    log: FileLog, tmp_path: Path, first: str, second: str
) -> None:
    shared = user_record("u-1", "s-3", "shared")
    paths = {
        "s-3": write_session(tmp_path, "s-3", shared, user_record("u-2", "s-3", "left")),
        "s-4": write_session(tmp_path, "s-4", shared, user_record("u-3", "s-4", "right")),
    }
    assert import_one(log, paths[first]) == (2, 0, 0)
    assert import_one(log, paths[second]) == (1, 1, 1)

    stored = {e.event_id: e.envelope.stream for e in content(log)}
    assert len(stored) == 3
    assert stored[capture_id("claude-code", "record", "u-1")] == f"claude-code/{first}"
    assert len({a.key for e in content(log) for a in interpret(e)}) == 3


# -- 4. a document that is rewritten -----------------------------------------------------------------------------


def document_event(part: bytes) -> NewEvent:
    event_id = capture_id("gemini-cli", "document", "g-1", "m-1", hashlib.sha256(part).digest())
    return NewEvent(event_id, Envelope("gemini-cli/g-1", "DocumentRead", 1, 0, 0, "user", "document"), part)


def test_both_versions_of_a_rewritten_document_are_stored_and_reading_again_adds_nothing(
    log: FileLog,
) -> None:
    early, late = b'{"id":"m-1","text":"a"}', b'{"id":"m-1","text":"ab"}'
    assert document_event(early).event_id.hex() == "9776ec689ffea1f8fe87f6aace7ac283"
    assert document_event(late).event_id.hex() == "0a658590352c928e6edb17de0118b2a3"

    for part in (early, late, late, early):
        log.append([document_event(part)])

    assert [e.payload for e in content(log)] == [early, late]


# -- 5. forget, then import again --------------------------------------------------------------------------------


def keys_at(log: FileLog, positions: object) -> list[str]:
    return [a.key for e in log.get(list(positions)).values() for a in interpret(e)]  # type: ignore[call-overload]


def test_a_forgotten_payload_is_in_no_file_and_importing_it_again_adds_nothing(
    log: FileLog, tmp_path: Path
) -> None:
    secret = "the mill's back door is green"
    path = write_session(tmp_path, "s-1", user_record("u-1", "s-1", secret), user_record("u-2", "s-1", "b"))
    import_one(log, path)
    before = log.get([1])[1]
    seal_all(log)
    assert files_with(log.folder, [secret.encode()])

    forget(log, [1], lambda positions: keys_at(log, positions), "asked to")

    assert files_with(log.folder, [secret.encode()]) == []
    after = log.get([1])[1]
    assert after == before._replace(payload=None)
    verified = verify(log.folder, log.log_id)
    assert (verified.events, verified.forgotten) == (3, 1)
    assert import_one(log, path) == (0, 2, 0)
    tombstone = msgspec.json.decode(log.get([3])[3].payload or b"", type=PayloadForgotten)
    assert tombstone.positions == (1,)
    assert tombstone.event_ids == (before.event_id.hex(),)
    assert tombstone.action_keys == tuple(a.key for a in interpret(before))


def test_forgetting_leaves_no_payload_in_what_an_interrupted_seal_left_behind(
    log: FileLog, tmp_path: Path
) -> None:
    secret = "under the third stone"
    import_one(log, write_session(tmp_path, "s-1", user_record("u-1", "s-1", secret)))
    seal_all(log)
    [segment] = Path(log.folder, "segments").glob("*.parquet")
    Path(log.folder, "segments", "0123456789ab.tmp").write_bytes(segment.read_bytes())
    orphan = segment.with_name(segment.name.replace(segment.stem[-8:], "00000000"))
    orphan.write_bytes(segment.read_bytes())

    forget(log, [1], lambda positions: keys_at(log, positions))

    assert files_with(log.folder, [secret.encode()]) == []
    assert sorted(p.name for p in Path(log.folder, "segments").iterdir()) == sorted(
        name for entry in load_manifest(log.folder).segments for name in (entry.file, entry.ids)
    )


def test_chain_leaves_and_ids_stay_as_they_were_when_a_payload_is_forgotten(log: FileLog) -> None:
    log.append([event(b"keep"), event(b"drop")])
    seal_all(log)
    [before] = load_manifest(log.folder).segments
    forget(log, [2], lambda _: [])
    after = load_manifest(log.folder).segments[0]
    assert (after.chain, after.chain_before, after.first, after.last) == (
        before.chain,
        before.chain_before,
        before.first,
        before.last,
    )
    assert after.forgotten == 1


def test_a_tombstone_cannot_be_forgotten(log: FileLog) -> None:
    log.append([event(b"drop")])
    forget(log, [1], lambda _: ["own:x"])
    assert log.get([2])[2].envelope.event_type == EventType.PAYLOAD_FORGOTTEN
    with pytest.raises(InputError, match="position 2 says what was forgotten"):
        forget(log, [2], lambda _: [])
    with pytest.raises(InputError, match="position 9 is not in the log"):
        forget(log, [9], lambda _: [])
    assert log.head().position == 2

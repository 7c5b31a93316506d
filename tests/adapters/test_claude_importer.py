"""Importing transcripts: every record once, everything counted."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from claude_events import assistant, text, user
from memory_log import MemoryLog

from session_mgmt_mcp.adapters import lines as json_lines
from session_mgmt_mcp.adapters.claude_code import importer
from session_mgmt_mcp.adapters.claude_code.importer import (
    ImportReport,
    Progress,
    find_transcripts,
    import_files,
)
from session_mgmt_mcp.core.errors import InputError
from session_mgmt_mcp.core.interpret import interpret

FIXTURES = Path(__file__).parent / "fixtures"
S1, S2 = (f"0000000{n}-0000-4000-8000-000000000000" for n in (1, 2))


def same(payload: bytes) -> bytes:
    return payload


def write(path: Path, *records: Any, end: bytes = b"\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [r if isinstance(r, bytes) else json.dumps(r).encode() for r in records]
    path.write_bytes(b"\n".join(lines) + (end if lines else b""))
    return path


def record(uuid: str, session: str = S1, second: int = 0, **fields: Any) -> dict[str, Any]:
    stamp = f"2026-03-01T10:00:{second:02}.000Z"
    return {**user(f"say {uuid}"), "uuid": uuid, "sessionId": session, "timestamp": stamp, **fields}


def run(log: MemoryLog, *paths: Path, **options: Any) -> ImportReport:
    report = import_files(list(paths), log, redact=options.pop("redact", same), **options)
    assert report.read == report.appended + report.duplicates + report.noise + report.errors
    assert report.unknown == sum(report.unknown_by_type.values()) <= report.appended
    assert report.noise == sum(report.noise_by_type.values())
    return report


def counts(report: ImportReport) -> tuple[int, int, int, int, int]:
    return report.read, report.appended, report.duplicates, report.noise, report.errors


@pytest.fixture
def log() -> MemoryLog:
    return MemoryLog()


def test_a_session_is_imported_once_however_often_it_is_read(log: MemoryLog) -> None:
    assert counts(run(log, FIXTURES / "mill_session.jsonl")) == (15, 14, 0, 1, 0)
    again = run(log, FIXTURES / "mill_session.jsonl")
    assert counts(again) == (15, 0, 14, 1, 0)
    assert (again.changed, again.noise_by_type) == (0, {"queue-operation/dequeue": 1})


def test_an_event_is_filed_under_its_session_with_time_and_actor(log: MemoryLog) -> None:
    run(log, FIXTURES / "mill_session.jsonl")
    prompt = next(event for event in log.events if b'"mill-1"' in event.payload)
    envelope = prompt.envelope
    assert envelope.stream == "claude-code/7d0c5a52-1f0e-4a53-9a3e-2f6d4c1b8e01"
    assert (envelope.event_type, envelope.source, envelope.actor) == ("RecordImported", "record", "user")
    assert envelope.occurred_at == 1_772_359_201_000_000
    actors = [event.envelope.actor for event in log.events]
    assert {actor: actors.count(actor) for actor in set(actors)} == {
        "user": 1,
        "assistant": 6,
        "tool": 3,
        "system": 4,
    }


def test_the_id_of_a_record_is_the_one_the_format_gives(log: MemoryLog, tmp_path: Path) -> None:
    run(log, write(tmp_path / f"{S1}.jsonl", record("u-2")))
    assert log.events[0].event_id.hex() == "fea2d81f379a0317a7fea2016fe0d483"


def test_history_copied_into_a_resumed_session_stays_where_it_was_said(
    log: MemoryLog, tmp_path: Path
) -> None:
    # The copy sorts first by name; it ends later, so the original is read first.
    write(tmp_path / f"{S2}.jsonl", record("u-1", S1), record("u-2", S1, 1))
    write(tmp_path / f"{S1}.jsonl", record("u-1", S2), record("u-2", S2, 1), record("u-3", S2, 2))
    report = run(log, tmp_path)
    assert counts(report) == (5, 3, 2, 0, 0)
    assert report.changed == 2
    assert [event.envelope.session for event in log.events] == [S1, S1, S2]


def test_the_order_of_import_changes_streams_and_no_counts(tmp_path: Path) -> None:
    first = write(tmp_path / "a" / f"{S1}.jsonl", record("u-1", S1), record("u-2", S1, 1))
    second = write(tmp_path / "b" / f"{S2}.jsonl", record("u-1", S2), record("u-3", S2, 1))
    outcomes = []
    for order in ((first, second), (second, first)):
        log = MemoryLog()
        for path in order:
            run(log, path)
        outcomes.append({event.event_id for event in log.events})
    assert outcomes[0] == outcomes[1] and len(outcomes[0]) == 3


def test_equal_records_without_uuid_are_one_within_a_session_and_two_across(
    log: MemoryLog, tmp_path: Path
) -> None:
    title = {"type": "custom-title", "customTitle": "Mill"}
    write(tmp_path / f"{S1}.jsonl", title, title)
    write(tmp_path / f"{S2}.jsonl", title)
    assert counts(run(log, tmp_path)) == (3, 2, 1, 0, 0)
    assert {event.envelope.session for event in log.events} == {S1, S2}


def test_what_is_said_before_redaction_decides_the_id_and_what_is_kept_is_redacted(
    log: MemoryLog, tmp_path: Path
) -> None:
    path = write(tmp_path / f"{S1}.jsonl", {"type": "summary", "summary": "key one"})
    run(log, path, redact=lambda payload: payload.replace(b"one", b"***"))
    write(path, {"type": "summary", "summary": "key two"})
    assert run(log, path, redact=lambda payload: payload.replace(b"two", b"***")).appended == 1
    assert [json.loads(event.payload)["summary"] for event in log.events] == ["key ***", "key ***"]


def test_a_batch_may_be_redacted_at_once(log: MemoryLog, tmp_path: Path) -> None:
    batches: list[int] = []

    def many(payloads: list[bytes]) -> list[bytes]:
        batches.append(len(payloads))
        return [payload.replace(b"say", b"***") for payload in payloads]

    path = write(tmp_path / f"{S1}.jsonl", *(record(f"u-{n}") for n in range(2001)))
    assert counts(run(log, path, redact_many=many)) == (2001, 2001, 0, 0, 0)
    assert batches == [2000, 1]
    assert all(b"*** u-" in event.payload and b"say" not in event.payload for event in log.events)


@pytest.mark.parametrize(
    ("name", "fields", "session"),
    [
        (f"2026-01-06-{S1}.jsonl", {}, S1),
        ("agent-ab12.jsonl", {"sessionId": S2}, S2),
        ("x.jsonl", {"sessionId": f"2026-01-06-{S2}"}, S2),
        (f"{S1}/subagents/agent-ab12.jsonl", {}, S1),
        (f"{S1}/subagents/workflows/wf_1/journal.jsonl", {}, S1),
        ("notes.jsonl", {}, "notes"),
    ],
)
def test_a_record_without_a_session_belongs_to_its_files(
    name: str, fields: dict[str, str], session: str, log: MemoryLog, tmp_path: Path
) -> None:
    other = {"type": "mode", **fields}
    run(log, write(tmp_path / name, {"type": "summary", "summary": "x"}, other))
    assert {event.envelope.session for event in log.events} == {session}


def test_a_malformed_line_is_counted_and_named_and_the_rest_is_imported(
    log: MemoryLog, tmp_path: Path
) -> None:
    path = write(
        tmp_path / f"{S1}.jsonl", record("u-1"), b'{"type":"us{"type":"user"}', b"[1]", record("u-2")
    )
    report = run(log, path)
    assert counts(report) == (4, 2, 0, 0, 2)
    assert [(s.path, s.line) for s in report.error_samples] == [(str(path), 2), (str(path), 3)]
    assert report.error_samples[1].reason == "not a JSON object"


def test_at_most_twenty_errors_are_named(log: MemoryLog, tmp_path: Path) -> None:
    report = run(log, write(tmp_path / f"{S1}.jsonl", *([b"?"] * 30)))
    assert (report.errors, len(report.error_samples)) == (30, 20)


@pytest.mark.parametrize(
    "line",
    [
        b"\xef\xbb\xbf" + json.dumps(record("u-1")).encode(),
        json.dumps(record("u-1")).encode() + b"\r",
        b"\0\0" + json.dumps(record("u-1")).encode(),
        json.dumps(record("u-1", note="\ud83d")).encode(),
        json.dumps(record("u-1", note="\ufffd \x00 \r\n \x1b[1m"), ensure_ascii=False).encode(),
        json.dumps(record("u-1", note="x" * (3 << 20))).encode(),
    ],
)
def test_odd_bytes_are_kept_as_read(line: bytes, log: MemoryLog, tmp_path: Path) -> None:
    report = run(log, write(tmp_path / f"{S1}.jsonl", line, b"", b"  ", record("u-2")))
    assert counts(report) == (2, 2, 0, 0, 0)
    assert log.events[0].payload == line.removesuffix(b"\r")
    assert interpret(log.events[0])[0].text == "say u-1"


def test_a_line_beyond_the_limit_is_an_error_and_the_next_is_read(
    log: MemoryLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / f"{S1}.jsonl", record("u-1", note="x" * 5000), record("u-2"), b'"' + b"x" * 9000)
    whole = json_lines.lines
    monkeypatch.setattr(importer, "lines", lambda file, **where: whole(file, limit=1000, **where))
    assert counts(run(log, path)) == (3, 1, 0, 0, 2)
    assert log.events[0].payload == json.dumps(record("u-2")).encode()


def test_a_last_line_without_newline_is_taken_where_it_is_whole_and_an_error_where_it_is_torn(
    log: MemoryLog, tmp_path: Path
) -> None:
    whole = write(tmp_path / f"{S1}.jsonl", record("u-1"), record("u-2"), end=b"")
    torn = write(tmp_path / f"{S2}.jsonl", record("u-3"), b'{"type":"user","uu', end=b"")
    assert counts(run(log, whole)) == (2, 2, 0, 0, 0)
    assert counts(run(log, torn)) == (2, 1, 0, 0, 1)


def test_ticks_are_counted_and_left_out_and_a_subagents_turns_are_not(log: MemoryLog, tmp_path: Path) -> None:
    def tick(uuid: str, kind: str) -> dict[str, Any]:
        nested = assistant(text("found"))
        return {"type": "progress", "uuid": uuid, "data": {"type": kind, "agentId": "ab", "message": nested}}

    kinds = ("bash_progress", "hook_progress", "mcp_progress", "agent_progress", "slow_progress")
    report = run(log, write(tmp_path / f"{S1}.jsonl", *(tick(f"p-{kind}", kind) for kind in kinds)))
    assert report.noise_by_type == {f"progress/{kind}": 1 for kind in kinds[:3]}
    assert report.unknown_by_type == {"progress/slow_progress": 1}
    assert [type(a).__name__ for a in interpret(log.events[0])] == ["AssistantReplied"]


def test_records_of_unknown_type_are_kept_and_counted_once(log: MemoryLog, tmp_path: Path) -> None:
    path = write(tmp_path / f"{S1}.jsonl", {"type": "hologram", "uuid": "h-1"}, {"silly": 1}, record("u-1"))
    assert run(log, path).unknown_by_type == {"hologram": 1, "no type": 1}
    assert run(log, path).unknown == 0
    assert log.head().position == 3


def test_a_subagents_file_is_the_parents_session(log: MemoryLog, tmp_path: Path) -> None:
    write(tmp_path / f"{S1}.jsonl", record("u-1"))
    agents = {"sessionId": S1, "isSidechain": True, "agentId": "ab12"}
    asked = record("g-1", **agents)
    reply = {**assistant(text("three")), "uuid": "g-2", **agents}
    write(tmp_path / S1 / "subagents" / "agent-ab12.jsonl", asked, reply)
    assert run(log, tmp_path).appended == 3
    assert {event.envelope.session for event in log.events} == {S1}
    assert "agent:ab12" in {event.envelope.actor for event in log.events}


def test_files_are_found_once_and_only_transcripts_in_folders(tmp_path: Path) -> None:
    late = write(tmp_path / "a" / "late.jsonl", record("u-1", second=9))
    early = write(tmp_path / "b" / "early.jsonl", record("u-2", second=1))
    bare = write(tmp_path / "b" / "bare.jsonl", {"type": "summary", "summary": "x"})
    (tmp_path / "b" / "notes.txt").write_text("no")
    assert find_transcripts([late, tmp_path, tmp_path / "b"]) == [bare, early, late]


def test_of_two_files_that_end_at_one_moment_the_shorter_is_the_original(tmp_path: Path) -> None:
    copy = write(tmp_path / "a.jsonl", record("u-1", second=9), {"type": "mode"})
    original = write(tmp_path / "b.jsonl", record("u-1", second=9))
    assert find_transcripts([tmp_path]) == [original, copy]


def test_a_missing_path_is_refused_before_anything_is_read(log: MemoryLog, tmp_path: Path) -> None:
    path = write(tmp_path / f"{S1}.jsonl", record("u-1"))
    with pytest.raises(InputError, match=r"gone\.jsonl: no such file"):
        run(log, path, tmp_path / "gone.jsonl")
    assert log.head().position == 0


def test_a_file_that_cannot_be_read_is_one_error_and_the_others_are_imported(
    log: MemoryLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = write(tmp_path / f"{S1}.jsonl", record("u-1"))
    write(tmp_path / f"{S2}.jsonl", record("u-2"))
    whole_open = Path.open

    def refuse(path: Path, *args: Any, **options: Any) -> Any:
        if path == bad:
            raise PermissionError(13, "Permission denied")
        return whole_open(path, *args, **options)

    monkeypatch.setattr(Path, "open", refuse)
    report = run(log, tmp_path)
    assert counts(report) == (2, 1, 0, 0, 1)
    assert (report.error_samples[0].path, report.error_samples[0].line) == (str(bad), 0)
    assert "Permission denied" in report.error_samples[0].reason


def test_appends_are_batched_by_count_and_by_bytes(log: MemoryLog, tmp_path: Path) -> None:
    run(log, write(tmp_path / f"{S1}.jsonl", *(record(f"u-{n}") for n in range(1001))))
    assert log.appends == 3
    run(log, write(tmp_path / f"{S2}.jsonl", *(record(f"v-{n}", note="x" * 600_000) for n in range(4))))
    assert log.appends == 5


def test_progress_ends_at_the_whole(log: MemoryLog, tmp_path: Path) -> None:
    path = write(tmp_path / f"{S1}.jsonl", *(record(f"u-{n}") for n in range(2100)))
    seen: list[Progress] = []
    run(log, path, progress=seen.append)
    size = path.stat().st_size
    assert seen[-1] == Progress(1, 1, size, size, 2100)
    assert [p.read for p in seen] == [2000, 2100] and 0 < seen[0].bytes < size


def test_stopping_reports_what_was_done_and_the_next_import_completes_it(
    log: MemoryLog, tmp_path: Path
) -> None:
    path = write(tmp_path / f"{S1}.jsonl", *(record(f"u-{n}") for n in range(2400)))
    assert counts(run(log, path, stop=lambda: True)) == (2000, 2000, 0, 0, 0)
    assert counts(run(log, path)) == (2400, 400, 2000, 0, 0)


@pytest.mark.parametrize(
    ("stamp", "expected"),
    [
        ("2026-03-01T10:00:01.5Z", 1_772_359_201_500_000),
        ("2026-03-01T11:00:01.500001+01:00", 1_772_359_201_500_001),
        ("2026-03-01T10:00:01", 1_772_359_201_000_000),
        ("yesterday", 0),
        (None, 0),
        (12, 0),
    ],
)
def test_times_are_microseconds_or_unknown(stamp: Any, expected: int, log: MemoryLog, tmp_path: Path) -> None:
    run(log, write(tmp_path / f"{S1}.jsonl", record("u-1", timestamp=stamp)))
    assert log.events[0].envelope.occurred_at == expected


def test_an_error_of_the_log_is_not_taken_for_a_bad_file(tmp_path: Path) -> None:
    class Full(MemoryLog):
        append: Callable[..., Any]

    def full(*_: Any, **__: Any) -> Any:
        raise OSError(28, "No space left on device")

    log = Full()
    log.append = full
    with pytest.raises(OSError, match="No space left"):
        run(log, write(tmp_path / f"{S1}.jsonl", *(record(f"u-{n}") for n in range(600))))

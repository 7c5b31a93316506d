"""Importing the generic format: every record once, whatever is wrong with the others, everything counted."""

import io
import json
import re
from pathlib import Path
from typing import Any

import jsonschema  # the protocol's SDK brings it
import pytest
from memory_log import MemoryLog

from session_mgmt_mcp.adapters.generic import importer
from session_mgmt_mcp.adapters.generic.importer import Input, find_files, import_entries, is_generic
from session_mgmt_mcp.adapters.importing import ImportReport, Progress
from session_mgmt_mcp.core.actions import Action, PromptSubmitted, ToolCalled, ToolReturned
from session_mgmt_mcp.core.interpret import interpret
from session_mgmt_mcp.core.interpret.generic_record import FIELDS, KINDS, microseconds
from session_mgmt_mcp.core.redact import redact
from session_mgmt_mcp.core.redact_batch import redact_many

FORMAT = Path(importer.__file__).parent / "FORMAT.md"
SCHEMA = json.loads((FORMAT.parent / "schema.json").read_text("utf-8"))
UUID = "6b1f3f4e-1111-4222-8333-944444444444"
NOON = 1_772_452_800_000_000  # 2026-03-02T12:00:00Z


@pytest.fixture
def log() -> MemoryLog:
    return MemoryLog()


def entry(record: int | str | None = 1, text: str = "hello", **fields: Any) -> dict[str, Any]:
    given = {} if record is None else {"record": record}
    return {"session": "s-1", "actor": "user", "text": text, **given, **fields}


def run(log: MemoryLog, *records: Any, **options: Any) -> ImportReport:
    lines = [r if isinstance(r, bytes) else json.dumps(r).encode() for r in records]
    stream = Input("given", io.BytesIO(b"\n".join(lines)))
    report = import_entries([stream], log, redact=options.pop("redact", bytes), **options)
    assert report.read == report.appended + report.duplicates + report.noise + report.errors
    assert report.unknown == sum(report.unknown_by_type.values()) <= report.appended
    assert report.noise == sum(report.noise_by_type.values())
    return report


def counts(report: ImportReport) -> tuple[int, int, int, int, int]:
    return report.read, report.appended, report.duplicates, report.noise, report.errors


def actions(log: MemoryLog) -> list[Action]:
    return [action for event in log.events for action in interpret(event)]


def one(log: MemoryLog, **fields: Any) -> Action:
    run(log, entry(**fields))
    (action,) = interpret(log.events[-1])
    return action


# what is stored once -----------------------------------------------------------------------------------------


def test_a_history_is_imported_once_however_often_it_is_read(log: MemoryLog) -> None:
    history = [entry(1), entry(2, "again"), entry(None, "without an id")]
    assert counts(run(log, *history)) == (3, 3, 0, 0, 0)
    again = run(log, *history)
    assert (*counts(again), again.changed) == (3, 0, 3, 0, 0, 0)


def test_an_interrupted_import_is_gone_on_with_by_running_it_again(log: MemoryLog) -> None:
    run(log, entry(1), entry(2))
    assert counts(run(log, entry(1), entry(2), entry(3))) == (3, 1, 2, 0, 0)


def test_a_known_record_with_other_content_is_counted_as_changed_and_the_log_keeps_the_first(
    log: MemoryLog,
) -> None:
    run(log, entry(1, "first"))
    report = run(log, entry(1, "second"))
    assert (report.duplicates, report.changed) == (1, 1)
    assert [action.text for action in actions(log)] == ["first"]


def test_numbers_name_records_within_their_session_and_uuids_everywhere(log: MemoryLog) -> None:
    report = run(
        log,
        entry(1),
        entry(1, session="s-2"),
        entry(1, assistant="aider"),
        entry(UUID),
        entry(UUID, session="s-2"),
    )
    assert (report.appended, report.duplicates) == (4, 1)


def test_facts_of_records_that_share_a_number_are_not_one(log: MemoryLog) -> None:
    run(log, entry(1, kind="call", call=1), entry(1, kind="call", call=1, session="s-2"))
    first, second = actions(log)
    assert first.key != second.key


# what a record means -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "kind", "actor"),
    [
        ({"actor": "user"}, "PromptSubmitted", "user"),
        ({"actor": "User"}, "PromptSubmitted", "user"),
        ({"actor": "assistant"}, "AssistantReplied", "assistant"),
        ({"actor": "agent:7"}, "AssistantReplied", "agent:7"),
        ({"actor": "tool"}, "ToolReturned", "tool"),
        ({"actor": "system"}, "ContextNoted", "system"),
        ({"actor": "Caroline"}, "PromptSubmitted", "Caroline"),
        ({"actor": "Caroline", "kind": "note"}, "ContextNoted", "Caroline"),
        ({"actor": None, "kind": "prompt"}, "PromptSubmitted", "user"),
        ({"actor": None, "kind": "reply"}, "AssistantReplied", "assistant"),
        ({"actor": None, "kind": "thought"}, "AssistantThought", "assistant"),
        ({"actor": None, "kind": "call"}, "ToolCalled", "assistant"),
        ({"actor": None, "kind": "result"}, "ToolReturned", "tool"),
        ({"actor": None, "kind": "summary"}, "ContextCompacted", "system"),
        ({"actor": None, "kind": "title"}, "SessionTitled", "system"),
        ({"actor": None, "kind": "Reflection"}, "ReflectionRemembered", "system"),
    ],
)
def test_kind_and_actor_say_what_a_record_is(
    log: MemoryLog, fields: dict[str, Any], kind: str, actor: str
) -> None:
    action = one(log, **fields)
    assert (type(action).__name__, action.actor, action.text) == (kind, actor, "hello")
    assert log.events[0].envelope.actor == actor


def test_every_field_comes_through(log: MemoryLog) -> None:
    run(
        log,
        entry(
            7, "git diff", kind="call", tool="Bash", call="c", files=["a.py", ""], edit="new", branch="main"
        ),
        entry(
            8, "no", kind="result", call="c", is_error=True, files="b.py", project="/shop", time=NOON // 1000
        ),
    )
    call, result = actions(log)
    assert isinstance(call, ToolCalled) and isinstance(result, ToolReturned)
    assert (call.tool, call.tool_use_id, call.files, call.edit_text) == ("Bash", "c", ("a.py",), "new")
    assert (call.branch, call.record, call.session, call.assistant) == ("main", "7", "s-1", "generic")
    assert (result.is_error, result.tool_use_id, result.files) == (True, "c", ("b.py",))
    assert (result.project, result.occurred_at) == ("/shop", NOON)


def test_a_title_said_with_every_record_is_one_fact(log: MemoryLog) -> None:
    run(log, entry(1, title="Night dates"), entry(2, title="Night dates"))
    titles = [action for action in actions(log) if type(action).__name__ == "SessionTitled"]
    assert {action.text for action in titles} == {"Night dates"}
    assert len({action.key for action in titles}) == 1


@pytest.mark.parametrize(
    "time",
    [
        "2026-03-02T12:00:00Z",
        "2026-03-02T13:00:00+01:00",
        "2026-03-02 12:00",
        1772452800,
        1772452800.0,
        "1772452800",
        1772452800000,
        NOON,
    ],
)
def test_a_time_is_read_however_it_is_written(time: Any) -> None:
    assert microseconds(time) == NOON


def test_a_time_that_is_not_known_is_not_made_up(log: MemoryLog) -> None:
    run(log, entry(1), entry(2, time=None), entry(3, time=0))
    assert [event.envelope.occurred_at for event in log.events] == [0, 0, 0]


# what is wrong, and what is new ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"session": "s-1", "rec', "Unterminated"),
        (b"[1, 2]", "not a JSON object"),
        ({"actor": "user", "text": "x"}, "`session`"),
        (entry(session=""), "`session` is empty"),
        (entry(session="x" * 513), "`session` is longer"),
        ({"session": "s-1", "text": "x"}, "neither `actor` nor `kind`"),
        (entry(text=5), "`text`"),
        (entry(files=[1]), "`files[0]`"),
        (entry(time="yesterday"), "`time` is 'yesterday'"),
        (entry(time=-5), "`time` is -5"),
        (entry(time=1e40), "`time` is 1e+40"),
        (entry(assistant="a/b"), "`assistant` is 'a/b'"),
        (entry(assistant="session-mgmt"), "`assistant` is 'session-mgmt'"),
    ],
)
def test_a_line_that_cannot_be_taken_is_named_and_the_others_are_taken(
    log: MemoryLog, line: Any, reason: str
) -> None:
    report = run(log, entry(1), b"", line, entry(2))
    assert (report.appended, report.errors) == (2, 1)
    (sample,) = report.error_samples
    assert (sample.path, sample.line) == ("given", 3)
    assert reason in sample.reason


def test_a_line_beyond_the_limit_is_an_error_and_the_next_is_read(
    log: MemoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = importer.lines
    monkeypatch.setattr(importer, "lines", lambda file, **where: whole(file, limit=1000, **where))
    assert counts(run(log, entry(1, "x" * 5000), entry(2))) == (2, 1, 0, 0, 1)


def test_odd_bytes_are_kept_as_read_and_interpreted(log: MemoryLog) -> None:
    line = b'\xef\xbb\xbf{"session": "s-1", "actor": "user", "text": "caf\xe9 \\ud83d and \x01"}'
    assert counts(run(log, line)) == (1, 1, 0, 0, 0)
    assert log.events[0].payload == line
    assert actions(log)[0].text.startswith("caf\ufffd")


def test_unknown_fields_and_kinds_are_kept_raw_and_reported(log: MemoryLog) -> None:
    report = run(log, entry(1, mood="glad", weight=3), entry(2, mood="sad"), entry(3, kind="Haiku"))
    assert report.unknown_fields == {"mood": 2, "weight": 1}
    assert report.unknown_by_type == {"generic/haiku": 1}
    assert b'"mood": "glad"' in (log.events[0].payload or b"")
    assert (type(actions(log)[2]).__name__, actions(log)[2].text) == ("RecordUnknown", "hello")


def test_records_that_say_nothing_are_counted_as_noise(log: MemoryLog) -> None:
    report = run(
        log, entry(1, " \n"), entry(2, ""), {"session": "s-1", "actor": "user"}, entry(3, "", files=["a"])
    )
    assert (report.noise_by_type, report.appended) == ({"empty": 3}, 1)


def test_secrets_are_taken_out_before_anything_is_appended(log: MemoryLog) -> None:
    run(log, entry(1, "say <private>the launch code</private> aloud"), redact=redact, redact_many=redact_many)
    assert b"launch code" not in (log.events[0].payload or b"")
    assert isinstance(actions(log)[0], PromptSubmitted)


# files -------------------------------------------------------------------------------------------------------


def test_a_file_that_cannot_be_read_is_named_and_the_next_is_read(log: MemoryLog, tmp_path: Path) -> None:
    good = tmp_path / "good.jsonl"
    good.write_text(json.dumps(entry(1)))
    inputs = [Input(str(tmp_path / "none.jsonl")), Input(str(good))]
    report = import_entries(inputs, log, redact=bytes)
    assert (report.read, report.appended, report.errors) == (2, 1, 1)
    assert report.error_samples[0].path == str(tmp_path / "none.jsonl")


def test_a_folder_gives_its_json_lines_by_name_each_file_once(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a/c.jsonl", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [p.name for p in find_files([tmp_path / "b.jsonl", tmp_path])] == ["b.jsonl", "c.jsonl"]


def test_progress_ends_where_the_files_end(log: MemoryLog, tmp_path: Path) -> None:
    path = tmp_path / "h.jsonl"
    path.write_text("".join(json.dumps(entry(n)) + "\n" for n in range(9000)))
    seen: list[Progress] = []
    import_entries([Input(str(path))], log, redact=bytes, progress=seen.append)
    assert len(seen) >= 3
    assert [p.bytes for p in seen] == sorted(p.bytes for p in seen)
    assert seen[-1] == Progress(1, 1, path.stat().st_size, path.stat().st_size, 9000)


@pytest.mark.parametrize(
    ("first", "answer"),
    [
        (entry(1), True),
        ({"session": "a", "text": "x", "kind": "note"}, True),
        ({"type": "user", "sessionId": "a", "uuid": "b", "message": {"content": "x"}}, False),
        ({"session": "a", "text": "x", "actor": "user", "uuid": "b"}, False),
        ({"session": "a", "text": "x"}, False),
        ({"type": "summary", "summary": "x", "leafUuid": "b"}, False),
    ],
)
def test_a_files_first_object_tells_whether_it_is_of_this_format(
    first: dict[str, Any], answer: bool, tmp_path: Path
) -> None:
    path = tmp_path / "h.jsonl"
    path.write_text("{torn\n" + json.dumps(first) + "\n")
    assert is_generic(path) is answer
    assert not is_generic(tmp_path / "none.jsonl")


# the document ------------------------------------------------------------------------------------------------


def _example() -> list[bytes]:
    found = re.search(r"```json\n(.*?)```", FORMAT.read_text("utf-8"), re.DOTALL)
    assert found is not None
    return found[1].encode().splitlines()


def test_the_documents_example_means_what_the_document_says(log: MemoryLog) -> None:
    assert counts(run(log, *_example())) == (5, 5, 0, 0, 0)
    told = [(type(a).__name__, a.session, a.actor) for a in actions(log)]
    assert told == [
        ("PromptSubmitted", "a1", "user"),
        ("SessionTitled", "a1", "system"),
        ("ToolCalled", "a1", "assistant"),
        ("ToolReturned", "a1", "tool"),
        ("AssistantReplied", "a1", "assistant"),
        ("PromptSubmitted", "chat/1", "Caroline"),
    ]
    times = [event.envelope.occurred_at for event in log.events[:4]]
    assert times == sorted(times)


def test_the_document_names_every_field_and_kind() -> None:
    text = FORMAT.read_text("utf-8")
    assert set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)) == FIELDS == set(SCHEMA["properties"])
    kinds = re.search(r"^\| `kind` \|.*?\| (.*?);", text, re.MULTILINE)
    assert kinds is not None
    assert set(re.findall(r"`(\w+)`", kinds[1])) == KINDS


@pytest.mark.parametrize(
    ("fields", "valid"),
    [
        (entry(1), True),
        (entry(1, time=None, files="a", is_error=False, assistant=""), True),
        ({"session": 5, "kind": "note"}, True),
        ({"session": "a", "text": "x"}, False),
        ({"session": "a", "actor": "", "text": "x"}, False),
        ({"actor": "user", "text": "x"}, False),
        (entry(session=""), False),
        (entry(files=[1]), False),
        (entry(record=1.5), False),
        (entry(text=["x"]), False),
        (entry(assistant="a b"), False),
        (entry(assistant="session-mgmt"), False),
        (entry(is_error=1), False),
    ],
)
def test_the_schema_and_the_importer_agree(log: MemoryLog, fields: dict[str, Any], valid: bool) -> None:
    assert jsonschema.Draft202012Validator(SCHEMA).is_valid(fields) is valid
    assert (run(log, fields).errors == 0) is valid


def test_the_schema_takes_the_documents_example() -> None:
    validator = jsonschema.Draft202012Validator(SCHEMA)
    assert [line for line in _example() if not validator.is_valid(json.loads(line))] == []

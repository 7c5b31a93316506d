"""The whole of the real data, where it is at hand (folder named by SESSION_MGMT_REAL_DATA)."""

import json
import os
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from memory_log import MemoryLog

from session_mgmt_mcp.adapters.claude_code.importer import ImportReport, import_files
from session_mgmt_mcp.core.actions import Action, UsageReported
from session_mgmt_mcp.core.blobs import as_captured, references
from session_mgmt_mcp.core.envelope import Event, EventType
from session_mgmt_mcp.core.interpret import UNDECODABLE, interpret

FOLDER = os.environ.get("SESSION_MGMT_REAL_DATA", "")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not FOLDER, reason="SESSION_MGMT_REAL_DATA names no folder of real sessions"),
]
SESSIONS = Path(FOLDER, "sessions")


def run(log: MemoryLog, path: Path) -> ImportReport:
    report = import_files([path], log, redact=lambda payload: payload)
    assert report.read == report.appended + report.duplicates + report.noise + report.errors
    return report


@pytest.fixture(scope="module")
def imported() -> tuple[MemoryLog, ImportReport]:
    log = MemoryLog()
    return log, run(log, SESSIONS / "claude-code")


@pytest.fixture(scope="module")
def actions(imported: tuple[MemoryLog, ImportReport]) -> list[Action]:
    return [action for event in imported[0].events for action in interpret(event)]


def records(log: MemoryLog) -> list[Event]:
    """The events of transcript lines: not the large strings that were cut out of them."""
    return [event for event in log.events if event.envelope.event_type != EventType.BLOB_STORED]


def test_every_line_is_accounted_for(imported: tuple[MemoryLog, ImportReport]) -> None:
    log, report = imported
    paths = sorted((SESSIONS / "claude-code").rglob("*.jsonl"))
    assert report.files == len(paths)
    assert report.read == sum(1 for path in paths for line in path.read_bytes().split(b"\n") if line.strip())
    assert len(records(log)) == report.appended < log.head().position
    assert 0 < report.errors < 20


def test_importing_again_appends_nothing(imported: tuple[MemoryLog, ImportReport]) -> None:
    log, first = imported
    again = run(log, SESSIONS / "claude-code")
    assert again.appended == 0
    assert again.duplicates == first.appended + first.duplicates
    assert (again.noise, again.errors) == (first.noise, first.errors)


def test_every_line_is_put_back_byte_for_byte_from_what_was_stored(
    imported: tuple[MemoryLog, ImportReport],
) -> None:
    log = imported[0]
    lines = {
        line
        for path in (SESSIONS / "claude-code").rglob("*.jsonl")
        for line in path.read_bytes().split(b"\n")
    }
    parted = [event.payload for event in records(log) if event.payload and references(event.payload)]
    assert len(parted) > 1000
    assert all(as_captured(payload, log) in lines for payload in parted)


def test_growing_states_append_only_what_is_new() -> None:
    for folder in sorted((SESSIONS / "growth" / "claude-code").glob("*/*")):
        log, before = MemoryLog(), 0
        for state in sorted(folder.glob("*.jsonl")):
            report = run(log, state)
            assert report.duplicates == before
            before = report.appended + report.duplicates
            assert len(records(log)) == before


def test_everything_appended_can_be_read_and_unknown_types_are_those_reported(
    imported: tuple[MemoryLog, ImportReport], actions: list[Action]
) -> None:
    unknown = Counter(action.origin for action in actions if type(action).__name__ == "RecordUnknown")
    assert unknown[UNDECODABLE] == 0
    assert dict(unknown) == imported[1].unknown_by_type


def test_no_two_facts_of_different_records_share_a_key_unless_it_is_the_usage_of_a_message(
    actions: list[Action],
) -> None:
    keys = Counter(a.key for a in actions if not a.key.endswith(":") and not isinstance(a, UsageReported))
    assert [key for key, count in keys.items() if count > 1] == []


def test_usage_is_one_fact_a_message(imported: tuple[MemoryLog, ImportReport], actions: list[Action]) -> None:
    reported = defaultdict(list)
    for action in actions:
        if isinstance(action, UsageReported):
            reported[action.key].append(action)
    lines = sum(map(len, reported.values()))
    messages = set()
    for event in records(imported[0]):
        record = json.loads(event.payload or b"{}")
        nested = (record.get("data") or {}).get("message") if record.get("type") == "progress" else record
        message = (
            nested.get("message") if isinstance(nested, dict) and nested.get("type") == "assistant" else None
        )
        if isinstance(message, dict) and message.get("usage") and message.get("model") != "<synthetic>":
            messages.add(message.get("id"))
    assert len(reported) == len(messages - {None}) < lines


def test_texts_can_be_stored_and_say_where_they_belong(actions: list[Action]) -> None:
    for action in actions:
        action.text.encode()
        assert action.session and action.record and action.assistant == "claude-code"


def test_compactions_and_subagents_are_found(actions: list[Action]) -> None:
    kinds = Counter(type(action).__name__ for action in actions)
    assert kinds["ContextCompacted"] > 100
    assert sum(1 for action in actions if action.actor.startswith("agent:")) > 1000
    assert kinds["PromptSubmitted"] < kinds["ToolReturned"] / 5

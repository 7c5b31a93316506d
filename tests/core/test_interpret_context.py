"""What the records beside the conversation mean: compactions, titles, context, unknown and damaged ones."""

import json
from typing import Any

import pytest
from claude_events import assistant, event, kinds, of_record, user

from session_mgmt_mcp.core.envelope import capture_id
from session_mgmt_mcp.core.interpret import interpret


def test_a_compaction_gives_its_trigger_and_its_summary() -> None:
    boundary = {
        "type": "system",
        "subtype": "compact_boundary",
        "uuid": "b-1",
        "compactMetadata": {"trigger": "auto"},
    }
    [compacted] = of_record(boundary)
    assert (kinds([compacted]), compacted.trigger, compacted.text) == (["ContextCompacted"], "auto", "")
    [summary] = of_record(user("This session is being continued… the gate is mended", isCompactSummary=True))
    assert (kinds([summary]), summary.text[-6:]) == (["ContextCompacted"], "mended")
    assert kinds(of_record(user("This session is being continued from a previous conversation. …"))) == [
        "ContextCompacted"
    ]


@pytest.mark.parametrize(
    ("record", "origin", "words", "leaf"),
    [
        ({"type": "custom-title", "customTitle": "Mill"}, "custom", "Mill", ""),
        ({"type": "ai-title", "aiTitle": "Mill"}, "ai", "Mill", ""),
        ({"type": "agent-name", "agentName": "mill"}, "agent", "mill", ""),
        ({"type": "summary", "summary": "Mill mended", "leafUuid": "u-9"}, "summary", "Mill mended", "u-9"),
    ],
)
def test_titles_say_who_gave_them(record: dict[str, str], origin: str, words: str, leaf: str) -> None:
    [title] = of_record(record)
    assert (kinds([title]), title.origin, title.text, title.leaf) == (["SessionTitled"], origin, words, leaf)
    assert title.key == f"event:{capture_id('test').hex()}"


@pytest.mark.parametrize(
    ("record", "origin", "words"),
    [
        ({"type": "system", "content": "limit reached"}, "system", "limit reached"),
        ({"type": "system", "subtype": "away_summary", "content": "recap"}, "system/away_summary", "recap"),
        (
            {
                "type": "system",
                "subtype": "api_error",
                "error": {"status": 529, "error": {"error": {"message": "busy"}}},
            },
            "system/api_error",
            "API error: busy",
        ),
        ({"type": "pr-link", "prUrl": "https://example.org/pr/1"}, "pr-link", "https://example.org/pr/1"),
        (
            {
                "type": "attachment",
                "attachment": {"type": "edited_text_file", "filename": "a.py", "snippet": "1 x"},
            },
            "attachment/edited_text_file",
            "a.py\n1 x",
        ),
        (
            {
                "type": "attachment",
                "attachment": {"type": "file", "filename": "a.py", "content": {"file": {"content": "whole"}}},
            },
            "attachment/file",
            "a.py\nwhole",
        ),
    ],
)
def test_what_is_worth_keeping_but_nobodys_turn_is_context(
    record: dict[str, Any], origin: str, words: str
) -> None:
    [noted] = of_record(record)
    assert (kinds([noted]), noted.origin, noted.text) == (["ContextNoted"], origin, words)


@pytest.mark.parametrize(
    "record",
    [
        {"type": "file-history-snapshot", "snapshot": {}},
        {"type": "last-prompt", "lastPrompt": "x"},
        {"type": "mode", "mode": "normal"},
        {"type": "permission-mode", "permissionMode": "plan"},
        {"type": "system", "subtype": "turn_duration", "durationMs": 4},
        {"type": "progress", "data": {"type": "hook_progress"}},
        {"type": "attachment", "attachment": {"type": "skill_listing", "content": "many"}},
    ],
)
def test_known_records_that_say_nothing_of_their_own_yield_nothing(record: dict[str, Any]) -> None:
    assert of_record(record) == []


@pytest.mark.parametrize(
    ("record", "origin"),
    [
        ({"type": "hologram", "uuid": "h-1"}, "hologram"),
        ({"silly": 1}, "no type"),
        ({"type": ["user"]}, "no type"),
        ({"type": "system", "subtype": "eclipse"}, "system/eclipse"),
        ({"type": "attachment", "attachment": {"type": "parcel"}}, "attachment/parcel"),
        ({"type": "attachment", "attachment": 4}, "attachment/"),
        ({"type": "progress", "data": {"type": "slow_progress"}}, "progress/slow_progress"),
        (assistant({"type": "hologram"}), "assistant/hologram"),
    ],
)
def test_unknown_kinds_are_named_as_found(record: dict[str, Any], origin: str) -> None:
    [unknown] = of_record(record)
    assert (kinds([unknown]), unknown.origin) == (["RecordUnknown"], origin)


@pytest.mark.parametrize(
    "payload", [b"", b"42", b"[1]", b'{"type":"user"', b"\xff\xfe", b'{"a":' + b"[" * 100_000]
)
def test_what_cannot_be_read_is_one_unknown_record(payload: bytes) -> None:
    [unknown] = interpret(event(payload))
    assert (kinds([unknown]), unknown.origin) == (["RecordUnknown"], "undecodable")


@pytest.mark.parametrize(
    "mangle",
    [
        lambda raw: b"\xef\xbb\xbf" + raw,
        lambda raw: b"\0\0\0" + raw + b"\0",
        lambda raw: raw.replace(b"gate", b"gate\x01"),
        lambda raw: raw.replace(b"gate", b"gate\\ud83d"),
        lambda raw: raw.replace(b"gate", b"gate\xff"),
        lambda raw: raw.replace(b"{", b'{"score":NaN,', 1),
    ],
)
def test_a_record_with_one_broken_spot_still_says_what_it_says(mangle: Any) -> None:
    [prompt] = interpret(event(mangle(json.dumps(user("mend the gate now")).encode())))
    assert kinds([prompt]) == ["PromptSubmitted"]
    assert prompt.text.startswith("mend the gate") and prompt.text.endswith(" now")
    prompt.text.encode()  # nothing in it that cannot be stored


def test_actions_of_one_event_have_distinct_keys() -> None:
    blocks = [{"type": "hologram"}, {"type": "tool_use", "name": "Bash", "input": {}}, {"type": "parcel"}]
    keys = [action.key for action in of_record(assistant(*blocks))]
    assert keys == ["record:a-1", "record:a-1:2", "record:a-1:3"]

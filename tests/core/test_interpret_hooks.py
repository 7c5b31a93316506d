"""What hook payloads and the log's own events mean, and that hook and transcript meet in one fact."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from claude_events import EVENT_ID, NOW, event, kinds, of_hook

from session_mgmt_mcp.core.actions import Action, text_digest
from session_mgmt_mcp.core.events import PayloadForgotten, ReflectionStored
from session_mgmt_mcp.core.interpret import INTERPRETATION_VERSION, interpret

FIXTURES = Path(__file__).parent.parent / "adapters" / "fixtures"


def interpreted(name: str, event_type: str) -> list[Action]:
    lines = (FIXTURES / name).read_bytes().splitlines()
    return [action for line in lines for action in interpret(event(line, event_type))]


def by_kind(actions: list[Action]) -> dict[str, list[Action]]:
    return {kind: [a for a in actions if type(a).__name__ == kind] for kind in set(kinds(actions))}


@pytest.fixture(scope="module")
def hooks() -> dict[str, list[Action]]:
    return by_kind(interpreted("mill_hooks.jsonl", "HookReported"))


@pytest.fixture(scope="module")
def records() -> dict[str, list[Action]]:
    return by_kind(interpreted("mill_session.jsonl", "RecordImported"))


@pytest.mark.parametrize("kind", ["PromptSubmitted", "ToolCalled", "ToolReturned"])
def test_hook_and_transcript_of_one_fact_have_one_key(
    kind: str, hooks: dict[str, list[Action]], records: dict[str, list[Action]]
) -> None:
    assert {a.key for a in hooks[kind]} == {a.key for a in records[kind]}


def test_a_call_reads_the_same_from_hook_and_transcript(
    hooks: dict[str, list[Action]], records: dict[str, list[Action]]
) -> None:
    def said(actions: list[Action]) -> dict[str, tuple[Any, ...]]:
        return {
            a.key: (a.tool, a.files, a.command, sorted(a.text.splitlines()), a.edit_text) for a in actions
        }

    assert said(hooks["ToolCalled"]) == said(records["ToolCalled"])


def test_results_agree_on_files_and_errors(
    hooks: dict[str, list[Action]], records: dict[str, list[Action]]
) -> None:
    reported = {a.key: a for a in hooks["ToolReturned"]}
    assert {a.key: a.is_error for a in records["ToolReturned"]} == {
        k: a.is_error for k, a in reported.items()
    }
    for returned in records["ToolReturned"]:
        assert set(returned.files) <= set(reported[returned.key].files)
    assert reported["return:toolu_mill_1"].text == "7:speed = 3"


def test_the_last_reply_of_a_turn_meets_its_twin_by_its_text(
    hooks: dict[str, list[Action]], records: dict[str, list[Action]]
) -> None:
    [stopped] = hooks["AssistantReplied"]
    assert stopped.key == f"reply:s-1:{stopped.text_digest}:"
    assert stopped.text_digest in {a.text_digest for a in records["AssistantReplied"]}


def test_a_session_begins_and_ends(hooks: dict[str, list[Action]]) -> None:
    [started], [ended] = hooks["SessionStarted"], hooks["SessionEnded"]
    assert (started.reason, started.model, started.project) == (
        "startup",
        "claude-opus-4-8",
        "/home/ada/mill",
    )
    assert ended.reason == "prompt_input_exit"


def test_usage_of_the_fixture_counts_four_messages(records: dict[str, list[Action]]) -> None:
    last = {a.key: a.output_tokens for a in records["UsageReported"]}
    assert last == {f"usage:msg_mill_{n}": 5 for n in (1, 2, 3, 4)}


def test_a_hook_happened_when_it_was_captured_unless_it_says_otherwise() -> None:
    said = {"hook_event_name": "SessionEnd", "reason": "other"}
    assert of_hook(said, occurred_at=0)[0].occurred_at == NOW
    assert of_hook(said, occurred_at=9)[0].occurred_at == 9


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"prompt_id": "pr-1"}, ("PromptSubmitted", "prompt:pr-1")),
        ({}, ("PromptSubmitted", f"prompt:s-1:{text_digest('mend it')}:")),
        ({"source": "sdk", "prompt_id": "pr-1"}, ("PromptSubmitted", "prompt:pr-1")),
        ({"source": "loop_wakeup", "prompt_id": "pr-1"}, ("ContextNoted", f"event:{EVENT_ID.hex()}")),
        ({"prompt": "/review gate.py", "prompt_id": "pr-1"}, ("ContextNoted", f"event:{EVENT_ID.hex()}")),
        ({"prompt": "/home/ada/mill is full", "prompt_id": "pr-1"}, ("PromptSubmitted", "prompt:pr-1")),
        ({"prompt": "<task-notification>x</task-notification>"}, ("ContextNoted", f"event:{EVENT_ID.hex()}")),
    ],
)
def test_only_what_a_person_submitted_is_a_prompt(fields: dict[str, str], expected: tuple[str, str]) -> None:
    [action] = of_hook({"hook_event_name": "UserPromptSubmit", "prompt": "mend it", **fields})
    assert (type(action).__name__, action.key) == expected


def test_a_subagents_hooks_are_the_subagents_acts() -> None:
    base = {"agent_id": "ab12", "agent_type": "Explore"}
    [call] = of_hook(
        {**base, "hook_event_name": "PreToolUse", "tool_name": "Bash", "tool_input": {"command": "ls"}}
    )
    [reply] = of_hook({**base, "hook_event_name": "SubagentStop", "last_assistant_message": "three files"})
    assert call.actor == reply.actor == "agent:ab12"
    assert kinds([reply]) == ["AssistantReplied"]


def test_a_compaction_is_told_with_its_summary() -> None:
    [compacted] = of_hook(
        {"hook_event_name": "PostCompact", "trigger": "manual", "compact_summary": "so far"}
    )
    assert (kinds([compacted]), compacted.trigger, compacted.text) == (
        ["ContextCompacted"],
        "manual",
        "so far",
    )


def test_pieces_of_a_reply_are_left_to_the_report_of_the_whole() -> None:
    assert (
        of_hook({"hook_event_name": "MessageDisplay", "index": 0, "final": True, "delta": "The wheel"}) == []
    )


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        ({"hook_event_name": "Notification", "title": "Mill", "message": "needs you"}, "Mill\nneeds you"),
        ({"hook_event_name": "CwdChanged", "old_cwd": "/a", "new_cwd": "/b"}, "/a\n/b"),
        ({"hook_event_name": "TaskCreated", "task_subject": "oil", "task_description": "all"}, "oil\nall"),
        (
            {
                "hook_event_name": "PermissionDenied",
                "tool_name": "Bash",
                "tool_input": {"command": "rm"},
                "reason": "no",
            },
            "Bash\nrm\nno",
        ),
    ],
)
def test_notices_are_context(payload: dict[str, Any], words: str) -> None:
    [noted] = of_hook(payload)
    assert (kinds([noted]), noted.origin, noted.text) == (["ContextNoted"], payload["hook_event_name"], words)


@pytest.mark.parametrize(
    ("payload", "origin"),
    [({"hook_event_name": "TideTurned"}, "hook/TideTurned"), ({}, "hook"), (b"not json", "undecodable")],
)
def test_an_unknown_hook_is_named_as_found(payload: Any, origin: str) -> None:
    [unknown] = of_hook(payload)
    assert (kinds([unknown]), unknown.origin) == (["RecordUnknown"], origin)


@pytest.mark.parametrize("name", json.loads((FIXTURES / "hook_events.json").read_text()))
def test_every_hook_event_of_the_client_is_known_and_survives_fields_of_any_type(name: str) -> None:
    for value in (None, 4, "x", ["x"], {"x": [1]}):
        fields = (
            "prompt",
            "tool_name",
            "tool_input",
            "tool_use_id",
            "tool_response",
            "tool_calls",
            "error",
            "cwd",
        )
        actions = of_hook({**dict.fromkeys(fields, value), "hook_event_name": name, "agent_id": value})
        assert not [a for a in actions if type(a).__name__ == "RecordUnknown"]


def test_a_reflection_keeps_its_tags_and_place() -> None:
    stored = ReflectionStored("oil on Mondays", ("mill",), "/home/ada/mill", "s-7")
    [remembered] = interpret(
        event(msgspec.json.encode(stored), "ReflectionStored", stream="session-mgmt/log")
    )
    assert (kinds([remembered]), remembered.text, remembered.tags) == (
        ["ReflectionRemembered"],
        "oil on Mondays",
        ("mill",),
    )
    assert (remembered.key, remembered.session) == (f"own:{EVENT_ID.hex()}", "s-7")
    assert remembered.project == "/home/ada/mill"


def test_forgetting_names_the_facts_that_stay_hidden() -> None:
    payload = msgspec.json.encode(PayloadForgotten(((4, 5),), ("aa", "bb"), ("call:1", "return:1"), "a key"))
    tombstone = event(payload, "PayloadForgotten", stream="session-mgmt/log")
    current = tombstone._replace(envelope=msgspec.structs.replace(tombstone.envelope, schema_version=2))
    [forgotten] = interpret(current)
    assert (forgotten.positions, forgotten.action_keys) == ((4, 5), ("call:1", "return:1"))


def test_pauses_are_context() -> None:
    [noted] = interpret(event({}, "CapturePaused", stream="session-mgmt/log"))
    assert (kinds([noted]), noted.origin) == (["ContextNoted"], "CapturePaused")


def test_a_forgotten_payload_says_nothing() -> None:
    assert interpret(event(None)) == []


def test_events_of_another_assistant_are_unknown_not_misread() -> None:
    [unknown] = interpret(event({"type": "user", "message": "x"}, stream="tally/s-1"))
    assert (kinds([unknown]), unknown.origin) == (["RecordUnknown"], "tally/RecordImported")


def test_the_interpretation_has_a_version() -> None:
    assert INTERPRETATION_VERSION >= 1

"""What transcript records of Claude Code mean."""

from typing import Any

import pytest
from claude_events import assistant, kinds, of_record, result, text, user

from session_mgmt_mcp.core.actions import text_digest


def test_a_prompt_carries_where_and_when_it_was_said() -> None:
    [prompt] = of_record(
        user("mend the gate", cwd="/home/ada/mill", gitBranch="dev", parentUuid="p-0", promptId="pr-1")
    )
    assert (prompt.key, prompt.text, prompt.actor) == ("prompt:pr-1", "mend the gate", "user")
    assert (prompt.project, prompt.branch, prompt.parent) == ("/home/ada/mill", "dev", "p-0")
    assert (prompt.session, prompt.assistant, prompt.occurred_at, prompt.record) == (
        "s-1",
        "claude-code",
        7,
        "u-1",
    )


def test_a_prompt_without_an_id_is_keyed_by_session_and_text_for_the_projection_to_complete() -> None:
    [prompt] = of_record(user("mend the gate"))
    assert prompt.key == f"prompt:s-1:{text_digest('mend the gate')}:"


@pytest.mark.parametrize(
    ("content", "origin", "kept"),
    [
        (
            "<command-name>/review</command-name><command-args>gate.py</command-args>",
            "slash-command",
            "/review gate.py",
        ),
        ("<command-message>x</command-message>\n<command-name>/x</command-name>", "slash-command", "/x"),
        ("<local-command-stdout>Set to light</local-command-stdout>", "local-command", "Set to light"),
        ("<task-notification>\n<status>done</status></task-notification>", "task-notification", "done"),
        ("<teammate-message teammate_id='bob'>hello</teammate-message>", "teammate-message", "hello"),
        ("<bash-input>git status</bash-input>", "bash-mode", "git status"),
        ("<bash-stdout>clean</bash-stdout><bash-stderr></bash-stderr>", "bash-mode", "clean"),
        ("[Request interrupted by user for tool use]", "interruption", "interrupted"),
        ("Implement the following plan:\n\n1. mend the gate", "plan", "mend the gate"),
        ("<ide_opened_file>The user opened gate.py</ide_opened_file>", "ide", "gate.py"),
        ("<system-reminder>be brief</system-reminder>", "system-reminder", "be brief"),
    ],
)
def test_what_clients_put_under_the_role_of_the_user_is_no_prompt(
    content: str, origin: str, kept: str
) -> None:
    for shape in (content, [text(content)]):
        [noted] = of_record(user(shape, promptId="pr-1"))
        assert (kinds([noted]), noted.origin) == (["ContextNoted"], origin)
        assert kept in noted.text
        assert noted.key == "record:u-1"


def test_injected_parts_are_taken_out_of_a_prompt() -> None:
    [prompt] = of_record(
        user(
            [
                text("<ide_selection>line 4</ide_selection>"),
                text("mend it<system-reminder>todo</system-reminder>"),
            ]
        )
    )
    assert (kinds([prompt]), prompt.text) == (["PromptSubmitted"], "mend it")


@pytest.mark.parametrize(
    ("fields", "origin"),
    [
        ({"isMeta": True}, "meta"),
        ({"origin": {"kind": "task-notification"}}, "task-notification"),
        ({"promptSource": "system"}, "system"),
        ({"isSidechain": True}, "agent-prompt"),
        ({"agentId": "ab12"}, "agent-prompt"),
    ],
)
def test_a_turn_no_person_wrote_is_context_whatever_prompt_id_it_shares(
    fields: dict[str, Any], origin: str
) -> None:
    [noted] = of_record(user("count the spokes", promptId="pr-1", **fields))
    assert (kinds([noted]), noted.origin, noted.key) == (["ContextNoted"], origin, "record:u-1")


@pytest.mark.parametrize(
    "words", ["<3 this", "[draft] mend the gate", "Caveat: it is old", "In short: mend it"]
)
def test_a_prompt_that_only_looks_like_a_tag_stays_a_prompt(words: str) -> None:
    assert kinds(of_record(user(words))) == ["PromptSubmitted"]


def test_an_image_beside_a_prompt_does_not_change_its_text() -> None:
    image = {"type": "image", "source": {"type": "base64", "data": "AAAA"}}
    assert of_record(user([image, text("what is this?")]))[0].text == "what is this?"
    assert of_record(user([image]))[0].text == "[image]"


def test_a_message_that_is_a_plain_string_is_a_prompt() -> None:
    [prompt] = of_record({"type": "user", "uuid": "u-1", "message": "mend the gate"})
    assert (kinds([prompt]), prompt.text) == (["PromptSubmitted"], "mend the gate")


def test_a_prompt_typed_while_busy_is_a_prompt_and_a_notification_in_the_queue_is_not() -> None:
    def queued(mode: str) -> list[Any]:
        attachment = {"type": "queued_command", "prompt": "and oil it", "commandMode": mode}
        return of_record({"type": "attachment", "uuid": "q-1", "attachment": attachment})

    [prompt] = queued("prompt")
    assert (kinds([prompt]), prompt.text, prompt.key[-1]) == (["PromptSubmitted"], "and oil it", ":")
    assert [(a.origin, a.text) for a in queued("task-notification")] == [("task-notification", "and oil it")]


def test_text_typed_beside_a_tool_result_is_a_prompt_of_its_own() -> None:
    returned, prompt = of_record(user([result("ok"), text("and oil it")], promptId="pr-1"))
    assert (returned.key, prompt.text) == ("return:toolu_1", "and oil it")
    assert prompt.key != "prompt:pr-1"


def test_the_queue_is_context_not_a_second_prompt() -> None:
    [noted] = of_record({"type": "queue-operation", "operation": "enqueue", "content": "mend the gate"})
    assert (kinds([noted]), noted.origin) == (["ContextNoted"], "queue-operation/enqueue")


def test_each_block_of_a_message_is_a_fact_even_when_lines_do_not_number_them() -> None:
    blocks = [text("first"), text("second"), {"type": "thinking", "thinking": "hm", "signature": "x"}]
    keys = [action.key for block in blocks for action in of_record(assistant(block))]
    assert keys == [
        f"reply:msg_1:{text_digest('first')}",
        f"reply:msg_1:{text_digest('second')}",
        f"thought:msg_1:{text_digest('hm')}",
    ]
    assert [action.key for action in of_record(assistant(*blocks))] == keys


def test_thinking_without_text_and_redacted_thinking_say_nothing() -> None:
    assert (
        of_record(assistant({"type": "thinking", "thinking": ""}, {"type": "redacted_thinking", "data": "x"}))
        == []
    )


def test_usage_of_all_lines_of_a_message_has_one_key() -> None:
    usage = {
        "input_tokens": 3,
        "output_tokens": 9,
        "cache_read_input_tokens": 5,
        "cache_creation_input_tokens": 2,
    }
    first = of_record(assistant(text("a"), usage={**usage, "output_tokens": 1}))[-1]
    last = of_record(assistant(text("b"), usage=usage, uuid="a-2"))[-1]
    assert first.key == last.key == "usage:msg_1"
    tokens = (last.input_tokens, last.output_tokens, last.cache_read_tokens, last.cache_write_tokens)
    assert tokens == (3, 9, 5, 2)


def test_a_placeholder_of_the_client_is_no_reply_and_used_no_tokens() -> None:
    usage = {"input_tokens": 0, "output_tokens": 0}
    [noted] = of_record(assistant(text("No response requested."), model="<synthetic>", usage=usage))
    assert (kinds([noted]), noted.origin) == (["ContextNoted"], "synthetic")
    [noted] = of_record(assistant(text("API Error: 529"), isApiErrorMessage=True, usage=usage))
    assert (noted.origin, noted.text) == ("api-error", "API Error: 529")


@pytest.mark.parametrize(
    ("tool", "arguments", "expected"),
    [
        (
            "Bash",
            {"command": "make", "description": "Build", "timeout": 5},
            ("make\nBuild\ntimeout: 5", (), "make", ""),
        ),
        ("Read", {"file_path": "/w/a.py", "limit": 9}, ("/w/a.py\nlimit: 9", ("/w/a.py",), "", "")),
        (
            "Edit",
            {"file_path": "/w/a.py", "old_string": "x", "new_string": "y", "replace_all": False},
            ("/w/a.py", ("/w/a.py",), "", "x\ny"),
        ),
        ("Write", {"file_path": "/w/a.py", "content": "z"}, ("/w/a.py", ("/w/a.py",), "", "z")),
        (
            "MultiEdit",
            {"file_path": "/w/a.py", "edits": [{"old_string": "a", "new_string": "b"}, {"new_string": "c"}]},
            ("/w/a.py", ("/w/a.py",), "", "a\nb\nc"),
        ),
        (
            "NotebookEdit",
            {"notebook_path": "/w/n.ipynb", "new_source": "1"},
            ("/w/n.ipynb", ("/w/n.ipynb",), "", "1"),
        ),
        ("Grep", {"pattern": "gate", "path": "/w"}, ("gate\n/w", (), "", "")),
        (
            "mcp__x__y",
            {"path": "/w/b", "options": {"deep": 1}},
            ('/w/b\noptions: {"deep":1}', ("/w/b",), "", ""),
        ),
        ("mcp__x__y", "just text", ("just text", (), "", "")),
        ("mcp__x__y", None, ("", (), "", "")),
    ],
)
def test_a_tool_call_is_readable(tool: str, arguments: Any, expected: tuple[Any, ...]) -> None:
    [call] = of_record(assistant({"type": "tool_use", "id": "toolu_1", "name": tool, "input": arguments}))
    assert (call.text, call.files, call.command, call.edit_text) == expected
    assert (call.key, call.tool, call.tool_use_id, call.actor) == (
        "call:toolu_1",
        tool,
        "toolu_1",
        "assistant",
    )


@pytest.mark.parametrize(
    ("content", "twin", "shown", "files"),
    [
        ("done", {"stdout": "not this"}, "done", ()),
        ([text("a"), text("b"), {"type": "image", "source": {}}], None, "a\nb\n[image]", ()),
        ([{"type": "tool_reference", "tool_name": "WebFetch"}], None, "WebFetch", ()),
        ("", {"stdout": "out", "stderr": "err"}, "out\nerr", ()),
        ("", {"stdout": "", "stderr": ""}, "", ()),
        (None, "User rejected tool use", "User rejected tool use", ()),
        ([], [text("c")], "c", ()),
        ("1\tx", {"type": "text", "file": {"filePath": "/w/a", "content": "x"}}, "1\tx", ("/w/a",)),
        ("ok", {"filePath": "/w/b", "originalFile": "huge"}, "ok", ("/w/b",)),
        ("ok<system-reminder>hidden</system-reminder>", None, "ok", ()),
    ],
)
def test_a_tool_result_is_its_content_or_its_twin_never_both(
    content: Any, twin: Any, shown: str, files: tuple[str, ...]
) -> None:
    [returned] = of_record(user([result(content)], toolUseResult=twin))
    assert (returned.text, returned.files, returned.is_error, returned.actor) == (shown, files, False, "tool")
    assert returned.key == "return:toolu_1"


def test_several_results_of_one_record_are_several_facts_and_errors_are_marked() -> None:
    first, second = of_record(
        user([result("a"), result("no", "toolu_2", is_error=True)], toolUseResult={"stdout": "x"})
    )
    assert (first.key, first.is_error) == ("return:toolu_1", False)
    assert (second.key, second.is_error, second.text) == ("return:toolu_2", True, "no")


def test_a_subagent_acts_under_its_own_id() -> None:
    [reply] = of_record(assistant(text("found it"), isSidechain=True, agentId="ab12"))
    assert (reply.actor, reply.session) == ("agent:ab12", "s-1")
    assert of_record(assistant(text("found it"), isSidechain=True))[0].actor == "agent:sidechain"


def test_turns_nested_in_agent_progress_are_the_subagents_turns() -> None:
    def progress(nested: dict[str, Any]) -> list[Any]:
        data = {"type": "agent_progress", "agentId": "ab12", "message": nested, "prompt": "look"}
        return of_record({"type": "progress", "uuid": "pg-1", "data": data})

    use = {"type": "tool_use", "id": "toolu_9", "name": "Bash", "input": {"command": "ls"}}
    [call] = progress(assistant(use))
    assert (call.key, call.actor, call.record) == ("call:toolu_9", "agent:ab12", "pg-1")
    [returned] = progress(user([result("a.py", "toolu_9")]))
    assert (returned.key, returned.text) == ("return:toolu_9", "a.py")
    [asked] = progress(user([text("look for it")]))
    assert (kinds([asked]), asked.origin) == (["ContextNoted"], "agent-prompt")

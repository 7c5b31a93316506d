"""What the server offers: tools, prompts, resources; their size, their bounds, their annotations."""

import json
from typing import Any

import pytest
from mcp_fake_server import FakeServices
from mcp_in_process import InProcess
from mcp_raw_client import RawClient
from tokenizers import Tokenizer

from session_mgmt_mcp.adapters.mcp.server import INSTRUCTIONS, build_server
from session_mgmt_mcp.projections.embedding_model import SHIPPED

TOOL_LIST_TOKENS_MAX = 3000
CHARS_A_TOKEN = 3.5  # of compact JSON, rather few
READERS = {"start", "status", "search", "timeline", "audit"}


@pytest.fixture(scope="module")
def raw() -> Any:
    with RawClient() as client:
        client.initialize()
        yield client


@pytest.fixture(scope="module")
def tools(raw: RawClient) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = raw.request("tools/list")["result"]["tools"]
    return listed


def test_there_are_ten_tools_and_their_list_is_short(tools: list[dict[str, Any]]) -> None:
    assert len(tools) == 10
    said = json.dumps(tools, ensure_ascii=False, separators=(",", ":"))
    assert len(said) / CHARS_A_TOKEN <= TOOL_LIST_TOKENS_MAX * 0.8
    tokenizer = Tokenizer.from_file(str(SHIPPED / "tokenizer.json"))  # splits JSON finely: an upper end
    tokenizer.no_truncation()
    assert len(tokenizer.encode(said, add_special_tokens=False).ids) <= TOOL_LIST_TOKENS_MAX


def test_each_tool_says_when_to_use_it_and_closes_its_arguments(tools: list[dict[str, Any]]) -> None:
    for tool in tools:
        said = tool["description"].lower()
        assert any(
            word in said for word in ("use it", "use check", "when ", "after search", "later sessions")
        ), said
        assert len(said) < 600
        assert tool["inputSchema"]["additionalProperties"] is False


def test_instructions_are_not_cut_by_clients() -> None:
    assert len(INSTRUCTIONS.encode()) < 2048


def test_tools_that_change_nothing_say_so_and_only_forget_destroys(tools: list[dict[str, Any]]) -> None:
    hints = {tool["name"]: tool["annotations"] for tool in tools}
    assert {name for name, hint in hints.items() if hint.get("readOnlyHint", False)} == READERS
    assert all(hint["openWorldHint"] is False for hint in hints.values())
    writers = {name: hint for name, hint in hints.items() if name not in READERS}
    assert [name for name, hint in writers.items() if hint.get("destructiveHint", True)] == ["forget"]
    assert {name for name, hint in writers.items() if hint.get("idempotentHint", False)} == {"forget"}


def _unbounded(schema: dict[str, Any], where: str) -> list[str]:
    options = [option for option in schema.get("anyOf", [schema]) if option.get("type") != "null"]
    out = []
    for option in options:
        kind = option.get("type")
        if kind == "string" and "enum" not in option and "maxLength" not in option:
            out.append(where)
        elif kind == "array":
            out += [] if "maxItems" in option else [where]
            out += _unbounded(option["items"], f"{where}[]")
        elif kind in ("integer", "number") and not {"minimum", "maximum"} <= option.keys():
            out.append(where)
    return out


def test_every_text_list_and_number_has_a_bound() -> None:
    server = build_server(FakeServices)
    for tool in server._tool_manager.list_tools():
        schema = tool.fn_metadata.arg_model.model_json_schema()
        for name, part in schema["properties"].items():
            assert _unbounded(part, f"{tool.name}.{name}") == []


def test_what_goes_beyond_a_bound_is_refused_with_the_bound_though_the_list_does_not_tell_it() -> None:
    client = InProcess(FakeServices())
    for tool, argument, value in (
        ("search", "session", "x" * 129),
        ("timeline", "cursor", "x" * 401),
        ("forget", "positions", list(range(1, 1002))),
        ("forget", "query", "x" * 201),
        ("remember", "key", ""),
        ("start", "budget_tokens", 9_000),
        ("permissions", "operation", "x" * 301),
        ("audit", "cursor", "nonsense"),
    ):
        needed = {"search": {"query": "q"}, "remember": {"text": "t"}}.get(tool, {})
        text, failed = client.ask(tool, **{**needed, argument: value})
        assert failed and argument in text, (tool, argument, text)
        assert len(text) < 1000


def test_prompts_are_listed_with_their_arguments(raw: RawClient) -> None:
    listed = raw.request("prompts/list")["result"]["prompts"]
    arguments = {p["name"]: [a["name"] for a in p.get("arguments", [])] for p in listed}
    assert arguments == {
        "start": ["project"],
        "checkpoint": ["note"],
        "end": ["note"],
        "status": [],
        "resume": ["session"],
        "handoff": ["session"],
    }
    assert all(not a.get("required") for p in listed for a in p.get("arguments", []))


def prompt(raw: RawClient, name: str, **arguments: str) -> str:
    answer = raw.request("prompts/get", {"name": name, "arguments": arguments})
    (message,) = answer["result"]["messages"]
    assert message["role"] == "user"
    text: str = message["content"]["text"]
    return text


def test_prompts_that_read_carry_what_they_found_inside_a_fence(raw: RawClient) -> None:
    assert "Last handoff" in prompt(raw, "start", project="/home/me/app")
    assert "mend this" in prompt(raw, "status")
    for name in ("resume", "handoff"):
        text = prompt(raw, name, session="s-1")
        assert "# Handoff of s-1" in text and "<recorded-" in text and "</recorded>" not in text


def test_prompts_that_store_only_name_the_tool_and_quote_the_note(raw: RawClient) -> None:
    assert "Call the checkpoint tool with this note of mine: 'half \"done\"'" in prompt(
        raw, "checkpoint", note='half "done"'
    )
    assert "Call the end tool." in prompt(raw, "end")


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"name": "nonsense"}, "unknown prompt 'nonsense'; this server has start"),
        (
            {"name": "start", "arguments": {"folder": "x"}},
            "does not know the argument folder; it takes project",
        ),
        ({"name": "status", "arguments": {"x": "y"}}, "it takes none"),
        ({"name": "resume", "arguments": {"session": "unknown"}}, "the latest are s-1, s-2"),
        ({"name": "resume", "arguments": {"session": "x" * 129}}, "128"),
    ],
)
def test_a_wrong_prompt_request_is_an_error_that_names_the_mend(
    raw: RawClient, params: dict[str, Any], words: str
) -> None:
    error = raw.request("prompts/get", params)["error"]
    assert error["code"] == -32602 and words in error["message"]


def read(raw: RawClient, uri: str) -> dict[str, Any]:
    return raw.request("resources/read", {"uri": uri})


def test_resources_are_the_same_list_for_all_and_lead_to_sessions_and_handoffs(raw: RawClient) -> None:
    listed = raw.request("resources/list")["result"]["resources"]
    assert [r["uri"] for r in listed] == ["session://recent", "handoff://latest"]
    templates = raw.request("resources/templates/list")["result"]["resourceTemplates"]
    assert [t["uriTemplate"] for t in templates] == ["session://{id}", "handoff://{id}"]
    assert "handoff://<id>" in read(raw, "session://recent")["result"]["contents"][0]["text"]
    assert "turn 1" in read(raw, "session://s-1")["result"]["contents"][0]["text"]
    assert "# Handoff of s-2" in read(raw, "handoff://s-2")["result"]["contents"][0]["text"]


@pytest.mark.parametrize(
    "uri",
    [
        "handoff://unknown",
        "session://../../etc/passwd",
        "session://%2e%2e%2fetc",
        "session://",
        "file:///etc",
    ],
)
def test_a_resource_that_is_none_is_an_error_and_no_path_is_followed(raw: RawClient, uri: str) -> None:
    answer = read(raw, uri)
    assert answer["error"]["code"] == -32602, answer


@pytest.mark.parametrize(
    ("ref", "argument", "value", "expected"),
    [
        ({"type": "ref/prompt", "name": "resume"}, "session", "s-", ["s-1", "s-2"]),
        ({"type": "ref/prompt", "name": "start"}, "project", "/home", ["/home/me/app"]),
        ({"type": "ref/resource", "uri": "session://{id}"}, "id", "t", ["t-1"]),
        ({"type": "ref/prompt", "name": "end"}, "note", "x", []),
        ({"type": "ref/prompt", "name": "resume"}, "session", "s" * 300, []),
    ],
)
def test_sessions_and_projects_are_completed(
    raw: RawClient, ref: dict[str, str], argument: str, value: str, expected: list[str]
) -> None:
    params = {"ref": ref, "argument": {"name": argument, "value": value}}
    assert raw.request("completion/complete", params)["result"]["completion"]["values"] == expected

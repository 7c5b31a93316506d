"""The protocol as lines: revisions, malformed input, what may reach stdout."""

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest
from mcp_raw_client import FAKE_SERVER, RawClient

TOOLS = [
    *("start", "checkpoint", "end", "status", "search", "timeline", "remember", "forget", "permissions"),
    "audit",
]
MODERN_META = {
    "_meta": {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "raw", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }
}


@pytest.fixture(scope="module")
def client() -> Iterator[RawClient]:
    with RawClient() as raw:
        raw.initialize()
        yield raw


@pytest.mark.parametrize("revision", ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"])
def test_every_handshake_revision_is_served_as_asked(revision: str) -> None:
    with RawClient() as raw:
        hello = raw.initialize(revision)["result"]
        assert hello["protocolVersion"] == revision
        assert hello["serverInfo"]["name"] == "session-mgmt"
        names = [tool["name"] for tool in raw.request("tools/list")["result"]["tools"]]
        assert len(names) == 10 and {"start", "search", "timeline", "remember", "forget"} <= set(names)
        text, failed = raw.call("search", query="login")
        assert "found login" in text and not failed


def test_the_revision_without_a_handshake_is_served() -> None:
    with RawClient() as raw:
        discovered = raw.request("server/discover", MODERN_META)["result"]
        assert "2026-07-28" in discovered["supportedVersions"]
        assert len(raw.request("tools/list", MODERN_META)["result"]["tools"]) == 10
        params = {"name": "search", "arguments": {"query": "login"}, **MODERN_META}
        assert "found login" in raw.request("tools/call", params)["result"]["content"][0]["text"]


def test_the_instructions_fit_what_clients_keep(client: RawClient) -> None:
    with RawClient() as raw:
        assert 200 < len(raw.initialize()["result"]["instructions"].encode()) < 2048


def test_the_tool_list_is_small_and_says_when_to_use_each(client: RawClient) -> None:
    tools = client.request("tools/list")["result"]["tools"]
    assert len(json.dumps(tools)) < 10_500
    for tool in tools:
        assert len(tool["description"]) > 60
        assert tool["inputSchema"]["additionalProperties"] is False
        assert "outputSchema" not in tool
        assert tool["annotations"]["openWorldHint"] is False
        reads = tool["name"] in ("start", "status", "search", "timeline", "audit")
        assert tool["annotations"].get("readOnlyHint", False) is reads
        assert reads or tool["annotations"]["destructiveHint"] is (tool["name"] == "forget")


def test_a_line_that_is_no_json_gets_a_parse_error_and_the_next_is_served(client: RawClient) -> None:
    client.write(b"this is not json")
    error = client.read()
    assert (error["id"], error["error"]["code"]) == (None, -32700)
    assert client.request("ping")["result"] == {}


@pytest.mark.parametrize(
    ("line", "number"),
    [(b"[]", None), (b'{"id": 7, "method": "ping"}', 7), (b'{"jsonrpc": "2.0", "id": 8}', 8), (b"12", None)],
)
def test_json_that_is_no_message_gets_an_invalid_request_with_its_id(
    client: RawClient, line: bytes, number: int | None
) -> None:
    client.write(line)
    error = client.read()
    assert (error["id"], error["error"]["code"]) == (number, -32600)


def test_bytes_that_are_no_text_and_blank_lines_do_no_harm(client: RawClient) -> None:
    client.write(b"")
    client.write(b'{"jsonrpc": "2.0", "id": 1, "method": "\xff\xfe"}')
    assert client.read()["error"]["code"] == -32700
    assert client.request("ping")["result"] == {}


def test_a_lone_surrogate_in_a_request_is_answered_and_the_server_lives(client: RawClient) -> None:
    client.write(
        b'{"jsonrpc": "2.0", "id": 5, "method": "tools/call", '
        b'"params": {"name": "search", "arguments": {"query": "\\ud800"}}}'
    )
    assert client.read()["id"] == 5
    assert client.request("ping")["result"] == {}


def test_an_unknown_method_is_a_protocol_error(client: RawClient) -> None:
    assert client.request("tools/destroy")["error"]["code"] == -32601


def test_an_unknown_tool_is_a_protocol_error_that_names_the_known_ones(client: RawClient) -> None:
    error = client.request("tools/call", {"name": "forget_all", "arguments": {}})["error"]
    assert error["code"] == -32602
    assert "forget_all" in error["message"] and "start, checkpoint, end, status, search" in error["message"]


def test_requests_piped_in_with_an_immediate_end_are_all_answered() -> None:
    with RawClient() as raw:
        hello = {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "raw", "version": "1"},
        }
        lines = [{"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}]
        lines += [
            {
                "jsonrpc": "2.0",
                "id": n,
                "method": "tools/call",
                "params": {"name": "search", "arguments": {"query": "q"}},
            }
            for n in range(2, 6)
        ]
        out, err = raw.process.communicate("\n".join(json.dumps(line) for line in lines).encode(), timeout=30)
        assert {json.loads(line)["id"] for line in out.splitlines()} == {1, 2, 3, 4, 5}
        assert (raw.process.returncode, err) == (0, b"")


def test_nothing_but_protocol_reaches_stdout_whatever_prints() -> None:
    with RawClient("noisy") as raw:
        raw.initialize()
        text, failed = raw.call("search", query="login")
        assert "found login" in text and not failed
        raw.close_input()
        assert raw.ends() == 0
        assert raw.process.stdout is not None and raw.process.stdout.read() == b""
        noise = raw.errors()
        for line in ("a C library writes to descriptor 1", "a library prints", "a child process writes"):
            assert line in noise


def test_a_closed_stderr_does_not_stop_the_server() -> None:
    command = ["sh", "-c", 'exec "$0" "$@" 2>&-', sys.executable, FAKE_SERVER, "noisy"]
    with RawClient(command=command) as raw:
        raw.initialize()
        assert "found login" in raw.call("search", query="login")[0]


def test_input_from_a_regular_file_is_served(tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("wire") / "in.jsonl"
    file.write_text('{"jsonrpc": "2.0", "id": 1, "method": "ping"}\n')
    with file.open("rb") as stdin:
        done = subprocess.run(
            [sys.executable, FAKE_SERVER], stdin=stdin, capture_output=True, timeout=30, check=True
        )
    assert json.loads(done.stdout) == {"jsonrpc": "2.0", "id": 1, "result": {}}

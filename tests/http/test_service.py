"""The service as a process: what it answers on each endpoint, to clients of every protocol revision."""

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mcp_raw_client import RawClient
from service_process import REVISIONS, ServiceProcess, rpc

TEN = {
    "start", "checkpoint", "end", "status", "search",
    "timeline", "remember", "forget", "permissions", "audit",
}  # fmt: skip


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    with ServiceProcess(tmp_path_factory.mktemp("service") / "data") as running:
        yield running


def test_health_says_alive_to_get_and_head(service: ServiceProcess) -> None:
    got, head = service.ask("GET", "/health"), service.ask("HEAD", "/health")
    assert (got.status, got.json) == (200, {"status": "alive"})
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-length"] == got.headers["content-length"]
    assert "server" not in got.headers


def test_ready_says_what_each_check_found(service: ServiceProcess) -> None:
    answer = service.ask("GET", "/ready")
    assert answer.status == 200
    assert answer.json["status"] == "ready"
    assert {"log", "views", "model", "memory", "draining"} <= set(answer.json["checks"])
    assert answer.json["checks"]["log"] == "ok"


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("POST", "/health", 405, "GET, HEAD"),
        ("DELETE", "/ready", 405, "GET, HEAD"),
        ("PUT", "/metrics", 405, "GET, HEAD"),
        ("GET", "/mcp", 405, "POST"),
        ("DELETE", "/mcp", 405, "POST"),
        ("GET", "/", 404, None),
        ("GET", "/mcp/../health", 404, None),
        ("GET", "/health/", 404, None),
    ],
)
def test_what_is_not_served_is_refused_in_json(
    service: ServiceProcess, method: str, path: str, status: int, allow: str | None
) -> None:
    answer = service.ask(method, path)
    assert answer.status == status
    assert answer.headers.get("allow") == allow
    assert set(answer.json["error"]) == {"code", "message"}


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_raw_client_of_every_revision_lists_and_calls(service: ServiceProcess, revision: str) -> None:
    listed = service.ask("POST", "/mcp", *rpc("tools/list", {}, revision))
    assert {tool["name"] for tool in listed.message["result"]["tools"]} == TEN
    said = f"what a client of {revision} keeps"
    assert service.call("remember", {"text": said}, revision=revision).text.startswith("Remembered")
    assert said in service.call("search", {"query": said}, revision=revision).text


@pytest.mark.parametrize("mode", ["legacy", "auto", "2026-07-28"])
def test_the_official_client_connects_in_every_mode(service: ServiceProcess, mode: str) -> None:
    async def life() -> tuple[set[str], str, str]:
        from mcp.client.client import Client

        async with Client(service.url, mode=mode) as client:
            tools = {tool.name for tool in (await client.list_tools()).tools}
            answer = await client.call_tool("status", {})
            prompts = [prompt.name for prompt in (await client.list_prompts()).prompts]
            assert "start" in prompts
            return tools, str(answer.content[0]), client.protocol_version

    tools, text, revision = asyncio.run(life())
    assert tools == TEN
    assert "events recorded" in text
    assert revision == ("2025-11-25" if mode == "legacy" else "2026-07-28")


def test_calls_at_once_are_answered_to_the_one_who_asked(service: ServiceProcess) -> None:
    async def all_of_them() -> list[bool]:
        from mcp.client.client import Client

        async def one(number: int) -> bool:
            async with Client(service.url, mode="2026-07-28") as client:
                texts = []
                for step in range(2):
                    answer = await client.call_tool("remember", {"text": f"token{number}step{step} of many"})
                    assert not answer.is_error, answer
                    found = await client.call_tool("search", {"query": f"token{number}step{step}"})
                    texts.append(str(found.content[0]))
                return all(f"token{number}step{step} of many" in text for step, text in enumerate(texts))

        return await asyncio.gather(*(one(number) for number in range(12)))

    assert all(asyncio.run(all_of_them()))


def test_a_remote_client_is_nobody_at_this_machine(service: ServiceProcess) -> None:
    """Neither the server's working folder nor its parent says anything of who asks."""
    started = service.call("start").text
    assert str(Path.cwd()) not in started
    assert "this session: not known" in service.call("status").text


def test_a_client_cannot_name_its_request_as_another(service: ServiceProcess) -> None:
    """Servers that share a data folder name requests themselves, so that one sent twice is stored once."""
    texts = ["first under a foreign name", "second under the same name"]
    for text in texts:
        body, headers = rpc("tools/call", {"name": "remember", "arguments": {"text": text}})
        message = json.loads(body)
        message["params"]["_meta"] = {"session-mgmt/request": "somebody's"}
        assert not service.ask("POST", "/mcp", json.dumps(message).encode(), headers).message["result"][
            "isError"
        ]
    found = service.call("search", {"query": "under name"}).text
    assert all(text in found for text in texts)


def test_a_tool_that_refuses_is_counted_as_an_error_of_that_tool(service: ServiceProcess) -> None:
    def count() -> float:
        text = service.ask("GET", "/metrics").body.decode()
        line = re.search(
            r'session_mgmt_requests_total\{endpoint="mcp",outcome="error",tool="timeline"\} (\S+)', text
        )
        assert line is not None
        return float(line[1])

    before = count()
    assert service.call("timeline", {"session": "nosuch"}).message["result"]["isError"]
    assert count() == before + 1


def test_hooks_stdio_servers_and_commands_go_on_beside_it(service: ServiceProcess) -> None:
    """All append to one log, and the service finds at once what the others appended."""
    env = {**service.environment}
    env.pop("NOTIFY_SOCKET")
    prompt = {
        "hook_event_name": "UserPromptSubmit",
        "session_id": "s-hook",
        "cwd": "/",
        "prompt": "hookedword",
    }
    hook = [sys.executable, "-I", "-S", _hook(), "--data-dir", str(service.folder)]
    subprocess.run(hook, input=json.dumps(prompt).encode(), env=env, check=True)
    command = [sys.executable, "-m", "session_mgmt_mcp", "remember", "commandedword"]
    subprocess.run(command, env=env, check=True, stdout=subprocess.DEVNULL)
    with RawClient(command=[sys.executable, "-P", "-m", "session_mgmt_mcp.server"], env=env) as stdio:
        stdio.initialize()
        service.call("remember", {"text": "servedword"})
        assert "servedword" in stdio.call("search", query="servedword")[0]
    for word in ("hookedword", "commandedword", "servedword"):
        assert word in service.call("search", {"query": word}).text


def test_serve_without_http_is_the_stdio_server(tmp_path: Path) -> None:
    env = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "SESSION_MGMT_DATA_DIR": str(tmp_path / "data")}
    with RawClient(command=[sys.executable, "-m", "session_mgmt_mcp", "serve"], env=env) as stdio:
        stdio.write(b'{"jsonrpc":"2.0","id":1,"method":"ping"}')
        assert stdio.read() == {"jsonrpc": "2.0", "id": 1, "result": {}}


def _hook() -> str:
    from session_mgmt_mcp.adapters.claude_code import hook

    return str(hook.__file__)

"""Twenty real servers and hooks at work at once on one folder, and the host killed in the middle of it."""

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from mcp_raw_client import RawClient

from session_mgmt_mcp.adapters.claude_code import capture
from session_mgmt_mcp.core.log.log import FileLog

HOOK = str(Path(capture.__file__).with_name("hook.py"))
SERVERS = 20
HOOKS = 20
REMEMBER, FIND_OWN, FIND_OTHER = 100, 101, 102  # ids of requests


def call(client: RawClient, number: int, tool: str, **arguments: Any) -> None:
    """Send a request without waiting for its answer."""
    params = {"name": tool, "arguments": arguments}
    client.write(
        json.dumps({"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}).encode()
    )


def answer(client: RawClient, number: int) -> str:
    message = client.read()
    assert message["id"] == number and not message["result"].get("isError"), message
    text: str = message["result"]["content"][0]["text"]
    return text


def fact(number: int) -> str:
    return f"fact{number:03} about server number {number}"


@pytest.mark.slow
def test_twenty_servers_and_hooks_lose_nothing_when_the_host_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcp_raw_client.HANG_S_MAX", 600.0)  # forty processes on a small machine
    environment = {**os.environ, "SESSION_MGMT_DATA_DIR": str(tmp_path / "data")}
    FileLog(tmp_path / "data", create=True).close()
    command = [sys.executable, "-P", "-m", "session_mgmt_mcp.server"]
    with ExitStack() as stack:
        servers = [
            stack.enter_context(RawClient(command=command, env=environment, cwd=tmp_path))
            for _ in range(SERVERS)
        ]
        for server in servers:
            server.initialize()
        host, others = servers[0], servers[1:]
        host.call("remember", text=fact(0))
        for number, server in enumerate(others, 1):
            call(server, REMEMBER, "remember", text=fact(number), tags=["decision"])
        hooks = [hook(environment, number) for number in range(HOOKS)]
        host.process.kill()
        for server in others:
            answer(server, REMEMBER)
        assert [process.wait() for process in hooks] == [0] * HOOKS

        for number, server in enumerate(others, 1):
            call(server, FIND_OWN, "search", query=f"fact{number:03}")
            call(server, FIND_OTHER, "search", query=f"prompt{number:03}")
        for number, server in enumerate(others, 1):
            texts = sorted(server.read()["result"]["content"][0]["text"] for _ in range(2))
            assert any(fact(number) in text for text in texts), texts
            assert any(f"prompt{number:03} of a hook" in text for text in texts), texts
        held = [server for server in others if loads_the_sdk(server)]
        assert len(held) == 1, "one of them serves all"
        for server in others:
            server.close_input()
        assert [server.ends() for server in others] == [0] * len(others)
    assert remembered(tmp_path / "data") == [fact(number) for number in range(SERVERS)]


def hook(environment: dict[str, str], number: int) -> subprocess.Popen[bytes]:
    """A hook at work."""
    payload = {
        "session_id": f"s-{number}",
        "cwd": "/shop",
        "hook_event_name": "UserPromptSubmit",
        "prompt": f"prompt{number:03} of a hook",
    }
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", HOOK], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environment
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(payload).encode())
    process.stdin.close()
    return process


def loads_the_sdk(server: RawClient) -> bool:
    maps = Path(f"/proc/{server.process.pid}/maps")
    if not maps.exists():
        pytest.skip("needs /proc")
    return "pydantic" in maps.read_text()


def remembered(folder: Path) -> list[str]:
    """Every reflection as often as it is in the log."""
    with FileLog(folder) as log:
        events = [event for batch in log.read() for event in batch]
    texts = [
        json.loads(event.payload)["text"]
        for event in events
        if event.payload is not None and event.envelope.event_type == "ReflectionStored"
    ]
    return sorted(texts)

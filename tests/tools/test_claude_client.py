"""The real client with our registration: it works on as before, and everything it did is found."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from claude_client import CLIENTS_VARIABLE, client_folder, run_session

from session_mgmt_mcp.tools.app import App

CLIENTS = client_folder()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CLIENTS is None, reason=f"{CLIENTS_VARIABLE} names no folder with Claude Code in it"),
]


class Machine:
    """A home and a project of a user who has settings and a hook already."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.work = folder / "work"
        self.data = self.home / ".local" / "share" / "session-mgmt-mcp"
        self.settings = self.home / ".claude" / "settings.json"
        self.own_hook = folder / "own-hook.txt"
        self.before = (
            '{\n\t"permissions" : {"allow": ["Bash(true)"] , "deny":[ ]},\n\t"hooks": {\n\t\t"PostToolUse": [ '
            '{"matcher":"Bash","hooks":[{"type":"command","command":"echo \\u00fc >> '
            f'{self.own_hook}"}}]}} ],\n\t\t"Stop": [ ]\n\t}}\n}}'
        ).encode()
        self.settings.parent.mkdir(parents=True)
        self.work.mkdir()
        self.settings.write_bytes(self.before)

    def run(self, *arguments: str) -> str:
        env = {
            "HOME": str(self.home),
            "PATH": f"{CLIENTS}:{os.environ['PATH']}",
            "SESSION_MGMT_EMBED": "off",
        }
        done = subprocess.run(
            [sys.executable, "-P", "-m", "session_mgmt_mcp", *arguments],
            env=env,
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout

    def session(self, prompt: str, *turns: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        assert CLIENTS is not None
        tools = "Bash,Write,mcp__session-mgmt__search"
        return run_session(CLIENTS, self.home, self.work, prompt, list(turns), tools)

    def reported(self) -> list[dict[str, Any]]:
        """The hook payloads in the log, in order."""
        with App.open(self.data) as app:
            events = [event for batch in app.log.read() for event in batch]
        return [json.loads(e.payload or b"") for e in events if e.envelope.event_type == "HookReported"]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


WORK = (
    ("Bash", {"command": "echo hello > note.txt", "description": "write the marzipan note"}),
    ("Bash", {"command": "ls /does-not-exist", "description": "fail"}),
    "The marzipan note is written.",
)


def outcome(stream: list[dict[str, Any]]) -> tuple[str, bool]:
    return stream[-1]["subtype"], stream[-1]["is_error"]


def test_everything_a_session_did_is_captured_before_the_client_exits(machine: Machine) -> None:
    machine.run("setup", "--yes")
    stream, _ = machine.session("write the note", *WORK)
    assert outcome(stream) == ("success", False)
    assert (machine.work / "note.txt").read_text() == "hello\n"
    assert machine.own_hook.read_text() == "ü\n", "the user's own hook still runs"
    assert [payload["hook_event_name"] for payload in machine.reported()] == [
        "SessionStart",
        "UserPromptSubmit",
        "PreToolUse",
        "PostToolUse",
        "PreToolUse",
        "PostToolUseFailure",
        "Stop",
        "SessionEnd",
    ]


def test_the_next_session_finds_it_through_the_server(machine: Machine) -> None:
    machine.run("setup", "--yes")
    first, _ = machine.session("write the note", *WORK)
    _, shown = machine.session(
        "what did we write", ("mcp__session-mgmt__search", {"query": "marzipan note"}), "that"
    )
    results = [
        block
        for request in shown
        for message in request["messages"]
        for block in (message["content"] if isinstance(message["content"], list) else ())
        if block.get("type") == "tool_result"
    ]
    answer = json.dumps(results[0]["content"])
    assert first[-1]["session_id"] in answer
    assert "write the marzipan note" in answer
    assert str(machine.work) in answer


def test_undo_after_sessions_gives_back_the_settings_byte_for_byte(machine: Machine) -> None:
    machine.run("setup", "--yes")
    machine.session("write the note", *WORK)
    machine.run("setup", "--undo", "--yes")
    assert machine.settings.read_bytes() == machine.before
    assert "mcpServers" not in json.loads((machine.home / ".claude.json").read_bytes())


@pytest.mark.parametrize("broken", ["python", "script", "data folder"])
def test_a_broken_installation_does_not_disturb_the_client(machine: Machine, broken: str) -> None:
    machine.run("setup", "--yes")
    text = machine.settings.read_text()
    if broken == "python":
        text = text.replace(sys.executable, "/gone/python")
    elif broken == "script":
        text = text.replace("/hook.py", "/gone.py")
    else:
        shutil.rmtree(machine.data)
        machine.data.write_text("not a folder")
    machine.settings.write_text(text)
    stream, _ = machine.session("write the note", *WORK)
    assert outcome(stream) == ("success", False)
    assert (machine.work / "note.txt").read_text() == "hello\n"

"""A home and a project on a machine with the real Claude Code, to drive both it and our commands in."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from claude_client import Conversation, client_folder, run_session

from session_mgmt_mcp.tools.app import App

PLUGIN_TOOLS = "mcp__plugin_session-mgmt_session-mgmt__"
DIRECT_TOOLS = "mcp__session-mgmt__"
# what the scripted model does in a session, and the hooks that report it
WORK = (
    ("Bash", {"command": "echo hello > note.txt", "description": "write the marzipan note"}),
    ("Bash", {"command": "ls /does-not-exist", "description": "fail"}),
    "The marzipan note is written.",
)
EVENTS = [
    "SessionStart",
    "UserPromptSubmit",
    "PreToolUse",
    "PostToolUse",
    "PreToolUse",
    "PostToolUseFailure",
    "Stop",
    "SessionEnd",
]


def outcome(stream: list[dict[str, Any]]) -> tuple[str, bool]:
    return stream[-1]["subtype"], stream[-1]["is_error"]


def failed_hooks(stream: list[dict[str, Any]]) -> list[dict[str, Any]]:
    answers = [event for event in stream if event.get("subtype") == "hook_response"]
    assert answers, "hooks ran, and the client said how they ended"
    return [event for event in answers if event["outcome"] != "success" or event["exit_code"]]


class Machine:
    """A home and a project of a user who has settings and a hook already."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
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

    @property
    def clients(self) -> Path:
        folder = client_folder()
        assert folder is not None
        return folder

    def run(self, *arguments: str) -> str:
        """One of our commands, as this user."""
        return self.call(sys.executable, "-P", "-m", "session_mgmt_mcp", *arguments)

    def claude(self, *arguments: str) -> str:
        """One of Claude Code's own commands."""
        return self.call(str(self.clients / "claude"), *arguments)

    def call(self, *command: str, cwd: Path | None = None) -> str:
        env = {
            "HOME": str(self.home),
            "PATH": f"{self.clients}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "SESSION_MGMT_EMBED": "off",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_AUTOUPDATER": "1",
        }
        done = subprocess.run(
            command, env=env, cwd=cwd or self.folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def session(
        self, prompt: str, *turns: Any, tools: str = "Bash,Write"
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """One session to its end: what the client printed, and what the model was shown."""
        return run_session(self.clients, self.home, self.work, prompt, list(turns), tools)

    def conversation(self, work: Path, *turns: Any, tools: str = "Bash,Write") -> Conversation:
        return Conversation(self.clients, self.home, work, list(turns), tools)

    def reported(self) -> list[dict[str, Any]]:
        """The hook payloads in the log, in order."""
        with App.open(self.data) as app:
            events = [event for batch in app.log.read() for event in batch]
        return [json.loads(e.payload or b"") for e in events if e.envelope.event_type == "HookReported"]

"""Hooks reporting into a data folder, in this process."""

import json
from pathlib import Path

from session_mgmt_mcp.adapters.claude_code import brief_hook, capture
from session_mgmt_mcp.core import live


class Hooks:
    """Reports events as Claude Code's hooks do; maintenance is only counted."""

    def __init__(self, folder: Path, work: Path) -> None:
        self.folder = str(folder)
        self.work = str(work)
        self.maintained = 0

    def payload(self, session: str, event: str, **fields: object) -> bytes:
        named = {"session_id": session, "transcript_path": "/none.jsonl", "cwd": self.work}
        return json.dumps({**named, "hook_event_name": event, **fields}, ensure_ascii=False).encode()

    def report(self, session: str, event: str, **fields: object) -> None:
        capture.capture(self.folder, self.payload(session, event, **fields))

    def told(self, session: str, source: str = "startup", **fields: object) -> str:
        """What a session is told at its start; "" where nothing is said."""
        payload = self.payload(session, "SessionStart", source=source, **fields)
        capture.capture(self.folder, payload)
        return told(brief_hook.answer(self.folder, payload))


def killed(hooks: Hooks, session: str) -> None:
    """The session's process is gone without a word."""
    found = live.read(hooks.folder, session)
    assert found is not None
    found.process.born += 1
    live.write(hooks.folder, found)


def told(answer: bytes) -> str:
    """The context in a hook's answer."""
    if not answer:
        return ""
    [(name, said)] = json.loads(answer).items()
    assert name == "hookSpecificOutput" and said["hookEventName"] == "SessionStart"
    assert set(said) == {"hookEventName", "additionalContext"}
    return str(said["additionalContext"])

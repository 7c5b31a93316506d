"""A session written step by step, and the story that is told of it."""

from pathlib import Path
from typing import Any, Self

import msgspec
from action_log import NOON, SECOND, call, prompt, record, reply
from memory_log import MemoryLog

from session_mgmt_mcp.core.envelope import Envelope, EventType, NewEvent, capture_id
from session_mgmt_mcp.core.events import ReflectionStored, SessionCheckpointed
from session_mgmt_mcp.projections.publish import update
from session_mgmt_mcp.projections.story import Story
from session_mgmt_mcp.projections.views import Views

MINUTE = 60
REFUSED = "The user doesn't want to proceed with this tool use. The tool use was rejected"


class Session:
    """Steps of one session of Claude Code, each some seconds after the one before."""

    def __init__(self, session: str = "s-1", folder: str = "/home/u/app", start: int = 0) -> None:
        self.session, self.folder, self.at = session, folder, start
        self.events: list[NewEvent] = []

    def _name(self, kind: str) -> str:
        self.at += 5
        return f"{self.session}-{kind}-{len(self.events)}"

    def later(self, seconds: int) -> Self:
        self.at += seconds
        return self

    def prompt(self, text: str) -> Self:
        self.events.append(prompt(self.session, self._name("u"), text, self.at, cwd=self.folder))
        return self

    def reply(self, text: str) -> Self:
        self.events.append(reply(self.session, self._name("a"), text, self.at, cwd=self.folder))
        return self

    def tool(
        self, tool: str, arguments: dict[str, Any], result: str | None = "", *, error: bool = False
    ) -> Self:
        """A call and its result; None: no result was recorded."""
        use = self._name("t")
        self.events.append(call(self.session, f"{use}-c", use, tool, arguments, self.at))
        if result is not None:
            block = {"type": "tool_result", "tool_use_id": use, "content": result, "is_error": error}
            message = {"role": "user", "content": [block]}
            self.events.append(
                record(self.session, f"{use}-r", self.at + 1, type="user", message=message, cwd=self.folder)
            )
        return self

    def bash(self, command: str, result: str | None = "", *, error: bool = False) -> Self:
        return self.tool("Bash", {"command": command, "description": "Run it"}, result, error=error)

    def edit(self, file: str, old: str = "a = 1", new: str = "a = 2") -> Self:
        path = file if file.startswith("/") else f"{self.folder}/{file}"
        return self.tool("Edit", {"file_path": path, "old_string": old, "new_string": new}, "updated")

    def user_turn(self, text: str) -> Self:
        """A turn of role user that no person may have written."""
        return self.prompt(text)

    def own(self, event_type: EventType, payload: Any) -> Self:
        name = self._name("own")
        envelope = Envelope(
            f"claude-code/{self.session}", event_type, 1, NOON, NOON + self.at * SECOND, "user", "command"
        )
        self.events.append(
            NewEvent(capture_id("session-mgmt", "command", name), envelope, msgspec.json.encode(payload))
        )
        return self

    def remember(self, text: str, *tags: str) -> Self:
        return self.own(EventType.REFLECTION_STORED, ReflectionStored(text, tags, self.folder, self.session))

    def checkpoint(self, note: str = "", score: int | None = None) -> Self:
        stored = SessionCheckpointed(self.session, self.folder, "asked", 0, note, {}, score)
        return self.own(EventType.SESSION_CHECKPOINTED, stored)

    def story(self, tmp_path: Path, root: str = "") -> Story:
        views = views_of(tmp_path, self)
        try:
            return views.story(self.session, root=root)
        finally:
            views.close()


def views_of(tmp_path: Path, *sessions: Session, publish: bool = False) -> Views:
    """Views over a log of these sessions, one after the other."""
    log = MemoryLog()
    log.append([event for session in sessions for event in session.events])
    if publish:
        log.seal()
        update(log, tmp_path)
    return Views(log, tmp_path)


def todos(*items: tuple[str, str]) -> dict[str, Any]:
    """Arguments of TodoWrite from (content, status)."""
    return {"todos": [{"content": content, "status": status} for content, status in items]}

"""Events of Claude Code for tests: records and hook payloads as dicts, wrapped as the log holds them."""

import json
from typing import Any

from session_mgmt_mcp.core.actions import Action
from session_mgmt_mcp.core.envelope import Envelope, Event, capture_id
from session_mgmt_mcp.core.interpret import interpret

NOW = 1_770_000_000_000_000
EVENT_ID = capture_id("test")


def event(
    payload: Any, event_type: str = "RecordImported", *, stream: str = "claude-code/s-1", occurred_at: int = 7
) -> Event:
    raw = payload if isinstance(payload, bytes | None) else json.dumps(payload).encode()
    source = "hook" if event_type == "HookReported" else "record"
    return Event(1, EVENT_ID, Envelope(stream, event_type, 1, NOW, occurred_at, "unknown", source), raw)


def of_record(record: Any, **wrap: Any) -> list[Action]:
    return interpret(event(record, **wrap))


def of_hook(payload: Any, **wrap: Any) -> list[Action]:
    return interpret(event(payload, "HookReported", **wrap))


def user(content: Any, **fields: Any) -> dict[str, Any]:
    message = {"role": "user", "content": content}
    return {"type": "user", "uuid": "u-1", "sessionId": "s-1", "message": message, **fields}


def assistant(*blocks: Any, usage: Any = None, model: str = "m-large", **fields: Any) -> dict[str, Any]:
    message = {"id": "msg_1", "role": "assistant", "model": model, "content": list(blocks), "usage": usage}
    return {"type": "assistant", "uuid": "a-1", "sessionId": "s-1", "message": message, **fields}


def text(words: str) -> dict[str, str]:
    return {"type": "text", "text": words}


def result(content: Any, tool_use_id: str = "toolu_1", **fields: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": tool_use_id, "content": content, **fields}


def kinds(actions: list[Action]) -> list[str]:
    return [type(action).__name__ for action in actions]

"""Events of Claude Code, hooks and transcript records of one fact, for tests of the projections."""

import json
from typing import Any

import msgspec

from session_mgmt_mcp.core.envelope import Envelope, EventType, NewEvent, capture_id, uuid7
from session_mgmt_mcp.core.events import PayloadForgotten, ranges_of

NOON = 1_770_000_000_000_000
SECOND = 1_000_000


def record(session: str, uuid: str, at: int = 0, **fields: Any) -> NewEvent:
    """A transcript record; `at`: seconds after noon."""
    body = {"uuid": uuid, "sessionId": session, **fields}
    payload = json.dumps({**body, "cwd": fields.get("cwd", "/home/u/app")}).encode()
    envelope = Envelope(
        f"claude-code/{session}", EventType.RECORD_IMPORTED, 1, NOON, NOON + at * SECOND, "unknown", "record"
    )
    return NewEvent(capture_id("claude-code", "record", uuid), envelope, payload)


def prompt(session: str, uuid: str, text: str, at: int = 0, **fields: Any) -> NewEvent:
    return record(session, uuid, at, type="user", message={"role": "user", "content": text}, **fields)


def reply(session: str, uuid: str, text: str, at: int = 0, message: str = "", **fields: Any) -> NewEvent:
    block = {"type": "text", "text": text}
    return _assistant(session, uuid, block, at, message or f"msg-{uuid}", **fields)


def call(
    session: str, uuid: str, tool_use_id: str, tool: str, arguments: dict[str, Any], at: int = 0
) -> NewEvent:
    block = {"type": "tool_use", "id": tool_use_id, "name": tool, "input": arguments}
    return _assistant(session, uuid, block, at, f"msg-{uuid}")


def returned(session: str, uuid: str, tool_use_id: str, text: str, at: int = 0) -> NewEvent:
    block = {"type": "tool_result", "tool_use_id": tool_use_id, "content": text}
    return record(session, uuid, at, type="user", message={"role": "user", "content": [block]})


def _assistant(
    session: str, uuid: str, block: dict[str, Any], at: int, message: str, **fields: Any
) -> NewEvent:
    body = {"id": message, "role": "assistant", "model": "m", "content": [block]}
    usage = {"input_tokens": 3, "output_tokens": 5}
    return record(session, uuid, at, type="assistant", message={**body, "usage": usage}, **fields)


def summary(session: str, text: str, leaf: str) -> NewEvent:
    payload = json.dumps({"type": "summary", "summary": text, "leafUuid": leaf}).encode()
    envelope = Envelope(f"claude-code/{session}", EventType.RECORD_IMPORTED, 1, NOON, 0, "unknown", "record")
    return NewEvent(capture_id("claude-code", "record", session, payload), envelope, payload)


def hook(session: str, name: str, at: int = 0, **fields: Any) -> NewEvent:
    """A hook's report, captured `at` seconds after noon."""
    body = {"session_id": session, "cwd": "/home/u/app", "hook_event_name": name, **fields}
    time = NOON + at * SECOND
    envelope = Envelope(f"claude-code/{session}", EventType.HOOK_REPORTED, 1, time, 0, "unknown", "hook")
    return NewEvent(uuid7(time), envelope, json.dumps(body).encode())


def hook_prompt(session: str, text: str, at: int = 0, **fields: Any) -> NewEvent:
    return hook(session, "UserPromptSubmit", at, prompt=text, **fields)


def hook_return(session: str, tool_use_id: str, tool: str, text: str, at: int = 0) -> NewEvent:
    return hook(
        session,
        "PostToolUse",
        at,
        tool_name=tool,
        tool_use_id=tool_use_id,
        tool_input={"command": "make test"},
        tool_response={"stdout": text, "stderr": ""},
    )


def forgotten(
    keys: tuple[str, ...], positions: tuple[int, ...] = (), texts: tuple[tuple[int, str, str], ...] = ()
) -> NewEvent:
    payload = msgspec.json.encode(PayloadForgotten(ranges_of(positions), (), keys, "asked", texts))
    envelope = Envelope("session-mgmt/log", EventType.PAYLOAD_FORGOTTEN, 2, NOON, NOON, "user", "command")
    return NewEvent(uuid7(NOON), envelope, payload)

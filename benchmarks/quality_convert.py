"""Sessions of other assistants, and LoCoMo's conversations, as lines of the generic import format: what was said and
called, without the bookkeeping around it."""

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

Line = dict[str, Any]

RESULT_CHARS_MAX = 1500
# Openings of user turns that no person wrote
_INJECTED = ("<environment_context", "# AGENTS.md", "<user_instructions", "<turn_aborted", "<skill")
_FILE_NAMES = ("file_path", "filePath", "path", "notebook_path")
_EDIT_NAMES = ("old_string", "new_string", "oldString", "newString", "content", "patchText")
_PATCHED = re.compile(r"^\*\*\* (?:Add|Update|Delete) File: (.+)$", re.MULTILINE)


def call_of(name: str, arguments: Any, call: str) -> Line:
    """A tool call: its files and edits apart from the other arguments."""
    if not isinstance(arguments, dict):
        arguments = {"input": str(arguments)}
    if name == "apply_patch":
        patch = str(arguments.get("patchText") or arguments.get("input") or "")
        arguments = {"patchText": patch}
        files = _PATCHED.findall(patch)
    else:
        files = [v for k, v in arguments.items() if k in _FILE_NAMES and isinstance(v, str)]
    texts, edits = [], []
    for key, value in arguments.items():
        if key in _FILE_NAMES or value is None or isinstance(value, bool):
            continue
        if isinstance(value, list) and all(isinstance(one, str) for one in value):
            value = " ".join(value)
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        (edits if key in _EDIT_NAMES else texts).append(text)
    out: Line = {"kind": "call", "actor": "assistant", "tool": name, "call": call, "text": "\n".join(texts)}
    return out | {"files": files, "edit": "\n".join(edits)}


def result_of(call: str, output: Any) -> Line:
    text = output if isinstance(output, str) else json.dumps(output)
    return {"kind": "result", "actor": "tool", "call": call, "text": text[:RESULT_CHARS_MAX]}


def codex(path: Path) -> Iterator[Line]:
    """A rollout: messages, calls and results of its `response_item`s."""
    folder = ""
    for n, raw in enumerate(path.read_bytes().split(b"\n")):
        try:
            record = json.loads(raw)
            payload, time = record["payload"], record.get("timestamp")
            kind = payload.get("type")
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
        folder = payload.get("cwd") or folder
        if record.get("type") == "response_item" and (line := _codex_line(kind, payload)):
            yield {"record": n, "time": time, "project": folder, **line}


def _codex_line(kind: str, payload: dict[str, Any]) -> Line | None:
    if kind == "message" and payload.get("role") in ("user", "assistant"):
        parts = payload.get("content") or []
        text = "\n".join(part.get("text", "") for part in parts if isinstance(part, dict))
        if payload["role"] == "user" and text.lstrip().startswith(_INJECTED):
            return None
        return {"actor": payload["role"], "text": text} if text.strip() else None
    if kind in ("function_call", "custom_tool_call"):
        given = payload.get("arguments") or payload.get("input") or ""
        with contextlib.suppress(ValueError):
            given = json.loads(given)
        return call_of(payload.get("name", ""), given, payload.get("call_id", ""))
    if kind in ("function_call_output", "custom_tool_call_output"):
        return result_of(payload.get("call_id", ""), payload.get("output"))
    return None


def opencode(path: Path) -> Iterator[Line]:
    """An export: text, reasoning and tool parts of its messages."""
    found = json.loads(path.read_bytes())
    folder = found["info"].get("directory", "")
    for message in found.get("messages", []):
        info = message["info"]
        role = "user" if info.get("role") == "user" else "assistant"
        for n, part in enumerate(message.get("parts", [])):
            record = part.get("id") or f"{info.get('id')}-{n}"
            common = {"record": record, "time": info.get("time", {}).get("created"), "project": folder}
            kind, text = part.get("type"), part.get("text") or ""
            if kind == "text" and text.strip() and not part.get("synthetic"):
                yield common | {"actor": role, "text": text}
            elif kind == "reasoning" and text.strip():
                yield common | {"kind": "thought", "actor": "assistant", "text": text}
            elif kind == "tool":
                state = part.get("state") or {}
                yield common | call_of(part.get("tool", ""), state.get("input") or {}, record)
                if output := state.get("output") or state.get("error"):
                    yield common | {"record": f"{record}-result"} | result_of(record, output)


def gemini(path: Path) -> Iterator[Line]:
    """A chat: messages and tool calls."""
    found = json.loads(path.read_bytes())
    for n, message in enumerate(found.get("messages", [])):
        if message.get("type") not in ("user", "gemini"):
            continue
        content = message.get("content") or ""
        text = content if isinstance(content, str) else "\n".join(p.get("text", "") for p in content)
        common = {"time": message.get("timestamp")}
        if text.strip():
            actor = "user" if message["type"] == "user" else "assistant"
            yield common | {"record": n, "actor": actor, "text": text}
        for i, call in enumerate(message.get("toolCalls") or []):
            yield (
                common | {"record": f"{n}-{i}"} | call_of(call.get("name", ""), call.get("args"), f"{n}-{i}")
            )


CONVERTERS: dict[str, Callable[[Path], Iterator[Line]]] = {
    "codex": codex,
    "opencode": opencode,
    "gemini-cli": gemini,
}


def locomo(conversation: dict[str, Any]) -> Iterator[Line]:
    """A conversation's turns, every speaker an actor; what a shared picture shows is part of the turn."""
    names = [name for name in conversation if re.fullmatch(r"session_\d+", name)]
    for name in sorted(names, key=lambda n: int(n[8:])):
        began = datetime.strptime(conversation[f"{name}_date_time"], "%I:%M %p on %d %B, %Y").replace(
            tzinfo=UTC
        )
        for n, turn in enumerate(conversation[name]):
            text = f"{turn['text']} {turn.get('blip_caption', '')}".strip()
            time = began.timestamp() + n
            yield {
                "session": name,
                "record": turn["dia_id"],
                "time": time,
                "actor": turn["speaker"],
                "text": text,
            }

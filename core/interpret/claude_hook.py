"""Hook payloads of Claude Code."""

from collections.abc import Callable
from typing import Any

import msgspec

from session_mgmt_mcp.core.actions import (
    AssistantReplied,
    ContextCompacted,
    SessionEnded,
    SessionStarted,
    SessionTitled,
)
from session_mgmt_mcp.core.envelope import Event
from session_mgmt_mcp.core.interpret.claude_record import tool_called, tool_returned, user_turn
from session_mgmt_mcp.core.interpret.claude_text import (
    is_slash_command,
    readable,
    result_files,
    result_text,
    tool_input,
)
from session_mgmt_mcp.core.interpret.facts import Facts, string
from session_mgmt_mcp.core.interpret.json_record import read_object

Payload = dict[str, Any]
_payload = msgspec.json.Decoder(dict[str, Any])

# Events that are worth a line, and the fields that make it.
_NOTED = {
    "Setup": ("trigger",),
    "InstructionsLoaded": ("file_path",),
    "UserPromptExpansion": ("prompt",),
    "Notification": ("title", "message"),
    "SubagentStart": ("agent_type", "agent_id"),
    "StopFailure": ("error", "error_details", "last_assistant_message"),
    "TaskCreated": ("task_subject", "task_description"),
    "TaskCompleted": ("task_subject", "task_description"),
    "TeammateIdle": ("teammate_name",),
    "ConfigChange": ("source", "file_path"),
    "CwdChanged": ("old_cwd", "new_cwd"),
    "DirectoryAdded": ("directory",),
    "FileChanged": ("event", "file_path"),
    "WorktreeCreate": ("name",),
    "WorktreeRemove": ("worktree_path",),
    "Elicitation": ("mcp_server_name", "message"),
    "ElicitationResult": ("mcp_server_name", "action"),
    "PreModelSwitch": ("old_model", "new_model", "model"),
    "PostModelSwitch": ("old_model", "new_model", "model"),
}


def interpret_hook(event: Event, payload: bytes) -> Facts:
    """Raises NotAnObjectError."""
    said = read_object(payload, _payload)
    facts = Facts(
        event,
        record=string(said.get("tool_use_id")) or string(said.get("prompt_id")),
        project=string(said.get("cwd")),
    )
    if not event.envelope.occurred_at:  # a hook reports at once, so when it was captured is when it happened
        facts.shared["occurred_at"] = event.envelope.recorded_at
    name = string(said.get("hook_event_name"))
    if name in _HANDLERS:
        _HANDLERS[name](facts, said)
    elif name in _NOTED:
        facts.note(name, "\n".join(filter(None, (readable(said.get(field)) for field in _NOTED[name]))))
    else:
        facts.unknown(f"hook/{name}" if name else "hook")
    return facts


def _actor(said: Payload) -> str:
    agent = string(said.get("agent_id"))
    return f"agent:{agent}" if agent else "assistant"


def _session_start(facts: Facts, said: Payload) -> None:
    facts.add(
        SessionStarted, actor="system", reason=string(said.get("source")), model=string(said.get("model"))
    )
    if title := string(said.get("session_title")).strip():
        facts.add(SessionTitled, actor="system", text=title, origin="custom")


def _session_end(facts: Facts, said: Payload) -> None:
    facts.add(SessionEnded, actor="system", reason=string(said.get("reason")))


def _prompt(facts: Facts, said: Payload) -> None:
    text = string(said.get("prompt"))
    source = string(said.get("source"))
    if source not in ("", "user", "sdk"):
        facts.note(source, text)
    elif is_slash_command(text):
        facts.note("slash-command", text, actor="user")
    elif text.strip():
        user_turn(facts, text, string(said.get("prompt_id")))


def _called(facts: Facts, said: Payload) -> tuple[str, ...]:
    """Add the call; its files."""
    tool = string(said.get("tool_name"))
    return tool_called(facts, tool, said.get("tool_input"), string(said.get("tool_use_id")), _actor(said))


def _returned(facts: Facts, said: Payload) -> None:
    files = _called(facts, said)
    tool, response = string(said.get("tool_name")), said.get("tool_response")
    tool_use_id = string(said.get("tool_use_id"))
    text = result_text(response)
    tool_returned(facts, tool, tool_use_id, text, result_files(response) or files, is_error=False)


def _failed(facts: Facts, said: Payload) -> None:
    files = _called(facts, said)
    tool, tool_use_id = string(said.get("tool_name")), string(said.get("tool_use_id"))
    tool_returned(facts, tool, tool_use_id, string(said.get("error")), files, is_error=True)


def _batch(facts: Facts, said: Payload) -> None:
    calls = said.get("tool_calls")
    agent = {"agent_id": said.get("agent_id")}
    for call in calls if isinstance(calls, list) else ():
        if isinstance(call, dict):
            _returned(facts, {**call, **agent})


def _stopped(facts: Facts, said: Payload) -> None:
    text = string(said.get("last_assistant_message"))
    if text.strip():
        facts.add(AssistantReplied, key=facts.text_key("reply", text), text=text, actor=_actor(said))


def _compacting(facts: Facts, said: Payload) -> None:
    facts.add(ContextCompacted, actor="system", trigger=string(said.get("trigger")))


def _compacted(facts: Facts, said: Payload) -> None:
    text = string(said.get("compact_summary"))
    facts.add(ContextCompacted, actor="system", trigger=string(said.get("trigger")), text=text)


def _permission(facts: Facts, said: Payload) -> None:
    tool, denied = string(said.get("tool_name")), string(said.get("reason"))
    name = string(said.get("hook_event_name"))
    facts.note(name, "\n".join(filter(None, (tool, tool_input(tool, said.get("tool_input")).text, denied))))


def _displayed(facts: Facts, said: Payload) -> None:
    """Pieces of a reply as they are shown; `Stop` and the transcript hold the whole."""


_HANDLERS: dict[str, Callable[[Facts, Payload], object]] = {
    "SessionStart": _session_start,
    "SessionEnd": _session_end,
    "UserPromptSubmit": _prompt,
    "PreToolUse": _called,
    "PostToolUse": _returned,
    "PostToolUseFailure": _failed,
    "PostToolBatch": _batch,
    "Stop": _stopped,
    "SubagentStop": _stopped,
    "PreCompact": _compacting,
    "PostCompact": _compacted,
    "PermissionRequest": _permission,
    "PermissionDenied": _permission,
    "MessageDisplay": _displayed,
}

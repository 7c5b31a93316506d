"""Attachments of Claude Code's transcripts: what the client put beside a turn."""

from collections.abc import Callable
from typing import Any

import msgspec

from session_mgmt_mcp.core.interpret.claude_text import blocks_text, prompt_text, readable, result_text
from session_mgmt_mcp.core.interpret.claude_types import is_known
from session_mgmt_mcp.core.interpret.facts import Facts, string

_any = msgspec.json.Decoder()

# Attachments with text a person may look for, and where it lies. Others repeat the client's own instructions.
_TEXT_FIELDS = {
    "file": ("filename", "displayPath", "content"),
    "edited_text_file": ("filename", "snippet"),
    "directory": ("path", "content"),
    "pdf_reference": ("filename",),
    "selected_lines_in_ide": ("filename", "content"),
    "opened_file_in_ide": ("filename",),
    "mcp_resource": ("uri", "content"),
    "diagnostics": ("files",),
    "task_status": ("description", "deltaSummary"),
    "teammate_mailbox": ("messages",),
    "hook_additional_context": ("content",),
    "hook_system_message": ("content",),
    "hook_success": ("content", "stdout", "stderr"),
    "hook_non_blocking_error": ("stderr", "stdout"),
    "hook_blocking_error": ("blockingError",),
    "hook_error_during_execution": ("content",),
    "hook_stopped_continuation": ("message",),
    "async_hook_response": ("response",),
}


def interpret_attachment(
    facts: Facts, origin: str, raw: msgspec.Raw, user_turn: Callable[[Facts, str, str], None], agent: str
) -> None:
    """Add what an attachment says. A prompt typed while the assistant was busy arrives here too."""
    value = _any.decode(raw) if len(raw) else None
    if not isinstance(value, dict) or not is_known(origin):
        facts.unknown(origin, blocks_text(value.get("content")) if isinstance(value, dict) else "")
        return
    kind = origin.partition("/")[2]
    if kind == "queued_command":
        text, mode = prompt_text(value.get("prompt")), string(value.get("commandMode"))
        if mode not in ("", "prompt"):
            facts.note(mode, text)
        elif agent or value.get("isMeta") is True:
            facts.note("agent-prompt" if agent else "meta", text)
        else:
            user_turn(facts, text, "")
        return
    parts = (_part(value.get(field)) for field in _TEXT_FIELDS.get(kind, ()))
    facts.note(origin, "\n".join(part for part in dict.fromkeys(parts) if part))


def _part(value: Any) -> str:
    if isinstance(value, dict):
        return result_text(value)
    if isinstance(value, list) and value and not isinstance(value[0], str):
        return readable(value)
    return blocks_text(value).strip()

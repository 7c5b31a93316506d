"""What kinds of transcript records Claude Code writes, and which of them this version knows."""

from typing import Any

import msgspec

from session_mgmt_mcp.core.interpret.json_record import UNDECODABLE, read_object

_NOTHING = msgspec.Raw(b"")


class ClaudeRecord(msgspec.Struct):
    """One line of a transcript. Fields are what the file holds, of any type; large parts stay undecoded."""

    type: Any = None
    subtype: Any = None
    uuid: Any = None
    parentUuid: Any = None
    sessionId: Any = None
    agentId: Any = None
    isSidechain: Any = None
    timestamp: Any = None
    cwd: Any = None
    gitBranch: Any = None
    isMeta: Any = None
    isCompactSummary: Any = None
    isApiErrorMessage: Any = None
    promptId: Any = None
    promptSource: Any = None
    origin: Any = None
    operation: Any = None
    content: Any = None
    error: Any = None
    compactMetadata: Any = None
    summary: Any = None
    leafUuid: Any = None
    customTitle: Any = None
    aiTitle: Any = None
    agentName: Any = None
    prUrl: Any = None
    message: msgspec.Raw = _NOTHING
    toolUseResult: msgspec.Raw = _NOTHING
    attachment: msgspec.Raw = _NOTHING
    data: msgspec.Raw = _NOTHING


class _Typed(msgspec.Struct):
    type: Any = None


_record_decoder = msgspec.json.Decoder(ClaudeRecord)
_typed_decoder = msgspec.json.Decoder(_Typed)

# Types whose subtype is not part of the origin.
_PLAIN = frozenset(
    [
        "assistant",
        "user",
        "file-history-snapshot",
        "file-history-delta",
        "queue-operation",
        "last-prompt",
        "custom-title",
        "mode",
        "permission-mode",
        "summary",
        "ai-title",
        "pr-link",
        "agent-name",
        "frame-link",
    ]
)
_SYSTEM = frozenset(
    [
        "stop_hook_summary",
        "turn_duration",
        "compact_boundary",
        "microcompact_boundary",
        "api_error",
        "local_command",
        "away_summary",
        "bridge_status",
        "informational",
        "init",
        "model_refusal_fallback",
    ]
)
_PROGRESS_TICKS = frozenset(
    [
        "bash_progress",
        "hook_progress",
        "mcp_progress",
        "waiting_for_task",
        "query_update",
        "search_results_received",
    ]
)
_ATTACHMENTS = frozenset(
    [
        "agent_listing_delta",
        "agent_mention",
        "already_read_file",
        "async_hook_response",
        "auto_mode",
        "auto_mode_exit",
        "budget_usd",
        "command_permissions",
        "compact_file_reference",
        "compaction_reminder",
        "context_efficiency",
        "critical_system_reminder",
        "current_session_memory",
        "date_change",
        "deferred_tools_delta",
        "diagnostics",
        "directory",
        "dynamic_skill",
        "edited_image_file",
        "edited_text_file",
        "file",
        "hook_additional_context",
        "hook_blocking_error",
        "hook_cancelled",
        "hook_error_during_execution",
        "hook_non_blocking_error",
        "hook_permission_decision",
        "hook_stopped_continuation",
        "hook_success",
        "hook_system_message",
        "invoked_skills",
        "max_turns_reached",
        "mcp_instructions_delta",
        "mcp_resource",
        "nested_memory",
        "opened_file_in_ide",
        "output_style",
        "pdf_reference",
        "plan_file_reference",
        "plan_mode",
        "plan_mode_exit",
        "plan_mode_reentry",
        "queued_command",
        "relevant_memories",
        "selected_lines_in_ide",
        "skill_discovery",
        "skill_listing",
        "structured_output",
        "task_reminder",
        "task_status",
        "team_context",
        "teammate_mailbox",
        "todo_reminder",
        "token_usage",
        "verify_plan_reminder",
    ]
)


def read_record(line: bytes) -> ClaudeRecord:
    """One transcript line. Raises NotAnObjectError."""
    return read_object(line, _record_decoder)


def inner_type(raw: msgspec.Raw) -> str:
    """The `type` of a nested object, "" where it is none."""
    try:
        value = _typed_decoder.decode(raw).type
    except UNDECODABLE:  # absent, or no object
        return ""
    return value if isinstance(value, str) else ""


def origin_of(record: ClaudeRecord) -> str:
    """The record's type as found, with the subtype where it tells records apart: `system/api_error`."""
    kind = record.type if isinstance(record.type, str) else "no type"
    if kind == "system":
        return f"system/{record.subtype}" if isinstance(record.subtype, str) else "system"
    if kind == "attachment":
        return f"attachment/{inner_type(record.attachment)}"
    if kind == "progress":
        return f"progress/{inner_type(record.data)}"
    return kind


def is_known(origin: str) -> bool:
    """Whether this version knows what a record of that origin means."""
    kind, _, rest = origin.partition("/")
    if not rest:
        return kind in _PLAIN or kind == "system"
    known = {"system": _SYSTEM, "attachment": _ATTACHMENTS, "progress": _PROGRESS_TICKS | {"agent_progress"}}
    return rest in known.get(kind, ())


def noise_of(record: ClaudeRecord) -> str:
    """The name of the noise a record is, "" for one to keep.

    Noise says nothing that another record does not say: ticks of a running tool or hook, and the note that
    the head of the queue was taken, which carries no text.
    """
    if record.type == "progress":
        tick = inner_type(record.data)
        return f"progress/{tick}" if tick in _PROGRESS_TICKS else ""
    if record.type == "queue-operation" and record.operation == "dequeue" and not record.content:
        return "queue-operation/dequeue"
    return ""

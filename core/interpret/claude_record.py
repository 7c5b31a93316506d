"""Transcript records of Claude Code."""

from collections.abc import Callable
from typing import Any

import msgspec

from session_mgmt_mcp.core.actions import (
    AssistantReplied,
    AssistantThought,
    ContextCompacted,
    SessionTitled,
    ToolCalled,
    ToolReturned,
    UsageReported,
)
from session_mgmt_mcp.core.envelope import Event
from session_mgmt_mcp.core.interpret.claude_attachment import interpret_attachment
from session_mgmt_mcp.core.interpret.claude_text import (
    blocks_text,
    classify,
    prompt_text,
    readable,
    result_files,
    result_text,
    tool_input,
    without_injections,
)
from session_mgmt_mcp.core.interpret.claude_types import ClaudeRecord, is_known, origin_of, read_record
from session_mgmt_mcp.core.interpret.facts import Facts, string
from session_mgmt_mcp.core.interpret.json_record import UNDECODABLE, repaired


class _Message(msgspec.Struct):
    id: Any = None
    role: Any = None
    model: Any = None
    content: Any = None
    usage: Any = None


class _NestedTurn(msgspec.Struct):
    """What `agent_progress` wraps: a whole turn of a subagent."""

    type: Any = None
    message: msgspec.Raw = msgspec.Raw(b"")
    toolUseResult: msgspec.Raw = msgspec.Raw(b"")


class _AgentProgress(msgspec.Struct):
    agentId: Any = None
    message: _NestedTurn | None = None


class _ResultFile(msgspec.Struct):
    filePath: Any = None
    file: "_ResultFile | None" = None


_message = msgspec.json.Decoder(_Message)
_agent_progress = msgspec.json.Decoder(_AgentProgress)
_result_file = msgspec.json.Decoder(_ResultFile)
_any = msgspec.json.Decoder()


def interpret_record(event: Event, payload: bytes) -> Facts:
    """Raises NotAnObjectError."""
    record = read_record(payload)
    try:
        return _interpreted(event, record)
    except UNDECODABLE:  # the broken spot lies in a part that is decoded only when it is needed
        return _interpreted(event, read_record(repaired(payload)))


def _interpreted(event: Event, record: ClaudeRecord) -> Facts:
    facts = Facts(
        event,
        uuid=string(record.uuid),
        project=string(record.cwd),
        branch=string(record.gitBranch),
        parent=string(record.parentUuid),
    )
    kind = record.type
    if kind == "assistant":
        _assistant(
            facts, _read_message(record.message), agent=_agent(record), local=bool(record.isApiErrorMessage)
        )
    elif kind == "user":
        _user(facts, record)
    elif isinstance(kind, str) and kind in _OTHER:
        _OTHER[kind](facts, record)
    else:
        facts.unknown(origin_of(record), blocks_text(record.content))
    return facts


def _read_message(raw: msgspec.Raw) -> _Message:
    """A message; one that is a plain string becomes its content, anything else an empty one."""
    try:
        return _message.decode(raw)
    except msgspec.MsgspecError:
        value = _any.decode(raw) if len(raw) else None
        return _Message(content=value if isinstance(value, str | list) else None)


def _agent(record: ClaudeRecord) -> str:
    """The actor of a subagent's turns, "" in the main conversation."""
    if record.agentId and isinstance(record.agentId, str):
        return f"agent:{record.agentId}"
    return "agent:sidechain" if record.isSidechain else ""


# assistant --------------------------------------------------------------------------------------------------


def _assistant(facts: Facts, message: _Message, *, agent: str, local: bool) -> None:
    model = string(message.model)
    if local or model == "<synthetic>":  # written by the client: no turn of a model, no tokens
        facts.note("api-error" if local else "synthetic", blocks_text(message.content))
        return
    actor = agent or "assistant"
    message_id = string(message.id)
    content = message.content
    for block in content if isinstance(content, list) else [{"type": "text", "text": content}]:
        if isinstance(block, dict):
            _assistant_block(facts, block, actor, message_id, model)
    if isinstance(message.usage, dict):
        _usage(facts, message.usage, actor, message_id, model)


def _assistant_block(facts: Facts, block: dict[str, Any], actor: str, message_id: str, model: str) -> None:
    kind = block.get("type")
    if kind == "text" or kind == "thinking":
        text = string(block.get(kind))
        if text.strip():
            action, key = (AssistantReplied, "reply") if kind == "text" else (AssistantThought, "thought")
            facts.add(
                action,
                key=facts.block_key(key, message_id, text),
                text=text,
                actor=actor,
                message_id=message_id,
                model=model,
            )
    elif kind in ("tool_use", "server_tool_use", "mcp_tool_use"):
        tool_called(facts, string(block.get("name")), block.get("input"), string(block.get("id")), actor)
    elif isinstance(kind, str) and kind.endswith("_tool_result"):
        _tool_result(facts, block, blocks_text(block.get("content")), ())
    elif kind not in ("redacted_thinking", "fallback"):
        facts.unknown(f"assistant/{kind}", readable(block.get("text")))


def tool_called(facts: Facts, tool: str, arguments: Any, tool_use_id: str, actor: str) -> tuple[str, ...]:
    """Add a ToolCalled; hooks and records give the same one the same key. Returns its files."""
    text, files, command, edit_text = tool_input(tool, arguments)
    facts.add(
        ToolCalled,
        key=f"call:{tool_use_id}" if tool_use_id else "",
        text=text,
        actor=actor,
        tool=tool,
        tool_use_id=tool_use_id,
        files=files,
        command=command,
        edit_text=edit_text,
    )
    return files


def _usage(facts: Facts, usage: dict[str, Any], actor: str, message_id: str, model: str) -> None:
    def tokens(name: str) -> int:
        value = usage.get(name)
        return value if isinstance(value, int) else 0

    facts.add(
        UsageReported,
        key=f"usage:{message_id}" if message_id else "",
        actor=actor,
        message_id=message_id,
        model=model,
        input_tokens=tokens("input_tokens"),
        output_tokens=tokens("output_tokens"),
        cache_read_tokens=tokens("cache_read_input_tokens"),
        cache_write_tokens=tokens("cache_creation_input_tokens"),
    )


# user -------------------------------------------------------------------------------------------------------


def _user(facts: Facts, record: ClaudeRecord) -> None:
    message = _read_message(record.message)
    content = message.content
    results, rest = _split(content)
    for block in results:
        only = record.toolUseResult if len(results) == 1 else msgspec.Raw(b"")
        text, files = _result_of(block, only)
        _tool_result(facts, block, text, files)
    text = prompt_text(rest)
    if record.isCompactSummary:
        facts.add(ContextCompacted, text=text, actor="system")
    elif not text.strip():
        return
    elif record.isMeta:
        facts.note("meta", text)
    elif agent := _agent(record):
        # What a subagent is asked was written by the assistant that started it; its call of the tool says so
        # too.
        facts.note("agent-prompt", without_injections(text), actor=agent)
    elif _by_machine(record):
        facts.note(_by_machine(record), text)
    else:
        # Text beside tool results was typed while the turn ran: it shares the prompt id of the turn, not its
        # fact.
        user_turn(facts, text, "" if results else string(record.promptId))


def user_turn(facts: Facts, text: str, prompt_id: str) -> None:
    """Add what a turn of role "user" is: a prompt, a compaction's summary or context."""
    origin, cleaned = classify(text)
    if origin == "compacted":
        facts.add(ContextCompacted, text=cleaned, actor="system")
    elif origin:
        facts.note(origin, cleaned, actor="user" if origin in ("slash-command", "bash-mode") else "system")
    else:
        facts.prompt(cleaned, prompt_id)


def _by_machine(record: ClaudeRecord) -> str:
    """Who composed the turn where the record says that it was not a person."""
    kind = string(record.origin.get("kind")) if isinstance(record.origin, dict) else ""
    if kind not in ("", "human", "user"):
        return kind
    return "system" if record.promptSource == "system" else ""


def _split(content: Any) -> tuple[list[dict[str, Any]], Any]:
    """The tool results of a user message, and the rest of its content."""
    if not isinstance(content, list):
        return [], content
    results = [block for block in content if isinstance(block, dict) and block.get("type") == "tool_result"]
    if not results:
        return [], content
    return results, [block for block in content if not (isinstance(block, dict) and block in results)]


def _result_of(block: dict[str, Any], structured: msgspec.Raw) -> tuple[str, tuple[str, ...]]:
    """Text and files of a tool result. Its twin repeats the text: used where there is none."""
    text = blocks_text(block.get("content"))
    if not text:
        value = _any.decode(structured) if len(structured) else None
        return result_text(value), result_files(value)
    return text, _files_of(structured)


def _files_of(structured: msgspec.Raw) -> tuple[str, ...]:
    if b'"filePath"' not in bytes(structured):
        return ()
    try:
        value = _result_file.decode(structured)
    except msgspec.MsgspecError:
        return ()
    path = value.filePath or (value.file and value.file.filePath)
    return (path,) if isinstance(path, str) and path else ()


def _tool_result(facts: Facts, block: dict[str, Any], text: str, files: tuple[str, ...]) -> None:
    tool_use_id = string(block.get("tool_use_id"))
    tool_returned(facts, "", tool_use_id, text, files, block.get("is_error") is True)


def tool_returned(
    facts: Facts, tool: str, tool_use_id: str, text: str, files: tuple[str, ...], is_error: bool
) -> None:
    """Add a ToolReturned; hooks and records give the same one the same key."""
    facts.add(
        ToolReturned,
        key=f"return:{tool_use_id}" if tool_use_id else "",
        text=without_injections(text),
        actor="tool",
        tool=tool,
        tool_use_id=tool_use_id,
        files=files,
        is_error=is_error,
    )


# the rest ---------------------------------------------------------------------------------------------------


def _system(facts: Facts, record: ClaudeRecord) -> None:
    origin = origin_of(record)
    if origin == "system/compact_boundary":
        metadata = record.compactMetadata
        trigger = string(metadata.get("trigger")) if isinstance(metadata, dict) else ""
        facts.add(ContextCompacted, actor="system", trigger=trigger)
    elif origin in ("system/stop_hook_summary", "system/turn_duration"):
        return
    elif origin == "system/api_error":
        facts.note(origin, _api_error(record.error))
    elif origin == "system/local_command":
        facts.note("local-command", classify(string(record.content)).text)
    elif is_known(origin):
        facts.note(origin, string(record.content))
    else:
        facts.unknown(origin, string(record.content))


def _api_error(error: Any) -> str:
    """The message of an API error, however deep it lies."""
    for _ in range(4):
        if not isinstance(error, dict):
            break
        if isinstance(error.get("message"), str):
            return f"API error: {error['message']}"
        if "error" not in error:
            break
        error = error["error"]
    return f"API error: {readable(error)}"


def _progress(facts: Facts, record: ClaudeRecord) -> None:
    origin = origin_of(record)
    if origin == "progress/agent_progress":
        try:
            progress = _agent_progress.decode(record.data)
        except msgspec.ValidationError:
            progress = _AgentProgress()
        if progress.message is None:
            return
        nested = ClaudeRecord(
            type=progress.message.type,
            agentId=string(progress.agentId) or "sidechain",
            message=progress.message.message,
            toolUseResult=progress.message.toolUseResult,
        )
        if nested.type == "assistant":
            _assistant(facts, _read_message(nested.message), agent=_agent(nested), local=False)
        else:
            _user(facts, nested)
    elif not is_known(origin):
        facts.unknown(origin)


def _attachment(facts: Facts, record: ClaudeRecord) -> None:
    interpret_attachment(facts, origin_of(record), record.attachment, user_turn, _agent(record))


def _queue_operation(facts: Facts, record: ClaudeRecord) -> None:
    # What is queued comes back as a prompt when it runs; here it is kept because it may be removed before
    # that.
    facts.note(
        f"queue-operation/{string(record.operation)}", classify(blocks_text(record.content)).text, "user"
    )


def _title(facts: Facts, origin: str, text: Any, leaf: Any = None) -> None:
    if isinstance(text, str) and text.strip():
        facts.add(SessionTitled, text=text, origin=origin, leaf=string(leaf), actor="system")


def _pr_link(facts: Facts, record: ClaudeRecord) -> None:
    facts.note("pr-link", string(record.prUrl))


def _nothing(facts: Facts, record: ClaudeRecord) -> None:
    """Known, and says nothing a person would want to find again."""


_OTHER: dict[str, Callable[[Facts, ClaudeRecord], None]] = {
    "system": _system,
    "progress": _progress,
    "attachment": _attachment,
    "queue-operation": _queue_operation,
    "summary": lambda facts, record: _title(facts, "summary", record.summary, record.leafUuid),
    "custom-title": lambda facts, record: _title(facts, "custom", record.customTitle),
    "ai-title": lambda facts, record: _title(facts, "ai", record.aiTitle),
    "agent-name": lambda facts, record: _title(facts, "agent", record.agentName),
    "pr-link": _pr_link,
    "last-prompt": _nothing,  # repeats a prompt
    "mode": _nothing,
    "permission-mode": _nothing,
    "file-history-snapshot": _nothing,
    "file-history-delta": _nothing,
    "frame-link": _nothing,
}

"""What a hook writes into a session's live file (core.live). Loaded by the few hooks that begin or end a turn."""

import time

from session_mgmt_mcp.adapters.claude_code.fields import string_of
from session_mgmt_mcp.core import live
from session_mgmt_mcp.core.log.durable import os
from session_mgmt_mcp.core.project import identify


def note(folder: str, event_name: bytes, session: str, payload: bytes) -> None:
    """Take an event into the session's live file; `payload`: redacted. Where that fails, the session goes without one."""
    try:
        if os.access(folder + "/FORMAT.json", os.F_OK):  # into no folder of another program
            _note(folder, event_name, session, payload)
    except (OSError, ValueError):
        pass


def _note(folder: str, event_name: bytes, session: str, payload: bytes) -> None:
    now = time.time_ns() // 1000
    found = live.read(folder, session) or live.Live(session)
    found.folder = string_of(payload, b"cwd") or found.folder
    found.root = identify(found.folder).root if found.folder else ""
    if not found.process.pid or event_name == b"SessionStart":  # picked up again, it is another process
        found.process = live.assistant_process()
    found.started_at = found.started_at or now
    if event_name == b"UserPromptSubmit":
        found.prompt = beginning(string_of(payload, b"prompt", 4 * live.PROMPT_CHARS_MAX))
        found.prompted_at = now
    elif event_name == b"PreCompact":
        found.compacting_at = now
    live.write(folder, found)


def beginning(text: str, chars_max: int = live.PROMPT_CHARS_MAX) -> str:
    """The beginning of a text on one line, without what could pass for a tag: it will stand in another session's brief."""
    line = " ".join(live.one_line(text).replace("<", "‹").replace(">", "›").split())
    return line if len(line) <= chars_max else line[: chars_max - 1].rstrip() + "…"

"""What a hook leaves out by the user's rules (`core.ignore`). Light: in a payload that names no ignored file nothing is parsed."""

import os

from session_mgmt_mcp.core.ignore import count_left_out, read_rules, string_after

_STARTED_IN = "CLAUDE_PROJECT_DIR"  # set by Claude Code for hooks: the session is of that project, wherever it went since


def without_ignored(folder: str, payload: bytes) -> bytes:
    """The payload without what stands in ignored files; b"" where its project is ignored, which is counted."""
    rules = read_rules(folder)
    if rules.projects:
        cwd = os.fsdecode(string_after(payload, b'"cwd"'))
        if rules.project(cwd, os.environ.get(_STARTED_IN, "")):
            count_left_out(folder)
            return b""
    if not rules.named_in(payload):
        return payload
    from session_mgmt_mcp.core.ignore_contents import (
        Contents,  # json: 10 ms, where an ignored file is at stake
    )

    return Contents(rules).without(payload)

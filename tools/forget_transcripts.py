"""The assistant's own files, which forgetting does not touch: named, so that a person can remove them."""

import os
from collections.abc import Iterable
from pathlib import Path

from session_mgmt_mcp.adapters.claude_code.client import find_client
from session_mgmt_mcp.tools.forget_match import Matcher
from session_mgmt_mcp.tools.forget_select import Selection

FILE_BYTES_MAX = 256 << 20  # looked into; a larger one is named unread


def still_holding(selection: Selection, matcher: Matcher) -> list[str]:
    """Transcripts of these sessions that are there, and that still match where there is a pattern or words."""
    wanted = set(selection.sessions)
    found = {Path(path) for path in selection.transcripts}
    # <session>.jsonl and <session>/subagents/*.jsonl
    found |= {p for p in _transcripts() if p.stem in wanted or p.parent.parent.name in wanted}
    return sorted(str(path) for path in found if path.is_file() and (not matcher or _matches(path, matcher)))


def _transcripts() -> Iterable[Path]:
    client = find_client()
    if client is not None:
        for parent, _, names in os.walk(client.transcripts):
            yield from (Path(parent, name) for name in names if name.endswith(".jsonl"))


def _matches(path: Path, matcher: Matcher) -> bool:
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            return True
        with path.open("rb") as lines:
            return any(matcher.matches(line) for line in lines)
    except OSError:
        return False

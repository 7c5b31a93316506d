"""Whose transcript a file is, by its first object, where it is plainly not Claude Code's.

File names and labels are often wrong; what the first line holds is not. Anything not recognised counts as Claude
Code's, whose own record types change from release to release.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

_HEAD_BYTES = 256 << 10

_SIGNS: tuple[tuple[str, Callable[[dict[str, Any]], bool]], ...] = (
    ("Codex", lambda o: "payload" in o and "type" in o and "sessionId" not in o),
    ("Codex", lambda o: "record_type" in o or ("instructions" in o and "git" in o)),
    ("Copilot CLI", lambda o: isinstance(o.get("data"), dict) and "." in str(o.get("type", ""))),
    ("Gemini CLI", lambda o: "projectHash" in o),
    (
        "opencode",
        lambda o: isinstance(o.get("info"), dict) and str(o["info"].get("id", "")).startswith("ses_"),
    ),
    ("Cursor", lambda o: "role" in o and "message" in o and "type" not in o and "uuid" not in o),
)


def other_assistant(path: Path) -> str:
    """The name of another assistant whose file this is, "" otherwise. Raises OSError."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    first = _first_object(head)
    return next((name for name, holds in _SIGNS if holds(first)), "") if first else _of_document(head)


def _first_object(head: bytes) -> dict[str, Any]:
    for line in head.removeprefix(b"\xef\xbb\xbf").splitlines()[:3]:
        try:
            found = msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
        if isinstance(found, dict):
            return found
    return {}


def _of_document(head: bytes) -> str:
    """Of a file that is one pretty-printed JSON document."""
    if b'"projectHash"' in head[:4096]:
        return "Gemini CLI"
    return "opencode" if b'"id": "ses_' in head[:4096] else ""

"""Which texts of a row are worth a vector, and the number a text is known by.

A passage is known by its text alone: what is said twice is embedded once.
"""

import hashlib
import re

from session_mgmt_mcp.projections.documents import _OWN_TOOL
from session_mgmt_mcp.projections.rows import Row

PASSAGES_VERSION = (
    1  # a change of what `passages_of` gives: rows are looked at anew, known passages keep their vectors
)
WINDOW_CHARS = 1000  # about as much as the model reads
STRIDE_CHARS = 900
WINDOWS_MAX = 4
NEW_CHARS_MIN = 150  # a last window with less that is new is left out
CALL_CHARS = 300
CALL_FILES_MAX = 8
PATH_PARTS = 3
_WHOLE = frozenset(
    ["PromptSubmitted", "AssistantReplied", "ReflectionRemembered", "ContextCompacted", "SessionTitled"]
)
KINDS = tuple(sorted([*_WHOLE, "AssistantThought", "ToolCalled"]))  # of rows that may have passages
_SEPARATORS = re.compile(r"[/\\]+")


def passages_of(row: Row) -> list[str]:
    """The passages of a row, in order; none of results, notices and calls of this program's own tools."""
    if row.kind in _WHOLE:
        return _windows(row.text.strip())
    if row.kind == "AssistantThought":
        text = row.text.strip()[:WINDOW_CHARS]
        return [text] if text else []
    if row.kind == "ToolCalled" and not _OWN_TOOL.match(row.tool):
        paths = map(_tail, row.files[:CALL_FILES_MAX])
        text = " ".join(filter(None, (row.tool, row.text[:CALL_CHARS].strip(), *paths)))
        return [text] if text else []
    return []


def number_of_passage(text: str) -> int:
    """63 bits of a hash of the text: equal for equal texts, in every store and for ever."""
    digest = hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def _windows(text: str) -> list[str]:
    out = [text[:WINDOW_CHARS]] if text else []
    for start in range(STRIDE_CHARS, WINDOWS_MAX * STRIDE_CHARS, STRIDE_CHARS):
        if len(text) - (start - STRIDE_CHARS + WINDOW_CHARS) < NEW_CHARS_MIN:
            break
        out.append(text[start : start + WINDOW_CHARS])
    return out


def _tail(path: str) -> str:
    return "/".join(_SEPARATORS.split(path)[-PATH_PARTS:])

"""What the lexical index holds of a row: weighted tokens in three fields. One weighting for published and tail rows."""

import hashlib
import re
from collections import Counter
from typing import NamedTuple

from session_mgmt_mcp.projections.analysis import tokens_of
from session_mgmt_mcp.projections.rows import Row

RESULT_HEAD_CHARS = 400  # of a result; the rest is findable, but hardly ranks
REST_CHARS_MAX = 16 * 1024
BODY_WEIGHTS = {  # how often a word counts where it is said
    "PromptSubmitted": 3,
    "ReflectionRemembered": 3,
    "AssistantReplied": 2,
    "SessionTitled": 2,
    "AssistantThought": 1,
    "ToolCalled": 1,
    "ContextCompacted": 1,
}
_OWN_TOOL = re.compile(r"mcp__(?:plugin_[^_]+(?:-[^_]+)*_)?session-mgmt__")
FIELDS = ("body", "result", "rest")
SESSION_WEIGHTS = {"body": 1.0, "result": 0.3, "rest": 0.0}


class RowDocument(NamedTuple):
    """Tokens of a row by field, repeated as they are weighted."""

    body: list[str]
    result: list[str]
    rest: list[str]

    def digest(self) -> bytes:
        """8 bytes over the tokens; part of the index's content digest."""
        joined = "\x01".join(" ".join(tokens) for tokens in self)
        return hashlib.blake2b(joined.encode("utf-8", "replace"), digest_size=8).digest()


def document_of(row: Row) -> RowDocument:
    """The tokens of a row; all fields empty where nothing of it can be searched."""
    if _OWN_TOOL.match(row.tool):
        return RowDocument(
            [], [], []
        )  # what was asked of the memory and what it recalled: copies of other rows
    weight = BODY_WEIGHTS.get(row.kind)
    if weight is None:
        head, rest = row.text[:RESULT_HEAD_CHARS], row.text[RESULT_HEAD_CHARS:REST_CHARS_MAX]
        if row.kind == "ToolReturned":
            return RowDocument([], tokens_of(head), tokens_of(rest))
        return RowDocument([], [], tokens_of(head + rest))
    body = tokens_of(row.text) * weight
    if row.kind == "ToolCalled":
        body += tokens_of(f"{row.tool} {' '.join(row.files)}")
        body += _halved(tokens_of(row.edit))
    return RowDocument(body, [], [])


def _halved(tokens: list[str]) -> list[str]:
    """Every token half as often, at least once."""
    return [token for token, n in Counter(tokens).items() for _ in range((n + 1) // 2)]


def add_to_session(total: Counter[str], document: RowDocument) -> None:
    """Count a row's tokens in its session's document."""
    total.update(document.body)
    for token, n in Counter(document.result).items():
        total[token] += max(1, round(SESSION_WEIGHTS["result"] * n))


def ancestors(project: str) -> list[str]:
    """The folder and every folder above it: what a project filter matches."""
    path = project.rstrip("/\\")
    out = [path] if path else []
    for i in range(len(path) - 1, 0, -1):
        if path[i] in "/\\":
            out.append(path[:i])
    return out


def sameness(row: Row) -> int:
    """Equal for rows that say the same, wherever; 63 bits. Calls say the same only if tool and edit are the same too."""
    if row.kind == "ToolCalled":
        return number_of(f"{row.tool}\x01{row.text_digest}\x01{row.edit}")
    return number_of(row.text_digest)


def number_of(text: str) -> int:
    """A stable 63-bit number for a session id or a digest, for fast fields."""
    return (
        int.from_bytes(hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest(), "big") >> 1
    )

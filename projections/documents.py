"""What the lexical index holds of a row: weighted tokens in three fields. One weighting for published and tail rows."""

import hashlib
import re
from collections import Counter
from datetime import date, timedelta
from functools import lru_cache
from typing import NamedTuple

from session_mgmt_mcp.core.envelope import ACCESS_TYPES, EventType
from session_mgmt_mcp.projections.analysis import joined_tokens
from session_mgmt_mcp.projections.rows import TEXT_CHARS_MAX, Row

RESULT_HEAD_CHARS = 400  # of a result; the rest is findable, but hardly ranks: each of its words counts once
REST_CHARS_MAX = TEXT_CHARS_MAX  # all a row holds: every word of it is found
NAMES_CACHED = 4096  # sessions and folders
BODY_WEIGHTS = {  # how often a word counts where it is said
    "PromptSubmitted": 3,
    "ReflectionRemembered": 3,
    "AssistantReplied": 2,
    "SessionTitled": 2,
    "AssistantThought": 1,
    "ToolCalled": 1,
    "ContextCompacted": 1,
}
DAY_US = 86_400_000_000
TIME_MAX = 253_402_300_800_000_000  # the year 10000: what lies beyond is no date
EPOCH = date(1970, 1, 1)
_MONTHS = (
    "January February March April May June July August September October November December".split()  # noqa: SIM905
)
# origins of rows that are in no search: which folder is where, who came in and who was turned away
ACCESS_ORIGINS = tuple(str(kind) for kind in ACCESS_TYPES)
UNSEARCHED = (str(EventType.PROJECT_SEEN), *ACCESS_ORIGINS)
_OWN_TOOL = re.compile(r"mcp__(?:plugin_[^_]+(?:-[^_]+)*_)?session-mgmt__")
FIELDS = ("body", "result", "rest")
SESSION_WEIGHTS = {"body": 1.0, "result": 0.3, "rest": 0.0}


class RowDocument(NamedTuple):
    """Tokens of a row by field, repeated as they are weighted, a space between two."""

    body: str
    result: str
    rest: str

    def digest(self) -> bytes:
        """8 bytes over the tokens; part of the index's content digest."""
        joined = "\x01".join(self)
        return hashlib.blake2b(joined.encode("utf-8", "replace"), digest_size=8).digest()


def length(tokens: str) -> int:
    """How many tokens a field holds."""
    return tokens.count(" ") + 1 if tokens else 0


def document_of(row: Row) -> RowDocument:
    """The tokens of a row; all fields empty where nothing of it can be searched."""
    if _OWN_TOOL.match(row.tool) or row.origin in UNSEARCHED:
        # what was asked of the memory and what it recalled are copies of other rows
        return RowDocument("", "", "")
    weight = BODY_WEIGHTS.get(row.kind)
    if weight is None:
        if row.kind == "ToolReturned":
            head, rest = _head_and_rest(row.text)
            return RowDocument("", joined_tokens(head), joined_tokens(rest, once=True))
        return RowDocument("", "", joined_tokens(row.text[:REST_CHARS_MAX], once=True))
    fields = [joined_tokens(row.text)] * weight
    if row.kind == "ToolCalled":
        fields.append(joined_tokens(f"{row.tool} {' '.join(row.files)}"))
        fields.append(joined_tokens(row.edit))
    elif row.kind == "PromptSubmitted" and 0 < row.occurred_at < TIME_MAX:
        fields += [_day(row.occurred_at // DAY_US)] * weight
    return RowDocument(" ".join(filter(None, fields)), "", "")


def _head_and_rest(text: str) -> tuple[str, str]:
    """A result in two; a word across the cut is in the rest as a whole."""
    head = text[:RESULT_HEAD_CHARS]
    cut = len(head)
    if cut < len(text) and not text[cut].isspace():
        cut = max(head.rfind(" "), head.rfind("\n"), head.rfind("\t")) + 1
    return head, text[cut:REST_CHARS_MAX]


@lru_cache(maxsize=NAMES_CACHED)
def _day(number: int) -> str:
    """Tokens of a day since the epoch, in UTC: people ask what was said on 3 May 2026."""
    day = EPOCH + timedelta(days=number)
    return joined_tokens(f"{day.day} {_MONTHS[day.month - 1]} {day.year}")


def add_to_session(total: Counter[str], document: RowDocument) -> None:
    """Count a row's tokens in its session's document."""
    total.update(document.body.split())
    if document.result:
        counts = Counter(document.result.split())
        total.update(counts.keys())
        for token, n in counts.items():
            if n > 1:
                total[token] += max(1, round(SESSION_WEIGHTS["result"] * n)) - 1


@lru_cache(maxsize=NAMES_CACHED)
def ancestors(project: str) -> tuple[str, ...]:
    """The folder and every folder above it: what a project filter matches."""
    path = project.rstrip("/\\")
    out = [path] if path else []
    for i in range(len(path) - 1, 0, -1):
        if path[i] in "/\\":
            out.append(path[:i])
    return tuple(out)


def sameness(row: Row) -> int:
    """Equal for rows that say the same, wherever; 63 bits. Calls say the same only if tool and edit are the same too."""
    if row.kind == "ToolCalled":
        return _hashed(f"{row.tool}\x01{row.text_digest}\x01{row.edit}")
    return _hashed(row.text_digest)


@lru_cache(maxsize=NAMES_CACHED)
def number_of(name: str) -> int:
    """A stable 63-bit number for a session id, for fast fields."""
    return _hashed(name)


def _hashed(text: str) -> int:
    digest = hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1

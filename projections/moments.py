"""From ranked rows to moments: near copies folded, the telling part cut out, matching words marked, and why it matched."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from session_mgmt_mcp.projections.analysis import word_tokens
from session_mgmt_mcp.projections.analysis import words as words_of
from session_mgmt_mcp.projections.excerpt import (
    EXCERPT_CHARS_MAX,
    Find,
    excerpt,
    find,
    marks,
    matched_words,
    open_stem,
)
from session_mgmt_mcp.projections.passages import number_of_passage, passages_of
from session_mgmt_mcp.projections.results import Moment
from session_mgmt_mcp.projections.rows import Row

QUERY_WORDS_MAX = 32
WHY_WORDS_MAX = 8
COMPARED_CHARS = 1200  # of two rows that may say nearly the same
SAME_SHARE = 0.9  # of the words of both
WORDS_MIN = 8  # shorter texts are the same only if they are equal
_WHERE = {
    "PromptSubmitted": "prompt",
    "AssistantReplied": "reply",
    "AssistantThought": "thinking",
    "ToolCalled": "tool call",
    "ToolReturned": "result",
    "ReflectionRemembered": "reflection",
    "SessionTitled": "title",
    "ContextCompacted": "compaction summary",
}


class Ranked(NamedTuple):
    """A row in the order of an answer. `passage`: number of its nearest passage, 0 where meaning said nothing."""

    row: Row
    score: float
    copies: int = 1
    passage: int = 0


def query_words(query: str) -> dict[str, list[str]]:
    """The query's words -> the stems a text must have for them."""
    out: dict[str, list[str]] = {}
    for word in words_of(query):
        stems = word_tokens(word)
        if stems and len(out) < QUERY_WORDS_MAX:
            out[word.lower()] = [open_stem(stem) for stem in stems]
    return out


def folded(ranked: Iterable[Ranked]) -> list[Ranked]:
    """Without rows that say nearly what an earlier one says; that one counts them."""
    out: list[Ranked] = []
    kept: list[tuple[object, int, frozenset[str]]] = []
    for one in ranked:
        row = one.row
        text = f"{row.text[:COMPARED_CHARS]} {row.edit[:COMPARED_CHARS]}"
        shape, length, words = (row.kind, row.tool, row.files), len(row.text), frozenset(text.split())
        for i, other in enumerate(kept):
            if shape == other[0] and _alike(length, words, other[1], other[2]):
                out[i] = out[i]._replace(copies=out[i].copies + one.copies)
                break
        else:
            out.append(one)
            kept.append((shape, length, words))
    return out


def _alike(length: int, words: frozenset[str], other_length: int, other_words: frozenset[str]) -> bool:
    few, many = sorted((len(words), len(other_words)))
    if few < WORDS_MIN or few < SAME_SHARE * many:
        return False
    if min(length, other_length) < SAME_SHARE * max(length, other_length):
        return False
    common = len(words & other_words)
    return common >= SAME_SHARE * (few + many - common)


def moment_of(ranked: Ranked, words: Mapping[str, Sequence[str]]) -> Moment:
    """`words`: see `query_words`."""
    row = ranked.row
    stems = list(dict.fromkeys(stem for having in words.values() for stem in having))
    text, finds = _telling(row, stems)
    if not finds and ranked.passage:
        text = _passage(row, ranked.passage) or text
    line = excerpt(finds, text) or " ".join(row.files)[:EXCERPT_CHARS_MAX]
    return Moment(
        session=row.session,
        position=row.position,
        record=row.record,
        occurred_at=row.occurred_at,
        project=row.project,
        assistant=row.assistant,
        actor=row.actor,
        kind=row.kind,
        tool=row.tool,
        files=row.files,
        excerpt=line,
        marks=marks(stems, line),
        score=round(ranked.score, 6),
        why=_why(row, words, matched_words(words, finds), stems, ranked.passage != 0),
        copies=ranked.copies,
    )


def listed(row: Row, query: str, match: str) -> Moment:
    """A row that was not ranked; `match`: what a pattern found in it."""
    moment = moment_of(Ranked(row, 0.0), query_words(query))
    if not match:
        return msgspec.structs.replace(moment, why="matched: the filters")
    text = row.text if match in row.text else row.edit
    line = excerpt([Find(text.find(match), match)], text)
    shown = " ".join(match.split())
    at = line.find(shown)
    found = ((at, at + len(shown)),) if shown and at >= 0 else ()
    return msgspec.structs.replace(moment, excerpt=line, marks=found, why="matched: the pattern")


def _telling(row: Row, stems: Sequence[str]) -> tuple[str, list[Find]]:
    """The row's text, or its edit where that has more of the stems; and where it has them."""
    finds = find(stems, row.text)
    if row.edit:
        in_edit = find(stems, row.edit)
        if len({f.stem for f in in_edit}) > len({f.stem for f in finds}):
            return row.edit, in_edit
    return row.text, finds


def _passage(row: Row, number: int) -> str:
    return next((text for text in passages_of(row) if number_of_passage(text) == number), "")


def _why(
    row: Row, words: Mapping[str, Sequence[str]], in_text: list[str], stems: Sequence[str], near: bool
) -> str:
    in_files = matched_words(words, find(stems, f"{row.tool} {' '.join(row.files)}"))
    places = [_WHERE.get(row.kind, "context")] if in_text else []
    new = [word for word in in_files if word not in in_text]
    if new:
        places.append("tool and files")
    named = (in_text + new)[:WHY_WORDS_MAX]
    meaning = "by meaning" if near else ""
    if not named:
        return f"matched: {meaning or 'in its session'}"
    return " · ".join(filter(None, (f"matched: {', '.join(named)}", f"in {', '.join(places)}", meaning)))

"""Where a text has the words of a query, and the part of it around them."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

EXCERPT_CHARS_MAX = 240
SCAN_CHARS_MAX = 80_000
LEAD_CHARS = 70
PLACES_MAX = 60  # looked at for the best excerpt
FINDS_MAX = 12  # of one stem in one text


class Find(NamedTuple):
    """A stem of the query at a place in a text."""

    start: int
    stem: str


def open_stem(token: str) -> str:
    """What words of a stem begin with: `memori` is the stem of memory and of memories."""
    return token[:-1] if len(token) > 3 and token.endswith("i") and token.isalpha() else token


def find(stems: Iterable[str], text: str) -> list[Find]:
    """Where words of `text` begin with one of the stems, or a camelCase part of them does; in order."""
    text = text[:SCAN_CHARS_MAX]
    lower = text.lower()
    if len(lower) != len(text):  # letters whose lower case is longer
        lower = text
    out = []
    for stem in stems:
        at, found = lower.find(stem), 0
        while at >= 0 and found < FINDS_MAX:
            if at == 0 or not stem.isascii() or not lower[at - 1].isalnum() or text[at].isupper():
                out.append(Find(at, stem))
                found += 1
            at = lower.find(stem, at + len(stem))
    return sorted(out)


def matched_words(words: Mapping[str, Iterable[str]], finds: Iterable[Find]) -> list[str]:
    """The query's words (word -> its stems) that were found, as the query has them."""
    stems = {f.stem for f in finds}
    return [word for word, having in words.items() if not stems.isdisjoint(having)]


def excerpt(finds: list[Find], text: str) -> str:
    """One line of at most EXCERPT_CHARS_MAX characters, around the place with the most different stems."""
    start, best = 0, 0
    room = EXCERPT_CHARS_MAX - LEAD_CHARS
    within: dict[str, int] = {}  # how often each stem stands between a find and `end`
    end = 0
    for i, (at, stem) in enumerate(finds[:PLACES_MAX]):
        last = min(len(finds), i + PLACES_MAX)
        while end < last and finds[end].start < at + room:
            within[finds[end].stem] = within.get(finds[end].stem, 0) + 1
            end += 1
        if len(within) > best:
            best, start = len(within), at
        within[stem] -= 1
        if not within[stem]:
            del within[stem]
    start = _word_start(text, start - LEAD_CHARS) if start > LEAD_CHARS else 0
    line = " ".join(text[start : start + 3 * EXCERPT_CHARS_MAX].split())
    lead = "…" if start else ""
    room = EXCERPT_CHARS_MAX - len(lead)
    if len(line) <= room:
        return lead + line
    cut = line[: room - 1]
    return f"{lead}{cut.rsplit(' ', 1)[0] if ' ' in cut[room // 2 :] else cut}…"


def marks(stems: Iterable[str], line: str) -> tuple[tuple[int, int], ...]:
    """Spans of the words of a line that begin with one of the stems: start, end; in order, apart from each other."""
    out: list[tuple[int, int]] = []
    for start, stem in find(stems, line):
        end = start + len(stem)
        while end < len(line) and line[end].isalnum():
            end += 1
        if out and start <= out[-1][1]:
            out[-1] = (out[-1][0], max(end, out[-1][1]))
        else:
            out.append((start, end))
    return tuple(out)


def _word_start(text: str, at: int) -> int:
    space = text.find(" ", at, at + 20)
    return space + 1 if space >= 0 else at

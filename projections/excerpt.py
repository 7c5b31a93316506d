"""The part of a text around the words that match, and which words those are."""

import re
from collections.abc import Iterable

EXCERPT_CHARS_MAX = 240
WORDS_MAX = 40
LEAD_CHARS = 70
_SPACE = re.compile(r"\s+")
_SCAN_CHARS_MAX = 80_000


def pattern_of(tokens: Iterable[str]) -> re.Pattern[str] | None:
    """Finds words that begin with a token (a stem), None where there are no tokens."""
    stems = sorted({_open_stem(t) for t in list(tokens)[:WORDS_MAX]}, key=len, reverse=True)
    if not stems:
        return None
    return re.compile("|".join(_alternative(s) for s in stems), re.IGNORECASE)


def _open_stem(token: str) -> str:
    """`memori` is the stem of memory and of memories."""
    return token[:-1] if len(token) > 3 and token.endswith("i") and token.isalpha() else token


def _alternative(stem: str) -> str:
    return rf"(?<![^\W_]){re.escape(stem)}[^\W_]*" if stem.isascii() else re.escape(stem)


def matched_words(pattern: re.Pattern[str], text: str) -> list[str]:
    """The distinct words of `text` that match, in lower case, in order."""
    return list(dict.fromkeys(m.group().lower() for m in pattern.finditer(text[:_SCAN_CHARS_MAX])))


def excerpt(pattern: re.Pattern[str] | None, text: str) -> str:
    """One line of at most EXCERPT_CHARS_MAX characters, around the place with the most different matching words."""
    matches = list(pattern.finditer(text[:_SCAN_CHARS_MAX])) if pattern else []
    start = 0
    if matches:
        best = 0
        for i, match in enumerate(matches[:200]):
            end = match.start() + EXCERPT_CHARS_MAX - LEAD_CHARS
            within = {m.group().lower() for m in matches[i : i + 30] if m.end() <= end}
            if len(within) > best:
                best, start = len(within), match.start()
        start = _word_start(text, max(0, start - LEAD_CHARS)) if start > LEAD_CHARS else 0
    line = _SPACE.sub(" ", text[start : start + 3 * EXCERPT_CHARS_MAX]).strip()
    lead = "…" if start else ""
    room = EXCERPT_CHARS_MAX - len(lead)
    if len(line) <= room:
        return lead + line
    cut = line[: room - 1]
    return f"{lead}{cut.rsplit(' ', 1)[0] if ' ' in cut[room // 2 :] else cut}…"


def _word_start(text: str, at: int) -> int:
    space = text.find(" ", at, at + 20)
    return space + 1 if space >= 0 else at

"""What a forgetting looks for: words or a regular expression, in texts as they are and inside JSON escapes."""

import re
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from session_mgmt_mcp.core.errors import InputError

MASK = "[…]"
_DEPTH_MAX = 8  # of JSON within strings of JSON
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_CHARACTERS = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}
_LOWER_TO_ASCII = ("\u212a".encode(), b"\\u212a", b"\\u212A", "\u0130".encode(), b"\\u0130")
_decode = msgspec.json.Decoder().decode


class Matcher(NamedTuple):
    """All `words` (in lower case) and the `pattern`, where they are given."""

    words: tuple[str, ...] = ()
    pattern: re.Pattern[str] | None = None

    def __bool__(self) -> bool:
        return bool(self.words) or self.pattern is not None

    def matches(self, raw: bytes) -> bool:
        """Whether these bytes, or the strings of the JSON they are, hold all the words and the pattern."""
        if self.words and _lacks_one(raw, self.words):
            return False
        left = set(self.words)
        pattern = self.pattern
        for text in texts_of(raw):
            if left:
                lower = text.lower()
                left = {word for word in left if word not in lower}
            if pattern is not None and pattern.search(text):
                pattern = None
            if pattern is None and not left:
                return True
        return False

    def mask(self, text: str) -> str:
        """The text without what the pattern matches."""
        return self.pattern.sub(MASK, text) if self.pattern is not None else text


def matcher(query: str | None, pattern: str | None) -> Matcher:
    """Raises InputError: an empty query, a malformed pattern, one that matches the empty text."""
    words = tuple((query or "").lower().split())
    if query is not None and not words:
        raise InputError("--query is empty: give the words an event must hold")
    if pattern is None:
        return Matcher(words)
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise InputError(f"--pattern is no regular expression: {error}") from None
    if compiled.search(""):
        raise InputError("--pattern matches the empty text, so it would match every event; make it narrower")
    return Matcher(words, compiled)


def _lacks_one(raw: bytes, words: tuple[str, ...]) -> bool:
    """Whether the bytes alone tell that one of the words (lower case) is in none of their texts: most events need no more.

    A text's ASCII letters stand in the bytes in their order with nothing but backslashes between, where no `\\u00` stands
    for any. Two other letters turn into ASCII ones in lower case.
    """
    if b"\\u00" in raw or any(letter in raw for letter in _LOWER_TO_ASCII):
        return False
    plain = raw.lower().replace(b"\\", b"")
    return any(word.isascii() and "\\" not in word and word.encode() not in plain for word in words)


def texts_of(raw: bytes) -> Iterator[str]:
    """The bytes as text, then every string of the JSON they are, also of JSON within its strings; without escapes
    where they are no JSON."""
    text = raw.decode("utf-8", "surrogateescape")
    yield text
    value = _parsed(raw)
    if value is not None:
        yield from _strings(value, 0)
    else:
        yield from _without_escapes(text)  # lines of JSON, or a piece of it


def _without_escapes(text: str) -> Iterator[str]:
    """The text with a layer of escapes taken off, and another, as often as there is one."""
    for _ in range(_DEPTH_MAX):
        if "\\" not in text:
            return
        text = _ESCAPE.sub(_unescaped, text)
        yield text


def _unescaped(match: re.Match[str]) -> str:
    code, char = match[1], match[2]
    return chr(int(code, 16)) if code else _CHARACTERS.get(char, char)


def _parsed(raw: bytes | str) -> object:
    try:
        return _decode(raw)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def _strings(value: object, depth: int) -> Iterator[str]:
    if isinstance(value, str):
        yield value
        yield from _without_escapes(value)
        if depth < _DEPTH_MAX and value.lstrip()[:1] in ("{", "[", '"'):
            yield from _strings(_parsed(value), depth + 1)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _strings(key, depth)
            yield from _strings(item, depth)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item, depth)

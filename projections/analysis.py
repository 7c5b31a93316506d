"""Text to tokens, the same for documents and queries.

Lower case, English stems, stop words dropped. Identifiers and paths are kept whole and split: `cache_key.py` gives
`cache_key.py`, `cach`, `key`, `py`; `parseConfigFile` gives `parseconfigfil`, `pars`, `config`, `file`. Chinese,
Japanese, Korean and Thai, which put no spaces between words, give single characters and pairs.
"""

import re
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import tantivy

WORD_CHARS_MAX = 80
CACHE_WORDS_MAX = 400_000
CACHE_WORD_CHARS_MAX = 200
STOP_WORDS = frozenset(
    """
    a an the and or but if of at by for with about into to from in on is are was were be been being am
    do does did done have has had having i me my we our you your he him his she her it its they them
    their what which who whom this that these those as not no nor so than too very s t can will just don
    should now there here when where why how all any both each few more most other some such only own
    same then once during before after above below up down out off over under again further
    """.split()  # noqa: SIM905 - a list would take a line a word
)
CJK = "\u0e00-\u0e7f\u1100-\u11ff\u3040-\u30ff\u3130-\u318f\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
_JOINTS = "_./\\-:@"  # what may stand within an identifier or a path
_RAW = re.compile(rf"[{CJK}]+|[^\W_{CJK}]+(?:[_./\\\-:@]+[^\W_{CJK}]+)*")
PARTS = re.compile(r"[^\W_]+")
_CAMEL = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_CJK_START = re.compile(rf"[{CJK}]")
# A chunk is a stretch of UTF-8 between ASCII characters that are in no word: a word with joints around it, or, beyond
# ASCII, some words. Cutting a text into chunks and looking them up takes a tenth of the time of matching its words.
_CUTS = bytes(i if i > 127 or chr(i).isalnum() or chr(i) in _JOINTS else 32 for i in range(256))
_ARROW = "→".encode()  # stands between the number and the text of a line where assistants list files
_lock = threading.Lock()
_stemmer = (
    tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.raw()).filter(tantivy.Filter.stemmer("english")).build()
)  # Snowball's English stemmer, fifty times as fast as in Python

_NO_CJK_LEAD = bytes(i for i in range(256) if i not in (0xE0, 0xE1, *range(0xE3, 0xEE), 0xEF))
EXACT_BYTES_MAX = 256  # of a word that is indexed as it is written
_exact_words = (
    tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple()).filter(tantivy.Filter.lowercase()).build()
)


Text = TypeVar("Text", str, bytes)


class _Analysed(dict[Text, str]):
    """What was analysed before. Bounded: emptied when it is full."""

    def __init__(self, analyse: Callable[[Text], str]) -> None:
        super().__init__()
        self._analyse: Callable[[Text], str] = analyse

    def __missing__(self, text: Text) -> str:
        found = self._analyse(text)
        if len(text) <= CACHE_WORD_CHARS_MAX:
            with _lock:
                if len(self) >= CACHE_WORDS_MAX:
                    self.clear()
                self[text] = found
        return found


def words(text: str) -> Iterator[str]:
    """The words and identifiers of a text as written."""
    return (match.group() for match in _RAW.finditer(text))


def word_tokens(word: str) -> tuple[str, ...]:
    """The tokens of one of `words`."""
    return tuple(joined_tokens(word).split())


def joined_tokens(text: str, *, once: bool = False) -> str:
    """All tokens of a text, as often as they occur, a space between two. `once`: every word of it counts once."""
    raw = text.encode("utf-8", "replace")
    if not text.isascii():
        raw = raw.replace(_ARROW, b" ")
    chunks: Iterable[bytes] = raw.translate(_CUTS).split()
    if once:
        chunks = dict.fromkeys(chunks)
    return " ".join(filter(None, map(_of_chunk.__getitem__, chunks)))


def _analyse_chunk(raw: bytes) -> str:
    chunk = raw.decode()
    if chunk.isascii():
        word = chunk.strip(_JOINTS)
        return _of_part[word] if word.isalnum() else _analyse(word)
    return " ".join(filter(None, map(_analyse, _RAW.findall(chunk))))


def _analyse(word: str) -> str:
    if _CJK_START.match(word):
        return " ".join((*word, *(word[i : i + 2] for i in range(len(word) - 1))))
    parts = PARTS.findall(word)
    out = [tokens for part in parts if (tokens := _of_part[part])]
    if len(parts) > 1:
        out.extend(_wholes(word.lower()))
    return " ".join(out)


def _wholes(word: str) -> Iterator[str]:
    if len(word) <= WORD_CHARS_MAX:
        yield word
    name = word[max(word.rfind("/"), word.rfind("\\")) + 1 :]
    if name != word and len(name) <= WORD_CHARS_MAX and not name.isalnum() and len(PARTS.findall(name)) > 1:
        yield name


def _analyse_part(part: str) -> str:
    """A part as a whole and, of camelCase, its pieces."""
    if len(part) > WORD_CHARS_MAX:
        return ""
    pieces = _CAMEL.findall(part) if part.isascii() else []
    split = [piece for piece in pieces if len(piece) > 1] if len(pieces) > 1 else []
    return " ".join(_token(word.lower()) for word in (part, *split) if word.lower() not in STOP_WORDS)


def _token(word: str) -> str:
    return str(_stemmer.analyze(word)[0]) if word.isalpha() else word


def exact_analyzer() -> tantivy.TextAnalyzer:
    """What tantivy takes `spaced` texts apart with, for phrases: their words in lower case, no stems, no stop words."""
    builder = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple()).filter(tantivy.Filter.lowercase())
    return builder.filter(tantivy.Filter.remove_long(EXACT_BYTES_MAX)).build()


def spaced(text: str) -> str:
    """The text with a space around every character of scripts that put none between words."""
    if text.isascii() or not text.encode("utf-8", "replace").translate(None, _NO_CJK_LEAD):
        return text  # arrows, accents and frames are more frequent, and this is ten times as fast
    return _CJK_START.sub(r" \g<0> ", text)


def exact_words(text: str) -> list[tuple[int, str]]:
    """(Offset in words, word) of a phrase, as `exact_analyzer` leaves them."""
    found = _exact_words.analyze(spaced(text))
    return [(at, word) for at, word in enumerate(found) if len(word.encode()) < EXACT_BYTES_MAX]


def whole_token(part: str) -> str | None:
    """The token of one of `PARTS` as a whole, without camelCase pieces; None where it has none."""
    lower = part.lower()
    return None if len(part) > WORD_CHARS_MAX or lower in STOP_WORDS else _token(lower)


_of_chunk = _Analysed(_analyse_chunk)
_of_part = _Analysed(_analyse_part)

"""Text to tokens, the same for documents and queries.

Lower case, English stems, stop words dropped. Identifiers and paths are kept whole and split: `cache_key.py` gives
`cache_key.py`, `cach`, `key`, `py`; `parseConfigFile` gives `parseconfigfil`, `pars`, `config`, `file`. Chinese,
Japanese, Korean and Thai, which put no spaces between words, give single characters and pairs.
"""

import re
import threading
from collections.abc import Iterator

import tantivy

WORD_CHARS_MAX = 80
CACHE_WORDS_MAX = 400_000
STOP_WORDS = frozenset(
    [
        "a",
        "an",
        "the",
        "and",
        "or",
        "but",
        "if",
        "of",
        "at",
        "by",
        "for",
        "with",
        "about",
        "into",
        "to",
        "from",
        "in",
        "on",
        "is",
        "are",
        "was",
        "were",
        "be",
        "been",
        "being",
        "am",
        "do",
        "does",
        "did",
        "done",
        "have",
        "has",
        "had",
        "having",
        "i",
        "me",
        "my",
        "we",
        "our",
        "you",
        "your",
        "he",
        "him",
        "his",
        "she",
        "her",
        "it",
        "its",
        "they",
        "them",
        "their",
        "what",
        "which",
        "who",
        "whom",
        "this",
        "that",
        "these",
        "those",
        "as",
        "not",
        "no",
        "nor",
        "so",
        "than",
        "too",
        "very",
        "s",
        "t",
        "can",
        "will",
        "just",
        "don",
        "should",
        "now",
        "there",
        "here",
        "when",
        "where",
        "why",
        "how",
        "all",
        "any",
        "both",
        "each",
        "few",
        "more",
        "most",
        "other",
        "some",
        "such",
        "only",
        "own",
        "same",
        "then",
        "once",
        "during",
        "before",
        "after",
        "above",
        "below",
        "up",
        "down",
        "out",
        "off",
        "over",
        "under",
        "again",
        "further",
    ]
)
_CJK = "\u0e00-\u0e7f\u1100-\u11ff\u3040-\u30ff\u3130-\u318f\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
_RAW = re.compile(rf"[{_CJK}]+|[^\W_{_CJK}]+(?:[_./\\\-:@]+[^\W_{_CJK}]+)*")
_RAW_ASCII = re.compile(r"[A-Za-z0-9]+(?:[_./\\\-:@]+[A-Za-z0-9]+)*")
_PARTS = re.compile(r"[^\W_]+")
_CAMEL = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_CJK_START = re.compile(rf"[{_CJK}]")
_lock = threading.Lock()
_stemmer = (
    tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.raw()).filter(tantivy.Filter.stemmer("english")).build()
)  # Snowball's English stemmer, fifty times as fast as in Python
_cache: dict[str, tuple[str, ...]] = {}


def words(text: str) -> Iterator[str]:
    """The words and identifiers of a text as written."""
    return (match.group() for match in _RAW.finditer(text))


def word_tokens(word: str) -> tuple[str, ...]:
    """The tokens of one of `words`."""
    tokens = _cache.get(word)
    if tokens is None:
        tokens = _analyse(word)
        with _lock:
            if len(_cache) >= CACHE_WORDS_MAX:
                _cache.clear()
            _cache[word] = tokens
    return tokens


def tokens_of(text: str) -> list[str]:
    """All tokens of a text, repeated as often as they occur."""
    out: list[str] = []
    extend = out.extend
    cached = _cache.get
    for word in (_RAW_ASCII if text.isascii() else _RAW).findall(text):
        found = cached(word)
        extend(word_tokens(word) if found is None else found)
    return out


def _analyse(word: str) -> tuple[str, ...]:
    if _CJK_START.match(word):
        return (*word, *(word[i : i + 2] for i in range(len(word) - 1)))
    parts = _PARTS.findall(word)
    out: list[str] = []
    for part in parts:
        if len(part) > WORD_CHARS_MAX:
            continue
        _add(out, part.lower())
        pieces = _CAMEL.findall(part) if part.isascii() else []
        if len(pieces) > 1:
            for piece in pieces:
                if len(piece) > 1:
                    _add(out, piece.lower())
    if len(parts) > 1:
        out.extend(_wholes(word.lower()))
    return tuple(out)


def _wholes(word: str) -> Iterator[str]:
    if len(word) <= WORD_CHARS_MAX:
        yield word
    name = re.split(r"[/\\]", word)[-1]
    if name != word and len(name) <= WORD_CHARS_MAX and len(_PARTS.findall(name)) > 1:
        yield name


def _add(out: list[str], token: str) -> None:
    if token not in STOP_WORDS:
        out.append(_stemmer.analyze(token)[0] if token.isalpha() else token)

"""Most events are told from their bytes alone to lack a word; never one that holds it."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from session_mgmt_mcp.tools import forget_match
from session_mgmt_mcp.tools.forget_match import Matcher, texts_of

LETTERS = st.text(alphabet='abkKqn" /\\\n\u00e9\u212a\u0130u0', max_size=12)
VALUES = st.recursive(
    LETTERS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(LETTERS, inner, max_size=3)
)
WORDS = st.text(alphabet='abkqn"/\\\u00e9u0', min_size=1, max_size=4)


def holds(raw: bytes, word: str) -> bool:
    return any(word in text.lower() for text in texts_of(raw))


@given(VALUES, WORDS, st.integers(0, 3), st.booleans())
@example("\u212a", "k", 0, False)
@example("a\\qb", "aqb", 0, True)
def test_no_event_that_holds_a_word_is_taken_for_one_that_lacks_it(
    value: object, word: str, layers: int, plain: bool
) -> None:
    for _ in range(layers):
        value = json.dumps(value)
    raw = str(value).encode() if plain else json.dumps(value).encode()
    assert Matcher((word,)).matches(raw) == holds(raw, word)


def test_what_lacks_a_word_is_not_taken_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forget_match, "texts_of", lambda _: pytest.fail("taken apart"))
    assert not Matcher(("heron", "mill")).matches(json.dumps({"text": 'the "mill"\nturns'}).encode())

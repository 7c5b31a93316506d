"""The pure parts of search: tokens, scores, excerpts."""

import pytest

from session_mgmt_mcp.projections import ranking
from session_mgmt_mcp.projections.analysis import joined_tokens, tokens_of
from session_mgmt_mcp.projections.excerpt import excerpt, find, matched_words
from session_mgmt_mcp.projections.ranking import Candidate


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("The caches were invalidated", ["cach", "invalid"]),
        ("cache_key.py", ["cach", "key", "py", "cache_key.py"]),
        ("parseConfigFile", ["parseconfigfil", "pars", "config", "file"]),
        ("src/a_b.py", ["src", "b", "py", "src/a_b.py", "a_b.py"]),
        ("消す方", ["消", "す", "方", "消す", "す方"]),
        ("the of", []),
        ("\"'(){}", []),
    ],
)
def test_text_becomes_tokens(text: str, tokens: list[str]) -> None:
    assert tokens_of(text) == tokens


def candidate(number: int, session: int = 1, lexical: float = 0.0, at: int = 0) -> Candidate:
    return Candidate(number, session, number, at, number, lexical)


def test_a_row_after_a_match_gains_more_than_one_before_it() -> None:
    rows = [candidate(1, lexical=0.1), candidate(2, lexical=1.0), candidate(3, lexical=0.1)]
    scores = ranking.with_neighbours(rows, {c.id: c.lexical for c in rows})
    assert scores[3] > scores[1] > 0.1


def test_the_better_session_lifts_its_rows() -> None:
    rows = [candidate(1, 1, 1.0), candidate(2, 2, 1.0)]
    scores = ranking.combine(rows, {1: 2.0, 2: 4.0})
    assert [c.id for c in ranking.ordered(rows, scores)] == [2, 1]


def test_of_equals_the_newer_comes_first() -> None:
    rows = [candidate(1, 1, 1.0, at=50), candidate(2, 2, 1.0, at=10)]
    assert [c.id for c in ranking.ordered(rows, ranking.combine(rows, {}))] == [1, 2]


def test_no_score_is_no_division_by_zero() -> None:
    assert ranking.combine([candidate(1)], {1: 0.0}) == {1: 0.0}


def test_an_excerpt_is_cut_where_most_words_of_the_query_meet() -> None:
    text = "cache " + "x " * 300 + "the cache is stale " + "y " * 300
    finds = find(["cach", "stale"], text)
    line = excerpt(finds, text)
    assert "cache is stale" in line and len(line) <= 240
    assert matched_words({"caching": ["cach"], "zebra": ["zebra"]}, finds) == ["caching"]


def test_a_stem_is_found_at_the_start_of_words_and_of_their_parts_only() -> None:
    assert [f.start for f in find(["key"], "monkey key cacheKey cache_key")] == [7, 16, 26]


def test_a_word_said_again_counts_once_where_that_is_asked_for() -> None:
    text = "12→parseConfig ran, parseConfig stopped (cache_key.py)."
    once = joined_tokens(text, once=True).split()
    assert once == ["12", "parseconfig", "pars", "config", "ran", "stop", "cach", "key", "py", "cache_key.py"]
    assert tokens_of(text).count("pars") == 2

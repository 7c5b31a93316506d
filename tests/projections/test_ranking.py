"""The pure parts of search: tokens, scores, excerpts."""

from dataclasses import replace

import numpy as np
import pytest

from session_mgmt_mcp.projections import ranking
from session_mgmt_mcp.projections.analysis import joined_tokens
from session_mgmt_mcp.projections.excerpt import excerpt, find, marks, matched_words
from session_mgmt_mcp.projections.ranking import Candidates, Weights


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
    assert joined_tokens(text).split() == tokens


def candidates(*rows: tuple[float, ...]) -> Candidates:
    """Rows of (session, lexical, dense, time), the seqs and ids 1, 2, …; what is left out is 1, 0, NaN, 0."""
    full = [(*row, *(1.0, 0.0, np.nan, 0.0)[len(row) :]) for row in rows]
    sessions, lexical, dense, times = np.array(full, np.float64).reshape(-1, 4).T
    ids = np.arange(1, len(full) + 1)
    nothing = np.zeros(len(full))
    return Candidates(
        ids, sessions.astype(np.int64), ids, times.astype(np.int64), ids, lexical, dense, nothing, nothing
    )


def scores(found: Candidates, **weights: float) -> list[float]:
    """With these weights alone."""
    off = Weights(*(0.0 for _ in Weights._fields))
    documents = np.zeros(len(found))
    return ranking.combine(found, documents, 0.0, off._replace(**weights)).tolist()


def test_scores_are_shares_of_the_best() -> None:
    assert ranking.share(np.array([1.0, 4.0])).tolist() == [0.25, 1.0]
    assert ranking.share(np.array([0.0])).tolist() == [0.0]
    assert ranking.share(np.array([])).tolist() == []


def test_cosines_are_spread_from_the_floor_to_the_best() -> None:
    assert ranking.spread(np.array([0.2, 0.5, 0.8, np.nan]), 0.2).tolist() == pytest.approx(
        [0.0, 0.5, 1.0, 0.0]
    )
    assert ranking.spread(np.array([0.1]), 0.2).tolist() == [1.0]
    assert ranking.spread(np.array([np.nan]), 0.2).tolist() == [0.0]
    assert ranking.spread(np.array([]), 0.2).tolist() == []


def test_the_floor_lies_as_far_below_the_last_as_the_best_above_it() -> None:
    assert ranking.floor_of(np.array([0.75, 0.5])) == 0.25
    assert ranking.floor_of(np.array([])) == 1.0


def test_neighbours_are_the_rows_next_to_each_other_in_one_session() -> None:
    sessions, seqs = np.array([7, 7, 7, 8]), np.array([3, 1, 2, 3])
    places = ranking.places_of(sessions, seqs)
    before, after = ranking.neighbours(places, np.array([1.0, 2.0, 3.0, 4.0]))
    assert before.tolist() == [3.0, 0.0, 2.0, 0.0]
    assert after.tolist() == [0.0, 3.0, 1.0, 0.0]


def test_a_gap_parts_neighbours() -> None:
    places = ranking.places_of(np.array([7, 7]), np.array([1, 3]))
    before, after = ranking.neighbours(places, np.array([1.0, 2.0]))
    assert before.tolist() == after.tolist() == [0.0, 0.0]


def test_a_row_after_a_match_gains_more_than_one_before_it() -> None:
    found = candidates((1, 0.1), (1, 1.0), (1, 0.1))
    first, match, last = scores(found, lexical=0.5, lexical_previous=0.125, lexical_next=0.05)
    assert match > last > first > 0.05


def test_the_best_row_lifts_all_of_its_session() -> None:
    found = candidates((1, 1.0), (1, 0.0), (2, 0.5))
    assert scores(found, best_lexical=1.0) == [1.0, 1.0, 0.5]


def test_a_row_near_in_meaning_is_lifted_without_a_word_in_common() -> None:
    found = candidates((1, 1.0), (2, 0.0, 0.9), (3, 0.0, 0.1))
    words, near, far = scores(found, lexical=0.5, dense=0.6)
    assert near > words > far > 0


def test_the_better_session_lifts_its_rows() -> None:
    found = candidates((1, 1.0), (2, 1.0))
    got = ranking.combine(found, np.array([0.5, 1.0]), 1.0, Weights())
    assert ranking.ordered(found.ids, got).tolist() == [1, 0]


def test_who_is_named_and_what_is_named_lift() -> None:
    found = replace(candidates((1,), (1,), (1,)), named=np.array([1.0, 0, 0]), about=np.array([0, 1.0, 0]))
    assert scores(found, actor=0.4, metadata=0.2) == [0.4, 0.2, 0.0]


def test_of_equals_the_newer_comes_first() -> None:
    found = candidates((1, 1.0, np.nan, 50), (2, 1.0, np.nan, 10), (3, 1.0, np.nan, 0))
    got = ranking.combine(found, np.zeros(3), 1.0, Weights())
    assert ranking.ordered(found.ids, got).tolist() == [0, 1, 2]
    assert ranking.ordered(found.ids, np.zeros(3)).tolist() == [2, 1, 0]


def test_no_candidates_are_no_error() -> None:
    assert scores(candidates(), lexical=0.5, dense=0.5, recency=0.02) == []


def test_no_score_is_no_division_by_zero() -> None:
    assert scores(candidates((1,)), lexical=0.5, dense=0.5, best_lexical=1.0) == [0.0]


def test_an_excerpt_is_cut_where_most_words_of_the_query_meet() -> None:
    text = "cache " + "x " * 300 + "the cache is stale " + "y " * 300
    finds = find(["cach", "stale"], text)
    line = excerpt(finds, text)
    assert "cache is stale" in line and len(line) <= 240
    assert matched_words({"caching": ["cach"], "zebra": ["zebra"]}, finds) == ["caching"]


def test_a_stem_is_found_at_the_start_of_words_and_of_their_parts_only() -> None:
    assert [f.start for f in find(["key"], "monkey key cacheKey cache_key")] == [7, 16, 26]


def test_marks_are_whole_words_apart_from_each_other() -> None:
    line = "caching the cacheKey, not xcache"
    assert [line[a:b] for a, b in marks(["cach", "key"], line)] == ["caching", "cacheKey"]


def test_a_word_said_again_counts_once_where_that_is_asked_for() -> None:
    text = "12→parseConfig ran, parseConfig stopped (cache_key.py)."
    once = joined_tokens(text, once=True).split()
    assert once == ["12", "parseconfig", "pars", "config", "ran", "stop", "cach", "key", "py", "cache_key.py"]
    assert joined_tokens(text).split().count("pars") == 2

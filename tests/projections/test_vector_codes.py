"""Passes over codes and rows against what numpy says in plain words."""

import numpy as np
import pytest
from vector_case import DIMENSION, numbers_of, vectors

from session_mgmt_mcp.projections import vector_lookup
from session_mgmt_mcp.projections.vector_blocks import codes_of
from session_mgmt_mcp.projections.vector_codes import (
    best,
    distances,
    exact_scores,
    nearest_codes,
    query_code,
)


@pytest.mark.parametrize("dimension", [16, 64, 100, 192, 384, 1024])
def test_distances_count_the_bits_that_differ_at_any_dimension(
    dimension: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("session_mgmt_mcp.projections.vector_codes.CODES_AT_ONCE", 128)
    rows = vectors(300, dimension=dimension)
    rows[0] = -rows[1]
    found = np.empty(len(rows), np.uint16)
    distances(codes_of(rows), query_code(rows[1]), found)
    assert found.tolist() == ((rows > 0) != (rows[1] > 0)).sum(axis=1).tolist()


def test_nearest_codes_of_many_are_those_below_a_limit_estimated_from_a_sample() -> None:
    found = np.random.default_rng(0).integers(50, 300, 200_000).astype(np.uint16)
    few = nearest_codes(found[:1000], 100)
    assert 100 <= len(few) <= 200
    assert found[few].max() < np.delete(found[:1000], few).min()
    many = nearest_codes(found, 5000)
    assert 4500 <= len(many) <= 10_000
    assert found[many].max() < np.delete(found, many).min()
    assert nearest_codes(found[:50], 100).tolist() == list(range(50))
    assert len(nearest_codes(np.full(1000, 7, np.uint16), 10)) == 20


@pytest.mark.parametrize("spread", [0, 3, 40])
def test_nearest_codes_of_less_are_below_the_limit_that_all_of_them_have(spread: int) -> None:
    found = np.random.default_rng(0).integers(100, 101 + spread, 20_000).astype(np.uint16)
    limit = np.sort(found)[399]
    assert nearest_codes(found, 400).tolist() == np.flatnonzero(found <= limit)[:800].tolist()


def test_exact_scores_are_those_of_numpys_own_conversion_tiny_numbers_included() -> None:
    rows = vectors(1000, dimension=384)
    rows[3, :100] = 1e-6  # subnormal in float16
    rows[4] = 0
    halves, query = rows.astype(np.float16), vectors(1, seed=3, dimension=384)[0]
    at = np.arange(0, 1000, 3)
    expected = halves[at].astype(np.float64) @ query.astype(np.float64)
    np.testing.assert_allclose(exact_scores(halves, at, query), expected, atol=2e-6)


def test_a_row_longer_than_one_has_no_score() -> None:
    rows = vectors(3).astype(np.float16)
    rows[1, 0] = 30000
    query = np.zeros(DIMENSION, np.float32)
    query[0] = 1
    assert np.isnan(exact_scores(rows, np.arange(3), query)).tolist() == [False, True, False]


def test_best_are_in_order_without_those_that_have_no_score() -> None:
    scores = np.array([0.1, np.nan, 0.9, 0.5, 0.9], np.float32)
    assert best(scores, 3).tolist() == [2, 4, 3]
    assert best(scores, 9).tolist() == [2, 4, 3, 0]


def test_numbers_that_share_their_leading_bits_are_sorted_all_the_same() -> None:
    numbers = np.array([5, 3, 4, 1, 2, 0, 2], np.int64)
    assert numbers[vector_lookup.sorting(numbers)].tolist() == [0, 1, 2, 2, 3, 4, 5]
    hashes = numbers_of(40_000)
    assert vector_lookup.sorting(hashes).tolist() == np.argsort(hashes).tolist()
    hashes[20_000:] = hashes[0] + np.arange(20_000)[::-1]
    assert (np.diff(hashes[vector_lookup.sorting(hashes)]) >= 0).all()
    assert vector_lookup.sorting(hashes[:0]).tolist() == []

"""The vector index against exact answers, and against files that are damaged, missing or replaced."""

import builtins
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from session_mgmt_mcp.core.errors import SettingsError
from session_mgmt_mcp.projections import vector_index, vector_lookup, vector_shards
from session_mgmt_mcp.projections.vector_blocks import Pairs, codes_of
from session_mgmt_mcp.projections.vector_codes import (
    best,
    distances,
    exact_scores,
    nearest_codes,
    query_code,
)
from session_mgmt_mcp.projections.vector_index import VectorIndex
from session_mgmt_mcp.projections.vector_shards import build_shards, graph_path
from session_mgmt_mcp.projections.vector_state import embed_lock, empty_state, vector_folder
from session_mgmt_mcp.projections.vector_store import VectorStore, fill

Vectors = npt.NDArray[np.float32]
DIMENSION = 64
GRAPHS = 1 << 30  # bytes of memory


class NoLog:
    """All that vectors of position 0 ask of a log."""

    log_id = "log"


def vectors(n: int, seed: int = 0, dimension: int = DIMENSION) -> Vectors:
    """In groups, as texts are: a few hundred centres, and something of their own."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(300, dimension))
    found = centres[random.integers(0, len(centres), n)] + 0.7 * random.normal(size=(n, dimension))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def numbers_of(n: int, seed: int = 1) -> npt.NDArray[np.int64]:
    found = np.unique(np.random.default_rng(seed).integers(0, 2**63 - 1, n + 10))[:n]
    return np.random.default_rng(seed).permutation(found)


class Case:
    """A published store: passage i has row ids[i]; every third passage a second row, 5 higher."""

    def __init__(self, views: Path, n: int, dimension: int = DIMENSION) -> None:
        self.views = views
        self.rows = vectors(n, dimension=dimension)
        self.rounded = self.rows.astype(np.float16).astype(np.float32)  # as they are stored
        self.numbers = numbers_of(n)
        self.ids = np.arange(n, dtype=np.int64) * 1024
        again = np.arange(0, n, 3)
        self.pairs = Pairs(
            np.concatenate([self.ids, self.ids[again] + 5]),
            np.concatenate([self.numbers, self.numbers[again]]),
        )
        state = msgspec.structs.replace(empty_state("log"), model_id="model")
        self.state = fill(views, state, self.pairs, self.numbers, self.rows, ((0, n * 1024),))

    def open(self, graphs: int = 0) -> VectorIndex:
        index = VectorIndex(NoLog(), self.views, graphs)  # type: ignore[arg-type]
        assert index.refresh()
        return index

    def exact(self, query: Vectors) -> Vectors:
        return self.rounded @ query

    def nearest(self, query: Vectors, k: int) -> list[int]:
        return self.numbers[np.argsort(-self.exact(query), kind="stable")[:k]].tolist()


def recall(index: VectorIndex, case: Case, k: int, queries: int = 20) -> float:
    found = [
        len(set(index.nearest(q, k)[0].tolist()) & set(case.nearest(q, k)))
        for q in vectors(queries, seed=7, dimension=index.dimension)
    ]
    return sum(found) / (k * queries)


# -- kernels -------------------------------------------------------------------------------------------------------


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
    hashes = numbers_of(5000)
    assert vector_lookup.sorting(hashes).tolist() == np.argsort(hashes).tolist()


# -- the index -----------------------------------------------------------------------------------------------------


def test_nothing_is_found_where_nothing_is_published(tmp_path: Path) -> None:
    index = VectorIndex(NoLog(), tmp_path)  # type: ignore[arg-type]
    query = vectors(1)[0]
    index.refresh()
    assert (index.count, index.model_id, index.problems) == (0, "", [])
    assert [len(part) for part in index.nearest(query, 5)] == [0, 0]
    assert [len(part) for part in index.nearest_rows_among(np.array([1, 2]), query, 5)] == [0, 0]
    assert [len(part) for part in index.rows_of(np.array([1]))] == [0, 0]
    assert np.isnan(index.scores(np.array([1, 2]), query)).all()


def test_nearest_is_exact_in_a_small_store(tmp_path: Path) -> None:
    case = Case(tmp_path, 900)
    index = case.open()
    for query in vectors(20, seed=5):
        found, scores = index.nearest(query, 10)
        assert found.tolist() == case.nearest(query, 10)
        np.testing.assert_allclose(scores, np.sort(case.exact(query))[::-1][:10], atol=1e-6)
    assert (index.count, index.model_id, index.dimension) == (900, "model", DIMENSION)


def test_more_than_there_is_gives_all_there_is(tmp_path: Path) -> None:
    case = Case(tmp_path, 30)
    assert sorted(case.open().nearest(case.rows[0], 100)[0].tolist()) == sorted(case.numbers.tolist())


def test_the_scan_of_many_finds_nearly_all_of_the_nearest(tmp_path: Path) -> None:
    case = Case(tmp_path, 12_000, dimension=256)
    assert recall(case.open(), case, 50) >= 0.95  # groups as loose as these are harder than texts


def test_scores_are_exact_and_absent_for_unknown_passages(tmp_path: Path) -> None:
    case = Case(tmp_path, 500)
    query = vectors(1, seed=5)[0]
    asked = np.concatenate([case.numbers[[4, 499, 4]], [np.int64(12345)]])
    scores = case.open().scores(asked, query)
    np.testing.assert_allclose(scores[:3], case.exact(query)[[4, 499, 4]], atol=1e-6)
    assert np.isnan(scores[3])


def test_the_directory_of_full_blocks_says_what_the_blocks_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (vector_index, vector_lookup):
        monkeypatch.setattr(module, "FULL_PASSAGES", 100)
    monkeypatch.setattr("session_mgmt_mcp.projections.vector_store.FULL_PASSAGES", 100)
    case = Case(tmp_path, 350)
    index, query = case.open(), vectors(1, seed=5)[0]
    asked = np.concatenate([case.numbers, np.array([1, 2**62])])
    for _ in range(vector_index.DIRECTORY_AFTER + 2):
        scores = index.scores(asked, query)
        np.testing.assert_allclose(scores[:-2], case.exact(query), atol=1e-6)
        assert np.isnan(scores[-2:]).all()


def test_rows_and_passages_lead_to_each_other(tmp_path: Path) -> None:
    case = Case(tmp_path, 100)
    index = case.open()
    ids, at = index.rows_of(np.array([case.numbers[3], 77, case.numbers[4]]))
    assert list(zip(at.tolist(), ids.tolist(), strict=True)) == [
        (0, 3 * 1024),
        (0, 3 * 1024 + 5),
        (2, 4 * 1024),
    ]
    at, passages = index.passages_of_rows(np.array([4 * 1024, 9, 3 * 1024 + 5]))
    assert list(zip(at.tolist(), passages.tolist(), strict=True)) == [
        (0, case.numbers[4]),
        (2, case.numbers[3]),
    ]


def test_nothing_is_near_among_no_rows_and_among_rows_without_vectors(tmp_path: Path) -> None:
    index, query = Case(tmp_path, 20).open(), vectors(1)[0]
    for ids in ([], [3, 3, 77]):
        assert [len(part) for part in index.nearest_rows_among(np.array(ids, np.int64), query, 5)] == [0, 0]


@pytest.mark.parametrize("among", [40, 15_000])
def test_the_nearest_among_some_rows_are_those_rows_alone(tmp_path: Path, among: int) -> None:
    case = Case(tmp_path, 18_000, dimension=128)
    chosen = np.sort(np.random.default_rng(3).choice(18_000, among, replace=False))
    query = vectors(1, seed=5, dimension=128)[0]
    ids = np.concatenate([case.ids[chosen], [np.int64(10**15)]])  # one without a vector
    found, scores = case.open().nearest_rows_among(ids, query, 20)
    expected = chosen[np.argsort(-case.exact(query)[chosen])[:20]] * 1024
    assert len(set(found.tolist()) & set(expected.tolist())) >= 19
    assert (np.diff(scores) <= 0).all()
    assert len(set(found.tolist())) == 20


def test_a_row_with_several_passages_counts_once_by_its_best(tmp_path: Path) -> None:
    rows, numbers = vectors(3), numbers_of(3)
    pairs = Pairs(np.array([7, 7, 9]), numbers)
    state = msgspec.structs.replace(empty_state("log"), model_id="model")
    fill(tmp_path, state, pairs, numbers, rows, ((0, 100),))
    index = VectorIndex(NoLog(), tmp_path, 0)  # type: ignore[arg-type]
    index.refresh()
    found, scores = index.nearest_rows_among(np.array([7, 9]), rows[1], 5)
    assert found.tolist() == [7, 9]
    assert scores[0] == pytest.approx(1, abs=1e-3)


def test_what_is_published_later_is_found_and_what_was_open_stays_readable(tmp_path: Path) -> None:
    case = Case(tmp_path, 400)
    index = case.open()
    assert not index.refresh()
    more, numbers = vectors(300, seed=8), numbers_of(300, seed=9)
    held = index.nearest(more[0], 3)[0].tolist()
    with embed_lock(tmp_path):
        store = VectorStore(tmp_path, case.state)
        store.add(Pairs(np.arange(300) * 1024 + 7, numbers), numbers, more)
        store.merge()  # replaces the file that is open
        store.publish()
    assert len(list(vector_folder(tmp_path).glob("*.vectors"))) == 1
    assert index.nearest(more[0], 3)[0].tolist() == held
    assert index.refresh()
    assert index.count == 700
    assert index.nearest(more[0], 1)[0].tolist() == [numbers[0]]
    assert index.rows_of(numbers[:1])[0].tolist() == [7]


def test_another_logs_vectors_serve_nothing(tmp_path: Path) -> None:
    case = Case(tmp_path, 50)
    index = case.open()
    raw = json.loads((vector_folder(tmp_path) / "state.json").read_bytes())
    (vector_folder(tmp_path) / "state.json").write_text(json.dumps({**raw, "log_id": "another"}))
    assert index.refresh()
    assert index.count == 0


@pytest.mark.parametrize("harm", ["missing", "cut", "flipped"])
def test_a_damaged_file_is_left_out_and_said(tmp_path: Path, harm: str) -> None:
    case = Case(tmp_path, 50)
    path = next(vector_folder(tmp_path).glob("*.vectors"))
    content = bytearray(path.read_bytes())
    content[70] ^= 1
    harms: dict[str, Callable[[], object]] = {
        "missing": path.unlink,
        "cut": lambda: path.write_bytes(content[:-5]),
        "flipped": lambda: path.write_bytes(content),
    }
    harms[harm]()
    index = case.open()
    assert index.count == 0
    assert len(index.problems) == 1
    assert path.name in index.problems[0]
    assert len(index.rows_of(case.numbers[:1])[0]) == 2  # the map is sound


# -- graphs --------------------------------------------------------------------------------------------------------


@pytest.fixture
def graphs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    """1200 vectors in a full block with a graph, 300 in one without."""
    for module in (vector_index, vector_lookup, vector_shards):
        monkeypatch.setattr(module, "FULL_PASSAGES", 1200)
    monkeypatch.setattr("session_mgmt_mcp.projections.vector_store.FULL_PASSAGES", 1200)
    case = Case(tmp_path, 1500)
    said: list[tuple[int, int]] = []
    assert build_shards(tmp_path, GRAPHS, lambda done, of: said.append((done, of))) == 1
    assert said[-1] == (1200, 1200)
    return case


def test_full_blocks_are_searched_by_their_graphs_and_the_rest_is_scanned(graphs: Case) -> None:
    index = graphs.open(GRAPHS)
    assert recall(index, graphs, 20) >= 0.97  # whether or not the graph is there already
    index.wait_for_graphs()
    assert (index.graphs, index.problems) == (1, [])
    assert recall(index, graphs, 20) >= 0.97
    for i in (0, 1199, 1499):
        assert index.nearest(graphs.rows[i], 1)[0].tolist() == [graphs.numbers[i]]
    assert len(index.nearest(graphs.rows[0], 1400)[0]) >= 1200  # more than the graph holds


def test_a_graph_is_built_once(graphs: Case) -> None:
    assert build_shards(graphs.views, GRAPHS) == 0


def test_no_graph_is_built_or_loaded_beyond_the_memory_allowed(graphs: Case) -> None:
    too_little = 1200 * 4 * DIMENSION
    for path in vector_folder(graphs.views).glob("*.hnsw*"):
        path.unlink()
    assert build_shards(graphs.views, too_little) == 0
    assert build_shards(graphs.views, GRAPHS) == 1
    index = graphs.open(too_little)
    index.wait_for_graphs()
    assert (index.graphs, index.problems) == (0, [])
    assert index.nearest(graphs.rows[0], 1)[0].tolist() == [graphs.numbers[0]]


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def _say(**changes: Any) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        told = path.with_name(f"{path.name}.json")
        told.write_text(json.dumps({**json.loads(told.read_bytes()), **changes}))

    return change


@pytest.mark.parametrize(
    "harm", [_flip, _say(dimension=32), _say(sha256="")], ids=["bit", "dimension", "hash"]
)
def test_a_graph_that_is_not_what_was_built_is_not_loaded(graphs: Case, harm: Callable[[Path], None]) -> None:
    block = vector_shards.chosen(graphs.state, GRAPHS)[0]
    harm(graph_path(vector_folder(graphs.views), block))
    index = graphs.open(GRAPHS)
    index.wait_for_graphs()
    assert index.graphs == 0
    assert "scanned" in index.problems[0]
    assert index.nearest(graphs.rows[5], 1)[0].tolist() == [graphs.numbers[5]]


def test_a_graph_of_another_block_counts_as_missing_and_is_built_anew(graphs: Case) -> None:
    block = vector_shards.chosen(graphs.state, GRAPHS)[0]
    _say(crc=1)(graph_path(vector_folder(graphs.views), block))
    index = graphs.open(GRAPHS)
    assert (index.graphs, index.problems) == (0, [])
    assert build_shards(graphs.views, GRAPHS) == 1
    index.refresh()
    index.wait_for_graphs()
    assert index.graphs == 1


def test_a_graph_of_a_block_that_was_dropped_is_not_published_and_let_go_of(graphs: Case) -> None:
    index = graphs.open(GRAPHS)
    index.wait_for_graphs()
    for path in vector_folder(graphs.views).glob("*.hnsw*"):
        path.unlink()

    def drop(done: int, _: int) -> None:
        if done == 1200:
            with embed_lock(graphs.views):
                store = VectorStore(graphs.views, graphs.state)
                store.keep_only(np.sort(graphs.numbers[:1000]))
                store.publish()

    assert build_shards(graphs.views, GRAPHS, drop) == 0
    assert not list(vector_folder(graphs.views).glob("*hnsw*"))
    index.refresh()
    assert (index.graphs, index.count) == (0, 1000)


def test_an_interrupted_build_leaves_nothing_and_is_begun_anew(graphs: Case) -> None:
    for path in vector_folder(graphs.views).glob("*.hnsw*"):
        path.unlink()

    def interrupt(*_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_shards(graphs.views, GRAPHS, interrupt)
    assert not list(vector_folder(graphs.views).glob("*hnsw*"))
    assert build_shards(graphs.views, GRAPHS) == 1


def test_without_hnswlib_everything_is_scanned_and_the_reason_said(
    graphs: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "hnswlib":
            raise ImportError("no compiler")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    index = graphs.open(GRAPHS)
    index.wait_for_graphs()
    assert index.graphs == 0
    assert "no compiler" in index.problems[0]
    assert build_shards(graphs.views, GRAPHS) == 0
    assert index.nearest(graphs.rows[5], 1)[0].tolist() == [graphs.numbers[5]]


def test_the_memory_for_graphs_is_a_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VECTOR_MEMORY_MB", "lots")
    with pytest.raises(SettingsError, match="VECTOR_MEMORY_MB"):
        VectorIndex(NoLog(), tmp_path)  # type: ignore[arg-type]

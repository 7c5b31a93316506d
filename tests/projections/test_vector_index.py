"""The vector index against exact answers, and against files that are damaged, missing or replaced."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from vector_case import DIMENSION, Case, NoLog, numbers_of, recall, vectors

from session_mgmt_mcp.projections import vector_index, vector_lookup
from session_mgmt_mcp.projections.vector_blocks import Pairs
from session_mgmt_mcp.projections.vector_index import VectorIndex
from session_mgmt_mcp.projections.vector_paging import memory_bytes
from session_mgmt_mcp.projections.vector_state import embed_lock, empty_state, vector_folder
from session_mgmt_mcp.projections.vector_store import VectorStore, fill


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


def _mapped_at_random(path: Path) -> bool:
    """Whether some part of the file is mapped so that pages around a missing one are not read."""
    ours = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if not line[0].isupper():
            ours = line.endswith(path.name)
        elif ours and line.startswith("VmFlags") and "rr" in line.split():
            return True
    return False


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="only Linux shows how files are mapped")
@pytest.mark.parametrize("memory", [1 << 40, 1 << 16])
def test_where_memory_is_small_only_the_pages_asked_for_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: int
) -> None:
    monkeypatch.setattr(vector_index, "memory_bytes", lambda: memory)
    case = Case(tmp_path, 3000)
    index = case.open()
    assert _mapped_at_random(next(vector_folder(tmp_path).glob("*.vectors"))) == (memory == 1 << 16)
    assert index.nearest(case.rows[7], 1)[0].tolist() == [case.numbers[7]]


def test_the_memory_there_is_is_a_number_of_bytes() -> None:
    assert 1 << 20 < memory_bytes() <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")

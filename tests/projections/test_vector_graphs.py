"""Graphs over full blocks: built once, loaded within the memory allowed and only as they were built."""

import builtins
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from vector_case import DIMENSION, GRAPHS, Case, NoLog, recall

from session_mgmt_mcp.core.errors import SettingsError
from session_mgmt_mcp.projections import vector_index, vector_lookup, vector_shards
from session_mgmt_mcp.projections.vector_index import VectorIndex
from session_mgmt_mcp.projections.vector_shards import build_shards, graph_path
from session_mgmt_mcp.projections.vector_state import embed_lock, vector_folder
from session_mgmt_mcp.projections.vector_store import VectorStore

pytest.importorskip("hnswlib", reason="hnswlib, of the extra `embeddings`, is not installed")


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

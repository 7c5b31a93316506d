"""Vectors without a model: a deterministic embedder, and a look at everything a store holds."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from action_log import call, prompt, reply, returned
from memory_log import MemoryLog

from session_mgmt_mcp.core.ports import EventLog
from session_mgmt_mcp.projections import publish, vector_rebuild, vector_store, vector_writer
from session_mgmt_mcp.projections.passages import number_of_passage, passages_of
from session_mgmt_mcp.projections.protocol import views_folder
from session_mgmt_mcp.projections.query_files import QueryFiles
from session_mgmt_mcp.projections.query_files import load_state as load_query
from session_mgmt_mcp.projections.vector_blocks import check_rows, codes_of, open_map, open_vectors
from session_mgmt_mcp.projections.vector_rebuild import WITH_PASSAGES, in_ranges
from session_mgmt_mcp.projections.vector_state import VectorState, read_state, vector_folder
from session_mgmt_mcp.projections.vector_writer import VectorWriter


class HashEmbedder:
    """A vector that depends on the text and the model's name alone. `texts`: all that were ever embedded."""

    def __init__(self, model_id: str = "hash", dimension: int = 64) -> None:
        self.model_id = model_id
        self.dimension = dimension
        self.texts: list[str] = []

    def embed_passages(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        self.texts += texts
        return np.stack([self.vector(text) for text in texts])

    def vector(self, text: str) -> npt.NDArray[np.float32]:
        digest = hashlib.sha256(f"{self.model_id}\0{text}".encode()).digest()
        found = np.random.default_rng(int.from_bytes(digest[:8], "big")).normal(size=self.dimension)
        return (found / np.linalg.norm(found)).astype(np.float32)


def embed_all(log: EventLog, folder: Path, embedder: HashEmbedder, passages_max: int = 512) -> int:
    """Embed until all rows are done; how many chunks that took."""
    writer = VectorWriter(log, views_folder(folder), embedder)
    try:
        for chunks in range(10_000):
            if writer.chunk(passages_max).done:
                return chunks
    finally:
        writer.close()
    raise AssertionError("it does not come to an end")


def state_of(folder: Path) -> VectorState:
    state = read_state(views_folder(folder))
    assert state is not None
    return state


def stored(folder: Path) -> tuple[set[tuple[int, int]], dict[int, npt.NDArray[np.float16]]]:
    """All pairs and all vectors that are published; everything is checked."""
    state, where = state_of(folder), vector_folder(views_folder(folder))
    pairs: list[tuple[int, int]] = []
    vectors: dict[int, npt.NDArray[np.float16]] = {}
    for block in state.maps:
        found = open_map(where, block)
        assert (np.diff(found.ids) >= 0).all()
        assert (block.low, block.high) == (found.ids[0], found.ids[-1] + 1)
        assert in_ranges(found.ids, state.covered).all()
        pairs += zip(found.ids.tolist(), found.numbers.tolist(), strict=True)
    for block in state.vectors:
        some = open_vectors(where, block, state.dimension)
        check_rows(where, block, some)
        assert (np.diff(some.numbers) > 0).all()
        assert np.array_equal(some.codes, codes_of(some.rows))
        assert vectors.keys().isdisjoint(some.numbers.tolist())
        vectors.update(zip(some.numbers.tolist(), np.asarray(some.rows), strict=True))
    assert len(pairs) == len(set(pairs))
    assert {number for _, number in pairs} <= vectors.keys()
    return set(pairs), vectors


def passages_shown(log: EventLog, folder: Path) -> dict[tuple[int, int], str]:
    """What the published query view's rows have: (row id, number) -> text."""
    state = load_query(views_folder(folder), log)
    assert state is not None
    files = QueryFiles(views_folder(folder), state)
    try:
        return {
            (row.id, number_of_passage(text)): text
            for row in files.shown_rows(WITH_PASSAGES)
            for text in passages_of(row)
        }
    finally:
        files.close()


def assert_complete(log: EventLog, folder: Path, embedder: HashEmbedder) -> None:
    """Every passage of every shown row has its own vector."""
    pairs, vectors = stored(folder)
    for pair, text in passages_shown(log, folder).items():
        assert pair in pairs
        assert np.array_equal(vectors[pair[1]], embedder.vector(text).astype(np.float16))


def fill(log: MemoryLog, first: int = 0, n: int = 15) -> MemoryLog:
    """Prompts that differ, replies and calls that repeat, results that have no passage."""
    for k in range(first, first + n):
        log.append(
            [
                prompt(f"s-{k % 3}", f"p-{k}", f"question {k}", k),
                reply(f"s-{k % 3}", f"r-{k}", f"answer {k % 5}", k),
                call(f"s-{k % 3}", f"c-{k}", f"t-{k}", "Bash", {"command": f"make step{k % 7}"}, k),
                returned(f"s-{k % 3}", f"o-{k}", f"t-{k}", f"made step{k % 7}", k),
            ]
        )
    log.seal()
    return log


class NoIndex:
    """In place of the lexical index, which takes most of the time and has its own tests."""

    def __init__(self, views: Path) -> None:
        (views / "lexical").mkdir(exist_ok=True)

    def update(self, *_: object) -> int:
        return 0


def without_words(patch: pytest.MonkeyPatch) -> None:
    """Publish without the lexical index."""
    patch.setattr(publish, "_open_lexical", lambda _, views, *__: NoIndex(views))


def small_files(patch: pytest.MonkeyPatch) -> None:
    """Windows, slices and full files of a few rows."""
    patch.setattr(vector_writer, "WINDOW_POSITIONS", 16)
    patch.setattr(vector_writer, "SLICE_PASSAGES", 4)
    patch.setattr(vector_rebuild, "RUN_ROWS_MIN", 8)
    patch.setattr(vector_store, "FULL_PASSAGES", 24)
    patch.setattr(vector_store, "FULL_PAIRS", 64)


class Failing(HashEmbedder):
    """Raises at the n-th call."""

    def __init__(self, calls: int, error: BaseException) -> None:
        super().__init__()
        self._left = calls
        self._error = error

    def embed_passages(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        self._left -= 1
        if self._left == 0:
            raise self._error
        return super().embed_passages(texts)


def flip(path: Path, offset: int) -> None:
    raw = bytearray(path.read_bytes())
    raw[offset] ^= 4
    path.unlink()
    path.write_bytes(raw)

"""Generated vectors, published; and what an exact search finds among them."""

from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from session_mgmt_mcp.projections.vector_blocks import Pairs
from session_mgmt_mcp.projections.vector_index import VectorIndex
from session_mgmt_mcp.projections.vector_state import empty_state
from session_mgmt_mcp.projections.vector_store import fill

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

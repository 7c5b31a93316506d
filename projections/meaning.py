"""Search by meaning: the published vectors and the model for queries, opened when there is something to find."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from session_mgmt_mcp.core.errors import SessionMgmtError

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future

PASSAGES_MAX = 100  # nearest passages taken
PASSAGES_NARROWED_MAX = 1000  # where filters will leave few of them
ROWS_OF_PASSAGE_MAX = 4  # the newest; more rows with the same text would be folded into one

LOADED, UNNEEDED = "loaded", "not needed yet"

Vector = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.int64]


class EmbedsQueries(Protocol):
    """The part of the embedder a search needs."""

    @property
    def model_id(self) -> str: ...

    def embed_query(self, text: str) -> Vector: ...


class FindsPassages(Protocol):
    """The part of the vector index a search needs; see `vector_index`."""

    @property
    def count(self) -> int: ...

    @property
    def model_id(self) -> str: ...

    def refresh(self) -> bool: ...

    def nearest(self, query: Vector, k: int) -> tuple[Numbers, Vector]: ...

    def nearest_rows_among(self, ids: Numbers, query: Vector, k: int) -> tuple[Numbers, Vector]: ...

    def rows_of(self, passages: Numbers) -> tuple[Numbers, Numbers]: ...

    def passages_of_rows(self, ids: Numbers) -> tuple[Numbers, Numbers]: ...

    def scores(self, passages: Numbers, query: Vector) -> Vector: ...


class Cosines(NamedTuple):
    """Of rows that have vectors: the cosine of the best passage, and its number."""

    best: dict[int, float]
    passage: dict[int, int]


NOTHING = Cosines({}, {})


class Meaning:
    """Not thread-safe. Without vectors, or where the model cannot be had, it finds nothing; `reason` says why."""

    def __init__(
        self, open_index: Callable[[], FindsPassages], open_embedder: Callable[[], EmbedsQueries]
    ) -> None:
        self._open_index = open_index
        self._open_embedder = open_embedder
        self._index: FindsPassages | None = None
        self._embedder: EmbedsQueries | None = None
        self._pool: Executor | None = None
        self.reason = ""

    @property
    def model(self) -> str:
        """How the model stands: LOADED, UNNEEDED while there is nothing to find with it, or why it cannot be had."""
        return self.reason or (UNNEEDED if self._embedder is None else LOADED)

    def refresh(self) -> None:
        """Follow what was published."""
        if self._index is None:
            self._index = self._open_index()
        self._index.refresh()

    def vector(self, text: str) -> "Future[Vector | None] | None":
        """The vector of a query to be, made in a thread while other things are done; None where nothing could be found
        with it, as it may turn out to be. The model is loaded at the first one.
        """
        if self._index is None or not self._index.count or self.reason:
            return None
        if self._pool is None:
            from concurrent.futures import ThreadPoolExecutor

            self._pool = ThreadPoolExecutor(1, "query")
        return self._pool.submit(self._embedded, text, self._index.model_id)

    def _embedded(self, text: str, model_id: str) -> Vector | None:
        """`model_id`: of the vectors it is to be compared with."""
        if self._embedder is None:
            try:
                self._embedder = self._open_embedder()
            except SessionMgmtError as error:
                self.reason = str(error)
                return None
        if model_id != self._embedder.model_id:  # another model's vectors: they say nothing here
            return None
        return self._embedder.embed_query(text)

    def nearest(self, query: Vector, *, narrowed: bool = False) -> list[int]:
        """Ids of the rows nearest to a query; more of them where they will be `narrowed`."""
        assert self._index is not None
        passages, _ = self._index.nearest(query, PASSAGES_NARROWED_MAX if narrowed else PASSAGES_MAX)
        ids, at = self._index.rows_of(passages)
        return [int(i) for i in _newest_of_each(ids, at)]

    def nearest_among(self, ids: Sequence[int], query: Vector) -> list[int]:
        """The same among some rows, exact."""
        assert self._index is not None
        found, _ = self._index.nearest_rows_among(np.array(ids, np.int64), query, PASSAGES_MAX)
        return [int(i) for i in found]

    def cosines(self, ids: Sequence[int], query: Vector) -> Cosines:
        """Of each of the rows."""
        assert self._index is not None
        wanted = np.array(ids, np.int64)
        rows, passages = self._index.passages_of_rows(wanted)
        scores = self._index.scores(passages, query)
        known = ~np.isnan(scores)
        rows, passages, scores = rows[known], passages[known], scores[known]
        order = np.lexsort((scores, rows))  # the last of each row is its best
        last = np.flatnonzero(np.diff(rows[order], append=-1))
        best = order[last]
        found = wanted[rows[best]].tolist()
        return Cosines(
            dict(zip(found, scores[best].tolist(), strict=True)),
            dict(zip(found, passages[best].tolist(), strict=True)),
        )


def _newest_of_each(ids: Numbers, at: npt.NDArray[Any]) -> Numbers:
    """Of the rows of each passage (`at`: which) the newest few."""
    order = np.lexsort((-ids, at))
    ids, at = ids[order], at[order]
    starts = np.flatnonzero(np.diff(at, prepend=-1))
    place = np.arange(len(at)) - np.repeat(starts, np.diff(starts, append=len(at)))
    return np.unique(ids[place < ROWS_OF_PASSAGE_MAX])

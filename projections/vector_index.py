"""The published vectors as a search sees them: which passages are nearest to a query, and which rows have them.

`VectorIndex` maps the files `state.json` names (`vector_state`, `vector_blocks`) and follows what is published. Files
never change, so what is open stays valid until it is let go. A damaged or missing file is left out, and `problems` says
so.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from session_mgmt_mcp.core.ports import EventLog
from session_mgmt_mcp.projections.files import stamp
from session_mgmt_mcp.projections.vector_blocks import (
    DamagedBlockError,
    Numbers,
    Pairs,
    Vectors,
    open_map,
    open_vectors,
)
from session_mgmt_mcp.projections.vector_codes import (
    Indices,
    Scores,
    best,
    distances,
    exact_scores,
    nearest_codes,
    query_code,
)
from session_mgmt_mcp.projections.vector_state import (
    STATE_FILE,
    BlockFile,
    VectorState,
    load_state,
    vector_folder,
)

RESCORED_MIN = 1000  # nearest codes whose rows are looked at
RESCORED_A_RESULT = 4  # and at least so many a passage asked for
GATHERED_MIN = 8192  # passages looked up at once, from which on one sorted array of all pays off
SCANNED_MAX = 8192  # passages among which all rows are looked at; of more, codes come first

Opened = TypeVar("Opened", Vectors, Pairs)


class VectorIndex:
    """Not thread-safe; `Views` holds the lock. Opens nothing before the first `refresh`.

    Scores are inner products of vectors of length 1: cosines.
    """

    def __init__(self, log: EventLog, views: Path) -> None:
        self._log = log
        self._views = views
        self._stamp: tuple[int, int, int] | None = None
        self._state: VectorState | None = None
        self._problems: dict[BlockFile, str] = {}
        self._vectors: dict[BlockFile, Vectors] = {}
        self._maps: dict[BlockFile, _Map] = {}
        self._arrange()

    @property
    def count(self) -> int:
        """How many passages can be found."""
        return int(self._starts[-1])

    @property
    def model_id(self) -> str:
        """The model the vectors are of, whose queries alone may be asked; "" where there is nothing."""
        return self._state.model_id if self._state else ""

    @property
    def dimension(self) -> int:
        """0 where there is nothing."""
        return self._state.dimension if self._state else 0

    @property
    def state(self) -> VectorState | None:
        """What is published and served, None where nothing is."""
        return self._state

    @property
    def problems(self) -> list[str]:
        """Why less is served than is published."""
        return [*self._problems.values()]

    def refresh(self) -> bool:
        """Follow what was published; whether there was anything."""
        now = stamp(vector_folder(self._views) / STATE_FILE)
        if now == self._stamp:
            return False
        self._stamp = now
        state = load_state(self._views, self._log)
        self._state = state
        folder = vector_folder(self._views)
        dimension = self.dimension
        self._problems = {}
        self._vectors = self._opened(
            self._vectors, state.vectors if state else (), lambda b: open_vectors(folder, b, dimension)
        )
        pairs = {block: known.pairs for block, known in self._maps.items()}
        opened = self._opened(pairs, state.maps if state else (), lambda b: open_map(folder, b))
        self._maps = {b: self._maps.get(b) or _Map(p) for b, p in opened.items()}
        self._arrange()
        return True

    def _opened(
        self,
        known: dict[BlockFile, Opened],
        blocks: tuple[BlockFile, ...],
        opener: Callable[[BlockFile], Opened],
    ) -> dict[BlockFile, Opened]:
        """All of the blocks that are sound; what is open already stays so."""
        out = {}
        for block in blocks:
            try:
                out[block] = known.get(block) or opener(block)
            except (DamagedBlockError, OSError) as error:
                self._problems[block] = f"{error}; the next embedding makes it anew"
        return out

    def _arrange(self) -> None:
        """A passage's place is its block's start plus its index there."""
        self._blocks = list(self._vectors.values())
        self._starts = np.cumsum([0, *(len(block.numbers) for block in self._blocks)])
        self._directory: tuple[Numbers, Indices] | None = None

    # -- nearest -------------------------------------------------------------------------------------------------

    def nearest(self, query: Scores, k: int) -> tuple[Numbers, Scores]:
        """The k passages nearest to a vector of length 1, the nearest first: their numbers and scores.

        Fewer where there are fewer.
        """
        if not self.count or k < 1:
            return _none()
        code = query_code(query)
        found = np.empty(self.count, np.uint16)
        for block, start, end in self._spans():
            distances(block.codes, code, found[start:end])
        places = nearest_codes(found, max(RESCORED_MIN, RESCORED_A_RESULT * k))
        scores = self._scores_at(places, query)
        top = best(scores, k)
        return self._numbers_at(places[top]), scores[top]

    def scores(self, passages: Numbers, query: Scores) -> Scores:
        """The score of each passage, NaN where it has no vector."""
        out = np.full(len(passages), np.nan, np.float32)
        places = self._places(passages)
        known = np.flatnonzero(places >= 0)
        out[known] = self._scores_at(places[known], query)
        return out

    def nearest_rows_among(self, ids: Numbers, query: Scores, k: int) -> tuple[Numbers, Scores]:
        """The k of these rows whose best passage is nearest to a vector of length 1: row ids and scores, the best first.

        Rows without a vector are left out.
        """
        ids = np.unique(ids)
        at, passages = self.passages_of_rows(ids)
        places = self._places(passages)
        at, places = at[places >= 0], places[places >= 0]
        if not len(places) or k < 1:
            return _none()
        if len(places) > SCANNED_MAX:
            near = nearest_codes(self._distances_at(places, query), max(RESCORED_MIN, RESCORED_A_RESULT * k))
            at, places = at[near], places[near]
        scores = self._scores_at(places, query)
        order = best(scores, len(scores))
        _, first = np.unique(at[order], return_index=True)  # a row's best passage
        order = order[np.sort(first)[:k]]
        return ids[at[order]], scores[order]

    def _scores_at(self, places: Indices, query: Scores) -> Scores:
        out = np.empty(len(places), np.float32)
        for block, chosen, at in self._by_block(places):
            out[chosen] = exact_scores(block.rows, at, query)
        return out

    def _distances_at(self, places: Indices, query: Scores) -> npt.NDArray[np.uint16]:
        code = query_code(query)
        out = np.empty(len(places), np.uint16)
        for block, chosen, at in self._by_block(places):
            found = np.empty(len(at), np.uint16)
            distances(np.take(block.codes, at, axis=1), code, found)
            out[chosen] = found
        return out

    def _numbers_at(self, places: Indices) -> Numbers:
        out = np.empty(len(places), np.int64)
        for block, chosen, at in self._by_block(places):
            out[chosen] = block.numbers[at]
        return out

    def _spans(self) -> Iterator[tuple[Vectors, int, int]]:
        """Each block, where its places begin and end."""
        ends = self._starts.tolist()
        return zip(self._blocks, ends[:-1], ends[1:], strict=True)

    def _by_block(self, places: Indices) -> Iterator[tuple[Vectors, Indices, Indices]]:
        """The blocks some of the places lie in: which of the places, and their indices in the block."""
        blocks = np.searchsorted(self._starts, places, "right") - 1
        for i in np.unique(blocks).tolist():
            chosen = np.flatnonzero(blocks == i)
            yield self._blocks[i], chosen, places[chosen] - self._starts[i]

    # -- passages and rows ---------------------------------------------------------------------------------------

    def rows_of(self, passages: Numbers) -> tuple[Numbers, Indices]:
        """The rows that have these passages: row ids, and for each the index of its passage among those asked for."""
        found = [known.rows_of(passages) for known in self._maps.values()]
        at, ids = _joined(found)
        return ids, at

    def passages_of_rows(self, ids: Numbers) -> tuple[Indices, Numbers]:
        """The passages of these rows: for each the index of its row among those asked for, and its number."""
        return _joined(
            [_expanded(known.pairs.ids, known.pairs.numbers, ids) for known in self._maps.values()]
        )

    def _places(self, passages: Numbers) -> Indices:
        """Where the passages are, -1 where they are not."""
        out = np.full(len(passages), -1, np.intp)
        if not self.count:
            return out
        order = np.argsort(passages)  # looked up in order, neighbours are in the cache
        wanted = passages[order]
        if len(passages) >= GATHERED_MIN and len(self._blocks) > 1:
            if self._directory is None:
                numbers = np.concatenate([block.numbers for block in self._blocks])
                by_number = sorting(numbers)
                self._directory = numbers[by_number], by_number
            numbers, by_number = self._directory
            at, known = _found(numbers, wanted)
            out[order[known]] = by_number[at[known]]
            return out
        for block, start, _ in self._spans():
            at, known = _found(block.numbers, wanted)
            out[order[known]] = at[known] + start
        return out


class _Map:
    """An opened map, and its order by passage once that is asked for."""

    def __init__(self, pairs: Pairs) -> None:
        self.pairs = pairs
        self._order: Indices | None = None

    def rows_of(self, passages: Numbers) -> tuple[Indices, Numbers]:
        if self._order is None:
            self._order = sorting(self.pairs.numbers)
        return _expanded(self.pairs.numbers, self.pairs.ids, passages, self._order)


def sorting(numbers: Numbers) -> Indices:
    """The order that sorts numbers of 0 and above: as argsort, in a fifth of its time for numbers that are hashes.

    Their leading bits are sorted together with their indices; where these do not decide, argsort does.
    """
    index_bits = max(1, len(numbers).bit_length())
    mask = np.uint64((1 << index_bits) - 1)
    packed = numbers.astype(np.uint64)
    np.bitwise_and(packed, ~mask, out=packed)
    np.bitwise_or(packed, np.arange(len(numbers), dtype=np.uint64), out=packed)
    packed.sort()
    order: Indices = np.bitwise_and(packed, mask).astype(np.intp)
    found = numbers[order]
    return order if (found[1:] >= found[:-1]).all() else np.argsort(numbers, kind="stable")


def _found(ascending: Numbers, wanted: Numbers) -> tuple[Indices, npt.NDArray[np.bool_]]:
    """Where each wanted number would be, and whether it is there."""
    at = np.searchsorted(ascending, wanted)
    at[at == len(ascending)] = 0
    return at, ascending[at] == wanted


def _expanded(
    keys: Numbers, values: Numbers, wanted: Numbers, order: Indices | None = None
) -> tuple[Indices, Numbers]:
    """Of each wanted key all values: the index of the key among the wanted ones, the value. `order` sorts the keys."""
    first = np.searchsorted(keys, wanted, "left", order)
    counts = np.searchsorted(keys, wanted, "right", order) - first
    some = np.flatnonzero(counts)
    counts = counts[some]
    index = np.repeat(some, counts)
    begins = np.repeat(first[some] - (np.cumsum(counts) - counts), counts)
    at = begins + np.arange(len(index))
    return index, values[at if order is None else order[at]]


def _joined(parts: list[tuple[Indices, Numbers]]) -> tuple[Indices, Numbers]:
    """One answer of several maps, in order of index and value."""
    index = np.concatenate([np.zeros(0, np.intp), *(part[0] for part in parts)])
    values = np.concatenate([np.zeros(0, np.int64), *(part[1] for part in parts)])
    order = np.lexsort((values, index))
    return index[order], values[order]


def _none() -> tuple[Numbers, Scores]:
    return np.zeros(0, np.int64), np.zeros(0, np.float32)

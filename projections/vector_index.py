"""The published vectors as a search sees them: which passages are nearest to a query, and which rows have them.

`VectorIndex` maps the files `state.json` names (`vector_state`, `vector_blocks`) and follows what is published. Files
never change, so what is open stays valid until it is let go. A damaged or missing file is left out, and `problems` says
so.
"""

import math
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt

from session_mgmt_mcp.core.ports import EventLog
from session_mgmt_mcp.core.settings import vector_memory_bytes
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
from session_mgmt_mcp.projections.vector_lookup import (
    Directory,
    RowsOfPassages,
    directory_of,
    distinct,
    expand,
    find,
    join,
)
from session_mgmt_mcp.projections.vector_paging import CACHED_SHARE, memory_bytes, read_sparingly
from session_mgmt_mcp.projections.vector_shards import Shards, chosen, nearest_in, unavailable
from session_mgmt_mcp.projections.vector_state import (
    STATE_FILE,
    BlockFile,
    VectorState,
    load_state,
    vector_folder,
)
from session_mgmt_mcp.projections.vector_store import FULL_PASSAGES

if TYPE_CHECKING:
    from concurrent.futures import Executor

# nearest codes whose rows are looked at; of 100,000 mixed real passages that finds 98 of the 100 nearest
RESCORED_MIN = 2000
RESCORED_A_ROOT = 6  # where memory is large enough, and so many times the square root of what is scanned
RESCORED_A_RESULT = 4  # and at least so many a passage asked for
DIRECTORY_AFTER = 3  # look-ups: before, it would cost a new process more than it saves
PARALLEL_MIN = 1 << 18  # codes, from which on several threads scan
PARALLEL_ROWS_MIN = 4096  # rows likewise
THREADS_MAX = min(4, os.cpu_count() or 1)
SCANNED_MAX = 8192  # passages among which all rows are looked at; of more, codes come first

Opened = TypeVar("Opened", Vectors, Pairs)
Part = TypeVar("Part")


class VectorIndex:
    """Not thread-safe; `Views` holds the lock. Opens nothing before the first `refresh`.

    Scores are inner products of vectors of length 1: cosines.
    """

    def __init__(self, log: EventLog, views: Path, graphs_bytes_max: int | None = None) -> None:
        """`graphs_bytes_max`: memory for graphs over full blocks (`vector_shards`), None as the settings say.

        Raises SettingsError.
        """
        self._log = log
        self._folder = vector_folder(views)
        self._state_file = str(self._folder / STATE_FILE)
        self._views = views
        self._stamp: tuple[int, int, int] | None = None
        self._folder_stamp = (0, 0, 0)
        self._state: VectorState | None = None
        self._problems: dict[BlockFile, str] = {}
        self._vectors: dict[BlockFile, Vectors] = {}
        self._maps: dict[BlockFile, RowsOfPassages] = {}
        self._graphs_bytes_max = vector_memory_bytes() if graphs_bytes_max is None else graphs_bytes_max
        self._shards = Shards()
        self._directory: Directory | None = None
        self._lookups = 0
        self._sparing = False  # memory is too small for all rows
        self._pool: Executor | None = None
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
        reasons = [*self._problems.values(), *self._shards.problems.values()]
        missing = unavailable() if self._wanted_graphs() else None
        return [*reasons, missing] if missing else reasons

    @property
    def graphs(self) -> int:
        """How many blocks are searched by a graph now."""
        return len(self._shards.graphs)

    def _wanted_graphs(self) -> list[BlockFile]:
        return chosen(self._state, self._graphs_bytes_max) if self._state else []

    def refresh(self) -> bool:
        """Follow what was published; whether there was anything."""
        folder = self._folder
        now = stamp(self._state_file)
        if now == self._stamp:
            if self._wanted_graphs() and self._folder_stamp != stamp(folder):  # a graph was built, perhaps
                self._load_graphs(folder)
            return False
        self._stamp = now
        state = load_state(self._views, self._log)
        self._state = state
        dimension = self.dimension
        self._problems = {}
        self._vectors = self._opened(
            self._vectors, state.vectors if state else (), lambda b: open_vectors(folder, b, dimension)
        )
        pairs = {block: known.pairs for block, known in self._maps.items()}
        opened = self._opened(pairs, state.maps if state else (), lambda b: open_map(folder, b))
        self._maps = {b: self._maps.get(b) or RowsOfPassages(p) for b, p in opened.items()}
        self._arrange()
        self._sparing = 2 * dimension * self.count > CACHED_SHARE * memory_bytes()
        for block in self._blocks if self._sparing else ():
            read_sparingly(block.rows)
        self._load_graphs(folder)
        return True

    def _load_graphs(self, folder: Path) -> None:
        self._folder_stamp = stamp(folder)
        wanted = [block for block in self._wanted_graphs() if block in self._vectors]
        self._shards.follow(folder, self.dimension, wanted)

    def wait_for_graphs(self) -> None:
        """Until the graphs that are being loaded are there; nothing else needs that."""
        self._shards.wait()

    def close(self) -> None:
        """Let go of everything; the next `refresh` opens it again."""
        self._shards.close()
        if self._pool is not None:
            self._pool.shutdown(wait=False)
        self._pool, self._stamp, self._state = None, None, None
        self._vectors, self._maps, self._problems = {}, {}, {}
        self._arrange()

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
        """A passage's place is its block's start plus its index there. The largest blocks come first."""
        self._vectors = dict(sorted(self._vectors.items(), key=lambda item: -item[0].count))
        self._blocks = list(self._vectors.values())
        self._starts = np.cumsum([0, *(len(block.numbers) for block in self._blocks)])
        full = tuple(block for block in self._vectors if block.count >= FULL_PASSAGES)
        if self._directory is not None and self._directory.blocks != full:
            self._directory = None
            self._lookups = 0

    # -- nearest -------------------------------------------------------------------------------------------------

    def nearest(self, query: Scores, k: int) -> tuple[Numbers, Scores]:
        """The k passages nearest to a vector of length 1, the nearest first: their numbers and scores.

        Fewer where there are fewer.
        """
        if not self.count or k < 1:
            return _none()
        graphs = dict(self._shards.graphs)
        places = [self._scanned([i for i, b in enumerate(self._vectors) if b not in graphs], query, k)]
        for i, block in enumerate(self._vectors):
            if block in graphs:
                places.append(nearest_in(graphs[block], query, k) + self._starts[i])
        return self._best_at(np.concatenate(places), query, k)

    def _scanned(self, blocks: list[int], query: Scores, k: int) -> Indices:
        """Places in some of the blocks whose codes are nearest to the query's."""
        counts = [len(self._blocks[i].numbers) for i in blocks]
        ends = np.cumsum([0, *counts])
        found, code = np.empty(int(ends[-1]), np.uint16), query_code(query)

        def scan(part: tuple[int, int]) -> None:
            block, start = part
            codes = self._blocks[block].codes
            distances(codes, code, found[start : start + codes.shape[1]])

        self._each(scan, list(zip(blocks, ends.tolist(), strict=False)), parallel=len(found) >= PARALLEL_MIN)
        near = nearest_codes(found, self._rescored(k, len(found)))
        shifts = np.array([self._starts[i] for i in blocks], np.intp) - ends[:-1]
        near += np.repeat(shifts, np.diff(np.searchsorted(near, ends)))
        return near

    def _best_at(self, places: Indices, query: Scores, k: int) -> tuple[Numbers, Scores]:
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
        ids = distinct(ids)
        at, passages = self.passages_of_rows(ids)
        places = self._places(passages)
        at, places = at[places >= 0], places[places >= 0]
        if not len(places) or k < 1:
            return _none()
        if len(places) > SCANNED_MAX:
            near = nearest_codes(self._distances_at(places, query), self._rescored(k, len(places)))
            at, places = at[near], places[near]
        scores = self._scores_at(places, query)
        order = best(scores, len(scores))
        _, first = np.unique(at[order], return_index=True)  # a row's best passage
        order = order[np.sort(first)[:k]]
        return ids[at[order]], scores[order]

    def _rescored(self, k: int, scanned: int) -> int:
        growing = 0 if self._sparing else RESCORED_A_ROOT * math.isqrt(scanned)
        return max(RESCORED_MIN, RESCORED_A_RESULT * k, growing)

    def _scores_at(self, places: Indices, query: Scores) -> Scores:
        out = np.empty(len(places), np.float32)

        def score(part: tuple[Vectors, Indices, Indices]) -> None:
            block, these, at = part
            out[these] = exact_scores(block.rows, at, query)

        self._each(score, list(self._by_block(places)), parallel=len(places) >= PARALLEL_ROWS_MIN)
        return out

    def _each(self, work: Callable[[Part], None], parts: Sequence[Part], *, parallel: bool) -> None:
        """Do the work for each part; numpy lets other threads run meanwhile."""
        threads = min(THREADS_MAX, len(parts))
        if not parallel or threads < 2:
            for part in parts:
                work(part)
            return
        if self._pool is None:
            from concurrent.futures import ThreadPoolExecutor

            self._pool = ThreadPoolExecutor(THREADS_MAX, "vectors")

        def share(of: int) -> None:
            for part in parts[of::threads]:
                work(part)

        list(self._pool.map(share, range(threads)))

    def _distances_at(self, places: Indices, query: Scores) -> npt.NDArray[np.uint16]:
        code = query_code(query)
        out = np.empty(len(places), np.uint16)
        for block, these, at in self._by_block(places):
            found = np.empty(len(at), np.uint16)
            distances(np.take(block.codes, at, axis=1), code, found)
            out[these] = found
        return out

    def _numbers_at(self, places: Indices) -> Numbers:
        out = np.empty(len(places), np.int64)
        for block, these, at in self._by_block(places):
            out[these] = block.numbers[at]
        return out

    def _by_block(self, places: Indices) -> Iterator[tuple[Vectors, Indices, Indices]]:
        """The blocks some of the places lie in: which of the places, and their indices in the block."""
        blocks = np.searchsorted(self._starts, places, "right") - 1
        for i in np.flatnonzero(np.bincount(blocks)).tolist():
            these = np.flatnonzero(blocks == i)
            yield self._blocks[i], these, places[these] - self._starts[i]

    # -- passages and rows ---------------------------------------------------------------------------------------

    def rows_of(self, passages: Numbers) -> tuple[Numbers, Indices]:
        """The rows that have these passages: row ids, and for each the index of its passage among those asked for."""
        found = [known.rows_of(passages) for known in self._maps.values()]
        at, ids = join(found)
        return ids, at

    def passages_of_rows(self, ids: Numbers) -> tuple[Indices, Numbers]:
        """The passages of these rows: for each the index of its row among those asked for, and its number."""
        return join([expand(known.pairs.ids, known.pairs.numbers, ids) for known in self._maps.values()])

    def _places(self, passages: Numbers) -> Indices:
        """Where the passages are, -1 where they are not."""
        out = np.full(len(passages), -1, np.intp)
        if not self.count:
            return out
        order = np.argsort(passages)  # looked up in order, neighbours are in the cache
        wanted = passages[order]
        self._lookups += 1
        if self._directory is None and self._lookups > DIRECTORY_AFTER:
            self._directory = directory_of(self._vectors)
        full = 0
        if self._directory is not None:
            at, known = find(self._directory.numbers, wanted)
            out[order[known]] = self._directory.places[at[known]]
            full = len(self._directory.blocks)
        for block, start in zip(self._blocks[full:], self._starts[full:-1].tolist(), strict=True):
            at, known = find(block.numbers, wanted)
            out[order[known]] = at[known] + start
        return out


def _none() -> tuple[Numbers, Scores]:
    return np.zeros(0, np.int64), np.zeros(0, np.float32)

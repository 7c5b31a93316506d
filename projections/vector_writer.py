"""Rows get their vectors, newest first, a chunk at a time; interrupted anywhere, a chunk is lost at most."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from session_mgmt_mcp.core.ports import EventLog
from session_mgmt_mcp.projections.files import stamp
from session_mgmt_mcp.projections.passages import number_of_passage, passages_of
from session_mgmt_mcp.projections.query_files import STATE_FILE, QueryFiles, query_folder
from session_mgmt_mcp.projections.query_files import load_state as load_query
from session_mgmt_mcp.projections.rows import ORDINAL_BITS, Row
from session_mgmt_mcp.projections.tombstones import tombstones_between
from session_mgmt_mcp.projections.vector_blocks import Pairs
from session_mgmt_mcp.projections.vector_publish import waiting_passages
from session_mgmt_mcp.projections.vector_rebuild import WITH_PASSAGES, rebuild
from session_mgmt_mcp.projections.vector_state import (
    LOCK_WAIT_S,
    VectorState,
    embed_lock,
    gaps,
    load_state,
)
from session_mgmt_mcp.projections.vector_store import VectorStore

CHUNK_PASSAGES = 512  # new ones; 14 s at the shipped model's pace
CHUNK_S = 20.0
CHUNK_ROWS = 32_768  # however few of them are new
SLICE_PASSAGES = 64  # embedded at once; the clock is looked at in between
WINDOW_POSITIONS = 4096  # read at once
UNREFERENCED_SHARE = 0.2  # of the vectors: beyond, what no row has is dropped when all rows are done
RATE_WEIGHT = 0.3  # of the last chunk in the rate

Say = Callable[[int], None]


class Embeds(Protocol):
    """What makes vectors (`embedding.Embedder`; tests give others)."""

    @property
    def model_id(self) -> str: ...

    @property
    def dimension(self) -> int: ...

    def embed_passages(self, texts: Sequence[str], /) -> npt.NDArray[np.float32]:
        """float32 [n, dimension], each of length 1."""


class Chunk(NamedTuple):
    """What one step did. `done`: no row is left that lacks a vector."""

    done: bool
    rows: int = 0  # looked at
    embedded: int = 0  # new passages
    damaged: tuple[str, ...] = ()  # files that were dropped, and why


class VectorWriter:
    """Embeds what the published query view shows. Safe beside any other writer: each chunk is made under embed.lock."""

    def __init__(
        self, log: EventLog, views: Path, embedder: Embeds, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._log = log
        self._views = views
        self._embedder = embedder
        self._clock = clock
        self._stamp = (-1, 0, 0)
        self._files: QueryFiles | None = None

    def chunk(
        self, passages_max: int = CHUNK_PASSAGES, *, wait_s: float = LOCK_WAIT_S, say: Say | None = None
    ) -> Chunk:
        """Embed some rows and publish; `say` is told now and then how many passages were embedded.

        A KeyboardInterrupt is let through when what was embedded is published. Raises LockTimeoutError where another
        process holds embed.lock for longer than `wait_s`.
        """
        with embed_lock(self._views, wait_s):
            files = self._query()
            if files is None:
                return Chunk(done=True)
            store = self._store(files)
            left = gaps(store.state.covered, 0, _end(files))
            if left:
                return self._embed(files, store, left[-1], passages_max, say)
            return _finish(files, store)

    def check(self, some: int | None = None, *, wait_s: float = LOCK_WAIT_S) -> tuple[str, ...]:
        """Read the vectors of all files, or of the n-th modulo their number; what is damaged is dropped and named."""
        with embed_lock(self._views, wait_s):
            state = load_state(self._views, self._log)
            if state is None:
                return ()
            store = VectorStore(self._views, state)
            store.check_rows(some)
            if store.damaged:
                store.publish()
            return tuple(store.damaged)

    def left(self) -> tuple[VectorState | None, int]:
        """What is published, and about how many passages have no vector yet."""
        files, state = self._query(), load_state(self._views, self._log)
        return state, 0 if files is None else waiting_passages(files, state)

    def _query(self) -> QueryFiles | None:
        """What is published now; what was published before is let go."""
        now = stamp(query_folder(self._views) / STATE_FILE)
        if now != self._stamp or self._files is None:
            self.close()
            state = load_query(self._views, self._log)
            with contextlib.suppress(Exception):  # damaged, whatever DuckDB says: maintenance makes it anew
                self._files = None if state is None else QueryFiles(self._views, state)
            self._stamp = now
        return self._files

    def _store(self, files: QueryFiles) -> VectorStore:
        state = load_state(self._views, self._log)
        model = self._embedder.model_id, self._embedder.dimension
        if state is None or tombstones_between(self._log, state.position, files.state.position).last:
            state = rebuild(self._views, files, files.state.watermark, model=model)
        elif not state.model_id:
            state = msgspec.structs.replace(state, model_id=model[0], dimension=model[1])
        elif state.model_id != model[0]:
            state = rebuild(self._views, files, files.state.watermark, model=model)
        return VectorStore(self._views, state)

    def _embed(
        self,
        files: QueryFiles,
        store: VectorStore,
        gap: tuple[int, int],
        passages_max: int,
        say: Say | None,
    ) -> Chunk:
        """Take rows of a gap from its end, until there are enough new passages or it has taken long enough."""
        began = self._clock()
        chunk = _Collected(store, self._embedder, gap[1], say or (lambda _: None))
        interrupted = False
        try:
            self._take(chunk, _windows(files, *gap), passages_max, began)
        except KeyboardInterrupt:
            interrupted = True
        except RuntimeError as error:  # what DuckDB makes of one
            if "interrupted" not in str(error).lower():
                raise
            interrupted = True
        seconds = self._clock() - began
        chunk.put()
        store.cover(chunk.low, gap[1])
        store.merge()
        state = store.state
        store.publish(
            position=files.state.position,
            chain=files.state.chain,
            rate=_smoothed(state.rate, chunk.embedded, seconds),
            rows=state.rows + chunk.rows,
            embedded=state.embedded + chunk.embedded,
        )
        if interrupted:
            raise KeyboardInterrupt
        return Chunk(False, chunk.rows, chunk.embedded, tuple(store.damaged))

    def _take(
        self, chunk: "_Collected", windows: Iterator[tuple[int, list[Row]]], passages_max: int, began: float
    ) -> None:
        at_once = min(SLICE_PASSAGES, passages_max)

        def enough() -> bool:
            late = self._clock() - began >= CHUNK_S
            return late or chunk.embedded >= passages_max or chunk.taken >= CHUNK_ROWS

        for bottom, rows in windows:
            for row in chunk.looked_up(rows):
                if chunk.waiting >= at_once:
                    chunk.embed(row.id)
                    if enough():
                        return
            chunk.embed(bottom)
            if enough():
                return

    def close(self) -> None:
        if self._files is not None:
            self._files.close()
            self._files = None


class _Collected:
    """What a chunk has found so far. Whole are the rows down to id `low`; only they and theirs are put into the store."""

    def __init__(self, store: VectorStore, embedder: Embeds, high: int, say: Say) -> None:
        self.low = high
        self.rows = 0
        self.embedded = 0
        self.taken = 0  # rows, whole or not
        self._store = store
        self._embedder = embedder
        self._say = say
        self._pairs: list[tuple[int, int]] = []
        self._whole_pairs = 0
        self._waiting: dict[int, str] = {}  # new passages by number
        self._known: set[int] = set()  # what was embedded
        self._vectors: list[tuple[list[int], npt.NDArray[np.float32]]] = []

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def looked_up(self, rows: Sequence[Row]) -> Iterator[Row]:
        """The rows again, each when its passages were taken."""
        texts = [passages_of(row) for row in rows]
        numbers = [[number_of_passage(text) for text in some] for some in texts]
        flat = np.array([n for some in numbers for n in some], np.int64)
        known = dict(zip(flat.tolist(), self._store.has(flat).tolist(), strict=True))
        for row, some_texts, some_numbers in zip(rows, texts, numbers, strict=True):
            for text, number in zip(some_texts, some_numbers, strict=True):
                self._pairs.append((row.id, number))
                if not known[number] and number not in self._known:
                    self._waiting[number] = text
            self.taken += 1
            yield row

    def embed(self, low: int) -> None:
        """Embed what waits; all rows down to id `low` are whole then."""
        if self._waiting:
            vectors = self._embedder.embed_passages(list(self._waiting.values()))
            self._vectors.append((list(self._waiting), vectors))
            self._known.update(self._waiting)
            self._waiting = {}
        self.low, self.rows, self._whole_pairs = low, self.taken, len(self._pairs)
        self.embedded = len(self._known)
        self._say(self.embedded)

    def put(self) -> None:
        """Add it to the store."""
        pairs = np.array(self._pairs[: self._whole_pairs], np.int64).reshape(-1, 2)
        numbers = np.array([n for some, _ in self._vectors for n in some], np.int64)
        rows = np.concatenate(
            [np.zeros((0, self._embedder.dimension), np.float32), *(v for _, v in self._vectors)]
        )
        self._store.add(Pairs(pairs[:, 0], pairs[:, 1]), numbers, rows)


def _windows(files: QueryFiles, low: int, high: int) -> Iterator[tuple[int, list[Row]]]:
    """Shown rows with passages of a range of ids, the newest first: the lowest id a window goes down to, its rows."""
    while high > low:
        bottom = max(low, high - (WINDOW_POSITIONS << ORDINAL_BITS))
        rows = list(files.shown_rows(f"{WITH_PASSAGES} AND id >= ? AND id < ?", [bottom, high]))
        yield bottom, rows[::-1]
        high = bottom


def _finish(files: QueryFiles, store: VectorStore) -> Chunk:
    """All rows are done: drop vectors nobody has if they are many, and say how far it goes."""
    many = store.unreferenced() > UNREFERENCED_SHARE * store.count
    if many:
        store.keep_only(np.unique(store.pairs().numbers))
    if many or store.damaged or store.state.position != files.state.position:
        store.publish(position=files.state.position, chain=files.state.chain)
    return Chunk(True, damaged=tuple(store.damaged))


def _end(files: QueryFiles) -> int:
    """The first row id beyond the query view."""
    return (files.state.position + 1) << ORDINAL_BITS


def _smoothed(rate: float, embedded: int, seconds: float) -> float:
    if not embedded or seconds <= 0:
        return rate
    now = embedded / seconds
    return round(now if not rate else (1 - RATE_WEIGHT) * rate + RATE_WEIGHT * now, 2)

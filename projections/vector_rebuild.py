"""The vectors brought in line with the query view: without embedding anything, by the passages' numbers."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from session_mgmt_mcp.projections.passages import KINDS, number_of_passage, passages_of
from session_mgmt_mcp.projections.protocol import Watermark
from session_mgmt_mcp.projections.query_files import QueryFiles
from session_mgmt_mcp.projections.vector_blocks import Numbers, Pairs, check_rows, open_map, open_vectors
from session_mgmt_mcp.projections.vector_salvage import salvaged
from session_mgmt_mcp.projections.vector_state import (
    Ranges,
    VectorState,
    empty_state,
    read_state,
    sql_in,
    vector_folder,
)
from session_mgmt_mcp.projections.vector_store import VectorStore, is_among

RUN_ROWS_MIN = (
    256  # rows in a row that have all their vectors: fewer are left to the job, so that ranges stay few
)
SAY_EVERY_ROWS = 2048
WITH_PASSAGES = f"kind IN ({', '.join(repr(kind) for kind in KINDS)})"

Progress = Callable[[int, int], None]  # rows looked at, of how many


def rebuild(
    views: Path,
    files: QueryFiles,
    watermark: Watermark,
    progress: Progress | None = None,
    model: tuple[str, int] | None = None,
) -> VectorState:
    """Publish what the query view's rows have of the vectors that are there; `watermark`: the view's. Under embed.lock.

    Every shown row is looked at. Vectors of passages that no shown row has are dropped, so nothing is left of a text
    that was forgotten; with `model` (id, dimension) those of another model are. Rows that lack some are not covered.
    Where `state.json` is lost, the files of vectors say which there are.
    May be killed at any point: what was published before is untouched until the end.
    """
    old = read_state(views) or salvaged(views)
    state = empty_state(files.state.log_id, watermark)
    if old is not None and (model is None or model[0] == old.model_id):
        kept = ("model_id", "dimension", "vectors", "rate", "rows", "embedded")
        state = msgspec.structs.replace(state, **{name: getattr(old, name) for name in kept})
    elif model is not None:
        state = msgspec.structs.replace(state, model_id=model[0], dimension=model[1])
    store = VectorStore(views, state)
    store.check_rows()
    if store.count:
        found = pairs_of(files, "true", progress)
        has = store.has(found.numbers)
        covered = complete_runs(found.ids, has, state.end)
        kept_pairs = _within(found, covered)
        store.keep_only(np.unique(found.numbers))
        store.replace_pairs(kept_pairs, covered)
    store.publish()
    return store.state


def pairs_of(files: QueryFiles, where: str, progress: Progress | None = None) -> Pairs:
    """The pairs of all shown rows that meet a condition, by their texts; in order of row id."""
    condition = f"{WITH_PASSAGES} AND {where}"
    total = files.fetch(f"SELECT count(*) FROM shown WHERE {condition}")[0][0]
    ids: list[Numbers] = [np.zeros(0, np.int64)]
    numbers: list[Numbers] = [np.zeros(0, np.int64)]
    for done, part in _parts(files, condition):
        ids.append(np.fromiter((i for i, _ in part), np.int64, len(part)))
        numbers.append(np.fromiter((n for _, n in part), np.int64, len(part)))
        if progress is not None:
            progress(done, total)
    return Pairs(np.concatenate(ids), np.concatenate(numbers))


def _parts(files: QueryFiles, condition: str) -> Iterator[tuple[int, list[tuple[int, int]]]]:
    part: list[tuple[int, int]] = []
    done = 0
    for done, row in enumerate(files.shown_rows(condition), 1):
        part += [(row.id, number_of_passage(text)) for text in passages_of(row)]
        if done % SAY_EVERY_ROWS == 0:
            yield done, part
            part = []
    yield done, part


def complete_runs(ids: Numbers, has: npt.NDArray[np.bool_], end: int) -> Ranges:
    """Ranges of row ids, of 0 <= id < end, in which no pair lacks its vector; short ones between others are left out.

    `ids`: of the pairs, ascending; `has`: whether the passage of each has a vector.
    """
    bad = np.unique(ids[~has])
    if not len(bad):
        return ((0, end),)
    rows = np.unique(ids)
    lows = np.concatenate([[0], bad + 1])
    highs = np.concatenate([bad, [end]])
    counts = np.searchsorted(rows, highs) - np.searchsorted(rows, lows)
    return tuple((int(lows[k]), int(highs[k])) for k in np.flatnonzero(counts >= RUN_ROWS_MIN))


def _within(pairs: Pairs, covered: Ranges) -> Pairs:
    keep = in_ranges(pairs.ids, covered)
    return Pairs(pairs.ids[keep], pairs.numbers[keep])


def in_ranges(ids: Numbers, ranges: Ranges) -> npt.NDArray[np.bool_]:
    """Which of the ids lie in one of the ranges."""
    out = np.zeros(len(ids), bool)
    for low, high in ranges:
        out |= (ids >= low) & (ids < high)
    return out


# -- what it holds, as a digest --------------------------------------------------------------------------------------


def published_digest(views: Path, state: VectorState, files: QueryFiles, *, deep: bool = False) -> str:
    """Of the model and of each shown row's passages that have a vector; never of floats.

    With `deep` the vectors are read too. Raises DamagedBlockError.
    """
    folder = vector_folder(views)
    maps = [open_map(folder, block) for block in state.maps]
    ids, numbers = (np.concatenate([np.zeros(0, np.int64), *(m[k] for m in maps)]) for k in (0, 1))
    shown = files.connection.execute("SELECT id FROM shown ORDER BY id").fetchnumpy()["id"]
    keep = is_among(ids, np.asarray(shown, np.int64))
    there = np.zeros(len(ids), bool)
    for block in state.vectors:
        vectors = open_vectors(folder, block, state.dimension)
        if deep:
            check_rows(folder, block, vectors)
        there |= is_among(numbers, vectors.numbers)
    keep &= there
    return _digest(state.model_id, Pairs(ids[keep], numbers[keep]))


def expected_digest(state: VectorState, files: QueryFiles, progress: Progress | None = None) -> str:
    """What `published_digest` gives where the rows' texts are those of the query view `files`."""
    return _digest(state.model_id, pairs_of(files, sql_in(state.covered), progress))


def _digest(model_id: str, pairs: Pairs) -> str:
    both = np.unique(np.stack(pairs, axis=1), axis=0) if len(pairs.ids) else np.zeros((0, 2), np.int64)
    model = model_id if len(both) else ""  # nothing is the same whatever did not make it
    return hashlib.sha256(model.encode() + b"\0" + both.astype("<i8").tobytes()).hexdigest()

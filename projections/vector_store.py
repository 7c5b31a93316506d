"""The published vectors as their one writer sees them: what is there, what is added, what is merged or dropped.

Small files are merged into larger ones, so that there are few: each is at least twice as large as all smaller ones
together, up to FULL_PASSAGES, where it stays as it is. Three things hold of what is published: every pair's row
is in `covered`, every pair's passage has a vector, and a passage has one vector.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from session_mgmt_mcp.projections.files import make_folder
from session_mgmt_mcp.projections.vector_blocks import (
    DamagedBlockError,
    Numbers,
    Pairs,
    Vectors,
    check_rows,
    open_map,
    open_vectors,
    write_map,
    write_merged,
    write_vectors,
)
from session_mgmt_mcp.projections.vector_state import (
    BlockFile,
    Ranges,
    VectorState,
    publish_state,
    vector_folder,
    with_range,
    without_range,
)

FULL_PASSAGES = 1 << 16  # 54 MB at 384 dimensions
FULL_PAIRS = 1 << 20  # 16 MB

Mapped = TypeVar("Mapped", Vectors, Pairs)


class VectorStore:
    """Opened by who holds embed.lock. What is added or dropped is visible to others after `publish`."""

    def __init__(self, views: Path, state: VectorState) -> None:
        """Files that are damaged are dropped, and the rows that need them are not covered any more; `damaged` says why."""
        self.state = state
        self.damaged: list[str] = []
        self._views = views
        self.folder = make_folder(vector_folder(views))
        self._vectors = self._open(state.vectors, lambda f, b: open_vectors(f, b, state.dimension))
        self._maps = self._open(state.maps, open_map)
        for block in state.maps:
            if block not in self._maps:
                self.uncover(block.low, block.high)
        if len(self._vectors) < len(state.vectors):
            self._uncover_lost()

    def _open(
        self, blocks: Sequence[BlockFile], opener: Callable[[Path, BlockFile], Mapped]
    ) -> dict[BlockFile, Mapped]:
        out = {}
        for block in blocks:
            try:
                out[block] = opener(self.folder, block)
            except DamagedBlockError as error:
                self.damaged.append(str(error))
        return out

    # -- what is there -------------------------------------------------------------------------------------------

    def has(self, numbers: Numbers) -> npt.NDArray[np.bool_]:
        """Which of these passages have a vector."""
        out = np.zeros(len(numbers), bool)
        for vectors in self._vectors.values():
            out |= is_among(numbers, vectors.numbers)
        return out

    def pairs(self) -> Pairs:
        """All pairs, in order of row id."""
        ids, numbers = (
            np.concatenate([np.zeros(0, np.int64), *(pairs[k] for pairs in self._maps.values())])
            for k in (0, 1)
        )
        order = np.lexsort((numbers, ids))
        return Pairs(ids[order], numbers[order])

    def check_rows(self, some: int | None = None) -> None:
        """Read the float16 rows of all files, or of the n-th modulo their number; drop those that are damaged."""
        blocks = list(self._vectors)
        if some is not None and blocks:
            blocks = [blocks[some % len(blocks)]]
        self._all_sound(blocks)

    def _all_sound(self, blocks: Sequence[BlockFile]) -> bool:
        """Whether the float16 rows of all of them are; those that are not are dropped."""
        lost = [block for block in blocks if not self._is_sound(block)]
        if lost:
            self._uncover_lost()
        return not lost

    def _is_sound(self, block: BlockFile) -> bool:
        try:
            check_rows(self.folder, block, self._vectors[block])
        except (DamagedBlockError, OSError) as error:
            self.damaged.append(str(error))
            del self._vectors[block]
            return False
        return True

    # -- changes -------------------------------------------------------------------------------------------------

    def add(self, pairs: Pairs, numbers: Numbers, rows: npt.NDArray[np.floating[Any]]) -> None:
        """Rows' passages, and the vectors of those that had none; rows float [n, dimension] of length 1."""
        if len(numbers):
            self._add_vectors(write_vectors(self.folder, numbers, rows, self.state.model_id))
        if len(pairs.ids):
            self._add_map(pairs)

    def _add_vectors(self, block: BlockFile) -> None:
        self._vectors[block] = open_vectors(self.folder, block, self.state.dimension)

    def _add_map(self, pairs: Pairs) -> None:
        block = write_map(self.folder, *pairs)
        self._maps[block] = open_map(self.folder, block)

    def merge(self) -> None:
        """Merge small files. A damaged one among them is dropped."""
        small = to_merge(list(self._maps), FULL_PAIRS)
        if len(small) > 1:
            ids, numbers = (np.concatenate([self._maps[block][k] for block in small]) for k in (0, 1))
            for block in small:
                del self._maps[block]
            self._add_map(Pairs(ids, numbers))
        small = to_merge(list(self._vectors), FULL_PASSAGES)
        if len(small) > 1 and self._all_sound(small):
            self._rewrite(small)

    def _rewrite(self, blocks: Sequence[BlockFile], wanted: Numbers | None = None) -> None:
        """Make full files, and a last one, of what these hold; with `wanted`, ascending, of that alone."""
        sources = [self._vectors.pop(block) for block in blocks]
        numbers = np.unique(np.concatenate([source.numbers for source in sources]))
        if wanted is not None:
            numbers = numbers[is_among(numbers, wanted)]
        for first in range(0, len(numbers), FULL_PASSAGES):
            part = numbers[first : first + FULL_PASSAGES]
            self._add_vectors(write_merged(self.folder, sources, part, self.state.model_id))

    def keep_only(self, wanted: Numbers) -> None:
        """Drop the vectors of all other passages; `wanted` is ascending. Files that hold none of them stay as they are."""
        touched = [b for b, v in self._vectors.items() if not is_among(v.numbers, wanted).all()]
        self._all_sound(touched)
        touched = [block for block in touched if block in self._vectors]
        if touched:
            self._rewrite(touched, wanted)

    def unreferenced(self) -> int:
        """How many vectors no row has."""
        numbers = np.unique(self.pairs().numbers)
        return self.count - sum(int(is_among(v.numbers, numbers).sum()) for v in self._vectors.values())

    @property
    def count(self) -> int:
        return sum(block.count for block in self._vectors)

    def replace_pairs(self, pairs: Pairs, covered: Ranges) -> None:
        """Other pairs in place of all there are."""
        self._maps.clear()
        for first in range(0, len(pairs.ids), FULL_PAIRS):
            self._add_map(Pairs(*(part[first : first + FULL_PAIRS] for part in pairs)))
        self.state = msgspec.structs.replace(self.state, covered=covered)

    def cover(self, low: int, high: int) -> None:
        """Rows in this range are done."""
        self.state = msgspec.structs.replace(self.state, covered=with_range(self.state.covered, low, high))

    def uncover(self, low: int, high: int) -> None:
        """Rows in this range are to be looked at anew."""
        covered = without_range(self.state.covered, low, high)
        for block, pairs in list(self._maps.items()):
            keep = (pairs.ids < low) | (pairs.ids >= high)
            if not keep.all():
                del self._maps[block]
                if keep.any():
                    self._add_map(Pairs(pairs.ids[keep], pairs.numbers[keep]))
        self.state = msgspec.structs.replace(self.state, covered=covered)

    def _uncover_lost(self) -> None:
        """Uncover the rows whose passages have lost their vectors."""
        pairs = self.pairs()
        lost = pairs.ids[~self.has(pairs.numbers)]
        if len(lost):
            self.uncover(int(lost[0]), int(lost[-1]) + 1)

    def publish(self, **changes: Any) -> None:
        """Make it all visible, with these changes of the state; files that are needed no more are removed."""
        self.state = msgspec.structs.replace(
            self.state, vectors=tuple(self._vectors), maps=tuple(self._maps), **changes
        )
        publish_state(self._views, self.state)


def to_merge(blocks: Sequence[BlockFile], full: int) -> list[BlockFile]:
    """As many of the smallest files as leave each of the others at least twice as large as all below it."""
    small = sorted((b for b in blocks if b.count < full), key=lambda b: b.count)
    below, many = 0, 0
    for k, block in enumerate(small):
        if block.count < 2 * below:
            many = k + 1
        below += block.count
    return small[:many]


def is_among(numbers: Numbers, ascending: Numbers) -> npt.NDArray[np.bool_]:
    """Which of the numbers are in the ascending ones."""
    if not len(ascending):
        return np.zeros(len(numbers), bool)
    at = np.searchsorted(ascending, numbers)
    at[at == len(ascending)] = 0
    return np.asarray(ascending[at] == numbers)


def fill(
    views: Path,
    state: VectorState,
    pairs: Pairs,
    numbers: Numbers,
    rows: npt.NDArray[np.floating[Any]],
    covered: Ranges,
) -> VectorState:
    """Publish given vectors in place of whatever is there: for benchmarks and tests. What was published.

    `state`: what they belong to (`empty_state`), with `model_id`; numbers int64 [n], distinct; rows float [n, dimension]
    of length 1, as large as memory takes, or mapped; `covered`: ranges of row ids that are done.
    """
    store = VectorStore(views, msgspec.structs.replace(state, dimension=rows.shape[1], vectors=(), maps=()))
    for first in range(0, len(numbers), FULL_PASSAGES):
        part = slice(first, first + FULL_PASSAGES)
        store.add(Pairs(pairs.ids[:0], pairs.numbers[:0]), numbers[part], rows[part])
    store.replace_pairs(pairs, covered)
    store.publish()
    return store.state

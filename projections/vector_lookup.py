"""Looking up many numbers at once in sorted arrays: where passages lie, which rows have them."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from session_mgmt_mcp.projections.vector_blocks import Numbers, Pairs, Vectors
from session_mgmt_mcp.projections.vector_codes import Indices
from session_mgmt_mcp.projections.vector_state import BlockFile
from session_mgmt_mcp.projections.vector_store import FULL_PASSAGES

SORTED_AT_ONCE = 1 << 14  # numbers, in a processor's cache


class Directory(NamedTuple):
    """All passages of the full blocks: one search instead of many. They seldom change."""

    blocks: tuple[BlockFile, ...]
    numbers: Numbers  # ascending
    places: Indices


def directory_of(vectors: dict[BlockFile, Vectors]) -> Directory:
    full = {block: found for block, found in vectors.items() if block.count >= FULL_PASSAGES}
    numbers = np.concatenate([np.zeros(0, np.int64), *(found.numbers for found in full.values())])
    order = sorting(numbers)
    return Directory(tuple(full), numbers[order], order)


class RowsOfPassages:
    """An opened map, and its order by passage once that is asked for."""

    def __init__(self, pairs: Pairs) -> None:
        self.pairs = pairs
        self._order: Indices | None = None

    def rows_of(self, passages: Numbers) -> tuple[Indices, Numbers]:
        if self._order is None:
            self._order = sorting(self.pairs.numbers)
        return expand(self.pairs.numbers, self.pairs.ids, passages, self._order)


def sorting(numbers: Numbers) -> Indices:
    """The order that sorts numbers of 0 and above: as argsort, in a fifth of its time for numbers that are hashes.

    Their leading bits are sorted together with their indices; where these do not decide, argsort does.
    """
    mask = np.uint64((1 << max(1, len(numbers).bit_length())) - 1)
    packed = numbers.astype(np.uint64)
    for first in range(0, len(packed), SORTED_AT_ONCE):
        part = packed[first : first + SORTED_AT_ONCE]
        np.bitwise_and(part, ~mask, out=part)
        np.bitwise_or(part, np.arange(first, first + len(part), dtype=np.uint64), out=part)
    packed.sort()
    decided = True
    for first in range(0, len(packed), SORTED_AT_ONCE):
        part = packed[first : first + SORTED_AT_ONCE + 1]
        decided = decided and bool((part[1:] ^ part[:-1] > mask).all())
    order: Indices = np.bitwise_and(packed, mask, out=packed).view(np.intp)
    if decided:
        return order
    found = numbers[order]
    return order if (found[1:] >= found[:-1]).all() else np.argsort(numbers, kind="stable")


def find(ascending: Numbers, wanted: Numbers) -> tuple[Indices, npt.NDArray[np.bool_]]:
    """Where each wanted number would be, and whether it is there."""
    if not len(ascending):
        return np.zeros(len(wanted), np.intp), np.zeros(len(wanted), bool)
    at = np.searchsorted(ascending, wanted)
    at[at == len(ascending)] = 0
    return at, ascending[at] == wanted


def expand(
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


def join(parts: list[tuple[Indices, Numbers]]) -> tuple[Indices, Numbers]:
    """One answer of several maps, in order of index."""
    parts = [part for part in parts if len(part[0])]
    if len(parts) == 1:
        return parts[0]
    index = np.concatenate([np.zeros(0, np.intp), *(part[0] for part in parts)])
    values = np.concatenate([np.zeros(0, np.int64), *(part[1] for part in parts)])
    order = np.argsort(index, kind="stable")
    return index[order], values[order]


def distinct(numbers: Numbers) -> Numbers:
    """Each number once, ascending; of many numbers in a tenth of the time numpy's `unique` takes."""
    ascending = np.sort(numbers)
    return ascending[np.flatnonzero(np.diff(ascending, prepend=ascending[:1] - 1))]

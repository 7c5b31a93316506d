"""Vectors that were made elsewhere, published as if they had been embedded here."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from session_mgmt_mcp.projections.vector_blocks import Numbers, Pairs
from session_mgmt_mcp.projections.vector_state import Ranges, VectorState
from session_mgmt_mcp.projections.vector_store import FULL_PASSAGES, VectorStore


def publish_given(
    views: Path,
    state: VectorState,
    pairs: Pairs,
    numbers: Numbers,
    rows: npt.NDArray[np.floating[Any]],
    covered: Ranges,
) -> VectorState:
    """Publish given vectors in place of whatever is there. What was published.

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

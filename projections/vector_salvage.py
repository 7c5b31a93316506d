"""The vectors of a folder whose `state.json` is missing or damaged, by what their files say of themselves."""

from collections import defaultdict
from pathlib import Path

import msgspec
import numpy as np

from session_mgmt_mcp.projections.vector_blocks import DamagedBlockError, named_vectors, open_vectors
from session_mgmt_mcp.projections.vector_state import BlockFile, VectorState, empty_state, vector_folder
from session_mgmt_mcp.projections.vector_store import is_among


def salvaged(views: Path) -> VectorState | None:
    """A state of no log, without rows, that names the files; None where there are none that name their model.

    Of several models the one with the most vectors counts. A passage is in one file: what an interrupted merge left twice
    is taken from the larger one.
    """
    found: dict[tuple[str, int], list[BlockFile]] = defaultdict(list)
    folder = vector_folder(views)
    for path in sorted(folder.glob("*.vectors")):
        named = named_vectors(path)
        if named is not None:
            found[named.model_id, named.dimension].append(named.block)
    if not found:
        return None
    (model_id, dimension), blocks = max(found.items(), key=lambda item: sum(b.count for b in item[1]))
    kept, seen = [], np.zeros(0, np.int64)
    for block in sorted(blocks, key=lambda b: -b.count):
        try:
            numbers = open_vectors(folder, block, dimension).numbers
        except DamagedBlockError:
            continue
        if not is_among(numbers, seen).any():
            seen = np.union1d(seen, numbers)
            kept.append(block)
    state = empty_state("")
    return msgspec.structs.replace(state, model_id=model_id, dimension=dimension, vectors=tuple(kept))

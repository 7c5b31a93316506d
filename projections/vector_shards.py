"""Graphs for approximate nearest neighbours (HNSW, Malkov & Yashunin 2016; library hnswlib), one over each full block.

    <block>.hnsw        what hnswlib saves: labels are indices into the block
    <block>.hnsw.json   {"sha256", "count", "dimension", "crc"}: of that file; the block it was made of

hnswlib notices neither a flipped bit nor another dimension, so a graph is loaded only when its file is the one that was
written. A graph costs memory (1.7 KB a vector at 384 dimensions) and time to load, so graphs are loaded in a thread and
within a budget; what has none is scanned. Nothing is ever added to a graph. Importing this loads no engine.
"""

import contextlib
import hashlib
import os
import secrets
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from session_mgmt_mcp.core.settings import vector_memory_bytes
from session_mgmt_mcp.projections.files import fsync_path, read_json, write_json
from session_mgmt_mcp.projections.vector_blocks import DamagedBlockError, check_rows, open_vectors
from session_mgmt_mcp.projections.vector_state import (
    BlockFile,
    VectorState,
    embed_lock,
    read_state,
    vector_folder,
)
from session_mgmt_mcp.projections.vector_store import FULL_PASSAGES

LINKS = 16  # a vector, hnswlib's M
BUILD_WIDTH = 100  # ef_construction
SEARCH_WIDTH = 256  # ef: of queries unlike what is stored it finds 97 of the 100 nearest
ADDED_AT_ONCE = 512  # between two looks at the clock
BYTES_A_VECTOR = 160  # of a graph beside the float32 numbers: links, label, levels
_HASHED_AT_ONCE = 1 << 20

Progress = Callable[[int, int], None]  # vectors done, of how many


def unavailable() -> str | None:
    """Why there are no graphs, None where there can be."""
    try:
        import hnswlib  # noqa: F401
    except ImportError as error:
        return f"hnswlib cannot be imported ({error}): vectors are scanned"
    return None


def wanted_but_unavailable() -> str | None:
    """The same where `VECTOR_MEMORY_MB` asks for graphs; None where nobody misses them. Raises SettingsError."""
    return unavailable() if vector_memory_bytes() else None


def graph_path(folder: Path, block: BlockFile) -> Path:
    return folder / f"{block.name.partition('.')[0]}.hnsw"


def chosen(state: VectorState, memory_max: int) -> list[BlockFile]:
    """The full blocks whose graphs fit into so many bytes of memory, the first ones first."""
    size = FULL_PASSAGES * (4 * state.dimension + BYTES_A_VECTOR)
    full = [block for block in state.vectors if block.count >= FULL_PASSAGES]
    return full[: memory_max // size]


# -- building ------------------------------------------------------------------------------------------------------


def build_shards(views: Path, memory_max: int, progress: Progress | None = None) -> int:
    """Build the graphs that are missing, of as many full blocks as fit into so many bytes; how many were built.

    Takes about a minute of one core for each; embed.lock is held only while one gets its name, so the caller must not
    hold it. May be interrupted anywhere: a graph that is not complete is begun anew. Damaged blocks are passed over.
    """
    state = read_state(views)
    if state is None or unavailable():
        return 0
    folder = vector_folder(views)
    missing = [block for block in chosen(state, memory_max) if _described(folder, block) is None]
    total = sum(block.count for block in missing)
    built = done = 0
    for block in missing:
        with contextlib.suppress(DamagedBlockError, OSError):
            say = _from(progress, done, total)
            built += _build(views, block, state.dimension, say)
        done += block.count
    return built


def _from(progress: Progress | None, done: int, total: int) -> Callable[[int], None]:
    return lambda n: progress(done + n, total) if progress else None


def _build(views: Path, block: BlockFile, dimension: int, say: Callable[[int], None]) -> bool:
    import hnswlib

    folder = vector_folder(views)
    vectors = open_vectors(folder, block, dimension)
    check_rows(folder, block, vectors)
    graph = hnswlib.Index("ip", dimension)
    graph.init_index(block.count, M=LINKS, ef_construction=BUILD_WIDTH, random_seed=1)
    for first in range(0, block.count, ADDED_AT_ONCE):
        rows = vectors.rows[first : first + ADDED_AT_ONCE].astype(np.float32)
        graph.add_items(rows, np.arange(first, first + len(rows)), num_threads=1)
        say(first + len(rows))
    temporary = folder / f"{graph_path(folder, block).name}.{secrets.token_hex(4)}.tmp"
    try:
        graph.save_index(str(temporary))
        fsync_path(temporary)
        return _publish(views, block, dimension, temporary)
    finally:
        temporary.unlink(missing_ok=True)


def _publish(views: Path, block: BlockFile, dimension: int, temporary: Path) -> bool:
    """Give a graph its name, unless its block is gone by now: what was forgotten must not come back with it."""
    folder = vector_folder(views)
    path = graph_path(folder, block)
    with embed_lock(views):
        state = read_state(views)
        if state is None or block not in state.vectors or not temporary.exists():
            return False
        digest = _sha256(temporary)
        os.replace(temporary, path)
        fsync_path(folder)
        description = {"sha256": digest, "count": block.count, "dimension": dimension, "crc": block.crc}
        write_json(path.with_name(f"{path.name}.json"), description)
    return True


def _described(folder: Path, block: BlockFile) -> dict[str, Any] | None:
    """What is said of a block's graph, None where there is none of this very block."""
    path = graph_path(folder, block)
    found = read_json(path.with_name(f"{path.name}.json"))
    if found is None or (found.get("count"), found.get("crc")) != (block.count, block.crc):
        return None
    return found if path.is_file() else None


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(_HASHED_AT_ONCE):
            digest.update(piece)
    return digest.hexdigest()


# -- searching -----------------------------------------------------------------------------------------------------


class Shards:
    """Loaded graphs. `graphs` is read by the search; a thread adds to it, and only graphs that are complete."""

    def __init__(self) -> None:
        self.graphs: dict[BlockFile, Any] = {}
        self.problems: dict[BlockFile, str] = {}
        self._tried: set[BlockFile] = set()
        self._thread: threading.Thread | None = None
        self._wanted: tuple[BlockFile, ...] = ()

    def follow(self, folder: Path, dimension: int, blocks: Iterable[BlockFile]) -> None:
        """Keep graphs of these blocks alone, and begin to load those that are not there yet."""
        self._wanted = tuple(blocks)
        for known in (self.graphs, self.problems):
            for block in [block for block in known if block not in self._wanted]:
                del known[block]
        self._tried &= set(self._wanted)
        waiting = [b for b in self._wanted if b not in self._tried and _described(folder, b) is not None]
        if waiting and (self._thread is None or not self._thread.is_alive()) and not unavailable():
            self._tried.update(waiting)
            self._thread = threading.Thread(
                target=self._load, args=(folder, dimension, waiting), name="vector graphs", daemon=True
            )
            self._thread.start()

    def wait(self) -> None:
        """Until what is being loaded is loaded."""
        if self._thread is not None:
            self._thread.join()

    def close(self) -> None:
        """Let go of all of them; what is being loaded is dropped when it is there."""
        self._wanted = ()
        self.graphs.clear()
        self._tried.clear()

    def _load(self, folder: Path, dimension: int, blocks: list[BlockFile]) -> None:
        for block in blocks:
            if block not in self._wanted:
                continue
            try:
                graph = load_graph(folder, block, dimension)
            except (DamagedBlockError, OSError, RuntimeError) as error:
                self.problems[block] = f"{error}; its vectors are scanned"
                continue
            self.graphs[block] = graph
            if block not in self._wanted:  # let go of while it was loaded
                self.graphs.pop(block, None)


def load_graph(folder: Path, block: BlockFile, dimension: int) -> Any:
    """The graph over a block, ready to be asked. Raises DamagedBlockError, OSError; RuntimeError of hnswlib's own."""
    import hnswlib

    path = graph_path(folder, block)
    description = _described(folder, block)
    if description is None or description.get("dimension") != dimension:
        raise DamagedBlockError(f"{path} is not of its block")
    if _sha256(path) != description.get("sha256"):
        raise DamagedBlockError(f"{path} is damaged")
    graph = hnswlib.Index("ip", dimension)
    graph.load_index(str(path))
    if graph.get_current_count() != block.count:
        raise DamagedBlockError(f"{path} holds another number of vectors")
    graph.set_ef(SEARCH_WIDTH)  # loading resets it
    graph.set_num_threads(1)
    return graph


def nearest_in(graph: Any, query: Any, k: int) -> Any:
    """Labels of about the k nearest in a graph, in no promised order."""
    k = min(k, graph.get_current_count())  # more is an error
    graph.set_ef(max(SEARCH_WIDTH, k))
    labels, _ = graph.knn_query(query, k=k, num_threads=1)
    return labels[0].astype(np.intp)

"""What is published of the vectors: `state.json`, the ranges of rows that have theirs, and the lock of who writes.

    views/vector/state.json          replaced by rename, the only file that says which others count
    views/vector/<name>.vectors      passages: number, binary code, float16 row (see `vector_blocks`)
    views/vector/<name>.map          which rows have which passages
    views/vector/<name>.hnsw         a graph over a full block of vectors, and what else begins with a block's name

All but `state.json` are immutable. Rows are embedded newest first; `covered` says which ranges of row ids are done: a
shown row in one of them has its pairs in the maps, and each passage of a pair has a vector. Importing this loads no
engine and no numpy.
"""

import contextlib
import os
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path

import msgspec

from session_mgmt_mcp.core.log.locks import lock_held
from session_mgmt_mcp.core.ports import EventLog
from session_mgmt_mcp.projections.files import fsync_path, read_json, write_json
from session_mgmt_mcp.projections.passages import PASSAGES_VERSION
from session_mgmt_mcp.projections.protocol import Watermark
from session_mgmt_mcp.projections.rows import ORDINAL_BITS, interpretation_version

SCHEMA_VERSION = 1
STATE_FILE = "state.json"
LOCK_FILE = "embed.lock"
LOCK_WAIT_S = 120.0  # a chunk takes some 20 s

Ranges = tuple[tuple[int, int], ...]  # of row ids, low <= id < high; ascending, apart from each other


class BlockFile(msgspec.Struct, frozen=True):
    """One immutable file. `crc` is that of its header, which holds those of its sections."""

    name: str
    count: int  # passages, or pairs
    bytes: int
    crc: int
    low: int = 0  # of a map: its first row id
    high: int = 0  # and its last, plus one


class VectorState(msgspec.Struct, frozen=True):
    """`state.json`. `model_id` is "" and `dimension` 0 before anything was embedded."""

    log_id: str
    position: int  # of the query view whose rows were looked at; what was forgotten up to there is out
    chain: str  # hex
    schema_version: int
    interpretation_version: int
    passages_version: int
    model_id: str = ""
    dimension: int = 0
    covered: Ranges = ()
    vectors: tuple[BlockFile, ...] = ()
    maps: tuple[BlockFile, ...] = ()
    rate: float = 0.0  # passages a second, of late
    rows: int = 0  # rows that were looked at for passages, and how many new passages they had
    embedded: int = 0

    @property
    def watermark(self) -> Watermark:
        return Watermark(self.position, bytes.fromhex(self.chain))

    @property
    def end(self) -> int:
        """The first row id beyond the watermark."""
        return (self.position + 1) << ORDINAL_BITS

    @property
    def count(self) -> int:
        """How many passages have a vector."""
        return sum(block.count for block in self.vectors)


def empty_state(log_id: str, watermark: Watermark | None = None) -> VectorState:
    at = watermark or Watermark()
    return VectorState(
        log_id, at.position, at.chain.hex(), SCHEMA_VERSION, interpretation_version(), PASSAGES_VERSION
    )


def vector_folder(views: Path) -> Path:
    return views / "vector"


def read_state(views: Path) -> VectorState | None:
    """What is published, of whatever log or version; None where nothing of this schema is."""
    try:
        state = msgspec.convert(read_json(vector_folder(views) / STATE_FILE), VectorState)
        bytes.fromhex(state.chain)
    except (msgspec.ValidationError, ValueError):
        return None
    return state if state.schema_version == SCHEMA_VERSION else None


def load_state(views: Path, log: EventLog | None = None) -> VectorState | None:
    """What is published, or None where nothing is that can be used (with `log`: for this very log).

    Its files may be missing or damaged all the same: who opens one finds out, and does without it.
    """
    state = read_state(views)
    if state is None or not is_current(state):
        return None
    if log is not None and not (state.log_id == log.log_id and state.watermark.fits(log)):
        return None
    return state


def is_current(state: VectorState) -> bool:
    """Whether its rows and passages are what this version makes of a log."""
    return (state.interpretation_version, state.passages_version) == (
        interpretation_version(),
        PASSAGES_VERSION,
    )


def publish_state(views: Path, state: VectorState) -> None:
    """Make a state visible in one step, then remove the files it does not need; whoever has one open keeps it."""
    folder = vector_folder(views)
    fsync_path(folder)
    write_json(folder / STATE_FILE, msgspec.to_builtins(state))
    remove_unneeded(folder, state)


def remove_unneeded(folder: Path, state: VectorState) -> None:
    """Remove blocks the state does not name, with what belongs to them; and what interrupted writers left."""
    stems = {block.name.partition(".")[0] for block in (*state.vectors, *state.maps)}
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False) or entry.name == STATE_FILE:
            continue
        if entry.name.partition(".")[0] not in stems:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(entry.path)


def embed_lock(views: Path, wait_s: float = LOCK_WAIT_S) -> AbstractContextManager[None]:
    """Hold embed.lock, without which nothing under `views/vector` is written.

    Raises LockTimeoutError where another process holds it for longer than `wait_s`, DataFolderError.
    """
    path = str(views.parent / LOCK_FILE)
    return lock_held(path, wait_s, f"another process is embedding; try again later, or end it ({path})")


# -- ranges --------------------------------------------------------------------------------------------------------


def with_range(ranges: Ranges, low: int, high: int) -> Ranges:
    """The ranges and this one."""
    if low >= high:
        return ranges
    out = []
    for a, b in ranges:
        if b < low or high < a:
            out.append((a, b))
        else:
            low, high = min(a, low), max(b, high)
    return tuple(sorted([*out, (low, high)]))


def without_range(ranges: Ranges, low: int, high: int) -> Ranges:
    """What of the ranges lies outside this one."""
    if low >= high:
        return ranges
    parts = [(a, min(b, low)) for a, b in ranges] + [(max(a, high), b) for a, b in ranges]
    return tuple(sorted(part for part in parts if part[0] < part[1]))


def gaps(ranges: Ranges, low: int, high: int) -> Ranges:
    """What of low <= id < high no range holds."""
    left: Ranges = ((low, high),) if low < high else ()
    for a, b in ranges:
        left = without_range(left, a, b)
    return left


def sql_in(ranges: Iterable[tuple[int, int]], column: str = "id") -> str:
    """A condition: the column lies in one of the ranges."""
    parts = [f"({column} >= {low} AND {column} < {high})" for low, high in ranges]
    return f"({' OR '.join(parts)})" if parts else "false"

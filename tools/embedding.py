"""Embedding what has no vector yet: in the foreground, or behind, in a process of its own that nobody waits for."""

import logging
import os
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from session_mgmt_mcp.adapters.claude_code.capture import spawn
from session_mgmt_mcp.core.errors import LockTimeoutError
from session_mgmt_mcp.core.log.log import FileLog
from session_mgmt_mcp.core.settings import vector_memory_bytes
from session_mgmt_mcp.projections import query_files, vector_state
from session_mgmt_mcp.projections.protocol import views_folder
from session_mgmt_mcp.projections.rows import ORDINAL_BITS
from session_mgmt_mcp.projections.vector_state import LOCK_WAIT_S, embed_lock, gaps

logger = logging.getLogger(__name__)

SWITCH = "SESSION_MGMT_EMBED"  # "off": nothing is embedded behind; `embed` does it all the same
PAUSE_S = 0.1  # between chunks, in which others get embed.lock
_OFF = frozenset(["off", "0", "no", "false"])

Report = Callable[[str, int, int], None]


class EmbedReport(msgspec.Struct, frozen=True):
    """What a run did. `left`: about how many passages have no vector yet; `rate`: passages a second, of late."""

    embedded: int
    rows: int  # actions that were looked at
    vectors: int  # in all
    left: int
    rate: float
    seconds: float
    model: str
    graphs: int = 0  # built over full files of vectors, for a quicker search
    damaged: tuple[str, ...] = ()  # files that were dropped, and what they held was made anew


def embed(
    log: FileLog,
    *,
    workers: int | None = None,
    limit: int | None = None,
    behind: bool = False,
    report: Report | None = None,
) -> EmbedReport:
    """Embed the published views' passages, the newest first, until all are done or `limit` new ones were.

    With `behind` it ends at once where another process is at it, and looks for damage in one file instead of all. May be
    interrupted: what was embedded stays. Raises EmbeddingError, SettingsError, LockTimeoutError.
    """
    from session_mgmt_mcp.projections.embedding import Embedder
    from session_mgmt_mcp.projections.vector_shards import build_shards
    from session_mgmt_mcp.projections.vector_writer import CHUNK_PASSAGES, VectorWriter

    began = time.monotonic()
    folder = views_folder(Path(log.folder))
    say = report or (lambda *_: None)
    say("loading the model", 0, 0)
    writer = VectorWriter(log, folder, Embedder.open(workers=workers))
    embedded = rows = 0
    try:
        damaged = list(
            writer.check(random.randrange(1 << 30) if behind else None, wait_s=0 if behind else LOCK_WAIT_S)
        )
        while limit is None or embedded < limit:
            chunk = writer.chunk(
                CHUNK_PASSAGES if limit is None else min(CHUNK_PASSAGES, limit - embedded),
                say=_counted(say, embedded, writer.left()[1]),
            )
            embedded, rows = embedded + chunk.embedded, rows + chunk.rows
            damaged += chunk.damaged
            if chunk.done:
                break
            time.sleep(PAUSE_S)
        state, left = writer.left()
    finally:
        writer.close()
    graphs = build_shards(folder, vector_memory_bytes(), lambda at, end: say("building graphs", at, end))
    return EmbedReport(
        embedded,
        rows,
        state.count if state else 0,
        left,
        state.rate if state else 0.0,
        time.monotonic() - began,
        state.model_id if state else "",
        graphs,
        tuple(damaged),
    )


def _counted(report: Report, done: int, left: int) -> Callable[[int], None]:
    """Says how many passages of how many are done, when `n` more are."""

    def say(n: int) -> None:
        report("embedding passages", done + n, done + max(left, n))

    return say


def is_on() -> bool:
    """Whether passages are embedded behind."""
    return os.environ.get(SWITCH, "").strip().lower() not in _OFF


def start(folder: str) -> bool:
    """Have what waits embedded behind, where something does and the model is there; whether a process was started.

    Called after maintenance, which goes on whether or not that can be done.
    """
    if not is_on() or not _waits(Path(folder)):
        return False
    try:
        process_id = spawn(folder, "embed", "--behind")
    except OSError as error:
        logger.warning("embedding could not be started: %s", error)
        return False
    # a process nobody waits for stays in the table as long as this one lives
    threading.Thread(target=os.waitpid, args=(process_id, 0), name="embedding", daemon=True).start()
    return True


def _waits(folder: Path) -> bool:
    """Whether rows of the published view have no vectors of the model that is there, and nobody is at it."""
    views = views_folder(folder)
    query, state = query_files.load_state(views), vector_state.load_state(views)
    if query is None or not query.position:
        return False
    from session_mgmt_mcp.projections.embedding import embedding_available
    from session_mgmt_mcp.projections.embedding_model import open_folder

    if embedding_available() is not None:
        return False  # `status` says why
    end = (query.position + 1) << ORDINAL_BITS
    done = (
        state is not None and state.model_id == open_folder().model_id() and not gaps(state.covered, 0, end)
    )
    return not done and not _is_held(views)


def _is_held(views: Path) -> bool:
    try:
        with embed_lock(views, 0):
            return False
    except LockTimeoutError:
        return True

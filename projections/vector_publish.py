"""The vectors' part in publishing: nothing is embedded here, and mostly nothing is written. Importing this loads no numpy."""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from session_mgmt_mcp.core.errors import LockTimeoutError
from session_mgmt_mcp.core.ports import EventLog
from session_mgmt_mcp.projections.files import make_folder
from session_mgmt_mcp.projections.passages import KINDS
from session_mgmt_mcp.projections.protocol import Watermark
from session_mgmt_mcp.projections.query_files import QueryFiles
from session_mgmt_mcp.projections.tombstones import tombstones_between
from session_mgmt_mcp.projections.vector_state import (
    VectorState,
    embed_lock,
    empty_state,
    load_state,
    publish_state,
    read_state,
    sql_in,
    vector_folder,
)

if TYPE_CHECKING:
    from session_mgmt_mcp.projections.vector_rebuild import Progress

PASSAGES_A_ROW = 1.2  # before anything was measured


def settle(
    log: EventLog,
    views: Path,
    files: QueryFiles,
    target: Watermark,
    *,
    fresh: bool = False,
    progress: "Progress | None" = None,
) -> None:
    """Have the published vectors fit the query view `files`, which is at `target`; rows without any wait for the job.

    With `fresh`, after something was forgotten, and where what is published is of another log, history or version, or does
    not say of what, every row is looked at and only vectors of shown passages are kept. The caller holds the maintenance
    lock. Raises LockTimeoutError where another process embeds for too long.
    """
    found = read_state(views)
    state = load_state(views, log)
    if found is None and not fresh and not any(vector_folder(views).glob("*.vectors")):
        _start(log, views, target)
    elif fresh or state is None or tombstones_between(log, state.position, target.position).last:
        from session_mgmt_mcp.projections.vector_rebuild import rebuild

        with embed_lock(views):
            rebuild(views, files, target, progress)
    elif state.position != target.position:
        with contextlib.suppress(LockTimeoutError), embed_lock(views, 0):  # else the job's next chunk does it
            now = load_state(views, log)
            if now is not None:
                publish_state(views, _moved(now, target))


def _start(log: EventLog, views: Path, target: Watermark) -> None:
    with embed_lock(views):
        if read_state(views) is None:
            make_folder(vector_folder(views))
            publish_state(views, empty_state(log.log_id, target))


def _moved(state: VectorState, to: Watermark) -> VectorState:
    return msgspec.structs.replace(state, position=to.position, chain=to.chain.hex())


def waiting_passages(files: QueryFiles, state: VectorState | None) -> int:
    """About how many passages have no vector yet: rows that were not looked at, times what others had."""
    kinds = ", ".join(f"'{kind}'" for kind in KINDS)
    covered = sql_in(state.covered if state is not None else ())
    sql = f"SELECT count(*) FROM shown WHERE kind IN ({kinds}) AND NOT {covered}"
    rows: int = files.fetch(sql)[0][0]
    if state is None or not state.rows:
        return round(rows * PASSAGES_A_ROW)
    return (
        min(rows, 1) if not state.embedded else max(min(rows, 1), round(rows * state.embedded / state.rows))
    )

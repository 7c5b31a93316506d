"""How far the vectors are, and what keeps a search from using them."""

from pathlib import Path

from session_mgmt_mcp.core.ports import EventLog
from session_mgmt_mcp.projections.embedding_model import embedding_available, open_folder
from session_mgmt_mcp.projections.query_files import QueryFiles
from session_mgmt_mcp.projections.results import VectorStatus
from session_mgmt_mcp.projections.vector_publish import waiting_passages
from session_mgmt_mcp.projections.vector_shards import wanted_but_unavailable
from session_mgmt_mcp.projections.vector_state import load_state


def vector_status(log: EventLog, views: Path, files: QueryFiles) -> VectorStatus:
    """`files`: the query view, with the log's tail."""
    state, why = load_state(views, log), embedding_available() or ""
    if state is not None and not why and state.model_id not in ("", open_folder().model_id()):
        state = None  # another model's vectors: nothing can be found with them, all is embedded anew
    waiting = waiting_passages(files, state)
    rate = state.rate if state is not None else 0.0
    return VectorStatus(
        passages=state.count if state is not None else 0,
        waiting=waiting,
        seconds_left=round(waiting / rate, 1) if rate else None,
        rate=rate,
        model=state.model_id if state is not None else "",
        unavailable=why,
        scanned=wanted_but_unavailable() or "",
    )

"""Search by meaning: the model, the vectors that are published, and the library that searches many of them quickly."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from session_mgmt_mcp.core.log.log import FileLog
from session_mgmt_mcp.projections.protocol import views_folder
from session_mgmt_mcp.tools.doctor.finding import Finding, Patient, Severity
from session_mgmt_mcp.tools.embedding import SWITCH, is_on

if TYPE_CHECKING:
    from session_mgmt_mcp.projections.vector_state import VectorState

CHECK = "vectors"
_EMBED = "`session-mgmt-mcp embed` makes it anew; until then it is found by its words"


def check_vectors(patient: Patient, log: FileLog) -> Iterator[Finding]:
    """Whether texts are found by meaning, and how many wait for that. Vectors themselves are read by `replay --check`."""
    from session_mgmt_mcp.projections.embedding import embedding_available
    from session_mgmt_mcp.projections.embedding_model import damage
    from session_mgmt_mcp.projections.vector_shards import wanted_but_unavailable

    why = embedding_available() or damage()
    if why is not None:
        what, _, mend = why.rpartition("; ")
        text = f"nothing is found by meaning: {what or why}"
        yield Finding(CHECK, Severity.WARNING, text, patient.folder, mend or "install it again")
    yield from _published(patient, log)
    slow = wanted_but_unavailable()
    if slow is not None:
        mend = "`pip install hnswlib`: it is built on install and wants a C++ compiler; or set VECTOR_MEMORY_MB to 0"
        yield Finding(CHECK, Severity.NOTE, slow, patient.folder, mend)


def _published(patient: Patient, log: FileLog) -> Iterator[Finding]:
    from session_mgmt_mcp.projections.query_files import QueryFiles
    from session_mgmt_mcp.projections.query_files import load_state as load_query
    from session_mgmt_mcp.projections.vector_publish import waiting_passages
    from session_mgmt_mcp.projections.vector_state import load_state, vector_folder

    views = views_folder(Path(patient.folder))
    folder, state, query = vector_folder(views), load_state(views, log), load_query(views, log)
    if state is None and (folder / "state.json").exists():
        what = "what is published is of another history or version, or damaged"
        yield Finding(CHECK, Severity.WARNING, what, str(folder), "`maintain` brings it in line")
    if state is not None:
        for why in _damaged(folder, state):
            yield Finding(CHECK, Severity.WARNING, why, str(folder), _EMBED)
    waiting = 0
    if query is not None:
        # a damaged file is said of the query view
        with contextlib.suppress(Exception), contextlib.closing(QueryFiles(views, query)) as files:
            waiting = waiting_passages(files, state)
    if waiting:
        mend = "nothing: they follow behind" if is_on() else f"`session-mgmt-mcp embed`: {SWITCH} is off"
        what = f"about {waiting} passages have no vector yet: they are found by their words alone"
        yield Finding(CHECK, Severity.NOTE, what, str(folder), mend)


def _damaged(folder: Path, state: "VectorState") -> Iterator[str]:
    from session_mgmt_mcp.projections.vector_blocks import DamagedBlockError, open_map, open_vectors

    for block in state.maps:
        try:
            open_map(folder, block)
        except DamagedBlockError as error:
            yield str(error)
    for block in state.vectors:
        try:
            open_vectors(folder, block, state.dimension)
        except DamagedBlockError as error:
            yield str(error)

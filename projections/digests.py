"""What projections hold, as digests: the same for the same log, however they were brought up to date."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import msgspec

from session_mgmt_mcp.projections.files import read_json
from session_mgmt_mcp.projections.lexical import lexical_folder, open_indexes
from session_mgmt_mcp.projections.protocol import Watermark, views_folder
from session_mgmt_mcp.projections.query_files import STATE_FILE, QueryFiles, load_state
from session_mgmt_mcp.projections.vector_state import load_state as load_vectors


def digest(folder: Path) -> dict[str, str]:
    """A digest of what each projection holds: shown rows in order, indexed documents in order; "" if unpublished."""
    return {name: of(views_folder(folder)) for name, of in DIGESTS.items()}


def query_digest(views: Path) -> str:
    """Of the rows people see and the tokens they cost."""
    state = load_state(views)
    if state is None:
        return ""
    files = QueryFiles(views, state)
    try:
        total = hashlib.sha256()
        encode = msgspec.msgpack.Encoder().encode
        for row in files.shown_rows():
            total.update(encode(row._replace(seq=0)))  # seq counts hidden rows too
        for record in files.fetch("SELECT * FROM all_usage ORDER BY id"):
            total.update(encode(record))
        return total.hexdigest()
    finally:
        files.close()


def lexical_digest(views: Path) -> str:
    """Of what the documents store: the row and a digest of its tokens."""
    state = read_json(lexical_folder(views) / STATE_FILE)
    if state is None:
        return ""
    total = hashlib.sha256()
    for index in open_indexes(lexical_folder(views) / str(state["index"])):
        for part in sorted(hashlib.sha256(stored).digest() for stored in index.stored()):
            total.update(part)
    return total.hexdigest()


def vector_digest(views: Path, *, deep: bool = False) -> str:
    """Of the model, and of the passages of shown rows that have a vector; with `deep` every byte is checked.

    Raises DamagedBlockError.
    """
    state, query = load_vectors(views), load_state(views)
    if state is None or query is None:
        return ""
    from session_mgmt_mcp.projections.vector_rebuild import published_digest

    files = QueryFiles(views, query)
    try:
        return published_digest(views, state, files, deep=deep)
    finally:
        files.close()


def _query_watermark(views: Path) -> Watermark:
    state = load_state(views)
    return Watermark() if state is None else state.watermark


def _lexical_watermark(views: Path) -> Watermark:
    state = read_json(lexical_folder(views) / STATE_FILE)
    if state is None:
        return Watermark()
    return min(index.watermark for index in open_indexes(lexical_folder(views) / str(state["index"])))


# by the names of `protocol.NAMES`
DIGESTS: dict[str, Callable[[Path], str]] = {
    "query": query_digest,
    "lexical": lexical_digest,
    "vector": vector_digest,
}
WATERMARKS: dict[str, Callable[[Path], Watermark]] = {
    "query": _query_watermark,
    "lexical": _lexical_watermark,
    "vector": _query_watermark,  # they are compared with the rows that are shown
}

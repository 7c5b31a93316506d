"""Folding a query view into one immutable DuckDB file."""

import contextlib
import logging
from pathlib import Path

import duckdb

from session_mgmt_mcp.projections.files import fsync_path
from session_mgmt_mcp.projections.query_files import QueryFiles, QueryState, query_folder
from session_mgmt_mcp.projections.tables import ROW_COLUMNS, TABLES, columns_sql, connect, quoted

PART_ROWS = 16_384  # a row group of the base; rows kept as Arrow tables before they go to DuckDB
DELTA_ROWS_MAX = 50_000  # beyond, or beyond a fifth of the base, deltas are folded into a new base
DELTA_ROWS_FREE = 5_000  # below, a new base is not worth its writing
DELTAS_MAX = 64
logger = logging.getLogger(__name__)
# a seventh of their size
LONG_COLUMNS = {name: "VARCHAR USING COMPRESSION zstd" for name in ("text", "edit")}


def wants_base(state: QueryState, new_rows: int) -> bool:
    """Whether to fold what is published and `new_rows` more into a new base."""
    rows = state.delta_rows + new_rows
    if rows > DELTA_ROWS_MAX or len(state.deltas) >= DELTAS_MAX:
        return True
    return rows > max(DELTA_ROWS_FREE, state.base_rows // 5)


def write_base(files: QueryFiles, path: Path) -> int:
    """Write all that `files` hold to a new DuckDB file, durably; how many rows. Raises duckdb.Error, OSError.

    Hidden rows stay, since they decide about later ones, but without their text.
    """
    run = files.connection.execute
    run(
        f"ATTACH {quoted(str(path))} AS fresh (ROW_GROUP_SIZE {PART_ROWS}, STORAGE_VERSION 'v1.2.0')"
    )  # for zstd
    select = (
        "SELECT * REPLACE (CASE WHEN hidden_at > 0 THEN '' ELSE text END AS text, "
        "CASE WHEN hidden_at > 0 THEN '' ELSE edit END AS edit) FROM all_rows"
    )
    columns = columns_sql({**ROW_COLUMNS, **LONG_COLUMNS, "hidden_at": "BIGINT"})
    run(f"CREATE TABLE fresh.rows ({columns})")
    for low, high in _stretches(files):  # sorted piecewise: text is not sorted as a whole
        run(f"INSERT INTO fresh.rows {select} WHERE id >= ? AND id < ? ORDER BY id", [low, high])
    run("CREATE TABLE fresh.usage AS SELECT * FROM all_usage ORDER BY id")
    run("CREATE TABLE fresh.places AS SELECT * FROM all_places ORDER BY id")
    run("CREATE TABLE fresh.forgotten AS SELECT * FROM delta_forgotten")
    if files.state.base:
        run("INSERT INTO fresh.forgotten SELECT * FROM base.forgotten")
    counted = run("SELECT count(*) FROM fresh.rows").fetchone()
    run("DETACH fresh")
    fsync_path(path)
    return counted[0] if counted else 0


def _stretches(files: QueryFiles) -> list[tuple[int, int]]:
    """Ranges of ids that together hold every row, some PART_ROWS rows each."""
    starts = [
        r[0]
        for r in files.fetch(
            "SELECT id FROM (SELECT id, row_number() OVER (ORDER BY id) AS n FROM all_rows) WHERE n % ? = 1 ORDER BY id",
            [PART_ROWS],
        )
    ]
    return list(zip(starts, [*starts[1:], 1 << 62], strict=True))


def remove_if_damaged(views: Path, state: QueryState, error: Exception) -> bool:
    """Whether the base is why reading failed. Then it is removed: readers do without it, maintenance makes it anew.

    DuckDB meets what is cut or changed only in the blocks it reads, so a base is opened without complaint. As its errors
    do not say for sure what they are about, all of the base is read to know.
    """
    path = query_folder(views) / state.base
    if not isinstance(error, duckdb.Error) or not state.base or not path.exists() or _is_sound(path):
        return False
    logger.warning("%s is damaged and was removed; maintenance makes it anew from the log (%s)", path, error)
    with contextlib.suppress(OSError):
        path.unlink()
    return True


def _is_sound(path: Path) -> bool:
    connection = connect()
    try:
        connection.execute(f"ATTACH {quoted(str(path))} AS base (READ_ONLY)")
        for name in TABLES:
            if name != "hidden":  # a column of the rows
                connection.execute(f"SELECT bit_xor(hash(t)) FROM base.{name} AS t").fetchall()
    except duckdb.Error:
        return False
    finally:
        connection.close()
    return True

"""The tables of the query view: their columns in DuckDB and Parquet, and the SQL that puts them together."""

from collections.abc import Iterable, Sequence
from typing import Any

import duckdb
import pyarrow as pa

from session_mgmt_mcp.projections.rows import Row

ROW_COLUMNS = {
    "id": "BIGINT",
    "key": "VARCHAR",
    "session": "VARCHAR",
    "assistant": "VARCHAR",
    "occurred_at": "BIGINT",
    "actor": "VARCHAR",
    "kind": "VARCHAR",
    "source": "VARCHAR",
    "record": "VARCHAR",
    "project": "VARCHAR",
    "branch": "VARCHAR",
    "parent": "VARCHAR",
    "tool": "VARCHAR",
    "tool_use_id": "VARCHAR",
    "files": "VARCHAR[]",
    "is_error": "BOOLEAN",
    "origin": "VARCHAR",
    "reason": "VARCHAR",
    "leaf": "VARCHAR",
    "text_digest": "VARCHAR",
    "text": "VARCHAR",
    "edit": "VARCHAR",
    "seq": "BIGINT",
}
USAGE_COLUMNS = {
    "id": "BIGINT",
    "session": "VARCHAR",
    "message_id": "VARCHAR",
    "model": "VARCHAR",
    "input_tokens": "BIGINT",
    "output_tokens": "BIGINT",
    "cache_read_tokens": "BIGINT",
    "cache_write_tokens": "BIGINT",
}
HIDDEN_COLUMNS = {"id": "BIGINT", "hidden_at": "BIGINT"}  # hidden_at: position of the event that hid it
FORGOTTEN_COLUMNS = {"key": "VARCHAR", "position": "BIGINT"}
PLACES_COLUMNS = {  # of prompts, replies and thoughts whose payload was forgotten: they keep their place in the order
    "id": "BIGINT",
    "session": "VARCHAR",
    "kind": "VARCHAR",
    "source": "VARCHAR",
    "text_digest": "VARCHAR",
}
TABLES = {
    "rows": ROW_COLUMNS,
    "usage": USAGE_COLUMNS,
    "hidden": HIDDEN_COLUMNS,
    "forgotten": FORGOTTEN_COLUMNS,
    "places": PLACES_COLUMNS,
}
_ARROW = {
    "BIGINT": pa.int64(),
    "VARCHAR": pa.string(),
    "VARCHAR[]": pa.list_(pa.string()),
    "BOOLEAN": pa.bool_(),
}
ARROW_SCHEMAS = {
    name: pa.schema([(column, _ARROW[kind]) for column, kind in columns.items()])
    for name, columns in TABLES.items()
}
ROW_LIST = ", ".join(ROW_COLUMNS)
_FILES = Row._fields.index("files")


def connect(folder: str = "") -> duckdb.DuckDBPyConnection:
    """An in-memory DuckDB of modest size that writes nothing to stdout; `folder` takes what does not fit in memory."""
    connection = duckdb.connect(":memory:")
    connection.execute("SET enable_progress_bar=false; SET threads=2; SET memory_limit='1GB'")
    if folder:
        connection.execute(f"SET temp_directory={quoted(folder)}")
    return connection


def quoted(text: str) -> str:
    """A SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


def columns_sql(columns: dict[str, str]) -> str:
    return ", ".join(f'"{name}" {kind}' for name, kind in columns.items())


def arrow_table(name: str, records: Iterable[Sequence[Any]]) -> pa.Table:
    """Records (tuples in the order of the table's columns) as an Arrow table."""
    schema = ARROW_SCHEMAS[name]
    data = list(zip(*records, strict=True)) or [()] * len(schema)
    arrays = [pa.array(values, type=field.type) for values, field in zip(data, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


def row_from(record: Sequence[Any]) -> Row:
    """A Row from a fetched record (columns `ROW_LIST`)."""
    return Row._make((*record[:_FILES], tuple(record[_FILES] or ()), *record[_FILES + 1 :]))

"""A published query view, opened: the base attached read-only, the deltas in memory, one set of SQL views over both.

Views: `all_rows` (every row, with `hidden_at`, 0 where it is shown), `shown` (what people see), `all_usage`,
`all_places` (what forgotten prompts, replies and thoughts keep in the order).
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pyarrow as pa

from session_mgmt_mcp.core.ports import EventLog
from session_mgmt_mcp.projections.facts import Known
from session_mgmt_mcp.projections.files import read_json
from session_mgmt_mcp.projections.protocol import Watermark
from session_mgmt_mcp.projections.rows import ORDINAL_BITS, Row, interpretation_version
from session_mgmt_mcp.projections.tables import ROW_LIST, TABLES, columns_sql, connect, quoted, row_from

SCHEMA_VERSION = 2
STATE_FILE = "state.json"
FETCH_ROWS = 2000


class QueryState(msgspec.Struct, frozen=True):
    """`state.json`: what is published. File names are within the projection's folder."""

    log_id: str
    position: int
    chain: str  # hex
    schema_version: int
    interpretation_version: int
    base: str = ""
    base_rows: int = 0
    deltas: tuple[dict[str, str], ...] = ()  # table name -> Parquet file
    delta_rows: int = 0

    @property
    def watermark(self) -> Watermark:
        return Watermark(self.position, bytes.fromhex(self.chain))

    def files(self) -> set[str]:
        """Every file this state needs."""
        return {name for delta in self.deltas for name in delta.values()} | (
            {self.base} if self.base else set()
        )


def empty_state(log_id: str) -> QueryState:
    return QueryState(log_id, 0, "", SCHEMA_VERSION, interpretation_version())


def query_folder(views: Path) -> Path:
    return views / "query"


def load_state(
    views: Path, log: EventLog | None = None, *, of_any_version: bool = False
) -> QueryState | None:
    """What is published, or None where nothing is that can be used (with `log`: for this very log). `of_any_version`: also
    what another version interpreted, good enough to read until it is made anew.
    """
    raw = read_json(query_folder(views) / STATE_FILE)
    if raw is None:
        return None
    try:
        state = msgspec.convert(raw, QueryState)
        watermark = state.watermark
    except (msgspec.ValidationError, ValueError):
        return None
    if state.schema_version != SCHEMA_VERSION:
        return None
    if state.interpretation_version != interpretation_version() and not of_any_version:
        return None
    if any(not (query_folder(views) / name).is_file() for name in state.files()):
        return None
    if log is not None and not (state.log_id == log.log_id and watermark.fits(log)):
        return None
    return state


class QueryFiles:
    """One opened state. Not thread-safe; raises duckdb.Error or OSError where a file is missing or damaged."""

    def __init__(self, views: Path, state: QueryState) -> None:
        self.state = state
        self._folder = query_folder(views)
        self.connection = connect(str(self._folder))
        for name, columns in TABLES.items():
            self.connection.execute(f"CREATE TABLE delta_{name} ({columns_sql(columns)})")
        if state.base:
            self.connection.execute(f"ATTACH {quoted(str(self._folder / state.base))} AS base (READ_ONLY)")
        for delta in state.deltas:
            self.load_delta(delta)
        self._create_views()

    def load_delta(self, delta: dict[str, str]) -> None:
        for name, file in delta.items():
            path = quoted(str(self._folder / file))
            self.connection.execute(f"INSERT INTO delta_{name} SELECT * FROM read_parquet({path})")

    def insert(self, name: str, table: pa.Table) -> None:
        """Add records to a table of the deltas."""
        self.connection.register("unsaved", table)
        self.connection.execute(f"INSERT INTO delta_{name} SELECT * FROM unsaved")
        self.connection.unregister("unsaved")

    def _create_views(self) -> None:
        hidden = (
            "(SELECT id, min(hidden_at) AS hidden_at FROM delta_hidden GROUP BY id) AS h ON h.id = {0}.id"
        )
        parts = [
            f"SELECT d.*, coalesce(h.hidden_at, 0) AS hidden_at FROM delta_rows AS d LEFT JOIN {hidden.format('d')}"
        ]
        usage, places = ["SELECT * FROM delta_usage"], ["SELECT * FROM delta_places"]
        if self.state.base:
            parts.append(
                "SELECT b.* EXCLUDE (hidden_at), "
                "CASE WHEN b.hidden_at > 0 THEN b.hidden_at ELSE coalesce(h.hidden_at, 0) END AS hidden_at "
                f"FROM base.rows AS b LEFT JOIN {hidden.format('b')}"
            )
            usage.append("SELECT * FROM base.usage")
            places.append("SELECT * FROM base.places")
        self.connection.execute(f"CREATE VIEW all_rows AS {' UNION ALL '.join(parts)}")
        self.connection.execute(
            "CREATE VIEW shown AS SELECT * EXCLUDE (hidden_at) FROM all_rows WHERE hidden_at = 0"
        )
        self.connection.execute(f"CREATE VIEW all_usage AS {' UNION ALL '.join(usage)}")
        self.connection.execute(f"CREATE VIEW all_places AS {' UNION ALL '.join(places)}")

    def fetch(self, sql: str, parameters: Iterable[Any] = ()) -> list[tuple[Any, ...]]:
        return self.connection.execute(sql, list(parameters)).fetchall()

    def _cursor(self) -> duckdb.DuckDBPyConnection:
        """Another connection to the same views, for a read during which others go on. It begins with no settings of this one."""
        return self.connection.cursor()

    def known(self, session: str) -> list[Known]:
        """What is known of a session's rows and left places, in order of id; what `Facts` loads."""
        return [
            Known(*record)
            for record in self.fetch(
                "SELECT id, key, kind, source, text_digest, tool, tool_use_id FROM all_rows WHERE session = ? "
                "UNION ALL SELECT id, '', kind, source, text_digest, '', '' FROM all_places WHERE session = ? "
                "ORDER BY id",
                [session, session],
            )
        ]

    def all_known(self) -> Iterator[tuple[str, Known]]:
        """The same of all sessions, as (session, row)."""
        cursor = self._cursor()
        cursor.execute(
            "SELECT session, id, key, kind, source, text_digest, tool, tool_use_id FROM all_rows UNION ALL "
            "SELECT session, id, '', kind, source, text_digest, '', '' FROM all_places ORDER BY id"
        )
        while records := cursor.fetchmany(FETCH_ROWS):
            yield from ((record[0], Known._make(record[1:])) for record in records)

    def ids_of_keys(self, keys: list[str]) -> list[int]:
        """Ids of all rows with one of these keys."""
        return [r[0] for r in self.fetch("SELECT id FROM all_rows WHERE list_contains(?, key)", [keys])]

    def ids_at(self, positions: list[int]) -> list[int]:
        """Ids of all rows of these events."""
        sql = f"SELECT id FROM all_rows WHERE id >> {ORDINAL_BITS} IN (SELECT unnest(?))"
        return [r[0] for r in self.fetch(sql, [positions])]

    def forgotten(self) -> set[str]:
        tables = ["delta_forgotten"] + (["base.forgotten"] if self.state.base else [])
        return {r[0] for table in tables for r in self.fetch(f"SELECT key FROM {table}")}

    def sessions(self) -> set[str]:
        return {
            r[0]
            for r in self.fetch("SELECT DISTINCT session FROM all_rows UNION SELECT session FROM all_places")
        }

    def shown_rows(self, where: str = "true", parameters: Iterable[Any] = ()) -> Iterator[Row]:
        """Rows people see, in order of id."""
        cursor = self._cursor()
        cursor.execute(f"SELECT {ROW_LIST} FROM shown WHERE {where} ORDER BY id", list(parameters))
        while records := cursor.fetchmany(FETCH_ROWS):
            yield from map(row_from, records)

    def close(self) -> None:
        self.connection.close()

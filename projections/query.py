"""The writer of the query view: one Parquet delta a publish, folded into an immutable DuckDB base now and then."""

import contextlib
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from session_mgmt_mcp.core.envelope import Event
from session_mgmt_mcp.core.ports import EventLog
from session_mgmt_mcp.projections.facts import Facts, Known
from session_mgmt_mcp.projections.files import fsync_path, make_folder, remove_others, write_json
from session_mgmt_mcp.projections.protocol import Watermark
from session_mgmt_mcp.projections.query_files import (
    SCHEMA_VERSION,
    STATE_FILE,
    QueryFiles,
    QueryState,
    empty_state,
    load_state,
    query_folder,
)
from session_mgmt_mcp.projections.rows import Interpreted, Row, interpret_event, interpretation_version
from session_mgmt_mcp.projections.tables import ROW_COLUMNS, arrow_table, columns_sql, quoted
from session_mgmt_mcp.projections.tombstones import Place, Tombstones

PART_ROWS = 16_384  # a row group of the base; rows kept as Python objects before they go to DuckDB
DELTA_ROWS_MAX = 50_000  # beyond, or beyond a fifth of the base, deltas are folded into a new base
DELTA_ROWS_FREE = 5_000  # below, a new base is not worth its writing
DELTAS_MAX = 64
LONG_COLUMNS = {
    name: "VARCHAR USING COMPRESSION zstd" for name in ("text", "edit")
}  # a seventh of their size


class QueryProjection:
    """See `protocol.Projection`. Opened by the holder of the maintenance lock."""

    name = "query"
    schema_version = SCHEMA_VERSION

    def __init__(self, views: Path, log: EventLog) -> None:
        self._views = views
        self._folder = make_folder(query_folder(views))
        self._log_id = log.log_id
        self._tombstones = Tombstones()
        self._files: QueryFiles | None = None
        state = load_state(views, log)
        if state is not None:
            with contextlib.suppress(
                Exception
            ):  # a damaged file: whatever DuckDB says of it, start from nothing
                self._open(state)
        if self._files is None:
            self.reset()

    @property
    def watermark(self) -> Watermark:
        return self._state.watermark

    @property
    def files(self) -> QueryFiles:
        """What is published and, unpublished, what was applied up to the last part."""
        assert self._files is not None
        return self._files

    def expect(self, tombstones: Tombstones) -> None:
        """What the tombstones among the events to come say; to be told before those are applied."""
        self._tombstones = tombstones

    def reset(self) -> None:
        self._open(empty_state(self._log_id))

    def _open(self, state: QueryState) -> None:
        self.close()
        files = QueryFiles(self._views, state)
        self._known_sessions = files.sessions()
        self._facts = Facts(self._load, files.ids_of_keys, files.forgotten())
        self._files = files
        self._state = state
        self._parts: dict[str, list[pa.Table]] = {}  # table -> what no file holds yet
        self._part_rows = 0
        self._pending = Interpreted([], [], [])
        self._forgotten: list[tuple[str, int]] = []
        self._places: list[Place] = []

    def _load(self, session: str) -> list[Known]:
        return self.files.known(session) if session in self._known_sessions else []

    def apply(self, batch: Sequence[Event]) -> None:
        for event in batch:
            if self._tombstones.covers(event):
                self._leave(event)
                continue
            found = interpret_event(event)
            for forgotten in found.forgotten:
                if self._pending.rows:
                    self._take_part()
                self._facts.forget(forgotten.action_keys, event.position)
                self._forgotten += [(key, event.position) for key in forgotten.action_keys]
            self._pending.usage.extend(found.usage)
            complete = self._facts.complete
            self._pending.rows.extend(complete(row) for row in found.rows)
        if len(self._pending.rows) >= PART_ROWS:
            self._take_part()

    def _leave(self, event: Event) -> None:
        for place in self._tombstones.places(event):
            self._facts.leave_place(place.session, place.known)
            self._places.append(place)

    def _take_part(self) -> None:
        """Bring what was interpreted into DuckDB, where `Facts` finds it."""
        rows: list[Row] = self._pending.rows
        contents: dict[str, Sequence[Any]] = {
            "rows": rows,
            "usage": self._pending.usage,
            "hidden": list(self._facts.hidden.items()),
            "forgotten": self._forgotten,
            "places": self._places,
        }
        self._part_rows += len(rows)
        for name, records in contents.items():
            if records:
                table = arrow_table(name, records)
                self.files.insert(name, table)
                self._parts.setdefault(name, []).append(table)
        if _wants_base(self._state, self._part_rows):
            self._parts.clear()  # the base is written from DuckDB
        self._known_sessions.update(row.session for row in rows)
        self._known_sessions.update(place.session for place in self._places)
        self._pending = Interpreted([], [], [])
        self._forgotten, self._places = [], []
        self._facts.hidden.clear()
        if self._facts.may_evict():
            self._facts.evict()

    def publish(self, watermark: Watermark) -> None:
        self._take_part()
        fold = _wants_base(self._state, self._part_rows)
        delta = {} if fold else self._write_delta()
        state = QueryState(
            log_id=self._log_id,
            position=watermark.position,
            chain=watermark.chain.hex(),
            schema_version=SCHEMA_VERSION,
            interpretation_version=interpretation_version(),
            base=self._state.base,
            base_rows=self._state.base_rows,
            deltas=(*self._state.deltas, delta) if delta else self._state.deltas,
            delta_rows=self._state.delta_rows + self._part_rows,
        )
        if state == self._state:
            return
        if fold:
            state = self._with_new_base(state)
        fsync_path(self._folder)
        write_json(self._folder / STATE_FILE, _as_json(state))
        remove_others(self._folder, state.files() | {STATE_FILE})
        if fold:
            self._open(state)
        else:
            self._state, self._parts, self._part_rows = state, {}, 0

    def _write_delta(self) -> dict[str, str]:
        """Parquet files of everything since the last publish, by table."""
        delta = {}
        for name, tables in self._parts.items():
            delta[name] = f"{name}-{secrets.token_hex(8)}.parquet"
            path = self._folder / delta[name]
            pq.write_table(pa.concat_tables(tables), path, compression="zstd")
            fsync_path(path)
        return delta

    def _with_new_base(self, state: QueryState) -> QueryState:
        """Fold everything into one DuckDB file. Hidden rows stay (they decide about later ones), without their text."""
        name = f"base-{state.position:020d}-{secrets.token_hex(4)}.duckdb"
        path = self._folder / f"{name}.tmp"
        run = self.files.connection.execute
        run(
            f"ATTACH {quoted(str(path))} AS fresh (ROW_GROUP_SIZE {PART_ROWS}, STORAGE_VERSION 'v1.2.0')"
        )  # for zstd
        select = (
            "SELECT * REPLACE (CASE WHEN hidden_at > 0 THEN '' ELSE text END AS text, "
            "CASE WHEN hidden_at > 0 THEN '' ELSE edit END AS edit) FROM all_rows"
        )
        columns = columns_sql({**ROW_COLUMNS, **LONG_COLUMNS, "hidden_at": "BIGINT"})
        run(f"CREATE TABLE fresh.rows ({columns})")
        for low, high in _stretches(self.files):  # sorted piecewise: text is not sorted as a whole
            run(f"INSERT INTO fresh.rows {select} WHERE id >= ? AND id < ? ORDER BY id", [low, high])
        run("CREATE TABLE fresh.usage AS SELECT * FROM all_usage ORDER BY id")
        run("CREATE TABLE fresh.places AS SELECT * FROM all_places ORDER BY id")
        run("CREATE TABLE fresh.forgotten AS SELECT * FROM delta_forgotten")
        if state.base:
            run("INSERT INTO fresh.forgotten SELECT * FROM base.forgotten")
        counted = run("SELECT count(*) FROM fresh.rows").fetchone()
        run("DETACH fresh")
        fsync_path(path)
        path.rename(self._folder / name)
        rows = counted[0] if counted else 0
        return QueryState(
            log_id=state.log_id,
            position=state.position,
            chain=state.chain,
            schema_version=state.schema_version,
            interpretation_version=state.interpretation_version,
            base=name,
            base_rows=rows,
        )

    def close(self) -> None:
        if self._files is not None:
            self._files.close()
            self._files = None


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


def _wants_base(state: QueryState, new_rows: int) -> bool:
    """Whether to fold what is published and `new_rows` more into a new base."""
    rows = state.delta_rows + new_rows
    if rows > DELTA_ROWS_MAX or len(state.deltas) >= DELTAS_MAX:
        return True
    return rows > max(DELTA_ROWS_FREE, state.base_rows // 5)


def _as_json(state: QueryState) -> dict[str, Any]:
    value: dict[str, Any] = msgspec.to_builtins(state)
    return value

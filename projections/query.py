"""The writer of the query view: one Parquet delta a publish, folded into an immutable DuckDB base now and then."""

import contextlib
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
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
from session_mgmt_mcp.projections.tables import arrow_table, quoted

PART_ROWS = 20_000  # rows kept in memory before they go to a file that is not published yet
DELTA_ROWS_MAX = 50_000  # beyond, or beyond a fifth of the base, deltas are folded into a new base
DELTA_ROWS_FREE = 5_000  # below, a new base is not worth its writing
DELTAS_MAX = 64


class QueryProjection:
    """See `protocol.Projection`. Opened by the holder of the maintenance lock."""

    name = "query"
    schema_version = SCHEMA_VERSION

    def __init__(self, views: Path, log: EventLog) -> None:
        self._views = views
        self._folder = make_folder(query_folder(views))
        self._log_id = log.log_id
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
        """What is published and, unpublished, the parts written so far."""
        assert self._files is not None
        return self._files

    def reset(self) -> None:
        self._open(empty_state(self._log_id))

    def _open(self, state: QueryState) -> None:
        self.close()
        files = QueryFiles(self._views, state)
        self._known_sessions = files.sessions()
        self._facts = Facts(self._load, files.ids_of_keys, files.forgotten())
        self._files = files
        self._state = state
        self._parts: list[dict[str, str]] = []
        self._part_rows = 0
        self._pending = Interpreted([], [], [])
        self._forgotten: list[tuple[str, int]] = []

    def _load(self, session: str) -> list[Known]:
        return self.files.known(session) if session in self._known_sessions else []

    def apply(self, batch: Sequence[Event]) -> None:
        for event in batch:
            found = interpret_event(event)
            for forgotten in found.forgotten:
                if self._pending.rows:
                    self._write_part()
                self._facts.forget(forgotten.action_keys, event.position)
                self._forgotten += [(key, event.position) for key in forgotten.action_keys]
            self._pending.usage.extend(found.usage)
            complete = self._facts.complete
            self._pending.rows.extend(complete(row) for row in found.rows)
        if len(self._pending.rows) >= PART_ROWS:
            self._write_part()

    def _write_part(self) -> None:
        contents: dict[str, Sequence[Any]] = {
            "rows": self._pending.rows,
            "usage": self._pending.usage,
            "hidden": list(self._facts.hidden.items()),
            "forgotten": self._forgotten,
        }
        part = {}
        for name, records in contents.items():
            if records:
                part[name] = f"{name}-{secrets.token_hex(8)}.parquet"
                path = self._folder / part[name]
                pq.write_table(arrow_table(name, records), path, compression="zstd")
                fsync_path(path)
        if part:
            self._parts.append(part)
            self.files.load_delta(part)
        rows: list[Row] = self._pending.rows
        self._part_rows += len(rows)
        self._known_sessions.update(row.session for row in rows)
        self._pending = Interpreted([], [], [])
        self._forgotten = []
        self._facts.hidden.clear()
        if self._facts.may_evict():
            self._facts.evict()

    def publish(self, watermark: Watermark) -> None:
        self._write_part()
        state = QueryState(
            log_id=self._log_id,
            position=watermark.position,
            chain=watermark.chain.hex(),
            schema_version=SCHEMA_VERSION,
            interpretation_version=interpretation_version(),
            base=self._state.base,
            base_rows=self._state.base_rows,
            deltas=(*self._state.deltas, *self._parts),
            delta_rows=self._state.delta_rows + self._part_rows,
        )
        if state == self._state:
            return
        if _wants_base(state):
            state = self._with_new_base(state)
        fsync_path(self._folder)
        write_json(self._folder / STATE_FILE, _as_json(state))
        remove_others(self._folder, state.files() | {STATE_FILE})
        if state.base != self._state.base:
            self._open(state)
        else:
            self._state, self._parts, self._part_rows = state, [], 0

    def _with_new_base(self, state: QueryState) -> QueryState:
        """Fold everything into one DuckDB file. Hidden rows stay (they decide about later ones), without their text."""
        name = f"base-{state.position:020d}-{secrets.token_hex(4)}.duckdb"
        path = self._folder / f"{name}.tmp"
        run = self.files.connection.execute
        run(f"ATTACH {quoted(str(path))} AS fresh (ROW_GROUP_SIZE 16384)")
        select = (
            "SELECT * REPLACE (CASE WHEN hidden_at > 0 THEN '' ELSE text END AS text, "
            "CASE WHEN hidden_at > 0 THEN '' ELSE edit END AS edit) FROM all_rows"
        )
        run(f"CREATE TABLE fresh.rows AS {select} LIMIT 0")
        for low, high in _stretches(self.files):  # sorted piecewise: text is not sorted as a whole
            run(f"INSERT INTO fresh.rows {select} WHERE id >= ? AND id < ? ORDER BY id", [low, high])
        run("CREATE TABLE fresh.usage AS SELECT * FROM all_usage ORDER BY id")
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


def _wants_base(state: QueryState) -> bool:
    if state.delta_rows > DELTA_ROWS_MAX or len(state.deltas) > DELTAS_MAX:
        return True
    return state.delta_rows > max(DELTA_ROWS_FREE, state.base_rows // 5)


def _as_json(state: QueryState) -> dict[str, Any]:
    value: dict[str, Any] = msgspec.to_builtins(state)
    return value

"""The writer of the query view: one Parquet delta a publish, folded into an immutable DuckDB base now and then."""

import contextlib
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from session_mgmt_mcp.core.envelope import Event
from session_mgmt_mcp.core.errors import ViewDamagedError
from session_mgmt_mcp.core.ports import EventLog
from session_mgmt_mcp.projections import query_base
from session_mgmt_mcp.projections.completing import Completer, Part
from session_mgmt_mcp.projections.facts import Facts, Known
from session_mgmt_mcp.projections.files import fsync_path, make_folder, remove_others, write_json
from session_mgmt_mcp.projections.interpreting import interpret_batch
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
from session_mgmt_mcp.projections.tombstones import Tombstones


class QueryProjection:
    """See `protocol.Projection`. Opened by the holder of the maintenance lock. `rebuild` makes one from nothing."""

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
        self.usable = self._files is not None  # what is published
        if not self.usable:
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
        self._completer = Completer(Facts(self._load, files.ids_of_keys, files.forgotten()), self._take_part)
        self._files = files
        self._state = state
        self._parts: dict[str, list[pa.Table]] = {}  # table -> what no file holds yet
        self._part_rows = 0

    def _load(self, session: str) -> list[Known]:
        return self.files.known(session) if session in self._known_sessions else []

    @contextlib.contextmanager
    def _reading_base(self) -> Iterator[None]:
        """Raises ViewDamagedError where the published base cannot be read: it is gone then, and the next run rebuilds."""
        try:
            yield
        except Exception as error:
            if not query_base.remove_if_damaged(self._views, self._state, error):
                raise
            what = f"{self._folder / self._state.base} was damaged and is removed"
            raise ViewDamagedError(f"{what}; run maintenance again to make it anew from the log") from error

    def apply(self, batch: Sequence[Event]) -> None:
        with self._reading_base():
            if batch:
                self._completer.take(interpret_batch(batch, self._tombstones))
            if self._completer.rows >= query_base.PART_ROWS:
                self._completer.flush()

    def _take_part(self, part: Part) -> None:
        """Bring a part into DuckDB, where `Facts` finds it."""
        for name, table in part.items():
            self.files.insert(name, table)
            self._parts.setdefault(name, []).append(table)
            if "session" in table.column_names:
                self._known_sessions.update(table.column("session").unique().to_pylist())
        self._part_rows += part["rows"].num_rows if "rows" in part else 0
        if query_base.wants_base(self._state, self._part_rows):
            self._parts.clear()  # the base is written from DuckDB

    def publish(self, watermark: Watermark) -> None:
        with self._reading_base():
            self._completer.flush()
        fold = query_base.wants_base(self._state, self._part_rows)
        delta = {} if fold else write_delta(self._folder, self._parts)
        state = msgspec.structs.replace(
            self._state,
            position=watermark.position,
            chain=watermark.chain.hex(),
            deltas=(*self._state.deltas, delta) if delta else self._state.deltas,
            delta_rows=self._state.delta_rows + self._part_rows,
        )
        if state == self._state:
            return
        if fold:
            with self._reading_base():
                state = self._with_new_base(state)
        publish_state(self._folder, state)
        if fold:
            self._open(state)
        else:
            self._state, self._parts, self._part_rows = state, {}, 0

    def _with_new_base(self, state: QueryState) -> QueryState:
        name = base_name(state.position)
        path = self._folder / f"{name}.tmp"
        rows = query_base.write_base(self.files, path)
        path.rename(self._folder / name)
        return msgspec.structs.replace(state, base=name, base_rows=rows, deltas=(), delta_rows=0)

    def close(self) -> None:
        if self._files is not None:
            self._files.close()
            self._files = None


def base_name(position: int) -> str:
    """A new file name for a base."""
    return f"base-{position:020d}-{secrets.token_hex(4)}.duckdb"


def write_delta(folder: Path, parts: dict[str, list[pa.Table]]) -> dict[str, str]:
    """Durable Parquet files of these tables; their names by table."""
    delta = {}
    for name, tables in parts.items():
        delta[name] = f"{name}-{secrets.token_hex(8)}.parquet"
        path = folder / delta[name]
        pq.write_table(pa.concat_tables(tables), path, compression="zstd")
        fsync_path(path)
    return delta


def publish_state(folder: Path, state: QueryState) -> None:
    """Make a state visible in one step, then remove the files it does not need."""
    fsync_path(folder)
    write_json(folder / STATE_FILE, msgspec.to_builtins(state))
    remove_others(folder, state.files() | {STATE_FILE})

"""The query view built from nothing, beside the published one: resumable, and swapped in when it is complete.

`rebuilding/` holds parts as Parquet files and `state.json`, written after each part, with the position reached. An
interrupted rebuild goes on from there if the log still has the history it was heading for, interpretation and schema
are the same, and nothing was forgotten meanwhile.
"""

import contextlib
import shutil
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from session_mgmt_mcp.core.ports import EventLog
from session_mgmt_mcp.projections import query_base
from session_mgmt_mcp.projections.completing import Completer, Part
from session_mgmt_mcp.projections.facts import SESSIONS_ROWS_MAX, Facts
from session_mgmt_mcp.projections.files import fsync_path, make_folder, read_json, remove_others, write_json
from session_mgmt_mcp.projections.interpreting import interpreted
from session_mgmt_mcp.projections.protocol import Watermark
from session_mgmt_mcp.projections.query import base_name, publish_state, write_delta
from session_mgmt_mcp.projections.query_files import (
    SCHEMA_VERSION,
    STATE_FILE,
    QueryFiles,
    empty_state,
    query_folder,
)
from session_mgmt_mcp.projections.rows import interpretation_version
from session_mgmt_mcp.projections.tables import TABLES, connect, quoted
from session_mgmt_mcp.projections.tombstones import tombstones_between

REBUILDING = "rebuilding"
CHECKPOINT_ROWS = 16_384  # of one part
LEFTOVER_AGE_S = 86_400
_NULLS = {"BIGINT": "0", "VARCHAR": "''", "VARCHAR[]": "[]::VARCHAR[]", "BOOLEAN": "false"}


class Checkpoint(msgspec.Struct, frozen=True):
    """`rebuilding/state.json`: how far an unfinished rebuild is, and what it belongs to."""

    log_id: str
    target: int  # the position it was heading for
    chain: str  # hex, there
    position: int  # reached
    tombstone: int  # position of the last one that was known
    schema_version: int
    interpretation_version: int
    parts: tuple[dict[str, str], ...] = ()
    rows: int = 0

    def fits(self, log: EventLog, target: Watermark, tombstone: int) -> bool:
        """Whether to go on from here."""
        return (
            self.log_id == log.log_id
            and self.tombstone == tombstone
            and self.target <= target.position
            and Watermark(self.target, bytes.fromhex(self.chain)).fits(log)
            and (self.schema_version, self.interpretation_version)
            == (SCHEMA_VERSION, interpretation_version())
        )


class PartFiles(QueryFiles):
    """Parts on disk as one query view; nothing is loaded into memory."""

    def __init__(self, folder: Path, log_id: str) -> None:
        self.state = empty_state(log_id)
        self._folder = folder
        self.connection = connect(str(folder))
        self._parts: dict[str, list[str]] = {name: [] for name in TABLES}
        for name, columns in TABLES.items():
            nothing = ", ".join(f'{_NULLS[kind]}::{kind} AS "{column}"' for column, kind in columns.items())
            self.connection.execute(f"CREATE VIEW delta_{name} AS SELECT {nothing} WHERE false")
        self._create_views()

    def load_delta(self, delta: dict[str, str]) -> None:
        for name, file in delta.items():
            self._parts[name].append(quoted(str(self._folder / file)))
            files = ", ".join(self._parts[name])
            self.connection.execute(
                f"CREATE OR REPLACE VIEW delta_{name} AS SELECT * FROM read_parquet([{files}])"
            )


class QueryRebuild:
    """One rebuild up to `target`. The caller holds the maintenance lock."""

    def __init__(self, views: Path, log: EventLog, target: Watermark) -> None:
        self._log = log
        self._target = target
        self._published = make_folder(query_folder(views))
        self._folder = self._published / REBUILDING
        self._tombstones = tombstones_between(log, 0, target.position)
        found = load_checkpoint(self._folder)
        usable = found is not None and found.fits(log, target, self._tombstones.last)
        self._checkpoint = found if found is not None and usable else self._start()
        make_folder(self._folder)
        remove_others(self._folder, {STATE_FILE, *_names(self._checkpoint.parts)})
        self._files = PartFiles(self._folder, log.log_id)
        self._parts = list(self._checkpoint.parts)
        self._rows = self._checkpoint.rows

    def _start(self) -> Checkpoint:
        shutil.rmtree(self._folder, ignore_errors=True)
        return Checkpoint(
            log_id=self._log.log_id,
            target=0,
            chain="",
            position=0,
            tombstone=self._tombstones.last,
            schema_version=SCHEMA_VERSION,
            interpretation_version=interpretation_version(),
        )

    def run(self, progress: Callable[[int, int], None] | None = None) -> int:
        """Build, publish, clean up; how many events were interpreted. May be killed at any point."""
        start = self._checkpoint.position
        try:
            completer = Completer(self._facts(), self._take_part)
            for batch in interpreted(self._log, start, self._target.position, self._tombstones):
                completer.take(batch)
                if completer.rows >= CHECKPOINT_ROWS:
                    completer.flush()
                    self._save(batch.last)
                if progress is not None:
                    progress(batch.last, self._target.position)
            completer.flush()
            self._publish()
        finally:
            self._files.close()
        shutil.rmtree(self._folder, ignore_errors=True)
        return self._target.position - start

    def _facts(self) -> Facts:
        for part in self._parts:
            self._files.load_delta(part)
        self._sessions = self._files.sessions() if self._parts else set()
        whole = self._rows <= SESSIONS_ROWS_MAX
        facts = Facts(
            lambda session: self._files.known(session) if session in self._sessions else [],
            self._files.ids_of_keys,
            self._files.forgotten(),
            whole=whole,
        )
        if whole:
            facts.prime(self._files.all_known())
        return facts

    def _take_part(self, part: Part) -> None:
        delta = write_delta(self._folder, {name: [table] for name, table in part.items()})
        self._parts.append(delta)
        self._files.load_delta(delta)
        for table in part.values():
            if "session" in table.column_names:
                self._sessions.update(table.column("session").unique().to_pylist())
        self._rows += part["rows"].num_rows if "rows" in part else 0

    def _save(self, position: int) -> None:
        fsync_path(self._folder)
        self._checkpoint = msgspec.structs.replace(
            self._checkpoint,
            target=self._target.position,
            chain=self._target.chain.hex(),
            position=position,
            parts=tuple(self._parts),
            rows=self._rows,
        )
        write_json(self._folder / STATE_FILE, msgspec.to_builtins(self._checkpoint))

    def _publish(self) -> None:
        state = msgspec.structs.replace(
            empty_state(self._log.log_id), position=self._target.position, chain=self._target.chain.hex()
        )
        if query_base.wants_base(state, self._rows):
            name = base_name(state.position)
            path = self._folder / f"{name}.tmp"
            rows = query_base.write_base(self._files, path)
            path.rename(self._published / name)
            state = msgspec.structs.replace(state, base=name, base_rows=rows)
        else:
            for name in _names(self._parts):
                (self._folder / name).rename(self._published / name)
            state = msgspec.structs.replace(state, deltas=tuple(self._parts), delta_rows=self._rows)
        publish_state(self._published, state)


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """What an interrupted rebuild left, None where that is nothing one can go on from."""
    raw = read_json(folder / STATE_FILE)
    with contextlib.suppress(msgspec.ValidationError, ValueError):
        found = msgspec.convert(raw, Checkpoint)
        bytes.fromhex(found.chain)
        if all((folder / name).is_file() for name in _names(found.parts)):
            return found
    return None


def drop_leftovers(folder: Path, age_s: float | None = None) -> None:
    """Remove what an interrupted rebuild left in a projection's folder longer ago than `age_s`, or than a day."""
    limit = LEFTOVER_AGE_S if age_s is None else age_s
    rebuilding = folder / REBUILDING
    with contextlib.suppress(FileNotFoundError):
        if time.time() - rebuilding.stat().st_mtime >= limit:
            shutil.rmtree(rebuilding, ignore_errors=True)


def _names(parts: Iterable[dict[str, str]]) -> list[str]:
    return [name for part in parts for name in part.values()]

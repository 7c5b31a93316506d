"""The log beyond what is published, interpreted in memory: what makes an event findable the moment it is appended."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb

from session_mgmt_mcp.core.actions import FactsForgotten
from session_mgmt_mcp.core.envelope import Event
from session_mgmt_mcp.core.errors import ViewsBehindError
from session_mgmt_mcp.core.ports import EventLog
from session_mgmt_mcp.projections.facts import Facts
from session_mgmt_mcp.projections.files import read_json, stamp
from session_mgmt_mcp.projections.protocol import LEXICAL
from session_mgmt_mcp.projections.query_base import remove_if_damaged
from session_mgmt_mcp.projections.query_files import (
    STATE_FILE,
    QueryFiles,
    QueryState,
    empty_state,
    load_state,
    query_folder,
)
from session_mgmt_mcp.projections.rows import ORDINAL_BITS, Row, UsageRow, interpret_event
from session_mgmt_mcp.projections.tables import arrow_table
from session_mgmt_mcp.projections.tombstones import Place, tombstones_between

RELOADS_MAX = 5
# Events beyond what is published that are read into memory: 50,000 take about a minute and some hundred megabytes. Beyond
# that whoever asks is better served by views that maintenance builds, in several processes and in bounded memory.
TAIL_EVENTS_MAX = 50_000


def check_gap(published: int, wanted: int) -> None:
    """Raise ViewsBehindError where too much lies between two positions to be taken into memory."""
    if wanted - published > TAIL_EVENTS_MAX:
        raise ViewsBehindError(
            f"the views hold {published:,} of {wanted:,} events; they are being built from the log, nothing is lost: ask again "
            "in a while, `session-mgmt-mcp maintain --once` shows how far they are"
        )


def _version_of_words(views: Path) -> int:
    """Of the interpretation the published lexical index is of; `lexical` itself would load its engine."""
    return int((read_json(views / LEXICAL / STATE_FILE) or {}).get("interpretation_version", 0))


class QueryReader:
    """The published query view and the log's tail as one. Not thread-safe; `Views` holds the lock."""

    def __init__(self, log: EventLog, views: Path) -> None:
        self._log = log
        self._views = views
        self._state_file = str(query_folder(views) / STATE_FILE)
        self._stamp = (-1, 0, 0)
        self._damaged: set[str] = set()  # bases
        self.files: QueryFiles
        self.loads = 0  # how often what is published was opened; tells others to reload too

    def refresh(self) -> None:
        """Take in what was published and appended since the last call."""
        now = stamp(self._state_file)
        if not self.loads or (now != self._stamp and not self._keeps()):
            self._reload()
        head = self._log.head()
        if head.position < self.position:
            self._reload()
        if head.position > self.position:
            check_gap(self.watermark.position, head.position)
            for batch in self._log.read(self.position, head.position):
                self._apply(batch)

    def _reload(self) -> None:
        for attempt in range(RELOADS_MAX):
            self._stamp = stamp(self._state_file)
            state = self._published()
            try:
                files = QueryFiles(self._views, state)
                sessions, forgotten = files.sessions(), files.forgotten()
                break
            except (duckdb.Error, OSError):  # removed by a newer publish, or damaged
                if attempt == RELOADS_MAX - 1 or stamp(self._state_file) == self._stamp:
                    files = QueryFiles(self._views, empty_state(self._log.log_id))
                    sessions, forgotten = set(), set()
                    break
        if self.loads:
            self.files.close()
        self.files = files
        self.watermark = files.state.watermark
        self.position = self.watermark.position
        self.rows: dict[int, Row] = {}  # of the tail, by id; hidden ones too
        self.new: list[Row] = []  # rows since the last `drain`
        self.hidden: set[int] = set()
        self._unsaved: list[Row] = []
        self._unsaved_usage: list[UsageRow] = []
        self._unsaved_places: list[Place] = []
        sealed = self._log.sealed().position  # what is not sealed was not forgotten
        self._tombstones = tombstones_between(self._log, self.position, sealed)
        self._sessions = sessions
        self._facts = Facts(
            lambda session: files.known(session) if session in self._sessions else [],
            files.ids_of_keys,
            forgotten,
        )
        self.loads += 1

    def _published(self) -> QueryState:
        """What to begin from. What another version made serves until this one has made it anew, unless so little was
        recorded that interpreting all of it takes no time. Raises ViewsBehindError.
        """
        head = self._log.head().position
        state = load_state(self._views, self._log, of_any_version=head > TAIL_EVENTS_MAX)
        if state is None or state.base in self._damaged:
            state = empty_state(self._log.log_id)
        check_gap(state.position, head)
        return state

    def _keeps(self) -> bool:
        """Whether what was published since is of another version than the index of words still is: to search one with the
        other would find nothing, so what is open serves on until both are there.
        """
        if not self.loads:
            return False
        state, version = load_state(self._views, self._log), self.files.state.interpretation_version
        return (
            state is not None
            and state.interpretation_version != version
            and state.position > TAIL_EVENTS_MAX
            and _version_of_words(self._views) == version
        )

    def leaves_out(self, error: Exception) -> bool:
        """Whether a damaged base is why reading failed, and is done without from now on: the log is read instead."""
        if not self.loads or not remove_if_damaged(self._views, self.files.state, error):
            return False
        self._damaged.add(self.files.state.base)
        self._reload()
        return True

    def _apply(self, batch: list[Event]) -> None:
        for event in batch:
            if event.payload is None:
                self._leave(event)
                self.position = event.position
                continue
            found = interpret_event(event)
            for forgotten in found.forgotten:
                self._forget(forgotten, event.position)
            for row in map(self._facts.complete, found.rows):
                self.rows[row.id] = row
                self.new.append(row)
                self._unsaved.append(row)
            self._unsaved_usage.extend(found.usage)
            self.position = event.position
        self.hidden.update(self._facts.hidden)

    def _leave(self, event: Event) -> None:
        for place in self._tombstones.places(event):
            self._facts.leave_place(place.session, place.known)
            self._unsaved_places.append(place)

    def _forget(self, forgotten: FactsForgotten, at: int) -> None:
        """Hide what was forgotten, by its keys and by its events; until the views are published anew they hold it."""
        self._facts.forget(forgotten.action_keys, at)
        gone = set(forgotten.positions)
        ids = [row_id for row_id in self.rows if row_id >> ORDINAL_BITS in gone]
        for row_id in (*ids, *self.files.ids_at([p for p in gone if p <= self.watermark.position])):
            self._facts.hidden.setdefault(row_id, at)

    def drain(self) -> list[Row]:
        """Tail rows that were not drained before."""
        new, self.new = self.new, []
        return new

    def sql(self) -> QueryFiles:
        """The view with the tail's rows brought into DuckDB."""
        unsaved: dict[str, Sequence[Sequence[Any]]] = {
            "rows": self._unsaved,
            "usage": self._unsaved_usage,
            "places": self._unsaved_places,
        }
        for name, records in unsaved.items():
            if records:
                self.files.insert(name, arrow_table(name, records))
        hidden = list(self._facts.hidden.items())
        if hidden:
            self.files.connection.executemany("INSERT INTO delta_hidden VALUES (?, ?)", hidden)
        self._unsaved, self._unsaved_usage, self._unsaved_places = [], [], []
        self._facts.hidden.clear()
        return self.files

    def shows(self, ids: list[int], indexed: int) -> set[int]:
        """Those of these ids that are shown; `indexed`: the position whose index they come from.

        An index as far as the query view holds shown rows only; what an older one holds has to be looked up: it may be
        hidden by now, or forgotten and in the view no more.
        """
        out = set(ids) - self.hidden
        published = out.difference(self.rows)
        if published and indexed < self.watermark.position:
            marks = ",".join(map(str, published))
            shown = self.files.fetch(f"SELECT id FROM shown WHERE id IN ({marks})")
            out -= published.difference(r[0] for r in shown)
        return out

    def close(self) -> None:
        if self.loads:
            self.files.close()

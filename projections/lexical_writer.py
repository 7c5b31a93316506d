"""The writer of the lexical index.

Sessions are taken whole, in order of their first rows: each row is analysed once for its own document and for its
session's. An index from nothing is built in `rebuilding/`, with a commit now and then that says which session it is at;
an interrupted build goes on from there, up to the position it was heading for, and from that as any update does.
"""

import contextlib
import secrets
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from session_mgmt_mcp.core.ports import EventLog
from session_mgmt_mcp.projections.documents import document_of, number_of
from session_mgmt_mcp.projections.files import fsync_path, make_folder, read_json, write_json
from session_mgmt_mcp.projections.lexical import (
    SCHEMA_VERSION,
    LexicalIndex,
    SessionDocument,
    lexical_folder,
    open_indexes,
    published_generation,
    row_document,
)
from session_mgmt_mcp.projections.protocol import Watermark
from session_mgmt_mcp.projections.query_files import STATE_FILE, QueryFiles
from session_mgmt_mcp.projections.rebuild import REBUILDING, drop_leftovers
from session_mgmt_mcp.projections.rows import ORDINAL_BITS, interpretation_version
from session_mgmt_mcp.projections.tombstones import tombstones_between

HEAP_BYTES = 64 << 20
ROWS_AT_ONCE = 8192  # of small sessions that are indexed together
CHECKPOINT_ROWS = 20_000  # indexed between two commits of a build
Progress = Callable[[int, int], None]  # rows looked at, of how many


class Group(NamedTuple):
    """Sessions that are indexed together: first and last id of their rows, first ids by name, how many rows."""

    low: int
    high: int
    firsts: dict[str, int]
    rows: int


class LexicalProjection:
    """The writer. It reads the query view's rows, which it must not be ahead of, and indexes those that are shown."""

    name = "lexical"
    schema_version = SCHEMA_VERSION

    def __init__(self, views: Path, log: EventLog, *, fresh: bool = False) -> None:
        self._folder = make_folder(lexical_folder(views))
        self._log = log
        self._generation = "" if fresh else self._usable()
        if self._generation:
            self._rows, self._sessions = open_indexes(self._folder / self._generation)
        else:
            self._rows, self._sessions = self._begun()

    def _usable(self) -> str:
        generation = published_generation(self._folder, self._log)
        if generation:
            with contextlib.suppress(Exception):  # damaged files, whatever tantivy says of them: index anew
                indexes = open_indexes(self._folder / generation)
                if all(index.watermark.fits(self._log) for index in indexes):
                    return generation
        return ""

    def _begun(self) -> tuple[LexicalIndex, LexicalIndex]:
        """What an interrupted build left, if one can go on from it, else empty indexes."""
        folder = self._folder / REBUILDING
        sealed = self._log.sealed().position
        belongs = {**self._state(), "tombstone": tombstones_between(self._log, 0, sealed).last}
        if read_json(folder / STATE_FILE) == belongs:
            with contextlib.suppress(Exception):
                rows, sessions = open_indexes(folder)
                if all(i.watermark.position and i.watermark.fits(self._log) for i in (rows, sessions)):
                    return rows, sessions
        shutil.rmtree(folder, ignore_errors=True)
        write_json(make_folder(folder) / STATE_FILE, belongs)
        return open_indexes(folder)

    def _state(self) -> dict[str, str | int]:
        return {
            "log_id": self._log.log_id,
            "schema_version": SCHEMA_VERSION,
            "interpretation_version": interpretation_version(),
        }

    @property
    def watermark(self) -> Watermark:
        return min(self._rows.watermark, self._sessions.watermark)

    def update(self, files: QueryFiles, watermark: Watermark, progress: Progress | None = None) -> int:
        """Index what the query view shows up to `watermark`; how many rows were added. May be killed at any point."""
        added = 0
        if not self._generation:
            added += self._build(files, watermark, progress)
        if self.watermark != watermark:
            added += self._follow(files, watermark, progress)
        if not self._generation:
            self._publish()
        drop_leftovers(self._folder)
        for entry in self._folder.iterdir():
            if entry.is_dir() and entry.name not in (self._generation, REBUILDING):
                shutil.rmtree(entry, ignore_errors=True)
        return added

    def _publish(self) -> None:
        self._generation = f"index-{secrets.token_hex(4)}"
        (self._folder / REBUILDING).rename(self._folder / self._generation)
        fsync_path(self._folder)
        self._rows, self._sessions = open_indexes(self._folder / self._generation)
        write_json(self._folder / STATE_FILE, {"index": self._generation, **self._state()})

    def _build(self, files: QueryFiles, watermark: Watermark, progress: Progress | None) -> int:
        """Everything up to `watermark`, or up to where an interrupted build was heading for."""
        after = [-1, -1]  # first ids of the last sessions that are in the rows' and in the sessions' index
        if self.watermark.position:
            begun = [index.unfinished for index in (self._rows, self._sessions)]
            if begun == [None, None]:
                return 0
            watermark = self.watermark
            after = [(watermark.position + 1) << ORDINAL_BITS if at is None else at for at in begun]
        end = (watermark.position + 1) << ORDINAL_BITS
        feed = _Feed(files, self._rows, self._sessions, watermark, rows_after=after[0])
        groups = _groups(files, "true", [], end)
        total, seen, added, saved = sum(group.rows for group in groups), 0, 0, 0
        for group in groups:
            left = {name: first for name, first in group.firsts.items() if first > min(after)}
            if left:
                added += feed.take(group._replace(firsts=left), 0, end)
                if added - saved >= CHECKPOINT_ROWS:
                    feed.commit(max(left.values()))
                    saved = added
            seen += group.rows
            if progress is not None:
                progress(seen, total)
        feed.finish()
        return added

    def _follow(self, files: QueryFiles, watermark: Watermark, progress: Progress | None) -> int:
        """What is new or newly hidden since the last commits."""
        position, done = self.watermark.position, self._rows.watermark.position
        begin, end = (done + 1) << ORDINAL_BITS, (watermark.position + 1) << ORDINAL_BITS
        feed = _Feed(files, self._rows, self._sessions, watermark)
        feed.delete("SELECT id FROM all_rows WHERE hidden_at > ? AND id < ?", [done, begin])
        condition = "max(id) >= ? OR max(hidden_at) > ?"
        groups = _groups(files, condition, [(position + 1) << ORDINAL_BITS, position], end)
        total, seen, added = sum(group.rows for group in groups), 0, 0
        for group in groups:
            added += feed.take(group, begin, end)
            seen += group.rows
            if progress is not None:
                progress(seen, total)
        feed.finish()
        return added


class _Feed:
    """Adds sessions to both indexes, up to a watermark."""

    def __init__(
        self,
        files: QueryFiles,
        rows: LexicalIndex,
        sessions: LexicalIndex,
        watermark: Watermark,
        rows_after: int = -1,
    ) -> None:
        """Rows of sessions whose first id is at most `rows_after` are in the index already."""
        self._files = files
        self._indexes = (rows, sessions)
        self._watermark = watermark
        self._rows_after = rows_after
        self._row_tokens = Counter(rows.statistics.tokens)
        self._session_tokens = Counter(sessions.statistics.tokens)
        self._rows = rows.index.writer(HEAP_BYTES, 1)
        self._sessions = sessions.index.writer(HEAP_BYTES, 1)

    def delete(self, sql: str, parameters: list[int]) -> None:
        """Take rows out, by their ids."""
        for (row_id,) in self._files.fetch(sql, parameters):
            self._rows.delete_documents_by_term("id", row_id)

    def take(self, group: Group, begin: int, end: int) -> int:
        """Index the sessions of a group as they are before id `end`, of their rows those from `begin`; how many."""
        documents = {name: SessionDocument(name) for name in group.firsts}
        added = 0
        condition = "id BETWEEN ? AND ? AND id < ? AND session IN (SELECT unnest(?))"
        parameters = [group.low, group.high, end, list(group.firsts)]
        for row in self._files.shown_rows(condition, parameters):
            document = document_of(row)
            documents[row.session].add(row, document)
            if row.id >= begin and any(document) and group.firsts[row.session] > self._rows_after:
                self._rows.add_document(row_document(row, document, self._row_tokens))
                added += 1
        for name, session in documents.items():
            self._sessions.delete_documents_by_term("session", number_of(name))
            self._sessions.add_document(session.finish(self._session_tokens))
        return added

    def commit(self, unfinished: int | None) -> None:
        """The rows first: what they are ahead of the sessions, an interruption leaves to be done there."""
        rows, sessions = self._indexes
        rows.commit(self._rows, self._watermark, dict(self._row_tokens), unfinished)
        sessions.commit(self._sessions, self._watermark, dict(self._session_tokens), unfinished)

    def finish(self) -> None:
        """The last commit; afterwards the indexes show what was added."""
        self.commit(None)
        for index, writer in zip(self._indexes, (self._rows, self._sessions), strict=True):
            writer.wait_merging_threads()
            index.reload()


def _groups(files: QueryFiles, condition: str, parameters: list[int], end: int) -> list[Group]:
    """Sessions with rows before id `end` that meet a condition, so many at once as are read well in one go."""
    out: list[Group] = []
    sql = (
        "SELECT min(id), max(id), session, count(*) FROM all_rows WHERE id < ? GROUP BY session "
        f"HAVING {condition} ORDER BY min(id)"
    )
    for first, last, name, count in files.fetch(sql, [end, *parameters]):
        if out and out[-1].rows + count <= ROWS_AT_ONCE:
            low, high, firsts, rows = out[-1]
            out[-1] = Group(low, max(high, last), {**firsts, name: first}, rows + count)
        else:
            out.append(Group(first, last, {name: first}, count))
    return out

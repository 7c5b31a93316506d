"""The writer of the lexical index.

Sessions are taken whole, in order of their first rows: each row is analysed once for its own document and for its
session's. An index from nothing is built in `rebuilding/`, with a commit now and then that says which session it is at;
an interrupted build goes on from there, up to the position it was heading for, and from that as any update does.
"""

import contextlib
import secrets
import shutil
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path

from session_mgmt_mcp.core.ports import EventLog
from session_mgmt_mcp.projections.documents import number_of
from session_mgmt_mcp.projections.files import fsync_path, make_folder, read_json, write_json
from session_mgmt_mcp.projections.lexical import (
    SCHEMA_VERSION,
    LexicalIndex,
    lexical_folder,
    open_indexes,
    published_generation,
)
from session_mgmt_mcp.projections.lexical_groups import (
    Analysed,
    Analysis,
    Group,
    analyse,
    beyond,
    groups_of,
)
from session_mgmt_mcp.projections.protocol import Watermark
from session_mgmt_mcp.projections.query_files import STATE_FILE, QueryFiles, load_state
from session_mgmt_mcp.projections.rebuild import REBUILDING, drop_leftovers
from session_mgmt_mcp.projections.rows import ORDINAL_BITS, interpretation_version
from session_mgmt_mcp.projections.tombstones import tombstones_between
from session_mgmt_mcp.projections.workers import results

HEAP_BYTES = 64 << 20
ROWS_MIN = 20_000  # below, starting processes takes longer than they save
CHECKPOINT_ROWS = 20_000  # indexed between two commits of a build
Progress = Callable[[int, int], None]  # rows looked at, of how many


class LexicalProjection:
    """The writer. It reads the query view's rows, which it must not be ahead of, and indexes those that are shown."""

    name = "lexical"
    schema_version = SCHEMA_VERSION

    def __init__(self, views: Path, log: EventLog, *, fresh: bool = False) -> None:
        self._views = views
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
        fsync_path(self._folder / REBUILDING)  # the names of the two indexes, which tantivy leaves to us
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
        feed = _Feed(files, self._rows, self._sessions, watermark)
        groups = groups_of(files, "true", [], end)
        total = sum(group.rows for group in groups)
        groups = [group for group in map(partial(beyond, min(after)), groups) if group.firsts]
        seen, added, saved = total - sum(group.rows for group in groups), 0, 0
        for group, found in zip(groups, self._analysed(files, groups, end), strict=True):
            added += feed.take(found, [name for name, first in group.firsts.items() if first <= after[0]])
            if added - saved >= CHECKPOINT_ROWS:
                feed.commit(max(group.firsts.values()))
                saved = added
            seen += group.rows
            if progress is not None:
                progress(seen, total)
        feed.finish()
        return added

    def _analysed(self, files: QueryFiles, groups: list[Group], end: int) -> Iterator[Analysed]:
        """Every group; by several processes where that pays, and the published view has what is wanted."""
        state = load_state(self._views)
        rows = sum(group.rows for group in groups)
        if state is None or state.position != files.state.position or rows < ROWS_MIN:
            return (analyse(files, group, 0, end) for group in groups)
        return results(Analysis(self._views, state, 0, end), groups)

    def _follow(self, files: QueryFiles, watermark: Watermark, progress: Progress | None) -> int:
        return follow(self._rows, self._sessions, files, watermark, progress)


def follow(
    rows: LexicalIndex,
    sessions: LexicalIndex,
    files: QueryFiles,
    watermark: Watermark,
    progress: Progress | None = None,
    heap_bytes: int = HEAP_BYTES,
) -> int:
    """Index what is new or newly hidden since the last commits; how many rows were added. `heap_bytes`: of each writer."""
    position, done = min(rows.watermark, sessions.watermark).position, rows.watermark.position
    begin, end = (done + 1) << ORDINAL_BITS, (watermark.position + 1) << ORDINAL_BITS
    feed = _Feed(files, rows, sessions, watermark, heap_bytes)
    feed.delete("SELECT id FROM all_rows WHERE hidden_at > ? AND id < ?", [done, begin])
    condition = "max(id) >= ? OR max(hidden_at) > ?"
    groups = groups_of(files, condition, [(position + 1) << ORDINAL_BITS, position], end)
    total, seen, added = sum(group.rows for group in groups), 0, 0
    for group in groups:
        added += feed.take(analyse(files, group, begin, end))
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
        heap_bytes: int = HEAP_BYTES,
    ) -> None:
        self._files = files
        self._indexes = (rows, sessions)
        self._watermark = watermark
        self._row_tokens = Counter(rows.statistics.tokens)
        self._session_tokens = Counter(sessions.statistics.tokens)
        self._rows = rows.index.writer(heap_bytes, 1)
        self._sessions = sessions.index.writer(heap_bytes, 1)

    def delete(self, sql: str, parameters: list[int]) -> None:
        """Take rows out, by their ids."""
        for (row_id,) in self._files.fetch(sql, parameters):
            self._rows.delete_documents_by_term("id", row_id)

    def take(self, found: Analysed, known: Collection[str] = ()) -> int:
        """Index a group, but for the rows of `known` sessions, which are in the index; how many rows."""
        added = 0
        for row in found.rows:
            if row.session not in known:
                self._rows.add_document(row.document(self._row_tokens))
                added += 1
        for session in found.sessions:
            self._sessions.delete_documents_by_term("session", number_of(session.session))
            self._sessions.add_document(session.document(self._session_tokens))
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

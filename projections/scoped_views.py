"""What `Views` answers, to somebody who may see some projects alone.

Nothing is filtered out of an answer afterwards: words are looked up in an index of the visible rows alone, held in
memory, so that no rank, no count and no "did you mean" depends on rows that may not be seen (Büttcher and Clarke, "A
security model for full-text file system search in multi-user environments", FAST 2005, show how much statistics over
all documents tell). Positions stay those of the log: gaps between them say how much else was recorded, and nothing more.
"""

import copy
import threading
from typing import TYPE_CHECKING

from session_mgmt_mcp.core.errors import InputError
from session_mgmt_mcp.projections.lexical import LexicalIndex, rows_schema, sessions_schema
from session_mgmt_mcp.projections.lexical_writer import follow
from session_mgmt_mcp.projections.meaning import Cosines, Meaning, Vector
from session_mgmt_mcp.projections.protocol import Watermark
from session_mgmt_mcp.projections.results import VectorStatus, ViewStatus
from session_mgmt_mcp.projections.rows import ORDINAL_BITS
from session_mgmt_mcp.projections.scope import (
    Scope,
    ScopedFiles,
    ScopedReader,
    scope_of,
    scoped_projects,
)
from session_mgmt_mcp.projections.search import Search
from session_mgmt_mcp.projections.sessions import LOG_ASSISTANT
from session_mgmt_mcp.projections.views import Scoped, Views

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future

    from session_mgmt_mcp.projections.projects import Projects
    from session_mgmt_mcp.projections.query_files import QueryFiles
    from session_mgmt_mcp.projections.tail import QueryReader

HEAP_BYTES = 16 << 20  # of each index's writer, for as long as it writes


class ScopedIndexes:
    """The lexical indexes of the published rows within a scope, in memory. What is handed out never changes."""

    def __init__(self) -> None:
        self._rows = LexicalIndex(None, rows_schema())
        self._sessions = LexicalIndex(None, sessions_schema())
        self._forgotten = -1
        self.changes = 0
        """How often they were brought up to date."""
        self.rows, self.sessions = copy.copy(self._rows), copy.copy(self._sessions)
        self.ids: list[int] = []
        """Of the rows that are shown."""

    @property
    def watermark(self) -> Watermark:
        return self.rows.watermark

    def follow(self, files: "QueryFiles", watermark: Watermark) -> "ScopedIndexes":
        """The indexes as of `watermark`: these, with what is new; from nothing where something was forgotten."""
        forgotten = len(files.forgotten())
        whole = (
            self if self._forgotten in (forgotten, -1) and self.watermark <= watermark else ScopedIndexes()
        )
        follow(whole._rows, whole._sessions, files, watermark, heap_bytes=HEAP_BYTES)
        made = copy.copy(whole)
        made._forgotten, made.changes = forgotten, self.changes + 1
        made.rows, made.sessions = copy.copy(whole._rows), copy.copy(whole._sessions)
        end = (watermark.position + 1) << ORDINAL_BITS
        made.ids = [
            row_id for (row_id,) in files.fetch("SELECT id FROM shown WHERE id < ? ORDER BY id", [end])
        ]
        return made


class ScopedSearch(Search):
    """Over indexes that are brought up to date before it is asked."""

    def __init__(self, views: "ScopedViews", reader: ScopedReader, indexes: ScopedIndexes) -> None:
        super().__init__(views._log, views._views, reader, None, views._weights)
        self.indexes = indexes
        meaning = views._meaning()
        self._meaning = ScopedMeaning(meaning, self) if meaning is not None else None

    def _reload_index(self) -> bool:
        if self._stamp == self.indexes.changes:
            return False
        self._stamp = self.indexes.changes
        self._rows, self._sessions = self.indexes.rows, self.indexes.sessions
        return True


class ScopedMeaning(Meaning):
    """Near in meaning among the visible rows: the nearest of all rows could be others, and push those out."""

    def __init__(self, shared: Meaning, search: ScopedSearch) -> None:
        self._shared = shared
        self._search = search

    def refresh(self) -> None:
        self._shared.refresh()

    def vector(self, text: str) -> "Future[Vector | None] | None":
        return self._shared.vector(text)

    def nearest(self, query: Vector, *, narrowed: bool = False) -> list[int]:
        return self._shared.nearest_among(self._search.indexes.ids, query)

    def nearest_among(self, ids: "Sequence[int]", query: Vector) -> list[int]:
        return self._shared.nearest_among(ids, query)

    def cosines(self, ids: "Sequence[int]", query: Vector) -> Cosines:
        return self._shared.cosines(ids, query)


class ScopedViews(Views):
    """Safe to use from several threads, beside the views it is made from."""

    def __init__(self, views: Views, granted: tuple[str, ...]) -> None:
        """`granted`: absolute folders, as `scope.scope_of` takes them."""
        super().__init__(views._log, views._views.parent, views._embedder, views._weights)
        self._base = views
        self._granted = granted
        self._lock = views._lock
        self._building = threading.Lock()
        self._over: QueryReader | None = None
        self._all_projects: Projects | None = None
        self._visible: Projects | None = None
        self._scope = Scope(())
        self._scoped_reader: ScopedReader | None = None
        self._scoped_search: ScopedSearch | None = None
        self._indexes: ScopedIndexes | None = None

    def sees(self, project: str) -> bool:
        """Whether rows of this working folder are seen."""
        with self._lock:
            self._refresh_reader()
            return self._scope.sees(project)

    def sees_event(self, position: int) -> bool:
        """Whether all that an event tells is seen."""
        first, last = position << ORDINAL_BITS, ((position + 1) << ORDINAL_BITS) - 1
        with self._lock:
            self._refresh_reader()  # what is granted may have been joined or separated since
            with self._base.reading() as files:
                found = files.fetch(
                    "SELECT DISTINCT project FROM all_rows WHERE id BETWEEN ? AND ?", [first, last]
                )
            return bool(found) and all(self._scope.sees(project) for (project,) in found)

    def _refresh_reader(self) -> ScopedReader:
        reader = self._base._refresh_reader()
        projects = self._base._projects_of(reader)
        if projects is not self._all_projects:
            scope = scope_of(projects, self._granted)
            if scope != self._scope:
                self._let_go()
                self._scope = scope
            self._all_projects, self._visible = projects, scoped_projects(projects, scope)
        if reader is not self._over or self._scoped_reader is None:
            self._let_go()
            self._over = reader
            self._scoped_reader = ScopedReader(reader, self._scope)
        self._scoped_reader.refresh()
        return self._scoped_reader

    def _rows_held(self) -> int:
        return len(self._indexes.ids) if self._indexes is not None else 0

    def _let_go(self) -> None:
        if self._scoped_reader is not None:
            self._scoped_reader.close()
        self._scoped_reader = self._scoped_search = self._indexes = self._over = None

    def _projects_of(self, reader: "QueryReader") -> "Projects":
        if self._visible is None:
            self._refresh_reader()
        assert self._visible is not None
        return self._visible

    def _meaning(self) -> Meaning | None:
        return self._base._meaning()

    def _leaves_out(self, error: Exception) -> bool:
        return self._base._leaves_out(error)

    def _have_views_built(self) -> None:
        self._base._have_views_built()

    def _prepare(self) -> None:
        """Index what is visible, where that is behind. Others search meanwhile; those of the same scope wait."""
        with self._building:
            with self._lock:
                reader = self._refresh_reader()
                indexes, watermark, scope = self._indexes or ScopedIndexes(), reader.watermark, self._scope
                if self._indexes is not None and indexes.watermark == watermark:
                    return
                assert self._over is not None
                files = ScopedFiles(self._over.files, scope)
            try:
                made = indexes.follow(files, watermark)
            finally:
                with self._lock:
                    files.close()
            with self._lock:
                if scope == self._scope:
                    self._indexes = made

    def _refresh(self) -> "tuple[QueryReader, Search]":
        reader = self._refresh_reader()
        if self._indexes is None:  # what is seen changed since: the tail covers everything
            self._indexes = ScopedIndexes()
        if self._scoped_search is None:
            self._scoped_search = ScopedSearch(self, reader, self._indexes)
        self._scoped_search.indexes = self._indexes
        self._scoped_search.refresh()
        return reader, self._scoped_search

    def payload(self, position: int) -> bytes | None:
        return super().payload(position) if self.sees_event(position) else None

    def status(self) -> ViewStatus:
        """What is visible; of the log itself, and of how far others' rows are published, nothing."""
        with self.reading() as files:
            kinds = files.fetch("SELECT kind, count(*) FROM shown GROUP BY kind ORDER BY kind")
            [(sessions, last)] = files.fetch(
                f"SELECT count(DISTINCT session) FILTER (assistant <> '{LOG_ASSISTANT}'), coalesce(max(id), 0) FROM shown"
            )
        position = last >> ORDINAL_BITS
        return ViewStatus(
            log_position=position,
            query_watermark=position,
            lexical_watermark=position,
            sessions=sessions,
            actions=sum(n for _, n in kinds),
            kinds=dict(kinds),
            unknown={},
            vectors=VectorStatus(passages=0, waiting=0),
        )

    def scoped(
        self, granted: tuple[str, ...], make: "Callable[[Views, tuple[str, ...]], Scoped]"
    ) -> "Scoped":
        """Raises InputError: what is narrowed is not narrowed again."""
        raise InputError("these views are narrowed to some projects already")

    def close(self) -> None:
        with self._lock:
            self._let_go()
            self._all_projects = self._visible = None

"""What somebody may see: rows of some projects, and nothing that other rows leave a trace in.

A `Scope` says which working folders these are. `ScopedReader` is a query view with its tail that holds such rows alone:
everything asked of it (sessions, timelines, counts, names, words) is answered as if nothing else were recorded.
"""

import contextlib
import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import count, islice
from typing import Any, Final, NamedTuple

import duckdb

from session_mgmt_mcp.projections.documents import ancestors
from session_mgmt_mcp.projections.matching import is_below
from session_mgmt_mcp.projections.projects import Projects
from session_mgmt_mcp.projections.query_files import QueryFiles
from session_mgmt_mcp.projections.rows import ORDINAL_BITS, Row
from session_mgmt_mcp.projections.tables import quoted
from session_mgmt_mcp.projections.tail import QueryReader

SESSIONS_MAX: Final = 256  # whose rows are numbered at once
_NUMBERS: Final = count(1)  # of schemas: several stand in one DuckDB
_UPWARDS: Final = re.compile(r"(?:^|[/\\])\.\.(?:[/\\]|\Z)")
_UPWARDS_SQL: Final = r"regexp_matches(project, '(?:^|[/\\])\.\.(?:[/\\]|$)')"


class Scope(NamedTuple):
    """Folders with all that lies below them, as rows name them; without a slash at the end."""

    folders: tuple[str, ...]

    def sees(self, project: str) -> bool:
        """Whether rows of this working folder are seen; those of none are not."""
        return (
            bool(project)
            and any(is_below(project, folder) for folder in self.folders)
            and not _UPWARDS.search(project)
        )

    def sql(self) -> str:
        """The same of a column `project`."""
        parts = []
        for folder in self.folders:
            name, slashed, backslashed = quoted(folder), quoted(folder + "/"), quoted(folder + "\\")
            parts.append(
                f"rtrim(project, '/\\') = {name} OR starts_with(project, {slashed}) "
                f"OR starts_with(project, {backslashed})"
            )
        return f"(({' OR '.join(parts) or 'false'}) AND NOT {_UPWARDS_SQL})"


def scope_of(projects: Projects, granted: Sequence[str]) -> Scope:
    """What a grant of these folders lets see: they themselves, and where one of them is a project's root, all folders of
    that project: its worktrees, and what was joined with it.

    A folder within a project, or a worktree, opens only what lies in it.
    """
    found = dict.fromkeys(folder.rstrip("/\\") for folder in granted)
    for folder in tuple(found):
        if projects.own_root(folder) == folder:
            found.update(dict.fromkeys(other.rstrip("/\\") for other in projects.folders(folder)))
    known = {folder for folder in found if folder}
    return Scope(tuple(sorted(folder for folder in known if known.isdisjoint(ancestors(folder)[1:]))))


class ScopedProjects(Projects):
    """The projects as far as they lie within a scope. What is not recorded is never looked up on the disk: whether a
    folder is there, and whose it is, may be somebody else's.
    """

    def own_root(self, folder: str) -> str:
        """The recorded root; the folder itself where there is none, or it lies elsewhere."""
        trimmed = folder.rstrip("/\\") or folder[:1]
        return self._seen.get(trimmed, trimmed)

    def including(self, folders: object) -> "Projects":
        """As they are: see the class."""
        return self


def scoped_projects(projects: Projects, scope: Scope) -> ScopedProjects:
    """Those folders and joins that can be seen."""
    seen, joins = projects.recorded()
    return ScopedProjects(
        {f: root if scope.sees(root) else f for f, root in seen.items() if scope.sees(f)},
        {old: new for old, new in joins.items() if scope.sees(old) and scope.sees(new)},
    )


class ScopedFiles(QueryFiles):
    """The same query view on a connection of its own, where `shown` and `all_rows` hold the scope's rows alone.

    Usage and left places name no project, so that there are none. Reads only.
    """

    def __init__(self, files: QueryFiles, scope: Scope) -> None:
        self._scope = scope
        self._ids: dict[str, list[int]] = {}
        schema = self._schema = f"scope_{next(_NUMBERS)}"
        self.state = files.state
        self.connection = files.connection.cursor()
        run = self.connection.execute
        run(f"CREATE SCHEMA {schema}")
        for name in ("all_rows", "shown"):
            run(f"CREATE VIEW {schema}.{name} AS SELECT * FROM main.{name} WHERE {scope.sql()}")
        for name in ("all_usage", "all_places"):
            run(f"CREATE VIEW {schema}.{name} AS SELECT * FROM main.{name} WHERE false")
        run(f"SET schema = '{schema}'")

    def _cursor(self) -> duckdb.DuckDBPyConnection:
        """DuckDB's cursors do not take over which schema their connection reads."""
        cursor = super()._cursor()
        cursor.execute(f"SET schema = '{self._schema}'")
        return cursor

    def shown_rows(self, where: str = "true", parameters: Iterable[Any] = ()) -> Iterator[Row]:
        """Looked at once more: these rows become what words are looked up in. Numbered among what is seen of their session:
        how near two rows are to each other counts in a search.
        """
        for row in super().shown_rows(where, parameters):
            if self._scope.sees(row.project):
                yield row._replace(seq=self.number(row.session, row.id))

    def number(self, session: str, row_id: int) -> int:
        """Which row of its session this is, from 1, of those that are seen."""
        known = self._ids.get(session)
        if known is None or known[-1] < row_id:  # rows are only added at the end
            found = self.fetch("SELECT id FROM all_rows WHERE session = ? ORDER BY id", [session])
            if len(self._ids) >= SESSIONS_MAX:
                self._ids.clear()
            known = self._ids[session] = [found_id for (found_id,) in found] or [row_id]
        return bisect_left(known, row_id) + 1

    def close(self) -> None:
        """Let go of the connection, and with the last one of the whole view."""
        with contextlib.suppress(duckdb.Error):  # what it read was damaged, or closed by now
            self.connection.execute("SET schema = 'main'")
            self.connection.execute(f"DROP SCHEMA {self._schema} CASCADE")
        self.connection.close()


class ScopedReader(QueryReader):
    """A reader's rows within a scope. Not thread-safe; whoever holds it refreshes the reader first, then this."""

    def __init__(self, reader: QueryReader, scope: Scope) -> None:
        self._reader = reader
        self._scope = scope
        self._taken = 0
        self.loads = 0
        self.rows: dict[int, Row] = {}
        self.new: list[Row] = []
        self._counts: dict[str, int] = {}  # number of the last row of a session's tail

    def refresh(self) -> None:
        """Follow the reader, which is up to date."""
        reader = self._reader
        if self.loads != reader.loads:
            if self.loads:
                self.files.close()
            self.files = ScopedFiles(reader.files, self._scope)
            self.loads, self._taken = reader.loads, 0
            self.rows, self.new, self._counts = {}, [], {}
            self.watermark = reader.watermark
        for row in islice(reader.rows.values(), self._taken, None):
            if self._scope.sees(row.project):
                self._counts[row.session] = seq = self._number(row.session)
                self.rows[row.id] = row = row._replace(seq=seq)
                self.new.append(row)
        self._taken = len(reader.rows)
        self.position = reader.position
        self.hidden = reader.hidden

    def _number(self, session: str) -> int:
        """Of the next row of a session's tail, as `ScopedFiles.number` says of those that are published."""
        if session in self._counts:
            return self._counts[session] + 1
        begin = (self.watermark.position + 1) << ORDINAL_BITS
        [(before,)] = self.files.fetch(
            "SELECT count(*) FROM all_rows WHERE session = ? AND id < ?", [session, begin]
        )
        return int(before) + 1

    def sql(self) -> QueryFiles:
        """The view with the tail's rows."""
        self._reader.sql()
        return self.files

    def leaves_out(self, error: Exception) -> bool:
        return self._reader.leaves_out(error)

"""Projects: which working folders are one, from what the log says was seen and joined."""

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import NamedTuple

from session_mgmt_mcp.core.envelope import EventType
from session_mgmt_mcp.core.events import JOINED_WORDS, SEEN_WORDS
from session_mgmt_mcp.core.project import identify
from session_mgmt_mcp.projections.documents import ancestors
from session_mgmt_mcp.projections.filters import Filters
from session_mgmt_mcp.projections.matching import compiled, is_absolute, is_below, project_pattern
from session_mgmt_mcp.projections.query_files import QueryFiles
from session_mgmt_mcp.projections.rows import ORDINAL_BITS, Row
from session_mgmt_mcp.projections.tail import QueryReader

SEEN, JOINED = str(EventType.PROJECT_SEEN), str(EventType.PROJECT_JOINED)


class Noted(NamedTuple):
    """A row that says something of projects."""

    id: int
    origin: str
    project: str
    text: str


def noted_rows(files: QueryFiles, before: int = 1 << 62) -> list[Noted]:
    """Those below an id, in order."""
    sql = (
        "SELECT id, origin, project, text FROM shown "
        "WHERE kind = 'ContextNoted' AND origin IN (?, ?) AND id < ? ORDER BY id"
    )
    return [Noted(*record) for record in files.fetch(sql, [SEEN, JOINED, before])]


class Projects:
    """Roots, folders and joins as of one moment. A root is the folder `core.project.identify` names; joined roots stand
    under one of them, the last that was joined to. Folders nobody recorded are looked up on the disk.
    """

    def __init__(self, seen: Mapping[str, str], joins: Mapping[str, str]) -> None:
        """`seen`: folder -> root; `joins`: old root -> new root."""
        self._seen = dict(seen)
        self._joins = {old: new for old, new in joins.items() if old != new}
        self._unseen: dict[str, str] = {}

    @classmethod
    def noted(cls, rows: Iterable[Noted], unseen: Iterable[str] = ()) -> "Projects":
        """From rows in order: the last word on a folder or a root counts. `unseen`: further folders."""
        seen: dict[str, str] = {}
        joins: dict[str, str] = {}
        for row in rows:
            if row.origin == SEEN:
                root = row.text.removeprefix(row.project + SEEN_WORDS)
                if row.project and root != row.text:
                    seen[_trimmed(row.project)] = root
            else:
                old = row.text.removesuffix(JOINED_WORDS + row.project)
                joins[row.project if old == row.text else old] = row.project
        return cls(seen, joins).including(unseen)

    def including(self, folders: Iterable[str]) -> "Projects":
        """With these folders as if they were recorded, as the disk has them; what is recorded stays as it is."""
        new = {folder for folder in map(_trimmed, folders) if folder and folder not in self._seen}
        return Projects({**self._seen, **{folder: identify(folder).root for folder in new}}, self._joins)

    def recorded(self) -> tuple[Mapping[str, str], Mapping[str, str]]:
        """The roots of folders, and the joins (old root -> new root)."""
        return self._seen, self._joins

    def own_root(self, folder: str) -> str:
        """The folder's root, joined to others or not."""
        folder = _trimmed(folder)
        root = self._seen.get(folder) or self._unseen.get(folder)
        if root is None:
            root = self._unseen[folder] = identify(folder).root
        return root

    def root_of(self, folder: str) -> str:
        """The root of the folder's project; "" of ""."""
        return self.canonical(self.own_root(folder)) if folder else ""

    def canonical(self, root: str) -> str:
        """The root under which this one goes on. Joins that run in a circle, which only logs written side by side can
        hold, end at the least of its roots.
        """
        passed = [root]
        while (following := self._joins.get(passed[-1])) is not None:
            if following in passed:
                return min(passed[passed.index(following) :])
            passed.append(following)
        return passed[-1]

    def roots(self, root: str) -> tuple[str, ...]:
        """All roots that are one with this one, the canonical one first."""
        first = self.canonical(root)
        known = self._known()
        return (first, *sorted(other for other in known if other != first and self.canonical(other) == first))

    def folders(self, root: str) -> tuple[str, ...]:
        """All folders of a root's project that are known, its roots among them, in order."""
        first = self.canonical(root)
        recorded = (folder for folder, own in self._seen.items() if self.canonical(own) == first)
        return tuple(sorted({*self.roots(root), *recorded}))

    def joined(self, root: str) -> bool:
        """Whether the root goes on under another."""
        return root in self._joins

    def own_roots(self, value: str) -> tuple[str, ...]:
        """The recorded roots, joined or not, that a value means: a folder (of one), or the name of roots."""
        known = self._known()
        if is_absolute(value):
            root = self.own_root(value)
            return (root,) if root in known else ()
        matches = compiled(project_pattern(value)).fullmatch
        return tuple(sorted(root for root in known if matches(root)))

    def meant(self, value: str) -> tuple[str, ...]:
        """The canonical roots of the projects a filter's value means."""
        return tuple(sorted({self.canonical(root) for root in self.own_roots(value)}))

    def widened(self, value: str) -> tuple[str, ...]:
        """A filter's value and, as further values, what else belongs to the projects it means: `project:` finds a folder
        and all below it, and these folders lie elsewhere.
        """
        found = {folder for root in self.meant(value) for folder in self.folders(root)}
        if is_absolute(value):
            found = {folder for folder in found if not is_below(folder, value)}
        return (value, *sorted(folder for folder in found if found.isdisjoint(ancestors(folder)[1:])))

    def widen(self, filters: Filters) -> Filters:
        """Filters whose projects are all of their folders."""
        return filters.widened("project", self.widened)

    def _known(self) -> set[str]:
        return {*self._seen.values(), *self._joins, *self._joins.values()}


def _trimmed(folder: str) -> str:
    return folder.rstrip("/\\") or folder[:1]


class ProjectsReader:
    """The projects of a query view and its tail. Not thread-safe; `Views` holds the lock and refreshes the reader first."""

    def __init__(self) -> None:
        self._state = (-1, 0, 0)
        self._forget_tail()
        self._published: list[Noted] = []
        self._projects = Projects({}, {})

    def _forget_tail(self) -> None:
        self._taken = 0
        self._tail: list[Noted] = []
        self._folders: dict[
            str, None
        ] = {}  # working folders of the tail, which maintenance may not have recorded yet

    def current(self, reader: QueryReader) -> Projects:
        state = (reader.loads, len(reader.rows), len(reader.hidden))
        if state != self._state:
            if state[0] != self._state[0]:
                self._forget_tail()
                self._published = noted_rows(reader.files, (reader.watermark.position + 1) << ORDINAL_BITS)
            for row in islice(reader.rows.values(), self._taken, None):
                self._take(row)
            self._taken = len(reader.rows)
            rows = (row for row in (*self._published, *self._tail) if row.id not in reader.hidden)
            self._projects = Projects.noted(rows, self._folders)
            self._state = state
        return self._projects

    def _take(self, row: Row) -> None:
        self._folders[row.project] = None
        if row.origin in (SEEN, JOINED) and row.kind == "ContextNoted":
            self._tail.append(Noted(row.id, row.origin, row.project, row.text))

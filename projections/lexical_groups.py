"""Which sessions are indexed together, and what the lexical index is to hold of them: here or in other processes."""

from pathlib import Path
from typing import Any, NamedTuple

from session_mgmt_mcp.projections.documents import document_of
from session_mgmt_mcp.projections.lexical import RowFields, SessionDocument, SessionFields, row_fields
from session_mgmt_mcp.projections.query_files import QueryFiles, QueryState

ROWS_AT_ONCE = 4096  # of small sessions that are indexed together


class Group(NamedTuple):
    """Sessions that are indexed together: first and last id of their rows, first ids by name, how many rows."""

    low: int
    high: int
    firsts: dict[str, int]
    rows: int


def beyond(after: int, group: Group) -> Group:
    """The group without the sessions whose first id is at most `after`."""
    return group._replace(firsts={name: first for name, first in group.firsts.items() if first > after})


def groups_of(files: QueryFiles, condition: str, parameters: list[int], end: int) -> list[Group]:
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


class Analysed(NamedTuple):
    """What the index is to hold of a group."""

    rows: list[RowFields]
    sessions: list[SessionFields]


class Analysis:
    """The job of `workers`: to read groups in a published query view, and to take their texts apart."""

    def __init__(self, views: Path, state: QueryState, begin: int, end: int) -> None:
        """Of the rows those from id `begin` are wanted, of the sessions what they have before id `end`."""
        self._views = views
        self._state = state
        self._range = begin, end
        self._files: QueryFiles | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_files": None}

    def do(self, task: Group) -> Analysed:
        if self._files is None:
            self._files = QueryFiles(self._views, self._state)
        return analyse(self._files, task, *self._range)


def analyse(files: QueryFiles, group: Group, begin: int, end: int) -> Analysed:
    """See `Analysis`."""
    sessions = {name: SessionDocument(name) for name in group.firsts}
    rows = []
    condition = "id BETWEEN ? AND ? AND id < ? AND session IN (SELECT unnest(?))"
    for row in files.shown_rows(condition, [group.low, group.high, end, list(group.firsts)]):
        document = document_of(row)
        sessions[row.session].add(row, document)
        if row.id >= begin and any(document):
            rows.append(row_fields(row, document))
    return Analysed(rows, [session.finish() for session in sessions.values()])

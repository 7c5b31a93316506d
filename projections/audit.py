"""Who did what when: shown rows and the log's own events in order of position, and their totals."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from heapq import merge
from itertools import pairwise
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec

from session_mgmt_mcp.core.actions import AnyAction
from session_mgmt_mcp.core.envelope import Event
from session_mgmt_mcp.core.errors import InputError
from session_mgmt_mcp.core.events import ACCESS_STREAM
from session_mgmt_mcp.projections.filters import named_project_sql
from session_mgmt_mcp.projections.own_events import describe
from session_mgmt_mcp.projections.query_files import QueryFiles
from session_mgmt_mcp.projections.rows import ORDINAL_BITS

STRETCH_ROWS = 4096
FILES_COUNTED = 50
_WHAT_CHARS = 240
_OWN_KINDS = ("PayloadForgotten",)
_GLOB_SIGNS = frozenset("*?[")
_COLUMNS = "id, occurred_at, session, assistant, project, actor, kind, tool, files, is_error"
_TEXT = f"left(CASE WHEN text = '' THEN concat_ws(' ', origin, reason) ELSE text END, {_WHAT_CHARS * 2})"

EventIds = Callable[[Sequence[int]], dict[int, bytes]]  # ids of events by their positions


class AuditFilters(NamedTuple):
    """None: everything."""

    session: str | None = None  # a full id
    project: str | tuple[str, ...] | None = (
        None  # a folder, which stands for all below it too; several: any of them
    )
    actor: str | None = None
    tool: str | None = None
    file: str | None = None  # a path, the end of one (whole names), or a pattern of either
    kind: str | None = None
    after: int | None = None  # µs since the epoch, inclusive
    before: int | None = None  # exclusive
    since_position: int = 0  # only events after it
    below_position: int = 0  # only events before it; 0: all
    access_of: str | None = None  # of the events of access only those of this actor


class AuditRow(msgspec.Struct, frozen=True, kw_only=True):
    """One fact. `what` is one line; `occurred_at` is µs since the epoch, 0 where unknown."""

    position: int
    occurred_at: int
    session: str
    assistant: str
    project: str
    actor: str
    kind: str
    tool: str
    files: tuple[str, ...]
    is_error: bool
    what: str
    event_id: str  # hex


class Totals(msgspec.Struct, frozen=True):
    """How often, the most frequent first; of files only the first `FILES_COUNTED`."""

    rows: int
    errors: int
    actors: dict[str, int]
    kinds: dict[str, int]
    tools: dict[str, int]
    files: dict[str, int]
    files_in_all: int


def kinds() -> list[str]:
    """The kinds `AuditFilters.kind` knows."""
    shown = {kind.__name__ for kind in AnyAction.__args__} - {"UsageReported", "FactsForgotten"}
    return sorted(shown | set(_OWN_KINDS))


def audit_rows(
    files: QueryFiles, own: Iterable[Event], event_ids: EventIds, filters: AuditFilters, limit: int | None
) -> Iterator[AuditRow]:
    """The newest `limit` rows (all, if None), the oldest of them first, in bounded memory.

    `own`: events that the views have no row of. Raises InputError for an unknown kind.
    """
    if filters.kind is not None and filters.kind not in kinds():
        raise InputError(f"no kind {filters.kind!r}; there are {', '.join(kinds())}")
    extra = [row for row in map(own_row, own) if _passes(row, filters)]
    low = 0 if limit is None else _lowest(files, filters, extra, limit)
    late = [row for row in extra if row.position << ORDINAL_BITS >= low]
    return merge(_shown(files, event_ids, filters, low), late, key=attrgetter("position"))


def totals(files: QueryFiles, own: Iterable[Event], filters: AuditFilters) -> Totals:
    """Counts over everything the filters let through."""
    where, parameters = _where(filters)

    def count(column: str, condition: str = "true", limit: int = -1) -> dict[str, int]:
        found = files.fetch(
            f"SELECT {column} AS name, count(*) AS n FROM shown WHERE {where} AND {condition} GROUP BY name "
            f"ORDER BY n DESC, name {f'LIMIT {limit}' if limit >= 0 else ''}",
            parameters,
        )
        return {str(name): n for name, n in found}

    rows, errors = files.fetch(
        f"SELECT count(*), count(*) FILTER (is_error) FROM shown WHERE {where}", parameters
    )[0]
    unnested = f"SELECT unnest(files) AS file FROM shown WHERE {where}"
    per_file = files.fetch(
        f"SELECT file, count(*) AS n FROM ({unnested}) GROUP BY file ORDER BY n DESC, file LIMIT {FILES_COUNTED}",
        parameters,
    )
    in_all = files.fetch(f"SELECT count(DISTINCT file) FROM ({unnested})", parameters)[0][0]
    extra = [row for row in map(own_row, own) if _passes(row, filters)]
    return Totals(
        rows=rows + len(extra),
        errors=errors,
        actors=_plus(count("actor"), (row.actor for row in extra)),
        kinds=_plus(count("kind"), (row.kind for row in extra)),
        tools=count("tool", "tool <> ''"),
        files=dict(per_file),
        files_in_all=in_all,
    )


def _plus(counts: dict[str, int], names: Iterable[str]) -> dict[str, int]:
    merged = Counter(counts)
    merged.update(names)
    return dict(sorted(merged.items(), key=lambda item: (-item[1], item[0])))


def own_row(event: Event) -> AuditRow:
    """The row of an event of the log itself."""
    envelope = event.envelope
    return AuditRow(
        position=event.position,
        occurred_at=envelope.occurred_at or envelope.recorded_at,
        session=envelope.session,
        assistant=envelope.assistant,
        project="",
        actor=envelope.actor,
        kind=envelope.event_type,
        tool="",
        files=(),
        is_error=False,
        what=one_line(describe(event)),
        event_id=event.event_id.hex(),
    )


def one_line(text: str) -> str:
    """A text's beginning without line breaks and control characters."""
    joined = "".join(c if c.isprintable() else " " for c in " ".join(text.split()))
    return joined if len(joined) <= _WHAT_CHARS else joined[: _WHAT_CHARS - 1] + "…"


def _passes(row: AuditRow, filters: AuditFilters) -> bool:
    """The filters on one of the log's own events; `_where` says the same of rows."""
    return (
        row.position > filters.since_position
        and (not filters.below_position or row.position < filters.below_position)
        and filters.tool is None
        and filters.file is None
        and (filters.session is None or row.session == filters.session)
        and (filters.actor is None or row.actor == filters.actor)
        and (filters.kind is None or row.kind == filters.kind)
        and (filters.after is None or row.occurred_at >= filters.after)
        and (filters.before is None or 0 < row.occurred_at < filters.before)
        and filters.project is None  # they are of no project
    )


def _where(filters: AuditFilters) -> tuple[str, list[Any]]:
    conditions: list[tuple[str, list[Any]]] = [("id >= ?", [(filters.since_position + 1) << ORDINAL_BITS])]
    if filters.below_position:
        conditions.append(("id < ?", [filters.below_position << ORDINAL_BITS]))
    for column in ("session", "actor", "tool", "kind"):
        value = getattr(filters, column)
        if value is not None:
            conditions.append((f"{column} = ?", [value]))
    if filters.access_of is not None:
        apart = [*ACCESS_STREAM.split("/", 1), filters.access_of]
        conditions.append(("assistant <> ? OR session <> ? OR actor = ?", apart))
    if filters.project is not None:
        folders = (filters.project,) if isinstance(filters.project, str) else filters.project
        parts = [named_project_sql(folder) for folder in folders]
        conditions.append((" OR ".join(sql for sql, _ in parts), [v for _, values in parts for v in values]))
    if filters.file is not None:
        conditions.append(_file_sql(filters.file))
    if filters.after is not None:
        conditions.append(("occurred_at >= ?", [filters.after]))
    if filters.before is not None:
        conditions.append(("occurred_at > 0 AND occurred_at < ?", [filters.before]))
    return " AND ".join(f"({sql})" for sql, _ in conditions), [v for _, values in conditions for v in values]


def _file_sql(file: str) -> tuple[str, list[Any]]:
    """A file as a whole, by the end of its path, or by a pattern of either."""
    if _GLOB_SIGNS & set(file):
        matches, values = "f GLOB ? OR f GLOB ?", [file, f"*/{file}"]
    else:
        matches, values = "f = ? OR ends_with(f, ?)", [file, f"/{file}"]
    return f"len(list_filter(files, lambda f: {matches})) > 0", values


def _lowest(files: QueryFiles, filters: AuditFilters, extra: Sequence[AuditRow], limit: int) -> int:
    """The id from which on there are `limit` rows."""
    where, parameters = _where(filters)
    newest = [
        r[0]
        for r in files.fetch(f"SELECT id FROM shown WHERE {where} ORDER BY id DESC LIMIT {limit}", parameters)
    ]
    ids = sorted(newest + [row.position << ORDINAL_BITS for row in extra])
    return ids[-limit] if len(ids) >= limit else 0


def _shown(files: QueryFiles, event_ids: EventIds, filters: AuditFilters, low: int) -> Iterator[AuditRow]:
    """Rows of the views from the id `low` on, read a stretch of ids at a time."""
    where, parameters = _where(filters)
    where, parameters = f"{where} AND id >= ?", [*parameters, low]
    starts = [
        r[0]
        for r in files.fetch(
            f"SELECT id FROM (SELECT id, row_number() OVER (ORDER BY id) AS n FROM shown WHERE {where}) "
            f"WHERE n % {STRETCH_ROWS} = 1 ORDER BY id",
            parameters,
        )
    ]
    for start, end in pairwise([*starts, 1 << 62]):
        records = files.fetch(
            f"SELECT {_COLUMNS}, {_TEXT} FROM shown WHERE {where} AND id >= ? AND id < ? ORDER BY id",
            [*parameters, start, end],
        )
        ids = event_ids(sorted({record[0] >> ORDINAL_BITS for record in records}))
        yield from (_row(record, ids) for record in records)


def _row(record: Sequence[Any], ids: dict[int, bytes]) -> AuditRow:
    row_id, occurred_at, session, assistant, project, actor, kind, tool, files, is_error, text = record
    position = row_id >> ORDINAL_BITS
    return AuditRow(
        position=position,
        occurred_at=occurred_at,
        session=session,
        assistant=assistant,
        project=project,
        actor=actor,
        kind=kind,
        tool=tool,
        files=tuple(files or ()),
        is_error=is_error,
        what=one_line(text),
        event_id=ids[position].hex() if position in ids else "",
    )

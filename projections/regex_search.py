"""Which rows a regular expression is found in: RE2 over the query view, the newest rows first, for a bounded time.

RE2 takes time linear in the text, whatever the pattern. `^` and `$` match at lines, `.` no line break.
"""

import contextlib
import re
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, NamedTuple

import duckdb

from session_mgmt_mcp.core.errors import InputError
from session_mgmt_mcp.projections.documents import _OWN_TOOL, UNSEARCHED
from session_mgmt_mcp.projections.filters import Filters, named_project_sql
from session_mgmt_mcp.projections.matching import has_glob
from session_mgmt_mcp.projections.query_files import QueryFiles
from session_mgmt_mcp.projections.rows import Row

TIME_LIMIT_S = 2.0
CHUNKS_MAX = 64  # stretches in which the log is looked through
CHUNK_ROWS_MIN = 16_384  # of a stretch, whether they match the filters or not
IDS_MAX = 100_000  # rows a pattern may be found in where words rank them
_LINES = "(?m)"
_SPACE = r"[\s\pZ\x{1c}-\x{1f}\x{85}]+"
_FINDABLE = (  # other rows are in no answer
    f"NOT regexp_matches(tool, '^(?:{_OWN_TOOL.pattern})') AND origin NOT IN {UNSEARCHED}"
)
_INTERRUPTED = "Query interrupted"


class TimeLimit:
    """How long one question may look through texts. `clock`: seconds, monotonic."""

    def __init__(self, seconds: float = TIME_LIMIT_S, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self._clock = clock
        self._end = clock() + seconds

    @property
    def left_s(self) -> float:
        return self._end - self._clock()


class Scanned(NamedTuple):
    """Ids of rows, and "" or what was left out."""

    ids: list[int]
    note: str


class Part(NamedTuple):
    """(Time in µs, id) of rows of a stretch, newest first; `newest_left`: the newest time not yet looked at."""

    found: list[tuple[int, int]]
    note: str
    newest_left: int


class _Stretch(NamedTuple):
    """Rows from id `low` up to `high`."""

    low: int
    high: int
    newest: int  # time of a row, µs
    rows: int


def check_pattern(pattern: str) -> None:
    """Raises InputError with RE2's reason, and the place, where a pattern is none."""
    with duckdb.connect(":memory:") as connection:
        try:
            connection.execute("SELECT regexp_matches('', ?)", [_LINES + pattern])
        except duckdb.Error as error:
            reason = str(error).removeprefix("Invalid Input Error: ").replace(_LINES, "", 1)
            raise InputError(f"the pattern {pattern!r} cannot be used: {reason}") from None


def found_rows(
    files: QueryFiles, filters: Filters, limit: TimeLimit, among: set[int] | None = None
) -> Iterator[Part]:
    """Rows in which the patterns and phrases of `filters` may be found, a stretch of the log at once.

    `among`: ids beyond which nothing need be looked at. What the index's clauses and phrases ask is still to be checked by
    `Filters.passes`. Stretches are of ids, which are stored together, the one with the newest row first. Where the time
    was up the last one has a note.
    """
    condition, parameters = _condition(filters)
    if among is not None:
        condition, parameters = f"{condition} AND id IN (SELECT unnest(?))", [*parameters, sorted(among)]
    stretches = _stretches(files, condition, parameters)
    match, patterns = _matching(filters)
    sql = (
        f"SELECT occurred_at, id FROM shown WHERE id BETWEEN ? AND ? AND {condition} AND {match} "
        "ORDER BY occurred_at DESC, id DESC"
    )
    for i, stretch in enumerate(stretches):
        found = _within(files, sql, [stretch.low, stretch.high, *parameters, *patterns], limit)
        if found is None:
            yield Part([], _stopped(limit, stretches, i), stretch.newest)
            return
        left = max((later.newest for later in stretches[i + 1 :]), default=-1)
        yield Part(found, "", left)


def all_found(
    files: QueryFiles, filters: Filters, limit: TimeLimit, among: set[int] | None = None
) -> Scanned:
    """The same at once, at most IDS_MAX rows."""
    ids: list[int] = []
    for part in found_rows(files, filters, limit, among):
        ids += [row_id for _, row_id in part.found]
        if part.note:
            return Scanned(ids, part.note)
        if len(ids) > IDS_MAX:
            note = f"the pattern is found in more than {IDS_MAX} rows; not all of them were ranked"
            return Scanned(ids[:IDS_MAX], note)
    return Scanned(ids, "")


def found_in(files: QueryFiles, filters: Filters, rows: list[Row]) -> list[Row]:
    """Those of the rows that the patterns are found in."""
    match, patterns = _matching(filters._replace(any_of=()))
    columns = "unnest(?::BIGINT[]) AS n, unnest(?::VARCHAR[]) AS text, unnest(?::VARCHAR[]) AS edit"
    values = [list(range(len(rows))), [row.text for row in rows], [row.edit for row in rows]]
    sql = f"SELECT n FROM (SELECT {columns}) WHERE {match} ORDER BY n"
    return [rows[at] for (at,) in files.fetch(sql, [*values, *patterns])]


def first_match(files: QueryFiles, filters: Filters, row: Row) -> str:
    """What the first of the patterns that matches finds in a row, "" where none does."""
    for pattern in (p for group in filters.patterns for p in group):
        sql = "SELECT coalesce(nullif(regexp_extract(?, ?), ''), regexp_extract(?, ?))"
        (found,) = files.fetch(sql, [row.text, _LINES + pattern, row.edit, _LINES + pattern])[0]
        if found:
            return str(found)
    return ""


def _stretches(files: QueryFiles, condition: str, parameters: list[Any]) -> list[_Stretch]:
    """Stretches of ids, those with the newest rows first."""
    (count, first, last) = files.fetch(
        f"SELECT count(*), min(id), max(id) FROM shown WHERE {condition}", parameters
    )[0]
    if not count:
        return []
    (rows,) = files.fetch("SELECT count(*) FROM all_rows WHERE id BETWEEN ? AND ?", [first, last])[0]
    width = (last - first) // max(1, min(CHUNKS_MAX, rows // CHUNK_ROWS_MIN)) + 1
    sql = (
        f"SELECT (id - ?) // ? AS n, max(occurred_at), count(*) FROM shown WHERE {condition} "
        "GROUP BY n ORDER BY 2 DESC, n DESC"
    )
    return [
        _Stretch(first + n * width, first + (n + 1) * width - 1, newest, rows)
        for n, newest, rows in files.fetch(sql, [first, width, *parameters])
    ]


def _within(files: QueryFiles, sql: str, parameters: list[Any], limit: TimeLimit) -> list[Any] | None:
    """The records, None where the time was up."""
    left = limit.left_s
    if left <= 0:
        return None
    try:
        with _interrupted_after(files.connection, left) as up:
            return files.fetch(sql, parameters)
    except (duckdb.InterruptException, RuntimeError) as error:
        if isinstance(error, RuntimeError) and str(error) != _INTERRUPTED:
            raise
        if not up.is_set():  # by the user
            raise
        return None


@contextlib.contextmanager
def _interrupted_after(connection: duckdb.DuckDBPyConnection, seconds: float) -> Iterator[threading.Event]:
    """Interrupt what the connection does within; the event says whether the time was up."""
    up = threading.Event()

    def interrupt() -> None:
        up.set()
        connection.interrupt()

    timer = threading.Timer(seconds, interrupt)
    timer.daemon = True
    timer.start()
    try:
        yield up
    finally:
        timer.cancel()
        timer.join()


def _stopped(limit: TimeLimit, stretches: list[_Stretch], done: int) -> str:
    rows, total = sum(s.rows for s in stretches[:done]), sum(s.rows for s in stretches)
    newest = stretches[done].newest
    since = ""
    if done and newest > 0:
        with contextlib.suppress(ValueError, OverflowError, OSError):  # a time no calendar has
            since = f", all since {datetime.fromtimestamp(newest / 1e6):%Y-%m-%d %H:%M} among them"
    return (
        f"stopped after {limit.seconds:g} s: {rows} of {total} rows were looked through{since}; "
        "narrow it with after:, project:, file: or tool: to see the rest"
    )


def _condition(filters: Filters) -> tuple[str, list[Any]]:
    """What plain columns say of the filters, as SQL; rows that match it need not match them all."""
    conditions, parameters = [_FINDABLE], list[Any]()
    for column, value in (("occurred_at >= ?", filters.after), ("occurred_at < ?", filters.before)):
        if value is not None:
            conditions.append(column)
            parameters.append(value)
    if filters.before is not None:
        conditions.append("occurred_at > 0")
    for name, values in filters.any_of:
        parts = [_column(name, value) for value in values]
        if all(parts):
            conditions.append(f"({' OR '.join(part[0] for part in parts if part)})")
            parameters += [p for part in parts if part for p in part[1]]
    return " AND ".join(conditions), parameters


def _column(name: str, value: str) -> tuple[str, list[Any]] | None:
    if name == "session":
        return "session = ?", [value]
    if name == "kind":
        return ("edit <> ''", []) if value == "edit" else ("kind = ?", [value])
    if name == "project":
        return named_project_sql(value)
    if name in ("assistant", "actor", "branch") and value.isascii() and not has_glob(value):
        return f"lower({name}) = ?", [value.lower()]
    return None


def _matching(filters: Filters) -> tuple[str, list[str]]:
    """The patterns, and the phrases as patterns, as SQL."""
    in_text = "(regexp_matches(text, ?) OR regexp_matches(edit, ?))"
    in_files = f"({in_text} OR regexp_matches(array_to_string(files, chr(10)), ?))"
    conditions, parameters = ["true"], list[str]()
    for group in filters.patterns:
        conditions.append(f"({' OR '.join([in_text] * len(group))})")
        parameters += [_LINES + pattern for pattern in group for _ in range(2)]
    for pattern in filters.no_patterns:
        conditions.append(f"NOT {in_text}")
        parameters += [_LINES + pattern] * 2
    for phrases in (values for name, values in filters.any_of if name == "phrase"):
        conditions.append(f"({' OR '.join([in_files] * len(phrases))})")
        parameters += [
            "(?i)" + _SPACE.join(map(re.escape, phrase.split())) for phrase in phrases for _ in range(3)
        ]
    return " AND ".join(conditions), parameters

"""Rows that match filters alone, and what only a look at the rows' texts decides."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import tantivy

from session_mgmt_mcp.projections import regex_search
from session_mgmt_mcp.projections.analysis import exact_words
from session_mgmt_mcp.projections.documents import document_of
from session_mgmt_mcp.projections.filters import Filters, every_row
from session_mgmt_mcp.projections.lexical import LexicalIndex, stored_row
from session_mgmt_mcp.projections.query_files import QueryFiles
from session_mgmt_mcp.projections.regex_search import Scanned, TimeLimit
from session_mgmt_mcp.projections.rows import ORDINAL_BITS, Row
from session_mgmt_mcp.projections.tail import QueryReader

PAGE_ROWS_MIN = 100
PAGE_ROWS_MAX = 1000
LOOKED_AT_MAX = 1000  # rows read in order of rank for a phrase; beyond, DuckDB looks for it
READ_MAX = 5000  # rows read in order of rank at all
NARROW_MAX = 1000  # rows so few that their texts are read one by one
AMONG_MAX = 20_000  # ids worth telling DuckDB

Hit = tuple[Any, Any]  # score or field value, address


class Rows(NamedTuple):
    """Rows, newest first, and "" or what was left out."""

    rows: list[Row]
    note: str


class Reach(NamedTuple):
    """Where rows are: the published index (None: there is none), and the query view with the log's tail."""

    published: LexicalIndex | None
    reader: QueryReader

    @property
    def begin(self) -> int:
        """The first id that is not in the index."""
        return (self.published.watermark.position + 1) << ORDINAL_BITS if self.published else 0


def must_be_scanned(filters: Filters) -> bool:
    """Whether the texts have to be looked through: the index cannot even say which rows may match."""
    if filters.ids is not None:  # they were
        return False
    unknown = any(not exact_words(phrase) for phrase in filters.phrases)
    return bool(filters.patterns or filters.no_patterns or unknown)


def hits(index: LexicalIndex, query: tantivy.Query, filters: Filters, wanted: int) -> list[Hit] | None:
    """The best documents of a query that has the filters' clauses; None where a phrase was hardly found in many of them:
    DuckDB looks faster then.
    """
    gives_up = bool(filters.phrases) and filters.ids is None
    if not filters.in_text:
        return list(index.searcher.search(query, wanted, count=False).hits)
    out: list[Hit] = []
    looked_at = 0
    for page in _pages(index, query):
        out += [hit for hit in page if filters.verifies(_stored(index, hit))]
        looked_at += len(page)
        if len(out) >= wanted:
            return out[:wanted]
        more = len(page) == _page_rows(looked_at - len(page))
        if more and gives_up and looked_at >= LOOKED_AT_MAX:
            return None
        if looked_at >= READ_MAX:
            break
    return out


def newest(reach: Reach, filters: Filters, limit: int, time_limit: TimeLimit) -> Rows:
    """The newest rows that match."""
    if must_be_scanned(filters) and not _is_narrow(reach, filters):
        return _scanned(reach, filters, limit, time_limit)
    rows, note = _newest_published(reach, filters, limit, time_limit)
    tail = [row for row in _unindexed(reach) if filters.passes(row) and any(document_of(row))]
    rows += _checked(reach, filters, tail)
    rows.sort(key=_age)
    return Rows(rows[:limit], note)


def found_ids(reach: Reach, filters: Filters, time_limit: TimeLimit) -> Scanned:
    """Ids of rows that patterns and phrases are found in, for words to rank."""
    if _is_narrow(reach, filters):
        rows, note = newest(reach, filters, AMONG_MAX, time_limit)
        return Scanned([row.id for row in rows], note)
    return regex_search.all_found(reach.reader.sql(), filters, time_limit, _among(reach, filters))


def _is_narrow(reach: Reach, filters: Filters) -> bool:
    """Whether so few published rows are left by the index that reading them is faster than DuckDB."""
    index = reach.published
    clauses = filters.clauses(index.schema, rows=True) if index is not None else []
    if index is None or not clauses:
        return False
    query = tantivy.Query.boolean_query([(tantivy.Occur.Must, clause) for clause in clauses])
    return len(index.searcher.search(query, NARROW_MAX + 1, count=False).hits) <= NARROW_MAX


def _checked(reach: Reach, filters: Filters, rows: list[Row]) -> list[Row]:
    """Those of rows that match the clauses whose texts match too."""
    if filters.in_text:
        rows = [row for row in rows if filters.verifies(row)]
    if filters.patterns or filters.no_patterns:
        return regex_search.found_in(reach.reader.files, filters, rows)
    return rows


def _scanned(reach: Reach, filters: Filters, limit: int, time_limit: TimeLimit) -> Rows:
    files = reach.reader.sql()
    best: list[Row] = []
    for part in regex_search.found_rows(files, filters, time_limit, _among(reach, filters)):
        oldest = best[-1].occurred_at if len(best) == limit else None
        ids = [i for at, i in part.found if oldest is None or at >= oldest]
        best = sorted([*best, *_passing(files, filters, ids, limit)], key=_age)[:limit]
        if part.note or (len(best) == limit and best[-1].occurred_at > part.newest_left):
            return Rows(best, part.note)
    return Rows(best, "")


def _passing(files: QueryFiles, filters: Filters, ids: list[int], limit: int) -> list[Row]:
    """The first rows of these ids, newest first, that pass the filters."""
    out: list[Row] = []
    at, size = 0, limit
    while at < len(ids) and len(out) < limit:
        some = ids[at : at + size]
        rows = files.shown_rows(
            "id BETWEEN ? AND ? AND id IN (SELECT unnest(?))", [min(some), max(some), some]
        )
        out += sorted(filter(filters.passes, rows), key=_age)
        at, size = at + size, 2 * size
    return out[:limit]


def _newest_published(reach: Reach, filters: Filters, limit: int, time_limit: TimeLimit) -> Rows:
    index, out = reach.published, list[Row]()
    if index is None:
        return Rows(out, "")
    must = tantivy.Occur.Must
    clauses = [every_row(index.schema), *filters.clauses(index.schema, rows=True)]
    query = tantivy.Query.boolean_query([(must, clause) for clause in clauses])
    for page in _pages(index, query, "occurred_at"):
        rows = [_stored(index, hit) for hit in page]
        shown = reach.reader.shows([row.id for row in rows], index.watermark.position)
        out += _checked(reach, filters, [row for row in rows if row.id in shown])
        if len(out) >= limit:
            break
        if time_limit.left_s <= 0:
            return Rows(out, f"stopped after {time_limit.seconds:g} s; add words, or narrow it further")
    return Rows(out, "")


def _unindexed(reach: Reach) -> Iterator[Row]:
    """Shown rows that are not in the index yet."""
    reader = reach.reader
    end = (reader.watermark.position + 1) << ORDINAL_BITS
    published = reader.files.shown_rows("id >= ? AND id < ?", [reach.begin, end]) if reach.begin < end else ()
    tail = (row for row in reader.rows.values() if row.id >= reach.begin)
    yield from (row for row in (*published, *tail) if row.id not in reader.hidden)


def _among(reach: Reach, filters: Filters) -> set[int] | None:
    """Ids of all rows the index lets through, None where they are many."""
    index = reach.published
    if index is None:
        return None
    clauses = filters.clauses(index.schema, rows=True)
    if not clauses:
        return None
    query = tantivy.Query.boolean_query([(tantivy.Occur.Must, clause) for clause in clauses])
    found = index.searcher.search(query, AMONG_MAX + 1, count=False).hits
    if len(found) > AMONG_MAX:
        return None
    ids = index.searcher.fast_field_values("id", [address for _, address in found])
    return {int(i) for i in ids if i is not None} | {row.id for row in _unindexed(reach)}


def _pages(index: LexicalIndex, query: tantivy.Query, order_by: str | None = None) -> Iterator[list[Hit]]:
    """All hits in order, in pages that grow."""
    offset = 0
    while True:
        size = _page_rows(offset)
        page = index.searcher.search(query, size, count=False, offset=offset, order_by_field=order_by).hits
        if page:
            yield list(page)
        if len(page) < size:
            return
        offset += size


def _page_rows(offset: int) -> int:
    return min(max(PAGE_ROWS_MIN, 3 * offset), PAGE_ROWS_MAX)


def _stored(index: LexicalIndex, hit: Hit) -> Row:
    return stored_row(bytes(index.searcher.doc(hit[1])["stored"][0]))


def _age(row: Row) -> tuple[int, int]:
    return -row.occurred_at, -row.id

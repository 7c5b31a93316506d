"""Rows that may be results: by words from the published index and from the tail, by meaning from the vectors."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import tantivy

from session_mgmt_mcp.projections.analysis import words as words_of
from session_mgmt_mcp.projections.documents import number_of, sameness
from session_mgmt_mcp.projections.lexical import LexicalIndex, stored_row
from session_mgmt_mcp.projections.ranking import Candidates, Scores
from session_mgmt_mcp.projections.rows import Row

NO_ACTORS = frozenset(["user", "assistant", "tool", "system", "unknown"])  # said by many: no name
NAMING_WORDS_MAX = 32
TERMS_MAX = 256  # numbers that are looked up one by one; a set of more is matched against all there are
_FAST = ("id", "session", "seq", "occurred_at", "digest")
_MUST, _SHOULD = tantivy.Occur.Must, tantivy.Occur.Should


class Hit(NamedTuple):
    """A row by its numbers. `address`: of the stored row, None for rows of the tail; `row`: of those."""

    id: int
    session: int
    seq: int
    occurred_at: int
    digest: int
    lexical: float
    address: Any = None
    row: Row | None = None


def hit_of(row: Row, lexical: float) -> Hit:
    """A row that is not in the published index."""
    return Hit(row.id, number_of(row.session), row.seq, row.occurred_at, sameness(row), lexical, None, row)


def hits_of(index: LexicalIndex, found: Sequence[tuple[float, Any]]) -> list[Hit]:
    """What the index knows of documents it found, (score, address) each."""
    addresses = [address for _, address in found]
    columns = [index.searcher.fast_field_values(name, addresses) for name in _FAST]
    scores = [score for score, _ in found]
    return list(map(Hit, *columns, scores, addresses))


def weighted(
    schema: tantivy.Schema,
    boosts: Mapping[str, float],
    tokens: Mapping[str, float],
    clauses: Sequence[tantivy.Query],
) -> tantivy.Query:
    """Any of the tokens (token -> weight) in any of the fields, and all of the clauses."""
    matching = tantivy.Query.boolean_query(_any_of(schema, boosts, tokens))
    if not clauses:
        return matching
    return tantivy.Query.boolean_query([(_MUST, matching), *((_MUST, clause) for clause in clauses)])


def among(schema: tantivy.Schema, ids: Iterable[int], clauses: Sequence[tantivy.Query]) -> tantivy.Query:
    """These rows as far as they meet the clauses; scored 0."""
    return tantivy.Query.boolean_query(
        [(_MUST, having(schema, "id", ids)), *((_MUST, clause) for clause in clauses)]
    )


def having(schema: tantivy.Schema, field: str, numbers: Iterable[int]) -> tantivy.Query:
    """The rows with one of these numbers in a field; scored 0.

    A tantivy set is an automaton run over the field's whole dictionary: for few numbers three times as slow.
    """
    query, wanted = tantivy.Query, list(numbers)
    if len(wanted) > TERMS_MAX:
        return query.const_score_query(query.term_set_query(schema, field, wanted), 0.0)
    any_of = [(_SHOULD, query.term_query(schema, field, number)) for number in wanted]
    return query.const_score_query(query.boolean_query(any_of), 0.0)


def _any_of(
    schema: tantivy.Schema, boosts: Mapping[str, float], tokens: Mapping[str, float]
) -> list[tuple[tantivy.Occur, tantivy.Query]]:
    query = tantivy.Query
    return [
        (_SHOULD, query.boost_query(query.term_query(schema, field, token, "freq"), boost * weight))
        for field, boost in boosts.items()
        for token, weight in tokens.items()
    ]


class Names(NamedTuple):
    """What a query names: who said it, and files it is about; lower case."""

    actors: tuple[str, ...]
    things: tuple[tuple[str, str], ...]  # (field, term)


def names_in(query: str, has: Callable[[str, str], bool]) -> Names:
    """`has(field, term)`: whether any row has that actor or file."""
    words = [word.lower() for word in list(words_of(query))[:NAMING_WORDS_MAX]]
    pairs = [f"{a} {b}" for a, b in pairwise(words)]
    actors = [
        name for name in dict.fromkeys((*words, *pairs)) if name not in NO_ACTORS and has("actor", name)
    ]
    files = [("file", word) for word in dict.fromkeys(words) if not word.isalnum() and has("file", word)]
    return Names(tuple(actors), tuple(files))


def without_words(query: str, unwanted: Sequence[str]) -> str:
    """The query without these (in lower case); all of it where nothing would be left."""
    if not unwanted:
        return query
    pattern = "|".join(re.escape(word) for word in sorted(unwanted, key=len, reverse=True))
    left = re.sub(rf"(?<!\w)(?:{pattern})(?:['’]s)?(?!\w)", " ", query, flags=re.IGNORECASE)
    return " ".join(left.split()) if any(True for _ in words_of(left)) else query


def named_rows(index: LexicalIndex, ids: Sequence[int], terms: Sequence[tuple[str, str]]) -> set[int]:
    """Those of the rows that have one of the terms, (field, term) each."""
    if not terms or not ids:
        return set()
    query, schema = tantivy.Query, index.schema
    any_of = [(_SHOULD, query.term_query(schema, field, term, "basic")) for field, term in terms]
    asked = [(_MUST, having(schema, "id", ids)), (_MUST, query.boolean_query(any_of))]
    found = index.searcher.search(query.boolean_query(asked), len(ids), count=False).hits
    return {int(i or 0) for i in index.searcher.fast_field_values("id", [address for _, address in found])}


def stored(index: LexicalIndex, hit: Hit) -> Row:
    """The whole row of a published hit."""
    return stored_row(bytes(index.searcher.doc(hit.address)["stored"][0]))


def table_of(
    hits: Sequence[Hit], cosines: Mapping[int, float], named: set[int], about: set[int]
) -> Candidates:
    """At least one hit, as columns."""
    ids, sessions, seqs, times, digests, lexical, *_ = zip(*hits, strict=True)
    return Candidates(
        ids=np.array(ids, np.int64),
        sessions=np.array(sessions, np.int64),
        seqs=np.array(seqs, np.int64),
        times=np.array(times, np.int64),
        digests=np.array(digests, np.int64),
        lexical=np.array(lexical, np.float64),
        dense=np.array([cosines.get(i, np.nan) for i in ids], np.float64),
        named=_among(ids, named),
        about=_among(ids, about),
    )


def _among(ids: Sequence[int], chosen: set[int]) -> Scores:
    """1 for each of the ids that is chosen, else 0."""
    if not chosen:
        return np.zeros(len(ids))
    return np.array([i in chosen for i in ids], np.float64)

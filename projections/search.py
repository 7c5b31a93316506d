"""Search: candidates by words and by meaning, from what is published and from the log's tail, ranked together."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import tantivy

from session_mgmt_mcp.core.errors import InputError
from session_mgmt_mcp.core.ports import EventLog
from session_mgmt_mcp.projections import ranking
from session_mgmt_mcp.projections.analysis import word_tokens
from session_mgmt_mcp.projections.analysis import words as words_of
from session_mgmt_mcp.projections.candidates import (
    Hit,
    Names,
    among,
    having,
    hit_of,
    hits_of,
    named_rows,
    names_in,
    stored,
    table_of,
    weighted,
    without_words,
)
from session_mgmt_mcp.projections.documents import number_of
from session_mgmt_mcp.projections.files import stamp
from session_mgmt_mcp.projections.filters import NO_FILTERS, Filters
from session_mgmt_mcp.projections.lexical import (
    INDEXES,
    LexicalIndex,
    Statistics,
    lexical_folder,
    open_indexes,
    published_generation,
)
from session_mgmt_mcp.projections.meaning import NOTHING, Cosines, Meaning, Vector
from session_mgmt_mcp.projections.moments import Ranked, folded, listed, moment_of, query_words
from session_mgmt_mcp.projections.narrowing import Reach, found_ids, must_be_scanned, newest
from session_mgmt_mcp.projections.narrowing import hits as narrowed_hits
from session_mgmt_mcp.projections.query_files import STATE_FILE
from session_mgmt_mcp.projections.ranking import FIELD_BOOSTS, Weights
from session_mgmt_mcp.projections.regex_search import TimeLimit, first_match
from session_mgmt_mcp.projections.results import Moments
from session_mgmt_mcp.projections.rows import ORDINAL_BITS, Row
from session_mgmt_mcp.projections.tail import QueryReader, check_gap
from session_mgmt_mcp.projections.tail_index import DocFrequency, TailIndex

if TYPE_CHECKING:
    from concurrent.futures import Future

ROWS_MAX = 100  # best rows taken as candidates
SESSIONS_MAX = 20  # sessions whose rows become candidates for the session's sake
NARROW_ROWS_MAX = 10_000  # rows that filters leave, whose vectors are all compared
MANY_ROWS = 50_000
COMMON_SHARE = 0.2
QUERY_TOKENS_MAX = 64
MORE_ROWS = 10  # looked at whole beyond those wanted: some may be folded into others
_NO_STATISTICS = Statistics(0, {})
_TELLING = {field: boost for field, boost in FIELD_BOOSTS.items() if field != "rest"}


class _Near(NamedTuple):
    """What meaning says of the candidates; `floor`: see `ranking.spread`."""

    cosines: Cosines
    floor: float

    def within(self, wider: "_Near") -> "_Near":
        """With what more rows have; the floor is theirs."""
        mine, theirs = self.cosines, wider.cosines
        return _Near(Cosines(theirs.best | mine.best, theirs.passage | mine.passage), wider.floor)


class Search:
    """Not thread-safe; `Views` holds the lock and refreshes `reader` first."""

    def __init__(
        self,
        log: EventLog,
        views: Path,
        reader: QueryReader,
        meaning: Meaning | None = None,
        weights: Weights | None = None,
    ) -> None:
        self._log = log
        self._folder = lexical_folder(views)
        self._reader = reader
        self._meaning = meaning
        self.weights = weights  # None: those for what there is
        self._tail = TailIndex()
        self._rows: LexicalIndex | None = None
        self._sessions: LexicalIndex | None = None
        self._stamp: Any = None
        self._state_file = str(self._folder / STATE_FILE)
        self._metas: list[str] = []  # of the opened indexes: what tantivy replaces with every commit
        self._loads = 0

    @property
    def watermark(self) -> int:
        """Position up to which the published index reaches."""
        return self._rows.watermark.position if self._rows else 0

    def refresh(self) -> None:
        """Follow what was published, and index the tail's new rows."""
        changed = self._reload_index()
        if self._meaning is not None:
            self._meaning.refresh()
        if changed or self._loads != self._reader.loads:
            self._loads = 0  # should this fail, it is tried again
            check_gap(self.watermark, self._reader.watermark.position)
            self._loads = self._reader.loads
            self._tail.clear()
            after = (self.watermark + 1) << ORDINAL_BITS
            if self._reader.watermark.position > self.watermark:
                for row in self._reader.files.shown_rows("id >= ?", [after]):
                    self._tail.add(row)
            self._reader.drain()
            rows: Iterable[Row] = [row for i, row in self._reader.rows.items() if i >= after]
        else:
            rows = self._reader.drain()
        for row in rows:
            self._tail.add(row)

    def _reload_index(self) -> bool:
        """Follow a new generation or a new commit; whether there was one."""
        version = self._reader.files.state.interpretation_version
        now = ((stamp(self._state_file), version), [stamp(path) for path in self._metas])
        if now == self._stamp:
            return False
        if self._stamp is None or now[0] != self._stamp[0]:
            generation = published_generation(self._folder, self._log, version)
            self._metas = [str(self._folder / generation / name / "meta.json") for name in INDEXES]
            self._open(generation)
        elif self._rows is not None and self._sessions is not None:
            self._rows.reload()
            self._sessions.reload()
        self._stamp = (now[0], [stamp(path) for path in self._metas])
        return True

    def _open(self, generation: str) -> None:
        self._rows = self._sessions = None
        if not generation:
            return
        try:
            rows, sessions = open_indexes(self._folder / generation)
        except (ValueError, OSError):  # damaged, or removed this moment: the tail covers everything
            return
        if rows.watermark.fits(self._log):
            self._rows, self._sessions = rows, sessions

    def search(
        self, query: str, limit: int, filters: Filters, time_limit: TimeLimit | None = None
    ) -> Moments:
        """The best moments for words; without any, the newest that match the filters. Raises InputError where there are
        neither.
        """
        if not query.strip() and filters == NO_FILTERS:
            raise InputError("the query is empty: say in words, names or paths what you are looking for")
        tokens = query_tokens(query)
        names = self._names(query)
        asked = self._vector(query, names)
        if not tokens and (filters.phrases or asked is None or asked.result() is None):
            return self._newest(query, filters, limit, time_limit or TimeLimit())
        if must_be_scanned(filters):
            return self._scanned(query, limit, filters, time_limit or TimeLimit())
        sessions = self._session_scores(tokens, filters)
        found = self._by_words(self._telling(tokens), filters, sessions)
        if found is None:  # a phrase of words that many rows have
            return self._scanned(query, limit, filters, time_limit or TimeLimit())
        vector = asked.result() if asked is not None else None
        near = self._by_meaning(vector, filters, found)
        around = filters.of_sessions
        context: dict[int, Hit] = {}
        if found and filters != around:  # rows left out still tell which sessions are about it
            context = self._by_words(self._telling(tokens), around, sessions) or {}
            near = near.within(self._by_meaning(vector, around, context))
        shown = self._reader.shows([*(context | found)], self.watermark)
        hits = [hit for hit in (context | found).values() if hit.id in shown]
        ranked = self._ranked(names, hits, sessions, near, limit + MORE_ROWS, found.keys())
        words = query_words(query)
        return Moments([moment_of(one, words) for one in folded(ranked)[:limit]])

    def _vector(self, query: str, names: Names) -> "Future[Vector | None] | None":
        """Of the query without who said it: a name is in half of what two people say, and near to all of it."""
        if self._meaning is None or not any(True for _ in words_of(query)):
            return None
        return self._meaning.vector(without_words(query, names.actors))

    def _telling(self, tokens: Mapping[str, float]) -> Mapping[str, float]:
        """Of many rows: without tokens that every fifth of them has, where rarer ones are left. These cost most of the
        time and hardly change which rows are the best.
        """
        index = self._rows
        if index is None or index.statistics.documents < MANY_ROWS:
            return tokens
        most, frequency = COMMON_SHARE * index.statistics.documents, _frequency(index)
        return {t: weight for t, weight in tokens.items() if frequency("body", t) <= most} or tokens

    def _scanned(self, query: str, limit: int, filters: Filters, time_limit: TimeLimit) -> Moments:
        """The best of the rows that patterns and phrases are found in."""
        ids, note = found_ids(Reach(self._rows, self._reader), filters, time_limit)
        chosen = filters.joined(Filters(ids=frozenset(ids)))._replace(patterns=(), no_patterns=())
        found = self.search(query, limit, chosen, time_limit)
        return Moments(found, note)

    def _newest(self, query: str, filters: Filters, limit: int, time_limit: TimeLimit) -> Moments:
        """What matches the filters, newest first; nothing where there are none."""
        if filters == NO_FILTERS:
            return Moments()
        rows, note = newest(Reach(self._rows, self._reader), filters, limit, time_limit)
        files = self._reader.files
        return Moments((listed(row, query, first_match(files, filters, row)) for row in rows), note)

    def _session_scores(self, tokens: Mapping[str, float], filters: Filters) -> dict[int, float]:
        """BM25 of the best session documents, by session number."""
        scores: dict[int, float] = {}
        index = self._sessions
        if index is not None and tokens:
            query = weighted(index.schema, {"body": 1.0}, tokens, filters.clauses(index.schema, rows=False))
            hits = index.searcher.search(query, ROWS_MAX, count=False).hits
            numbers = index.searcher.fast_field_values("session", [address for _, address in hits])
            scores.update((int(n or 0), score) for n, (score, _) in zip(numbers, hits, strict=True))
        statistics = index.statistics if index else _NO_STATISTICS
        for session, score in self._tail.search_sessions(tokens, statistics, _frequency(index)).items():
            number = number_of(session)
            scores[number] = max(scores.get(number, 0.0), score)
        return scores

    def _by_words(
        self, tokens: Mapping[str, float], filters: Filters, sessions: Mapping[int, float]
    ) -> dict[int, Hit] | None:
        """None where too many rows had to be looked at for a phrase."""
        found: dict[int, Hit] = {}
        index = self._rows
        best = sorted(sessions, key=lambda n: -sessions[n])[:SESSIONS_MAX]
        if index is not None and tokens:
            clauses = filters.clauses(index.schema, rows=True)
            query = weighted(index.schema, FIELD_BOOSTS, tokens, clauses)
            if not self._collect(index, query, filters, found):
                return None
            if best and not filters.one_session:  # the rows that speak for the best sessions
                clauses.append(having(index.schema, "session", best))
                self._collect(index, weighted(index.schema, _TELLING, tokens, clauses), filters, found)
        statistics = index.statistics if index else _NO_STATISTICS
        scores = self._tail.search(tokens, FIELD_BOOSTS, statistics, _frequency(index))
        kept = 0
        for row_id in sorted(scores, key=lambda i: (-scores[i], -i)):
            row = self._unindexed(row_id)
            if row is None or not filters.passes(row):
                continue
            found[row.id] = hit_of(row, scores[row_id])
            kept += 1
            if kept >= 2 * ROWS_MAX:
                break
        return found

    def _collect(
        self,
        index: LexicalIndex,
        query: tantivy.Query,
        filters: Filters,
        found: dict[int, Hit],
        wanted: int = ROWS_MAX,
    ) -> bool:
        """Adds to `found` what is not in it; False where `narrowing.hits` gives up."""
        hits = narrowed_hits(index, query, filters, wanted)
        if hits is None:
            return False
        found |= {hit.id: hit for hit in hits_of(index, hits) if hit.id not in found}
        return True

    def _by_meaning(self, vector: Vector | None, filters: Filters, found: dict[int, Hit]) -> _Near:
        """Adds the rows nearest in meaning to `found`; the cosines of all that have vectors."""
        if vector is None or self._meaning is None:
            return _Near(NOTHING, 1.0)
        index = self._rows
        clauses = filters.clauses(index.schema, rows=True) if index else []
        few = self._passing(clauses) if clauses else None
        if few is None:
            ids = self._meaning.nearest(vector, narrowed=bool(clauses))
        else:
            ids = self._meaning.nearest_among(few, vector)
        new = [i for i in ids if i not in found]
        begin = (self.watermark + 1) << ORDINAL_BITS
        published = [i for i in new if i < begin]
        if index is not None and published:
            query = among(index.schema, published, clauses)
            self._collect(index, query, filters, found, len(published))
        for row_id in new[len(published) :] if len(published) < len(new) else ():
            row = self._unindexed(row_id)
            if row is not None and filters.passes(row):
                found[row_id] = hit_of(row, 0.0)
        cosines = self._meaning.cosines(list(found), vector)
        nearest = sorted((cosines.best[i] for i in ids if i in cosines.best and i in found), reverse=True)
        return _Near(cosines, ranking.floor_of(np.array(nearest[:ROWS_MAX])))

    def _passing(self, clauses: list[tantivy.Query]) -> list[int] | None:
        """Ids of all published rows that meet the clauses, None where they are many."""
        index = self._rows
        if index is None:
            return []
        query = tantivy.Query.boolean_query([(tantivy.Occur.Must, clause) for clause in clauses])
        hits = index.searcher.search(query, NARROW_ROWS_MAX + 1, count=False).hits
        if len(hits) > NARROW_ROWS_MAX:
            return None
        ids = index.searcher.fast_field_values("id", [address for _, address in hits])
        return [int(i) for i in ids if i is not None]

    def _unindexed(self, row_id: int) -> Row | None:
        """A row that is not in the lexical index yet: of the tail, or published in the query view alone."""
        return self._reader.rows.get(row_id) or next(self._reader.files.shown_rows("id = ?", [row_id]), None)

    def _ranked(
        self,
        names: Names,
        hits: list[Hit],
        sessions: Mapping[int, float],
        near: _Near,
        wanted: int,
        answers: Collection[int],
    ) -> list[Ranked]:
        """The best of the hits that are `answers`, those that say the same as one."""
        if not hits:
            return []
        actors, about = self._named(names, hits)
        found = table_of(hits, near.cosines.best, actors, about)
        best = max(sessions.values(), default=0.0) or 1.0
        documents = np.array([sessions.get(n, 0.0) / best for n in found.sessions.tolist()])
        weights = self.weights or (Weights() if near.cosines.best else ranking.WORDS_ALONE)
        scores = ranking.combine(found, documents, near.floor, weights)
        copies = Counter(hit.digest for hit in hits if hit.id in answers)
        out: list[Ranked] = []
        seen: set[int] = set()
        for at in ranking.ordered(found.ids, scores).tolist():
            hit = hits[at]
            if hit.digest in seen or hit.id not in answers:
                continue
            seen.add(hit.digest)
            row = self._row(hit)
            if row is not None:
                passage = (
                    near.cosines.passage.get(hit.id, 0)
                    if near.cosines.best.get(hit.id, -1.0) > near.floor
                    else 0
                )
                out.append(Ranked(row, float(scores[at]), copies[hit.digest], passage))
                if len(out) == wanted:
                    break
        return out

    def _row(self, hit: Hit) -> Row | None:
        if hit.row is not None or self._rows is None:
            return hit.row
        return stored(self._rows, hit)

    def _named(self, names: Names, hits: list[Hit]) -> tuple[set[int], set[int]]:
        """Ids of the hits whose actor, and of those a file of which the query names."""
        actors = {h.id for h in hits if h.row is not None and h.row.actor.lower() in names.actors}
        index = self._rows
        if index is None:
            return actors, set()
        published = [hit.id for hit in hits if hit.row is None]
        actors |= named_rows(index, published, [("actor", name) for name in names.actors])
        return actors, named_rows(index, published, names.things)

    def _names(self, query: str) -> Names:
        frequency = _frequency(self._rows)
        return names_in(
            query,
            lambda field, term: (
                frequency(field, term) > 0 or (field == "actor" and term in self._tail.actors)
            ),
        )


def _frequency(index: LexicalIndex | None) -> DocFrequency:
    if index is None:
        return lambda field, token: 0
    searcher = index.searcher
    return lambda field, token: int(searcher.doc_freq(field, token))


def query_tokens(query: str) -> dict[str, float]:
    """Token -> its weight: how often the query has it. Of very long queries the first tokens."""
    weights: Counter[str] = Counter()
    for word in words_of(query):
        tokens = word_tokens(word)
        whole = max(tokens, key=len, default="")
        for token in tokens:
            weights[token] += 1.0 if token == whole else ranking.PART_OF_NAME  # type: ignore[assignment]
        if len(weights) >= QUERY_TOKENS_MAX:
            break
    return dict(list(weights.items())[:QUERY_TOKENS_MAX])

"""Search: candidates from the published lexical index and from the log's tail, ranked together."""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import tantivy

from session_mgmt_mcp.core.errors import InputError
from session_mgmt_mcp.core.ports import EventLog
from session_mgmt_mcp.projections import ranking
from session_mgmt_mcp.projections.analysis import tokens_of, word_tokens
from session_mgmt_mcp.projections.analysis import words as words_of
from session_mgmt_mcp.projections.documents import number_of, sameness
from session_mgmt_mcp.projections.excerpt import (
    EXCERPT_CHARS_MAX,
    Find,
    excerpt,
    find,
    matched_words,
    open_stem,
)
from session_mgmt_mcp.projections.files import stamp
from session_mgmt_mcp.projections.filters import NO_FILTERS, Filters
from session_mgmt_mcp.projections.lexical import (
    INDEXES,
    LexicalIndex,
    Statistics,
    lexical_folder,
    open_indexes,
    published_generation,
    stored_row,
)
from session_mgmt_mcp.projections.narrowing import Reach, found_ids, must_be_scanned, newest
from session_mgmt_mcp.projections.narrowing import hits as narrowed_hits
from session_mgmt_mcp.projections.query_files import STATE_FILE
from session_mgmt_mcp.projections.ranking import FIELD_BOOSTS, Candidate
from session_mgmt_mcp.projections.regex_search import TimeLimit, first_match
from session_mgmt_mcp.projections.results import Moment, Moments
from session_mgmt_mcp.projections.rows import ORDINAL_BITS, Row
from session_mgmt_mcp.projections.tail import QueryReader
from session_mgmt_mcp.projections.tail_index import DocFrequency, TailIndex

ROWS_MAX = 100  # best rows taken as candidates
SESSIONS_MAX = 20  # sessions whose rows become candidates for the session's sake
QUERY_TOKENS_MAX = 64
QUERY_WORDS_MAX = 32
RERANKED_MIN = 30  # rows looked at whole, at least
WHY_WORDS_MAX = 8
_FAST = ("id", "session", "seq", "occurred_at", "digest")
_WHERE = {
    "PromptSubmitted": "prompt",
    "AssistantReplied": "reply",
    "AssistantThought": "thinking",
    "ToolCalled": "tool call",
    "ToolReturned": "result",
    "ReflectionRemembered": "reflection",
    "SessionTitled": "title",
    "ContextCompacted": "compaction summary",
}


_NO_STATISTICS = Statistics(0, {})


class _Found(NamedTuple):
    candidate: Candidate
    address: Any  # of the stored row, None for rows of the tail


class Search:
    """Not thread-safe; `Views` holds the lock and refreshes `reader` first."""

    def __init__(self, log: EventLog, views: Path, reader: QueryReader) -> None:
        self._log = log
        self._folder = lexical_folder(views)
        self._reader = reader
        self._tail = TailIndex()
        self._rows: LexicalIndex | None = None
        self._sessions: LexicalIndex | None = None
        self._stamp: Any = None
        self._generation = ""
        self._loads = 0

    @property
    def watermark(self) -> int:
        """Position up to which the published index reaches."""
        return self._rows.watermark.position if self._rows else 0

    def refresh(self) -> None:
        """Follow what was published, and index the tail's new rows."""
        changed = self._reload_index()
        if changed or self._loads != self._reader.loads:
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
        now = (stamp(self._folder / STATE_FILE), self._commits())
        if now == self._stamp:
            return False
        if self._stamp is None or now[0] != self._stamp[0]:
            self._generation = published_generation(self._folder, self._log)
            self._open(self._generation)
        elif self._rows is not None and self._sessions is not None:
            self._rows.reload()
            self._sessions.reload()
        self._stamp = (now[0], self._commits())
        return True

    def _commits(self) -> list[tuple[int, int, int]]:
        """Stamps of the files tantivy replaces with every commit."""
        return [stamp(self._folder / self._generation / name / "meta.json") for name in INDEXES]

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
        tokens = _query_tokens(query)
        if not tokens:
            return self._newest(query, filters, limit, time_limit or TimeLimit())
        if must_be_scanned(filters):
            return self._scanned(query, limit, filters, time_limit or TimeLimit())
        sessions = self._session_scores(tokens, filters)
        found = self._candidates(tokens, filters, sessions)
        if found is None:  # a phrase of words that many rows have
            return self._scanned(query, limit, filters, time_limit or TimeLimit())
        shown = self._reader.shows(list(found), self.watermark)
        candidates = [f.candidate for i, f in found.items() if i in shown]
        scores = ranking.combine(candidates, sessions)
        order = ranking.ordered(candidates, scores)
        return Moments(self._moments(query, tokens, order, scores, found, limit))

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
        return Moments((_listed(row, query, first_match(files, filters, row)) for row in rows), note)

    def _session_scores(self, tokens: Mapping[str, float], filters: Filters) -> dict[int, float]:
        """BM25 of the best session documents, by session number."""
        scores: dict[int, float] = {}
        index = self._sessions
        if index is not None:
            query = _weighted(index.schema, {"body": 1.0}, tokens, filters.clauses(index.schema, rows=False))
            hits = index.searcher.search(query, ROWS_MAX, count=False).hits
            numbers = index.searcher.fast_field_values("session", [address for _, address in hits])
            scores.update((int(n or 0), score) for n, (score, _) in zip(numbers, hits, strict=True))
        statistics = index.statistics if index else _NO_STATISTICS
        for session, score in self._tail.search_sessions(tokens, statistics, _frequency(index)).items():
            number = number_of(session)
            scores[number] = max(scores.get(number, 0.0), score)
        return scores

    def _candidates(
        self, tokens: Mapping[str, float], filters: Filters, sessions: Mapping[int, float]
    ) -> dict[int, _Found] | None:
        """None where too many rows had to be looked at for a phrase."""
        found: dict[int, _Found] = {}
        index = self._rows
        best = sorted(sessions, key=lambda n: -sessions[n])[:SESSIONS_MAX]
        if index is not None:
            clauses = filters.clauses(index.schema, rows=True)
            if not self._collect(
                index, _weighted(index.schema, FIELD_BOOSTS, tokens, clauses), filters, found
            ):
                return None
            if best and not filters.one_session:  # the rows that speak for the best sessions
                among = tantivy.Query.term_set_query(index.schema, "session", best)
                clauses.append(tantivy.Query.const_score_query(among, 0.0))
                telling = {field: boost for field, boost in FIELD_BOOSTS.items() if field != "rest"}
                self._collect(index, _weighted(index.schema, telling, tokens, clauses), filters, found)
        statistics = index.statistics if index else _NO_STATISTICS
        scores = self._tail.search(tokens, FIELD_BOOSTS, statistics, _frequency(index))
        kept = 0
        for row_id in sorted(scores, key=lambda i: (-scores[i], -i)):
            row = self._reader.rows.get(row_id) or self._published_row(row_id)
            if row is None or not filters.passes(row):
                continue
            number, digest = number_of(row.session), sameness(row)
            candidate = Candidate(row.id, number, row.seq, row.occurred_at, digest, scores[row_id])
            found[row.id] = _Found(candidate, None)
            kept += 1
            if kept >= 2 * ROWS_MAX:
                break
        return found

    def _collect(
        self, index: LexicalIndex, query: tantivy.Query, filters: Filters, found: dict[int, _Found]
    ) -> bool:
        """False where `narrowing.hits` gives up."""
        hits = narrowed_hits(index, query, filters, ROWS_MAX)
        if hits is None:
            return False
        addresses = [address for _, address in hits]
        columns = [index.searcher.fast_field_values(name, addresses) for name in _FAST]
        for (score, address), values in zip(hits, zip(*columns, strict=True), strict=True):
            row_id, session, seq, occurred_at, digest = values
            candidate = Candidate(row_id, session, seq, occurred_at, digest, score)
            known = found.get(candidate.id)
            if known is None or known.candidate.lexical < score:
                found[candidate.id] = _Found(candidate, address)
        return True

    def _published_row(self, row_id: int) -> Row | None:
        """A row that is published in the query view, but not in the lexical index yet."""
        return next(self._reader.files.shown_rows("id = ?", [row_id]), None)

    def _row(self, found: _Found) -> Row | None:
        if found.address is None or self._rows is None:
            return self._reader.rows.get(found.candidate.id) or self._published_row(found.candidate.id)
        return stored_row(bytes(self._rows.searcher.doc(found.address)["stored"][0]))

    def _moments(
        self,
        query: str,
        tokens: Mapping[str, float],
        order: list[Candidate],
        scores: dict[int, float],
        found: Mapping[int, _Found],
        limit: int,
    ) -> list[Moment]:
        copies = Counter(c.digest for c in order)
        firsts = list({c.digest: c for c in reversed(order)}.values())
        firsts = ranking.ordered(firsts, scores)[: max(RERANKED_MIN, 2 * limit)]
        rows = {c.id: row for c in firsts if (row := self._row(found[c.id])) is not None}
        for c in firsts:
            if c.id in rows:
                match = ranking.metadata_match(tokens, _metadata_tokens(rows[c.id]))
                scores[c.id] += ranking.METADATA * match
        words = _query_words(query)
        return [
            _moment(rows[c.id], scores[c.id], copies[c.digest], words)
            for c in ranking.ordered(firsts, scores)[:limit]
            if c.id in rows
        ]


def _frequency(index: LexicalIndex | None) -> DocFrequency:
    if index is None:
        return lambda field, token: 0
    searcher = index.searcher
    return lambda field, token: int(searcher.doc_freq(field, token))


def _query_tokens(query: str) -> dict[str, float]:
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


def _weighted(
    schema: tantivy.Schema,
    boosts: Mapping[str, float],
    tokens: Mapping[str, float],
    clauses: list[tantivy.Query],
) -> tantivy.Query:
    """Any of the tokens in any of the fields, and all of the clauses."""
    query = tantivy.Query
    any_of = [
        (
            tantivy.Occur.Should,
            query.boost_query(query.term_query(schema, field, token, "freq"), boost * weight),
        )
        for field, boost in boosts.items()
        for token, weight in tokens.items()
    ]
    matching = query.boolean_query(any_of)
    if not clauses:
        return matching
    must = tantivy.Occur.Must
    return query.boolean_query([(must, matching), *((must, clause) for clause in clauses)])


def _metadata_tokens(row: Row) -> list[str]:
    names = [file.replace("\\", "/").rsplit("/", 1)[-1] for file in row.files]
    actor = "" if row.actor in ("assistant", "tool", "system", "unknown") else row.actor
    return tokens_of(f"{row.tool} {actor} {row.branch}") + [name.lower() for name in names]


def _query_words(query: str) -> dict[str, list[str]]:
    """The query's words -> the stems a text must have for them."""
    out: dict[str, list[str]] = {}
    for word in words_of(query):
        stems = word_tokens(word)
        if stems and len(out) < QUERY_WORDS_MAX:
            out[word.lower()] = [open_stem(stem) for stem in stems]
    return out


def _moment(row: Row, score: float, copies: int, words: Mapping[str, list[str]]) -> Moment:
    stems = list(dict.fromkeys(stem for having in words.values() for stem in having))
    text, finds = row.text, find(stems, row.text)
    if row.edit:
        in_edit = find(stems, row.edit)
        if len({f.stem for f in in_edit}) > len({f.stem for f in finds}):
            text, finds = row.edit, in_edit
    return Moment(
        session=row.session,
        position=row.position,
        record=row.record,
        occurred_at=row.occurred_at,
        project=row.project,
        assistant=row.assistant,
        actor=row.actor,
        kind=row.kind,
        tool=row.tool,
        files=row.files,
        excerpt=excerpt(finds, text) or " ".join(row.files)[:EXCERPT_CHARS_MAX],
        score=round(score, 6),
        why=_why(row, words, matched_words(words, finds), stems),
        copies=copies,
    )


def _listed(row: Row, query: str, match: str) -> Moment:
    """A row that was not ranked; `match`: what a pattern found in it."""
    moment = _moment(row, 0.0, 1, _query_words(query))
    text = row.text if match in row.text else row.edit
    if match:
        at = text.find(match)
        moment = msgspec.structs.replace(moment, excerpt=excerpt([Find(at, match)], text))
    return msgspec.structs.replace(moment, why="matched: the pattern" if match else "matched: the filters")


def _why(row: Row, words: Mapping[str, list[str]], in_text: list[str], stems: list[str]) -> str:
    in_files = matched_words(words, find(stems, f"{row.tool} {' '.join(row.files)}"))
    places = [_WHERE.get(row.kind, "context")] if in_text else []
    new = [word for word in in_files if word not in in_text]
    if new:
        places.append("tool and files")
    named = (in_text + new)[:WHY_WORDS_MAX]
    if not named:
        return "matched: in its session"
    return f"matched: {', '.join(named)} · in {', '.join(places)}"

"""BM25 over the rows of the log's tail, with tantivy's formula and the whole corpus' statistics, so that its scores
stand beside those of the published index."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping

from session_mgmt_mcp.projections.documents import FIELDS, add_to_session, document_of
from session_mgmt_mcp.projections.documents import length as length_of
from session_mgmt_mcp.projections.lexical import PADDING, Statistics
from session_mgmt_mcp.projections.rows import Row

K1 = 1.2
B = 0.75
DocFrequency = Callable[[str, str], int]  # field, token -> documents of the published index


def bm25(frequency: int, length: int, average: float, documents: int, with_token: int) -> float:
    """Tantivy's score of one token in one field. Lengths in tokens."""
    idf = math.log(1 + (documents - with_token + 0.5) / (with_token + 0.5))
    return idf * (1 + K1) * frequency / (frequency + K1 * (1 - B + B * length / average))


class TailIndex:
    """Postings in memory, for some thousands of rows."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self._postings: dict[str, dict[str, list[tuple[int, int]]]] = {f: defaultdict(list) for f in FIELDS}
        self._lengths: dict[str, dict[int, int]] = {f: {} for f in FIELDS}
        self._tokens: Counter[str] = Counter()
        self._rows = 0
        self.actors: set[str] = set()  # in lower case
        self.sessions: dict[str, Counter[str]] = defaultdict(Counter)
        self._session_lengths: Counter[str] = Counter()

    def add(self, row: Row) -> None:
        document = document_of(row)
        if not any(document):
            return
        self._rows += 1
        self.actors.add(row.actor.lower())
        for field, joined in zip(FIELDS, document, strict=True):
            if joined:
                tokens = joined.split()
                length = len(tokens) + PADDING
                self._lengths[field][row.id] = length
                self._tokens[field] += length
                for token, n in Counter(tokens).items():
                    self._postings[field][token].append((row.id, n))
        total = self.sessions[row.session]
        counted = length_of(document.body) + length_of(document.result)
        add_to_session(total, document)
        self._session_lengths[row.session] += counted

    def search(
        self,
        tokens: Mapping[str, float],
        boosts: Mapping[str, float],
        published: Statistics,
        frequency: DocFrequency,
    ) -> dict[int, float]:
        """Scores of all tail rows that have one of the tokens (token -> weight in the query), by row id."""
        scores: dict[int, float] = defaultdict(float)
        documents = published.documents + self._rows
        for field, boost in boosts.items():
            average = (published.tokens.get(field, 0) + self._tokens[field]) / max(documents, 1)
            lengths = self._lengths[field]
            for token, weight in tokens.items():
                found = self._postings[field].get(token)
                if not found:
                    continue
                with_token = min(frequency(field, token) + len(found), documents)
                for row_id, n in found:
                    score = bm25(n, lengths[row_id], average, documents, with_token)
                    scores[row_id] += boost * weight * score
        return scores

    def search_sessions(
        self, tokens: Mapping[str, float], published: Statistics, frequency: DocFrequency
    ) -> dict[str, float]:
        """Scores of the sessions' documents, as far as the tail holds them, by session id."""
        documents = published.documents + len(self.sessions)
        lengths = sum(self._session_lengths.values())
        average = max((published.tokens.get("body", 0) + lengths) / max(documents, 1), 1.0)
        scores: dict[str, float] = {}
        having = {t: [s for s, total in self.sessions.items() if t in total] for t in tokens}
        for token, sessions in having.items():
            with_token = min(frequency("body", token) + len(sessions), documents)
            for session in sessions:
                n = self.sessions[session][token]
                score = bm25(n, self._session_lengths[session], average, documents, with_token)
                scores[session] = scores.get(session, 0.0) + tokens[token] * score
        return scores

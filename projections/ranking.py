"""Ranking: small pure functions from lexical scores to an order of moments.

score = .5 (L + .25 L_prev + .1 L_next) + 1.0 max over the session of L + .7 S + .1 M + .02 R

L: BM25 of the row, divided by the best of the query. L_prev, L_next: L of the rows before and after it in its session.
S: BM25 of the session's document, divided by the best. M: how much of the query names the row's actor, tool or file.
R: recency, 1 for the newest candidate. Dense scores, once there are vectors, join in `combine` beside L and S.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

LEXICAL = 0.5
PREVIOUS = 0.25
NEXT = 0.1
BEST_OF_SESSION = 1.0
SESSION_DOCUMENT = 0.7
METADATA = 0.1
RECENCY = 0.02
PART_OF_NAME = 0.5  # weight of `key` where the query says `cache_key`
FIELD_BOOSTS = {"body": 1.0, "result": 0.5, "rest": 0.1}


class Candidate(NamedTuple):
    """A row that may be a result. `session` is a number that stands for the session."""

    id: int
    session: int
    seq: int
    occurred_at: int
    digest: int
    lexical: float


def normalised(scores: Mapping[int, float]) -> dict[int, float]:
    """Divided by the largest; empty or all zero: as they are."""
    best = max(scores.values(), default=0.0)
    return {key: score / best for key, score in scores.items()} if best > 0 else dict(scores)


def with_neighbours(candidates: Sequence[Candidate], lexical: Mapping[int, float]) -> dict[int, float]:
    """L + PREVIOUS L_prev + NEXT L_next by row id; neighbours are rows next to each other in one session."""
    at = {(c.session, c.seq): lexical[c.id] for c in candidates}
    return {
        c.id: lexical[c.id]
        + PREVIOUS * at.get((c.session, c.seq - 1), 0.0)
        + NEXT * at.get((c.session, c.seq + 1), 0.0)
        for c in candidates
    }


def best_of_sessions(candidates: Iterable[Candidate], lexical: Mapping[int, float]) -> dict[int, float]:
    """The best L of each session."""
    best: dict[int, float] = {}
    for c in candidates:
        best[c.session] = max(best.get(c.session, 0.0), lexical[c.id])
    return best


def recency(times: Iterable[int]) -> dict[int, float]:
    """0 to 1 for each time, by its rank among the known ones; unknown times (0) get 0."""
    known = sorted({t for t in times if t > 0})
    return {0: 0.0, **{t: (i + 1) / len(known) for i, t in enumerate(known)}}


def combine(candidates: Sequence[Candidate], sessions: Mapping[int, float]) -> dict[int, float]:
    """The score of every candidate by its id, but for M; `sessions`: BM25 of session documents."""
    lexical = normalised({c.id: c.lexical for c in candidates})
    turns = with_neighbours(candidates, lexical)
    best = best_of_sessions(candidates, lexical)
    documents = normalised(sessions)
    recent = recency(c.occurred_at for c in candidates)
    return {
        c.id: LEXICAL * turns[c.id]
        + BEST_OF_SESSION * best[c.session]
        + SESSION_DOCUMENT * documents.get(c.session, 0.0)
        + RECENCY * recent[max(c.occurred_at, 0)]
        for c in candidates
    }


def metadata_match(query_tokens: Iterable[str], row_tokens: Iterable[str]) -> float:
    """1 where the query names the row's tool, actor or a file of it, else 0."""
    return 1.0 if set(query_tokens) & set(row_tokens) else 0.0


def ordered(candidates: Iterable[Candidate], scores: Mapping[int, float]) -> list[Candidate]:
    """Best first; equal scores: the later row first."""
    return sorted(candidates, key=lambda c: (-scores[c.id], -c.id))

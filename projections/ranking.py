"""Ranking: small pure functions from what matched to an order of moments.

score =  L  + L_prev + L_next      BM25 of the row, over the best of the query; of the rows before and after it
       + D  + D_prev + D_next      cosine of its best passage, spread between a floor and the best; the same
       + max L + max D + S         the best L and D of its session; BM25 of the session's document, over the best
       + A + M + R                 the query names who said it; a file of it; how recent it is

each times its weight. The shapes come from measurements on LoCoMo and on coding sessions (benchmarks/quality.py, which
can switch every term off); neighbours are looked for among the candidates alone, which lost nothing there.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float64]

PART_OF_NAME = 0.5  # weight of `key` where the query says `cache_key`
FIELD_BOOSTS = {"body": 1.0, "result": 0.8, "rest": 0.1}


class Weights(NamedTuple):
    """What each term of the score counts; 0 switches it off."""

    lexical: float = 0.5
    lexical_previous: float = 0.125
    lexical_next: float = 0.03
    dense: float = 0.5
    dense_previous: float = 0.03
    dense_next: float = 0.075
    best_lexical: float = 0.8
    best_dense: float = 0.5
    session_document: float = 0.7
    actor: float = 0.4
    metadata: float = 0.1
    recency: float = 0.02


WORDS_ALONE = Weights(
    best_lexical=1.0, session_document=0.7, dense=0.0, best_dense=0.0
)  # where nothing has vectors


@dataclass(frozen=True, slots=True)
class Candidates:
    """Rows that may be results, a column each. `sessions` are numbers that stand for sessions; times in µs, 0 unknown.

    `dense`: the cosine of the row's best passage, NaN where it has no vector; `named`, `about`: 1 where the query names
    the row's actor; a file of it.
    """

    ids: Numbers
    sessions: Numbers
    seqs: Numbers
    times: Numbers
    digests: Numbers
    lexical: Scores
    dense: Scores
    named: Scores
    about: Scores

    def __len__(self) -> int:
        return len(self.ids)


def share(scores: Scores) -> Scores:
    """Divided by the largest; empty or all zero: as they are."""
    best = scores.max(initial=0.0)
    return scores / best if best > 0 else scores


def spread(cosines: Scores, floor: float) -> Scores:
    """0 at the floor and below, and where there is no vector; 1 at the best."""
    best = float(np.nanmax(cosines, initial=-1.0))
    if best <= floor:
        return np.where(cosines >= best, 1.0, 0.0) if len(cosines) else cosines
    return np.nan_to_num(np.clip((cosines - floor) / (best - floor), 0.0, None))


def floor_of(nearest: npt.NDArray[np.floating[Any]]) -> float:
    """Where `spread` begins: as far below the last of the nearest passages as the best is above it."""
    return float(2 * nearest.min() - nearest.max()) if len(nearest) else 1.0


class Places(NamedTuple):
    """Rows in the order of their sessions: what `neighbours` and `best_of_sessions` share."""

    order: Numbers
    starts: Numbers  # where in that order a session begins
    sizes: Numbers  # how many rows each has
    earlier: Numbers  # rows whose next one is there
    later: Numbers  # that next one


def places_of(sessions: Numbers, seqs: Numbers) -> Places:
    """Of at least one row."""
    order = np.lexsort((seqs, sessions))
    ascending, steps = sessions[order], seqs[order]
    same = ascending[1:] == ascending[:-1]
    starts = np.concatenate([[0], np.flatnonzero(~same) + 1])
    sizes = np.concatenate([starts[1:], [len(order)]]) - starts
    adjacent = same & (steps[1:] - steps[:-1] == 1)
    return Places(order, starts, sizes, order[:-1][adjacent], order[1:][adjacent])


def neighbours(places: Places, values: Scores) -> tuple[Scores, Scores]:
    """The values of the rows just before and just after each in its session; 0 where it is no candidate."""
    previous, following = np.zeros(len(values)), np.zeros(len(values))
    previous[places.later] = values[places.earlier]
    following[places.earlier] = values[places.later]
    return previous, following


def best_of_sessions(places: Places, values: Scores) -> Scores:
    """For each row the best value, 0 at least, among the rows of its session."""
    best = np.maximum(np.maximum.reduceat(values[places.order], places.starts), 0.0)
    out = np.empty(len(values))
    out[places.order] = np.repeat(best, places.sizes)
    return out


def recency(times: Numbers) -> Scores:
    """0 to 1 for each time, by its rank among the known ones; unknown times get 0."""
    ascending = np.sort(times)
    ascending = ascending[np.searchsorted(ascending, 0, "right") :]
    if not len(ascending):
        return np.zeros(len(times))
    new = np.ones(len(ascending), bool)
    new[1:] = ascending[1:] != ascending[:-1]
    known = ascending[new]
    return np.where(times > 0, (np.searchsorted(known, times) + 1) / len(known), 0.0)


def combine(found: Candidates, documents: Scores, floor: float, weights: Weights) -> Scores:
    """The score of every candidate. `documents`: BM25 of each one's session document, over the best; `floor`: see
    `floor_of`.
    """
    if not len(found):
        return np.zeros(0)
    w = weights
    places = places_of(found.sessions, found.seqs)
    lexical, dense = share(found.lexical), spread(found.dense, floor)
    score = w.lexical * lexical + w.dense * dense
    for values, previous, following in (
        (lexical, w.lexical_previous, w.lexical_next),
        (dense, w.dense_previous, w.dense_next),
    ):
        if previous or following:
            before, after = neighbours(places, values)
            score += previous * before + following * after
    score += w.best_lexical * best_of_sessions(places, lexical)
    score += w.best_dense * best_of_sessions(places, dense)
    score += w.session_document * documents
    score += w.actor * found.named + w.metadata * found.about
    return score + w.recency * recency(found.times)


def ordered(ids: Numbers, scores: Scores) -> Numbers:
    """Places of the candidates, best first; equal scores: the later row first."""
    return np.lexsort((-ids, -scores))

"""Scanning vectors without a graph: Hamming distances of binary codes, then exact scores of the nearest codes' rows.

A code keeps the signs of a vector (`vector_blocks.codes_of`). Codes that differ in few bits belong to vectors with a
small angle (Charikar, "Similarity estimation techniques from rounding algorithms", 2002), so the exact score is needed
for the nearest codes only. Everything here is a pass over whole arrays in pieces that fit a processor's cache.
"""

import numpy as np
import numpy.typing as npt

from session_mgmt_mcp.projections.vector_blocks import Codes, Halves, codes_of

Distances = npt.NDArray[np.uint16]
Indices = npt.NDArray[np.intp]
Scores = npt.NDArray[np.float32]

CODES_AT_ONCE = 1 << 15  # 256 KB of words: two such buffers fit a level-2 cache
ROWS_AT_ONCE = 256
SAMPLED_MIN, SAMPLED_ONE_IN = 1 << 17, 8
ESTIMATED_MIN = 1 << 14
WORDS_A_BYTE = 3  # 3 * 64 differing bits are the most a byte counts in whole words
SCORE_MAX = 1.05  # of vectors of length 1, with what float16 rounds off; beyond it a row is damaged
_HALF_BITS = np.int32(
    0x8FFFE000 - (1 << 32)
)  # the sign, and exponent and fraction of a float16 moved up by 13
_HALF_SCALE = np.float32(2.0**112)  # the exponents of float32 and float16 are 112 apart


def query_code(query: Scores) -> npt.NDArray[np.uint64]:
    """The code of one vector: uint64 [words]."""
    return np.ascontiguousarray(codes_of(query[None])[:, 0])


def distances(codes: Codes, code: npt.NDArray[np.uint64], out: Distances) -> None:
    """Into `out` [n]: how many bits of each of the codes [words, n] differ from `code` [words]."""
    n = min(CODES_AT_ONCE, codes.shape[1])
    words, bits, group = np.empty(n, np.uint64), np.empty(n, np.uint8), np.empty(n, np.uint8)
    for first in range(0, codes.shape[1], CODES_AT_ONCE):
        part = codes[:, first : first + CODES_AT_ONCE]
        n = part.shape[1]
        total = out[first : first + n]
        for word in range(len(part)):
            counted = group if word % WORDS_A_BYTE == 0 else bits
            np.bitwise_xor(part[word], code[word], out=words[:n])
            np.bitwise_count(words[:n], out=counted[:n])
            if counted is bits:
                np.add(group[:n], bits[:n], out=group[:n])
            if word % WORDS_A_BYTE == WORDS_A_BYTE - 1 or word == len(part) - 1:
                if word < WORDS_A_BYTE:
                    total[:] = group[:n]
                else:
                    np.add(total, group[:n], out=total)


def nearest_codes(found: Distances, n: int) -> Indices:
    """Where the n smallest distances are, ascending, and more that are as near as the last of them: at most 2 n.

    The n-th smallest is estimated from a sample; of very many distances that is enough, else it is then counted.
    """
    if n >= len(found):
        return np.arange(len(found))
    stride = SAMPLED_ONE_IN if len(found) >= ESTIMATED_MIN else 1
    reached = np.cumsum(np.bincount(found[::stride]))
    limit = int(np.searchsorted(reached, -(-n // stride)))
    near = found <= np.uint16(limit)
    if ESTIMATED_MIN <= len(found) < SAMPLED_MIN:
        while np.count_nonzero(near) < n:
            limit += 1
            near = found <= np.uint16(limit)
        while limit and np.count_nonzero(fewer := found <= np.uint16(limit - 1)) >= n:
            limit, near = limit - 1, fewer
    return np.flatnonzero(near)[: 2 * n]


def exact_scores(rows: Halves, at: Indices, query: Scores) -> Scores:
    """Inner products of some of the rows [n, dimension] with the query; NaN where a row is not of length 1.

    Float16 becomes float32 by moving its bits, as numpy's own conversion takes five times as long: exact for all finite
    numbers; the exponents' difference is made up for in the query. `vecdot` starts no threads of its own, `dot` may.
    """
    out = np.empty(len(at), np.float32)
    scaled = query * _HALF_SCALE
    halves = rows.view(np.int16)
    few = min(len(at), ROWS_AT_ONCE)
    narrow = np.empty((few, rows.shape[1]), np.int16)
    wide = np.empty((few, rows.shape[1]), np.int32)
    for first in range(0, len(at), ROWS_AT_ONCE):
        part = at[first : first + ROWS_AT_ONCE]
        n = len(part)
        np.take(
            halves, part, axis=0, out=narrow[:n], mode="clip"
        )  # the indices are right; this mode needs no buffer
        wide[:n] = narrow[:n]
        np.left_shift(wide[:n], 13, out=wide[:n])
        np.bitwise_and(wide[:n], _HALF_BITS, out=wide[:n])
        np.vecdot(wide[:n].view(np.float32), scaled, out=out[first : first + n])
    out[np.abs(out) > SCORE_MAX] = np.nan
    return out


def best(scores: Scores, k: int) -> Indices:
    """Where the k highest scores are, the highest first, the first of equal ones first; NaN is none."""
    kept = np.flatnonzero(~np.isnan(scores))
    if k < len(kept):
        limit = np.partition(scores[kept], len(kept) - k)[len(kept) - k]
        kept = kept[scores[kept] >= limit]
    order: Indices = kept[np.argsort(-scores[kept], kind="stable")[:k]]
    return order

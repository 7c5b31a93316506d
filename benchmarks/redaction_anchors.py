"""Choose the folds and anchors of `core.redact_anchors`: run again after rules were added, copy what it prints, and make
`core.redact_tables` anew (`core.redact_bake`).

    python benchmarks/redaction_anchors.py [--steps 300] [--seed 1] FILE…

FILEs are what payloads look like: transcripts, hook payloads. A local search over partitions of the bytes into groups; for
each, anchors are taken greedily: the one that stands for most literals for its cost. The cost of an anchor is one search
through the text, and one look at every place where it stands. Prints the best after each improvement.
"""

import argparse
import random
import time
from collections.abc import Sequence

from session_mgmt_mcp.core import redact_anchors, redact_tables

SEARCH_NS_PER_BYTE = 0.7
LOOK_NS = 500.0
SAMPLE_BYTES = 50_000
LETTERS = b"abcdefghijklmnopqrstuvwxyz0123456789-_./:<\\"
Groups = list[bytes]


def fold_table(groups: Sequence[bytes]) -> bytes:
    table = bytearray(bytes(range(256)).lower())
    for group in groups:
        for byte in group + group.upper():
            table[byte] = group[0]
    return bytes(table)


def anchors_of(groups: Sequence[bytes], sample: bytes) -> tuple[float, list[bytes]]:
    """Cost in ns per byte, and the anchors."""
    table = fold_table(groups)
    text = sample.translate(table)
    holders: dict[bytes, int] = {}  # anchor -> the literals it stands for, a bit each
    for number, literal in enumerate(redact_tables.LITERALS):
        folded = literal.translate(table)
        for length in (2, 3, 4, 5):
            for at in range(len(folded) - length + 1):
                holders[folded[at : at + length]] = holders.get(folded[at : at + length], 0) | 1 << number
    costs = {a: SEARCH_NS_PER_BYTE * len(text) + LOOK_NS * text.count(a) for a in holders}
    left, total, chosen = (1 << len(redact_tables.LITERALS)) - 1, 0.0, []
    while left:
        best = min(
            (a for a in holders if holders[a] & left),
            key=lambda a: costs[a] / (holders[a] & left).bit_count(),
        )
        chosen.append(best)
        total += costs[best]
        left &= ~holders[best]
    return total / len(text), chosen


def moved(groups: Groups, chance: random.Random) -> Groups:
    """Another partition: a byte or two in other groups."""
    sets = [set(group) for group in groups]
    for _ in range(chance.choice((1, 1, 2, 3))):
        byte = chance.choice(LETTERS)
        for group in sets:
            group.discard(byte)
        target = chance.randrange(len(sets) + 2)
        if target < len(sets):
            sets[target].add(byte)
        elif target == len(sets):
            sets.append({byte, chance.choice(LETTERS)})
            for group in sets[:-1]:
                group -= sets[-1]
    return [bytes(sorted(group)) for group in sets if len(group) > 1]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("files", nargs="+")
    args = parser.parse_args()
    chance = random.Random(args.seed)
    pieces = []
    for path in args.files:
        with open(path, "rb") as file:
            raw = file.read()
        at = chance.randrange(max(1, len(raw) - 1500))
        pieces.append(raw[at : at + 1500])
    chance.shuffle(pieces)
    sample = b"".join(pieces)[:SAMPLE_BYTES]
    groups: Groups = list(redact_anchors.FOLDS)
    cost, anchors = anchors_of(groups, sample)
    print(
        f"{len(redact_tables.LITERALS)} literals; {cost:.2f} ns/byte at first, {len(anchors)} anchors",
        flush=True,
    )
    started = time.monotonic()
    for step in range(args.steps):
        other = moved(groups, chance)
        other_cost, found = anchors_of(other, sample)
        if other_cost < cost:
            cost, groups, anchors = other_cost, other, found
            print(
                f"step {step}, {time.monotonic() - started:.0f} s: {cost:.2f} ns/byte\nFOLDS = {tuple(groups)}"
            )
            print(f"ANCHORS = {tuple(anchors)}", flush=True)


if __name__ == "__main__":
    main()

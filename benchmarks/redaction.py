"""What redaction costs, and what it takes out of sessions without planted secrets: false redactions, or finds to look at.

    python benchmarks/redaction.py [--json] [--show] FILE_OR_FOLDER…

Reads every `*.jsonl`, `*.json` and `*.md` in the folders. Counts by rule, per million characters; speed in MB of CPU time per
second: one payload at a time as in a hook (up to 6 kB), in batches as in an import, and with the rules of `core.entropy`.
`--show` prints each find with what is around it: the files' own text, so not into a report.
"""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from report import machine

from session_mgmt_mcp.core.entropy import NAME, assigned, redact_thorough_many
from session_mgmt_mcp.core.redact import redact, redact_counted
from session_mgmt_mcp.core.redact_batch import redact_many

HOOK_BYTES_MAX = 6_000
SPEED_BYTES = 24_000_000
BATCH = 500


def lines(roots: list[str]) -> Iterator[bytes]:
    for root in map(Path, roots):
        files = (
            sorted(p for p in root.rglob("*") if p.suffix in (".jsonl", ".json", ".md"))
            if root.is_dir()
            else [root]
        )
        for path in files:
            with path.open("rb") as file:
                yield from file


def counted(roots: list[str], show: bool) -> tuple[int, Counter[str]]:
    """Characters read, and finds by rule."""
    counts: Counter[str] = Counter()
    size = 0
    for batch in batched(lines(roots)):
        size += sum(map(len, batch))
        for line, kept in zip(batch, redact_thorough_many(batch), strict=True):
            if line == kept:
                continue
            shaped, found = redact_counted(line)
            more = assigned(shaped)[1]
            counts.update(found)
            counts[NAME] += more
            if show:
                at = kept.find(b"[redacted:")
                print(
                    f"{[*found, *([NAME] if more else [])]} {kept[max(0, at - 60) : at + 60]!r}",
                    file=sys.stderr,
                )
    return size, +counts


def batched(all_lines: Iterator[bytes]) -> Iterator[list[bytes]]:
    while batch := list(islice(all_lines, BATCH)):
        yield batch


def speed(act: Callable[[], object], size: int) -> float:
    """MB per second of CPU time; the best of three."""
    best = 1e9
    for _ in range(3):
        start = time.process_time()
        act()
        best = min(best, time.process_time() - start)
    return size / best / 1e6


def speeds(roots: list[str]) -> dict[str, float]:
    sample: list[bytes] = []
    size = 0
    for line in lines(roots):
        sample.append(line)
        size += len(line)
        if size >= SPEED_BYTES:
            break
    small = [line for line in sample if len(line) <= HOOK_BYTES_MAX]
    batches = [sample[at : at + BATCH] for at in range(0, len(sample), BATCH)]
    total = sum(map(len, small))
    alone = speed(lambda: [redact(line) for line in small], total)
    return {
        "one at a time": alone,
        "one at a time, us each": total / len(small) / alone,
        "batches": speed(lambda: [redact_many(batch) for batch in batches], size),
        "batches, with entropy": speed(lambda: [redact_thorough_many(batch) for batch in batches], size),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--show", action="store_true", help="print what is found, on stderr")
    parser.add_argument("roots", nargs="+", metavar="FILE_OR_FOLDER")
    args = parser.parse_args()
    size, counts = counted(args.roots, args.show)
    result: dict[str, Any] = {
        "machine": machine(),
        "characters": size,
        "found": dict(counts.most_common()),
        "mb_per_s": {name: round(value, 1) for name, value in speeds(args.roots).items()},
    }
    if args.json:
        print(json.dumps(result, indent=2))
        return
    print(f"{size / 1e6:.0f} million characters, {counts.total()} redactions")
    for rule, count in counts.most_common():
        print(f"{rule:24} {count:6} {count / size * 1e6:10.4f} per million")
    for name, value in result["mb_per_s"].items():
        print(f"{name:24} {value:6} {'' if 'us' in name else 'MB/s'}")


if __name__ == "__main__":
    main()

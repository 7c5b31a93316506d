"""What is counted during a load test: durations by tool, over time; errors by kind."""

import math
from array import array
from collections import Counter
from collections.abc import Sequence
from typing import Final

import msgspec

SHARES: Final = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "max": 1.0}


class Figures(msgspec.Struct, frozen=True):
    """A tool's answers. `ms`: percentiles (nearest rank) of the duration of the try that was answered."""

    answers: int
    per_s: float
    ms: dict[str, float]


class Tally:
    """Counts. 8 bytes an answer."""

    def __init__(self) -> None:
        self.errors: Counter[str] = Counter()
        self.retried = 0  # calls that were answered at a later try
        self.unanswered = 0
        self.longest_wait_s = 0.0  # of a call that was answered, all its tries together
        self._ends: dict[str, array[float]] = {}
        self._took: dict[str, array[float]] = {}

    def failed(self, kind: str) -> None:
        """A try that got no good answer."""
        self.errors[kind] += 1

    def answered(self, tool: str, at_s: float, seconds: float, waited_s: float, tries: int) -> None:
        """A call's answer, `at_s` after the test began."""
        if tool not in self._ends:
            self._ends[tool], self._took[tool] = array("f"), array("f")
        self._ends[tool].append(at_s)
        self._took[tool].append(seconds)
        self.retried += tries > 1
        self.longest_wait_s = max(self.longest_wait_s, waited_s)

    def figures(self, seconds: float) -> dict[str, Figures]:
        """By tool; `seconds`: how long the test took."""
        return {
            tool: Figures(len(took), round(len(took) / seconds, 2) if seconds else 0.0, percentiles(took))
            for tool, took in sorted(self._took.items())
        }

    def over_time(self, tool: str, seconds: float, parts: int) -> list[tuple[float, float, float, float]]:
        """(middle of the part in s, answers/s, p50 ms, p99 ms) of each of so many equal parts that had answers."""
        step = seconds / parts
        buckets: list[list[float]] = [[] for _ in range(parts)]
        for end, took in zip(self._ends.get(tool, ()), self._took.get(tool, ()), strict=True):
            buckets[min(parts - 1, int(end / step))].append(took)
        out = []
        for number, bucket in enumerate(buckets):
            if bucket:
                ms = percentiles(bucket)
                out.append(((number + 0.5) * step, len(bucket) / step, ms["p50"], ms["p99"]))
        return out

    @property
    def answers(self) -> int:
        return sum(len(took) for took in self._took.values())

    @property
    def tools(self) -> list[str]:
        return sorted(self._took)


def percentiles(seconds: "Sequence[float] | array[float]") -> dict[str, float]:
    """Of at least one duration in seconds, as milliseconds: the least value that `share` of all do not exceed."""
    ordered = sorted(seconds)
    last = len(ordered) - 1
    return {
        name: round(ordered[min(last, max(0, math.ceil(share * len(ordered)) - 1))] * 1000, 2)
        for name, share in SHARES.items()
    }

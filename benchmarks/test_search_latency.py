"""How long a search takes at 1,000 to 1,000,000 events: warm, cold, and with an event appended just before.

    SESSION_MGMT_BENCH_DATA=<folder> pytest -n 0 benchmarks/test_search_latency.py --benchmark-json=FILE [-k 100k]

Every query is asked once, so that no cache of queries answers; its embedding is real, the vectors it meets are generated
(prepared.py). A warm search is in a process that has searched before; a cold one is a whole new process up to its first
answer, its files in the page cache. CPU time stands beside every time: it is the steadier figure on a busy machine.
Memory is that of a process that has done `bench.QUERIES_MAX` searches or as many as fit in ten seconds.
"""

import itertools
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import corpus
import prepared

from session_mgmt_mcp.tools import bench
from session_mgmt_mcp.tools.app import App

WARM_ROUNDS = 500
COLD_ROUNDS = 7
FRESH_ROUNDS = 40
pytestmark = pytest.mark.parametrize("size", list(corpus.SIZES))


@pytest.fixture
def folder(size: str) -> Path:
    return prepared.folder_of(size)


@pytest.fixture
def app(folder: Path) -> Iterator[App]:
    with App.open(folder) as opened:
        yield opened


def _note(benchmark: Any, size: str, **figures: Any) -> None:
    """What the table shows of a run, times in ms."""
    times = bench.percentiles([seconds * 1e3 for seconds in benchmark.stats.stats.data])
    benchmark.extra_info.update(size=size, events=corpus.SIZES[size], **times, **figures)


def test_warm(benchmark: Any, size: str, app: App) -> None:
    asked = itertools.cycle(bench.own_queries(app))
    for query in itertools.islice(asked, bench.WARM_UP):
        app.views.search(query)
    spent: list[float] = []

    def search(query: str) -> None:
        before = time.process_time()
        app.views.search(query)
        spent.append((time.process_time() - before) * 1e3)

    benchmark.pedantic(search, setup=lambda: ((next(asked),), {}), rounds=WARM_ROUNDS)
    _note(benchmark, size, cpu=sum(spent) / len(spent), cpu_ms=bench.percentiles(spent))


def test_cold(benchmark: Any, size: str, folder: Path) -> None:
    asked = itertools.cycle(prepared.queries(folder))
    found: list[dict[str, Any]] = []
    bench.probe(folder, [next(asked)])  # what is not compiled yet, and not in the page cache
    benchmark.pedantic(
        lambda query: found.append(bench.probe(folder, [query])),
        setup=lambda: ((next(asked),), {}),
        rounds=COLD_ROUNDS,
    )
    middle = {
        name: bench.percentiles([f[name] for f in found])["p50"]
        for name in ("start_ms", "open_ms", "first_ms", "cold_ms", "cold_cpu_ms")
    }
    memory = found[-1]["cold_memory_mb"]
    _note(benchmark, size, **middle, memory_mb=memory)


def test_fresh(benchmark: Any, size: str, folder: Path) -> None:
    """An event is appended by another process' log; the next search must have it first."""
    with prepared.working_copy(folder) as copy, App.open(copy) as reader, App.open(copy) as writer:
        reader.views.search("warm up")

        def append() -> tuple[tuple[str, str], dict[str, Any]]:
            word = f"fresh{uuid.uuid4().hex[:12]}"
            writer.remember(f"{word} was decided just now")
            return (word, word), {}

        def search(query: str, word: str) -> None:
            found = reader.views.search(query)
            assert word in found[0].excerpt

        benchmark.pedantic(search, setup=append, rounds=FRESH_ROUNDS)
    _note(benchmark, size)


def test_memory(benchmark: Any, size: str, folder: Path) -> None:
    found: list[dict[str, Any]] = []
    asked = prepared.queries(folder)
    benchmark.pedantic(lambda: found.append(bench.probe(folder, asked, warm_s=10.0)), rounds=1)
    _note(benchmark, size, memory_mb=found[0]["memory_mb"], searches=len(found[0]["warm_ms"]))

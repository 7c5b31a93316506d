"""The vector index: recall against exact and milliseconds a query, for the scan, the graphs and naive baselines.

    python benchmarks/vector_index.py [--sizes 10000,100000,1000000] [--graphs-mb 512] [--queries N] [--json]

Vectors and queries are generated from a seed, 384-dimensional, shaped like those the shipped model gives of real sessions
(`SHARES`) and a little harder for codes than those: of 40,000, codes and rescoring of 2000 find .992 of the 100 nearest, of
40,650 real passages .996. Queries are no perturbed copies of what is stored: the best match has a cosine of about .5. Baselines in the same run: an exact scan of a float32 matrix in memory, and DuckDB's cosine up
to 100,000. `cold` is a new process: importing, opening (all checksums but the rows'), the first answer. A graph takes
about half a minute of one core for each 65,536 vectors; with `--graphs-mb 0` there are none. Times are wall-clock times in
milliseconds and, as a busy machine stretches those, CPU times.
"""

import argparse
import gc
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from report import percentiles, show

from session_mgmt_mcp.projections.vector_blocks import Pairs
from session_mgmt_mcp.projections.vector_index import VectorIndex
from session_mgmt_mcp.projections.vector_shards import build_shards
from session_mgmt_mcp.projections.vector_state import empty_state
from session_mgmt_mcp.projections.vector_store import fill

Vectors = npt.NDArray[np.float32]

DIMENSION = 384
# measured on 5,917 passages of real sessions: what share of the variance the first principal directions hold
SHARES = ((32, 0.605), (64, 0.759), (128, 0.894), (192, 0.953), (256, 0.983), (384, 1.0))
CENTRE_SHARE = 0.3  # of a passage's variance, that of what it is about; as many topics as MEMBERS allows
QUERY_SHARE = 0.3  # the same of a query
MEMBERS = 200  # passages a topic
RESULTS = 100
DUCKDB_MAX = 100_000
GENERATED_AT_ONCE = 50_000
SEED = 11


class Stub:
    """All that generated vectors ask of a log."""

    log_id = "generated"


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the vector index.")
    parser.add_argument("--sizes", default="10000,100000,1000000")
    parser.add_argument("--graphs-mb", type=int, default=512)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child:
        print(json.dumps(cold_open(Path(chosen.child))))
        return
    sizes = [int(size) for size in chosen.sizes.split(",")]
    figures = {str(size): measure(size, chosen.queries, chosen.graphs_mb << 20) for size in sizes}
    data = {"seed": SEED, "dimension": DIMENSION, "queries": chosen.queries, "results": RESULTS}
    if chosen.json:
        show("vector index", {"data": data, "sizes": figures}, as_json=True)
        return
    show("vector index", {"data": data}, as_json=False)
    for size, found in figures.items():
        print(f"  {size} vectors")
        for name, value in found.items():
            print(f"    {name}: {json.dumps(value)}")


# -- data ----------------------------------------------------------------------------------------------------------


def deviations() -> Vectors:
    """Standard deviation in each principal direction."""
    out = np.empty(DIMENSION, np.float32)
    start, before = 0, 0.0
    for end, share in SHARES:
        out[start:end] = ((share - before) / (end - start)) ** 0.5
        start, before = end, share
    return out


class Shape:
    """Makes vectors of topics; the same for the same size."""

    def __init__(self, size: int) -> None:
        random = np.random.default_rng(SEED)
        self._deviations = deviations()
        self._turn = np.linalg.qr(random.normal(size=(DIMENSION, DIMENSION)))[0].astype(np.float32)
        self._topics = self._draw(random, max(50, size // MEMBERS))
        self._size = size

    def _draw(self, random: np.random.Generator, n: int) -> Vectors:
        return random.standard_normal((n, DIMENSION), np.float32) * self._deviations

    def _about(self, random: np.random.Generator, n: int, share: float) -> Vectors:
        topic = self._topics[random.integers(0, len(self._topics), n)]
        mixed = share**0.5 * topic + (1 - share) ** 0.5 * self._draw(random, n)
        found = mixed @ self._turn
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    def queries(self, n: int) -> Vectors:
        return self._about(np.random.default_rng((SEED, 1)), n, QUERY_SHARE)

    def parts(self) -> Iterator[tuple[int, Vectors]]:
        """Where a part begins, its vectors."""
        for first in range(0, self._size, GENERATED_AT_ONCE):
            n = min(GENERATED_AT_ONCE, self._size - first)
            yield first, self._about(np.random.default_rng((SEED, 2, first)), n, CENTRE_SHARE)


# -- measuring -----------------------------------------------------------------------------------------------------


def measure(size: int, queries_n: int, graphs_bytes: int) -> dict[str, Any]:
    shape = Shape(size)
    queries = shape.queries(queries_n)
    rows = np.empty((size, DIMENSION), np.float16)
    for first, part in shape.parts():
        rows[first : first + len(part)] = part
    numbers = np.random.default_rng((SEED, 3)).permutation(size).astype(np.int64) * 7_919_000_003_413 + 1
    truth = exact(rows, queries)
    figures: dict[str, Any] = {"best_cosine": float(np.mean([scores[0] for _, scores in truth]))}
    figures["numpy_exact"] = numpy_exact(rows, queries)
    if size <= DUCKDB_MAX:
        figures["duckdb_cosine"] = duckdb_cosine(rows, queries[:20])
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        views = Path(folder)
        pairs = Pairs(np.arange(size, dtype=np.int64) << 10, numbers)
        state = msgspec.structs.replace(empty_state(Stub.log_id), model_id="generated")
        fill(views, state, pairs, numbers, rows, ((0, size << 10),))
        del rows, pairs
        gc.collect()
        expected = [numbers[best] for best, _ in truth]
        figures["scan"] = asked(VectorIndex(Stub(), views, 0), queries, expected)  # type: ignore[arg-type]
        figures["cold"] = in_a_process(views)
        began = time.process_time()
        built = build_shards(views, graphs_bytes)
        if built:
            index = VectorIndex(Stub(), views, graphs_bytes)  # type: ignore[arg-type]
            index.refresh()
            index.wait_for_graphs()
            found = asked(index, queries, expected)
            build = {"graphs": built, "build_cpu_s_a_graph": (time.process_time() - began) / built}
            figures["graphs"] = {**build, **found}
    return figures


def exact(rows: npt.NDArray[np.float16], queries: Vectors) -> list[tuple[npt.NDArray[np.intp], Vectors]]:
    """The best of each query, the best first, and their cosines."""
    best = np.zeros((0, len(queries)), np.intp)
    scores = np.zeros((0, len(queries)), np.float32)
    for first in range(0, len(rows), GENERATED_AT_ONCE):
        found = rows[first : first + GENERATED_AT_ONCE].astype(np.float32) @ queries.T
        few = np.argpartition(-found, RESULTS, axis=0)[:RESULTS]
        best = np.concatenate([best, few + first])
        scores = np.concatenate([scores, np.take_along_axis(found, few, 0)])
        kept = np.argsort(-scores, axis=0, kind="stable")[:RESULTS]
        scores, best = np.take_along_axis(scores, kept, 0), np.take_along_axis(best, kept, 0)
    return list(zip(best.T, scores.T, strict=True))


def timed(run: Callable[[Vectors], object], queries: Vectors) -> dict[str, Any]:
    """Milliseconds a query, after one round that is not counted."""
    wall, cpu = [], []
    for query in queries[: len(queries) // 4 + 1]:
        run(query)
    for query in queries:
        began, began_cpu = time.perf_counter(), time.process_time()
        run(query)
        wall.append((time.perf_counter() - began) * 1e3)
        cpu.append((time.process_time() - began_cpu) * 1e3)
    return {"ms": percentiles(wall), "cpu_ms": percentiles(cpu)}


def asked(index: VectorIndex, queries: Vectors, expected: list[npt.NDArray[np.int64]]) -> dict[str, Any]:
    """Recall and latency of an index, and the memory of this process."""
    index.refresh()
    found = [index.nearest(query, RESULTS)[0] for query in queries]
    figures: dict[str, Any] = {
        f"recall@{k}": float(
            np.mean([np.isin(e[:k], f[:k]).mean() for e, f in zip(expected, found, strict=True)])
        )
        for k in (10, RESULTS)
    }
    figures |= timed(lambda query: index.nearest(query, RESULTS), queries)
    figures["problems"] = index.problems
    index.close()
    return figures


def numpy_exact(rows: npt.NDArray[np.float16], queries: Vectors) -> dict[str, Any]:
    matrix = rows.astype(np.float32)

    def run(query: Vectors) -> object:
        scores = matrix @ query
        best = np.argpartition(-scores, RESULTS)[:RESULTS]
        return best[np.argsort(-scores[best])]

    return timed(run, queries[:50])


def duckdb_cosine(rows: npt.NDArray[np.float16], queries: Vectors) -> dict[str, Any]:
    import duckdb
    import pyarrow as pa

    connection = duckdb.connect()
    flat = pa.array(rows.astype(np.float32).reshape(-1))
    table = pa.table({"id": np.arange(len(rows)), "x": pa.FixedSizeListArray.from_arrays(flat, DIMENSION)})
    connection.register("given", table)
    connection.execute(f"CREATE TABLE stored AS SELECT id, x::FLOAT[{DIMENSION}] AS x FROM given")
    sql = f"SELECT id FROM stored ORDER BY array_cosine_similarity(x, ?::FLOAT[{DIMENSION}]) DESC LIMIT {RESULTS}"
    return timed(lambda query: connection.execute(sql, [query.tolist()]).fetchall(), queries)


# -- a new process -------------------------------------------------------------------------------------------------


def in_a_process(views: Path) -> dict[str, Any]:
    run = subprocess.run(
        [sys.executable, __file__, "--child", str(views)], capture_output=True, text=True, check=True
    )
    found: dict[str, Any] = json.loads(run.stdout)
    return found


def cold_open(views: Path) -> dict[str, Any]:
    """CPU milliseconds of opening and of the first answers, and memory before and after a hundred more."""
    before = memory()
    index = VectorIndex(Stub(), views, 0)  # type: ignore[arg-type]
    figures: dict[str, Any] = {}
    queries = Shape(MEMBERS).queries(100)

    def step(name: str, run: Callable[[], Any]) -> Any:
        began, began_cpu = time.perf_counter(), time.process_time()
        out = run()
        figures[name] = {
            "ms": (time.perf_counter() - began) * 1e3,
            "cpu_ms": (time.process_time() - began_cpu) * 1e3,
        }
        return out

    step("open", index.refresh)
    passages, _ = step("first_nearest", lambda: index.nearest(queries[0], RESULTS))
    step("first_rows", lambda: index.rows_of(passages))
    step("first_scores", lambda: index.scores(passages, queries[0]))
    for query in queries:
        index.nearest(query, RESULTS)
    after = memory()
    figures["memory_mb"] = {name: after[name] - before[name] for name in after}
    return figures


def memory() -> dict[str, float]:
    """Resident memory of this process: its own, and what is mapped from files, which the system may take back."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return {}
    found = dict(line.split(":", 1) for line in status.splitlines() if line.startswith("Rss"))
    return {
        name: int(found[key].split()[0]) / 1024 for name, key in (("own", "RssAnon"), ("mapped", "RssFile"))
    }


if __name__ == "__main__":
    main()

"""RESULTS.md and its plots, from the parts' JSON files."""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import plot

SIZES = ("1k", "10k", "100k", "1M")
Found = dict[str, Any]


def table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    lines += [f"| {' | '.join(map(readable, row))} |" for row in rows]
    return "\n".join(lines)


def readable(value: Any) -> str:
    """Three figures of a number, text as it is."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def about(found: Found) -> str:
    """The machine and the commit of a part's run."""
    m = found["machine"]
    return (
        f"_{m['cores']} cores, {m['system']}, Python {m['python']}, commit {m['commit']}, "
        f"load {m['load']} when it began_"
    )


# -- parts -------------------------------------------------------------------------------------------------------


def data(found: Found, folder: Path) -> str:
    rows = [
        (
            row["size"],
            row["events"],
            row["rows"],
            row["vectors"],
            row["log_mb"],
            row["views_mb"],
            f"`{row['sha256']}`",
        )
        for row in found["sizes"]
    ]
    return table(
        (
            "size",
            "events",
            "actions",
            "vectors",
            "log MB",
            "views MB",
            "SHA-256 of the records, its beginning",
        ),
        rows,
    )


def latency(found: Found, folder: Path) -> str:
    """The tables and both curves."""
    tests: dict[str, dict[str, Found]] = {}
    for run in found["tests"]:
        tests.setdefault(run["test"], {})[run["size"]] = run
    out = [_latency_table(tests)]
    events = {size: run["events"] for by_size in tests.values() for size, run in by_size.items()}
    warm, cold, memory = (tests.get(name, {}) for name in ("warm", "cold", "memory"))
    times = {
        "warm p50": [(events[s], run["p50"]) for s, run in warm.items()],
        "warm p99": [(events[s], run["p99"]) for s, run in warm.items()],
        "warm CPU p50": [(events[s], run["cpu_ms"]["p50"]) for s, run in warm.items() if "cpu_ms" in run],
        "cold p50": [(events[s], run["cold_ms"]) for s, run in cold.items()],
        "cold CPU": [(events[s], run["cold_cpu_ms"]) for s, run in cold.items()],
        "just appended": [(events[s], run["p50"]) for s, run in tests.get("fresh", {}).items()],
    }
    out.append(_plotted(folder, "latency.svg", "A search, by the size of the log", "ms", times))
    parts = {
        kind: [(events[s], run["memory_mb"][kind]) for s, run in memory.items()]
        for kind in ("resident", "anonymous", "file", "peak")
    }
    out.append(_plotted(folder, "memory.svg", "Memory of a searching process", "MB", parts))
    return "\n\n".join(filter(None, out))


def _latency_table(tests: dict[str, dict[str, Found]]) -> str:
    rows = []
    for size in SIZES:
        warm, cold, fresh, memory = (
            tests.get(n, {}).get(size, {}) for n in ("warm", "cold", "fresh", "memory")
        )
        if warm or cold:
            times = _slashed(warm, "p50", "p95", "p99"), _slashed(warm.get("cpu_ms", {}), "p50", "p95", "p99")
            begun = (
                _slashed(cold, "start_ms", "open_ms", "first_ms"),
                cold.get("cold_ms"),
                cold.get("cold_cpu_ms"),
            )
            held = _slashed(memory.get("memory_mb", {}), "resident", "anonymous", "file")
            rows.append((size, *times, *begun, _slashed(fresh, "p50", "p99"), held))
    heads = (
        "events", "warm p50/p95/p99 ms", "warm CPU p50/p95/p99 ms", "cold: start/open/first ms", "cold ms", "cold CPU ms",
        "just appended p50/p99 ms", "memory MB: resident/own/files",
    )  # fmt: skip
    return table(heads, rows)


def _slashed(found: Found, *names: str) -> str:
    return " / ".join(readable(found.get(name)) for name in names)


def _plotted(
    folder: Path, name: str, title: str, unit: str, series: dict[str, list[tuple[float, float]]]
) -> str:
    drawn = {key: points for key, points in series.items() if points}
    if not drawn:
        return ""
    (folder / name).write_text(plot.lines(title, "events", unit, drawn))
    return f"![{title}]({folder.name}/{name})"


def limited(found: Found, folder: Path) -> str:
    rows = []
    for name in ("cold disk", "warm disk"):
        run = found[name]
        times = _slashed(run["search_ms"], "p50", "p95", "p99"), run["search_cpu_ms"]
        fresh = _slashed(run["appended_and_found_ms"], "p50", "max")
        held = _slashed(run["memory_mb"], "resident", "anonymous", "file", "peak")
        rows.append((name, run["cold_ms"], run["cold_cpu_ms"], *times, fresh, held, run["group_peak_mb"]))
    heads = (
        "files", "process to first answer ms", "of it CPU ms", "then p50/p95/p99 ms", "CPU ms",
        "appended, then found p50/max ms", "memory MB: resident/own/files/peak", "group's peak MB",
    )  # fmt: skip
    limit = (
        f"{found['size']} events, {found['limit_mb']} MB, held to it by {found['cold disk']['limited_by']}."
    )
    return f"{limit}\n\n{table(heads, rows)}"


def rivals(found: Found, folder: Path) -> str:
    stopped = {name: run["stopped_by"] for name, run in found["systems"].items() if "stopped_by" in run}
    runs = {name: run for name, run in found["systems"].items() if name not in stopped}
    tasks = list(next(iter(runs.values()))["mrr"])
    rows = [
        (
            name,
            *(f"{run['mrr'][task]:.2f}" for task in tasks),
            f"{run['r10']:.2f}",
            _slashed(run["ms"], "p50", "p95", "p99"),
            run.get("cpu_ms"),
        )
        for name, run in runs.items()
    ]
    text = (
        f"{found['sessions']} sessions of one repository, {found['rows']:,} actions, {found['passages']:,} passages, "
        f"{found['queries']} queries; the mean reciprocal rank of the right session; the time for {found['results_timed']} results."
    )
    notes = [f"- {name}: stopped by {reason}" for name, reason in stopped.items()]
    return "\n".join(
        [
            text,
            "",
            table(("system", *tasks, "R@10", "p50/p95/p99 ms", "CPU ms"), rows),
            *([""] if notes else []),
            *notes,
        ]
    )


def quality(found: Found, folder: Path) -> str:
    rows = []
    for task, row in found["tasks"].items():
        if "mrr" in row:
            low, high = row["mrr_95"]
            target = "/".join(map(str, row.get("target", ()))) or None
            base = found["baseline_mrr"].get(task)
            figures = [f"{row[name]:.3f}" if name in row else None for name in ("mrr", "r1", "r5", "r10")]
            rows.append((task, row["n"], figures[0], f"{low:.3f}–{high:.3f}", *figures[1:], target, base))
    out = [
        table(
            ("task", "queries", "MRR", "95 %", "R@1", "R@5", "R@10", "target MRR/R@10", "baseline MRR"), rows
        )
    ]
    locomo = found["tasks"].get("locomo")
    if locomo:
        figures = {name: value for name, value in locomo.items() if isinstance(value, float)}
        out.append("LoCoMo: " + ", ".join(f"{name} {value:.3f}" for name, value in figures.items()))
    ablations = found.get("ablations")
    if ablations:
        tasks = list(next(iter(ablations.values())))
        rows = [(name, *(f"{values[task]:.3f}" for task in tasks)) for name, values in ablations.items()]
        of = f"one query in {found['ablations_one_query_in']}"
        out.append(f"MRR (LoCoMo: R@10) without a step of the ranking, {of}:\n\n" + table(("", *tasks), rows))
    return "\n\n".join(out)


def vector_index(found: Found, folder: Path) -> str:
    rows = []
    for size, run in found["sizes"].items():
        for name in ("scan", "graphs", "numpy_exact", "duckdb_cosine"):
            one = run.get(name)
            if one:
                recall = one.get("recall@10"), one.get("recall@100")
                rows.append(
                    (int(size), name, *recall, _slashed(one["ms"], "p50", "p95", "p99"), one["cpu_ms"]["p50"])
                )
    return table(("vectors", "how", "recall@10", "recall@100", "p50/p95/p99 ms", "CPU p50 ms"), rows)


def embedding(found: Found, folder: Path) -> str:
    rows = []
    for name in ("shipped", "official"):
        one = found.get(name)
        if isinstance(one, dict):
            rates = ", ".join(f"{rate:.0f} of {tokens}" for tokens, rate in one["passages_s"].items())
            query = _slashed(one["query_ms"], "p50", "p99")
            rows.append((name, one["import_and_load_cpu_ms"], query, rates, one["memory_mb"]["after"]))
    heads = (
        "model",
        "load CPU ms",
        "a query p50/p99 ms",
        "passages/s on one thread, of so many tokens",
        "memory MB",
    )
    return table(heads, rows)


def ingest(found: Found, folder: Path) -> str:
    names = {
        "import": "import, durable and redacted",
        "import_again": "import again",
        "seal_and_build_views": "seal and build views",
    }
    rows = [
        (text, ", ".join(f"{k} {readable(v)}" for k, v in found[name].items()))
        for name, text in names.items()
    ]
    return table(("what", "figures"), rows)


def service(found: Found, folder: Path) -> str:
    """Throughput, bare HTTP, memory over time, kills and restarts."""
    load, health, memory, kill, restart = (
        found[name] for name in ("load", "health", "memory", "kill", "restart")
    )
    heads = ("tool", "clients", "per_s", "p50", "p99", "max", "cpu_ms", "errors", "wrong")
    sides = [
        (side, *(health[side][name] for name in ("per_s", "p50", "p99", "cpu_us")))
        for side in ("ours", "bare")
    ]
    own = memory["own_mb"]
    judged = ("answers", "retried", "unanswered", "longest_wait_s", "acknowledged", "wrong")
    waits = {
        "kill -9": ("ready after s", kill["ready_s"], kill),
        "restart": ("away s", restart["seconds_away"], restart),
    }
    rows = [
        (name, f"{what} {', '.join(map(readable, values))}", *(run[key] for key in judged))
        for name, (what, values, run) in waits.items()
    ]
    out = [
        table(heads, [[row[name] for name in heads] for row in load["tools"]]),
        f"`GET /health` on 100 connections, in turns; CPU of the server {readable(health['cpu_us_ratio'])} times the bare app's:",
        table(("app", "a second", "p50 ms", "p99 ms", "CPU µs"), sides),
        (
            f"10 clients for {readable(memory['seconds'])} s, {readable(memory['per_s'])} answers/s: own memory "
            f"{readable(own['first'])} MB at first, {readable(own['after_a_tenth'])} after a tenth of the time, "
            f"{readable(own['last_tenth'])} in the last, {readable(own['most'])} at most; "
            f"{readable(memory['acknowledged'])} notes acknowledged, {memory['wrong']} missing or wrong."
        ),
    ]
    if (folder / "service-memory.svg").exists():
        out.append("![The service over time](results/service-memory.svg)")
    out.append(table(("under load", "", *judged), rows))
    return "\n\n".join(out)


HEADINGS: dict[str, tuple[str, Callable[[Found, Path], str]]] = {
    "data": ("The generated histories", data),
    "latency": ("Search from 1,000 to 1,000,000 events", latency),
    "limited_memory": ("Search in a process limited to 1 GB", limited),
    "quality": ("Search quality on judged queries", quality),
    "rivals": ("Beside others, in one run", rivals),
    "vector_index": ("Recall and time of the vector index", vector_index),
    "embedding": ("Embedding", embedding),
    "service": ("The HTTP service under load", service),
    "ingest": ("Ingest of real transcripts", ingest),
}


def page(folder: Path) -> str:
    """The whole page; a part that was not run says so."""
    out = [
        "# Results",
        (
            "Written by `python benchmarks/run_all.py`; do not edit. What each part measures stands at the head of its program. "
            "Times are by the clock, in ms; where other work ran beside a benchmark (see the load), the CPU time beside it is "
            "the steadier figure, and only ratios within a table mean much."
        ),
    ]
    for name, (heading, rendered) in HEADINGS.items():
        file = folder / f"{name}.json"
        out.append(f"## {heading}")
        if not file.exists():
            out.append(f"Not run yet: `python benchmarks/run_all.py {name}`.")
            continue
        found = json.loads(file.read_text())
        out += [about(found), rendered(found, folder)]
    return "\n\n".join(out) + "\n"

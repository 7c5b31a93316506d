"""How fast search is on this log, with queries made of its own words. Reads only; the queries are never shown."""

import json
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from session_mgmt_mcp.core.errors import InputError
from session_mgmt_mcp.tools.app import App

QUERY_WORDS = (1, 2, 3, 5, 8, 12)  # lengths of queries, in turn
QUERIES_MAX = 1200
WARM_UP = 20  # queries of the warm measurement that are not counted: they load what searches load once
WARM_S = 12.0
COLD_RUNS = 5
READ_S = 3.0
EMBED_S = 4.0
LIMIT = 10
_CHILD = "from session_mgmt_mcp.tools.bench import child; child()"
_WORD = re.compile(r"[A-Za-z_][\w./]*\w")
_TOLD = ("PromptSubmitted", "AssistantReplied", "ToolCalled", "ReflectionRemembered", "ContextCompacted")
Report = Callable[[str, int, int], None]


def run(app: App, report: Report, *, warm_s: float = WARM_S) -> dict[str, Any]:
    """Everything, within a minute. Times in ms, memory in MB, sizes in bytes. Raises InputError where nothing is there."""
    report("choosing queries from the log's words", 0, 0)
    queries = own_queries(app)
    if not queries:
        raise InputError("nothing to search in this log yet: import or capture some sessions first")
    found = {"folder": str(app.folder), **_holds(app)}
    cold = []
    for at in range(COLD_RUNS):
        report("searching in new processes", at, COLD_RUNS)
        cold.append(probe(app.folder, queries[at : at + 1]))
    report("searching in one process", 0, 0)
    warm = probe(app.folder, queries, warm_s=warm_s)
    report("reading the log", 0, 0)
    return {
        **found,
        "queries": len(warm["warm_ms"]),
        "search_ms": percentiles(warm["warm_ms"]) if warm["warm_ms"] else None,
        "search_cpu_ms": warm["warm_cpu_ms"],
        "cold_ms": percentiles([run["cold_ms"] for run in cold]),
        "cold_cpu_ms": percentiles([run["cold_cpu_ms"] for run in cold]),
        "memory_mb": warm["memory_mb"],
        "rates": {"log_events_s": _reading(app), "passages_embedded_s": _embedding(app)},
    }


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """Median, p95, p99 and maximum of at least one value."""
    ordered = sorted(values)

    def at(share: float) -> float:
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    return {"p50": at(0.5), "p95": at(0.95), "p99": at(0.99), "max": ordered[-1]}


def own_queries(app: App, count: int = QUERIES_MAX) -> list[str]:
    """Stretches of 1 to 12 words of what was said and called, each once; the same ones for the same log."""
    kinds = ", ".join(f"'{kind}'" for kind in _TOLD)
    with app.views.reading() as files:
        ids = files.fetch(
            f"SELECT id FROM shown WHERE kind IN ({kinds}) AND length(text) > 20 ORDER BY hash(id) LIMIT {count}"
        )
        marks = ", ".join(str(row_id) for (row_id,) in ids)
        texts = files.fetch(f"SELECT text FROM shown WHERE id IN ({marks}) ORDER BY hash(id)") if ids else []
    out = dict.fromkeys(_stretches(text for (text,) in texts))
    return list(out)


def _stretches(texts: Iterator[str]) -> Iterator[str]:
    for number, text in enumerate(texts):
        words = _WORD.findall(text[:4000])
        length = QUERY_WORDS[number % len(QUERY_WORDS)]
        if words:
            begin = max(0, len(words) - length) // 2
            yield " ".join(words[begin : begin + length])


# -- a process of its own ----------------------------------------------------------------------------------------


def probe(folder: Path, queries: Sequence[str], *, warm_s: float = 0.0) -> dict[str, Any]:
    """What a new process takes to answer the first query, and then the others for `warm_s` seconds.

    `start_ms` up to the first line of ours, `open_ms` to open log and views, `first_ms` the first search; `cold_ms` and
    `cold_cpu_ms` are the whole of it; `warm_ms` one value a query, each asked once. Raises RuntimeError.
    """
    asked = json.dumps(
        {"folder": str(folder), "queries": list(queries), "warm_s": warm_s, "at": time.monotonic()}
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", _CHILD], input=asked, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"the measuring process failed: {done.stderr.strip()[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def child() -> None:
    """The other end of `probe`."""
    asked = json.load(sys.stdin)
    json.dump(measure(Path(asked["folder"]), asked["queries"], asked["warm_s"], asked["at"]), sys.stdout)


def measure(folder: Path, queries: Sequence[str], warm_s: float, asked_at: float) -> dict[str, Any]:
    """`probe` in this process; `asked_at`: when it was called, on the machine's monotonic clock, in seconds."""
    began = time.monotonic()
    with App.open(folder) as app:
        app.views.refresh()
        opened = time.monotonic()
        results = len(app.views.search(queries[0], limit=LIMIT))
        answered = time.monotonic()
        cold_cpu = _cpu()
        cold_memory = memory()
        warm, warm_cpu = _warm(app, queries[1:], warm_s)
        return {
            "start_ms": (began - asked_at) * 1e3,
            "open_ms": (opened - began) * 1e3,
            "first_ms": (answered - opened) * 1e3,
            "cold_ms": (answered - asked_at) * 1e3,
            "cold_cpu_ms": cold_cpu * 1e3,
            "results": results,
            "cold_memory_mb": cold_memory,
            "warm_ms": warm,
            "warm_cpu_ms": warm_cpu,
            "memory_mb": memory(),
        }


def _warm(app: App, queries: Sequence[str], seconds: float) -> tuple[list[float], float | None]:
    """Milliseconds of each search, and CPU milliseconds of one in the mean."""
    if seconds <= 0 or len(queries) <= WARM_UP:
        return [], None
    for query in queries[:WARM_UP]:
        app.views.search(query, limit=LIMIT)
    taken: list[float] = []
    began, cpu = time.monotonic(), _cpu()
    for query in queries[WARM_UP:]:
        before = time.perf_counter()
        app.views.search(query, limit=LIMIT)
        taken.append((time.perf_counter() - before) * 1e3)
        if time.monotonic() - began > seconds:
            break
    return taken, (_cpu() - cpu) * 1e3 / len(taken)


def _cpu() -> float:
    """Seconds of CPU this process has used, all threads, in user and kernel."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def memory() -> dict[str, float]:
    """This process' memory in MB: `resident`, of it `anonymous` (its own) and `file` (mapped files, which other processes
    share and the kernel may drop), and the highest `peak` of resident; the peak alone where there is no /proc.
    """
    try:
        kib = {name: int(size) for name, size in _sizes("smaps_rollup") | _sizes("status")}
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024  # what getrusage counts in
        return {"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6}
    found = {"resident": kib["Rss"], "anonymous": kib["Anonymous"], "file": kib["Rss"] - kib["Anonymous"]}
    return {name: size * 1024 / 1e6 for name, size in (found | {"peak": kib["VmHWM"]}).items()}


def _sizes(name: str) -> set[tuple[str, str]]:
    """The lines `<name>: <size> kB` of a file about this process."""
    with open(f"/proc/self/{name}") as lines:
        return set(re.findall(r"^(\w+):\s+(\d+) kB$", lines.read(), re.MULTILINE))


# -- what is there -----------------------------------------------------------------------------------------------


def _holds(app: App) -> dict[str, Any]:
    status = app.views.status()
    sizes = {name: size(app.folder / name) for name in ("segments", "journal")}
    views = app.folder / "views"
    for view in sorted(views.iterdir()) if views.is_dir() else ():
        if view.is_dir():
            sizes[f"{view.name} view"] = size(view)
    return {
        "events": status.log_position,
        "actions": status.actions,
        "sessions": status.sessions,
        "bytes": sizes,
    }


def size(folder: Path) -> int:
    """Bytes of the files below a folder."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(parent, name)).st_size
            except FileNotFoundError:  # replaced by a newer one this moment
                continue
    return total


def _reading(app: App) -> float:
    """Events a second read from the log."""
    events, began = 0, time.monotonic()
    for batch in app.log.read(0):
        events += len(batch)
        if time.monotonic() - began > READ_S:
            break
    return events / max(time.monotonic() - began, 1e-9)


def _embedding(app: App) -> float | None:
    """Passages of this log embedded a second, on one thread; None where no model is there."""
    try:
        from session_mgmt_mcp.projections.embedding import Embedder, embedding_available
        from session_mgmt_mcp.projections.passages import passages_of
    except ImportError:
        return None
    if embedding_available() is not None:
        return None
    embedder = Embedder.open(None)
    with app.views.reading() as files:
        some = f"SELECT id FROM shown WHERE kind = 'AssistantReplied' LIMIT {QUERIES_MAX}"
        rows = list(files.shown_rows(f"id IN ({some})"))
    passages = [passage for row in rows for passage in passages_of(row)]
    done, began = 0, time.monotonic()
    for at in range(0, len(passages), 32):
        done += len(embedder.embed_passages(passages[at : at + 32]))
        if time.monotonic() - began > EMBED_S:
            break
    return done / max(time.monotonic() - began, 1e-9) if done else None

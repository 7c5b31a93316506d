"""Import rate and search latency over real transcripts, with naive baselines in the same run.

The import's baseline reads the same files with `json.loads` and commits each file to SQLite FTS5 (synchronous=FULL): no
identity, no redaction, no interpretation. The search's baseline is FTS5's bm25 over that table.

    SESSION_MGMT_REAL_DATA=<folder> python benchmarks/import_and_search.py [--json] [--files N]
"""

import argparse
import json
import re
import shutil
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from report import percentiles, real_transcripts, show

from session_mgmt_mcp.adapters.claude_code.importer import find_transcripts
from session_mgmt_mcp.tools.app import App

ROUNDS = 20
QUERY_WORDS = (1, 2, 3, 5)
_WORD = re.compile(r"[a-z]{4,20}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--files", type=int, default=0, help="only the first N files")
    args = parser.parse_args()
    files = find_transcripts([real_transcripts()])
    files = files[: args.files or len(files)]
    scratch = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        show("import and search", measure(files, scratch), as_json=args.json)
    finally:
        shutil.rmtree(scratch)


def measure(files: Sequence[Path], scratch: Path) -> dict[str, Any]:
    table, naive_s, naive_records = naive_import(files, scratch / "naive.db")
    with App.open(scratch / "data", create=True) as app:
        started = time.perf_counter()
        report = app.import_claude(files)
        import_s = time.perf_counter() - started
        started = time.perf_counter()
        app.maintain()
        maintain_s = time.perf_counter() - started
        started = time.perf_counter()
        again = app.import_claude(files)
        again_s = time.perf_counter() - started
        queries = queries_from(table)
        search = latency(lambda query: search_once(app, query), queries)
    baseline = latency(lambda query: fts_once(table, query), queries)
    return {
        "data": {"files": len(files), "bytes": sum(f.stat().st_size for f in files), "records": report.read},
        "import": {
            "records_per_s": report.read / import_s,
            "events_per_s": report.appended / import_s,
            "megabytes_per_s": sum(f.stat().st_size for f in files) / 1e6 / import_s,
            "ratio_to_naive_sqlite": (report.read / import_s) / (naive_records / naive_s),
        },
        "seal_and_build_views": {"events_per_s": report.appended / maintain_s},
        "import_again": {"records_per_s": again.read / again_s, "appended": again.appended},
        "search_ms": search,
        "fts5_ms": baseline,
        "search_p50_ratio_to_fts5": search["p50"] / baseline["p50"],
    }


def naive_import(files: Sequence[Path], path: Path) -> tuple[sqlite3.Connection, float, int]:
    """Every record's text into one FTS5 table, a commit a file."""
    table = sqlite3.connect(path)
    table.execute("PRAGMA journal_mode=WAL")
    table.execute("PRAGMA synchronous=FULL")
    table.execute("CREATE VIRTUAL TABLE record USING fts5(text, tokenize='porter')")
    started, records = time.perf_counter(), 0
    for file in files:
        with file.open("rb") as lines, table:
            for line in lines:
                records += 1
                try:
                    found = json.loads(line)
                except ValueError:
                    continue
                text = (
                    json.dumps(found.get("message", ""), ensure_ascii=False)
                    if isinstance(found, dict)
                    else ""
                )
                table.execute(
                    "INSERT INTO record VALUES (?)", (text[:65536].encode("utf-8", "replace").decode(),)
                )
    return table, time.perf_counter() - started, records


def queries_from(table: sqlite3.Connection) -> list[str]:
    """Queries of words the records hold, neither in most of them nor in one alone; the same for the same data."""
    counts: Counter[str] = Counter()
    for (text,) in table.execute("SELECT text FROM record WHERE rowid % 37 = 0"):
        counts.update(set(_WORD.findall(text.lower())))
    words = sorted(word for word, n in counts.items() if 3 <= n <= max(3, sum(counts.values()) // 500))
    step = max(1, len(words) // 200)
    chosen = words[::step]
    out, at = [], 0
    while at < len(chosen):
        length = QUERY_WORDS[len(out) % len(QUERY_WORDS)]
        out.append(" ".join(chosen[at : at + length]))
        at += length
    return out


def latency(run: Callable[[str], None], queries: Sequence[str]) -> dict[str, float]:
    """Milliseconds a query, each several times, the first round not counted."""
    for query in queries:
        run(query)
    taken = []
    for _ in range(max(1, ROUNDS * 50 // max(1, len(queries)))):
        for query in queries:
            started = time.perf_counter()
            run(query)
            taken.append((time.perf_counter() - started) * 1e3)
    return percentiles(taken)


def search_once(app: App, query: str) -> None:
    app.views.refresh()
    app.views.search(query, limit=10)


def fts_once(table: sqlite3.Connection, query: str) -> None:
    words = " OR ".join(f'"{word}"' for word in query.split())
    table.execute(
        "SELECT rowid, snippet(record, 0, '', '', '…', 20) FROM record WHERE record MATCH ? ORDER BY rank LIMIT 10",
        (words,),
    ).fetchall()


if __name__ == "__main__":
    main()

"""Ours and others on the same coding sessions and the same queries: quality and latency in one run.

    SESSION_MGMT_REAL_DATA=<folder> python benchmarks/rivals.py [--cache DIR] [--only NAME …] [--json]

A pool of sessions of one repository, masked as quality_data.py says, and some judged queries a task. Everybody gets the
same records (agentsview as transcripts) or the same passages with the same vectors (numpy, RRF, mcp-memory-service).
Found is a session; its rank is that of its first result, ties count against the system, a session nobody judged is wrong.
Latency is that of one query after another for ten results in a warm process, of a server's own call where it is one.
"""

import argparse
import random
import re
import sqlite3
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import quality_data
import rival_servers
import tantivy
from report import percentiles, real_transcripts, show
from rival_servers import TIMED_LIMIT, Found

from session_mgmt_mcp.core.log.log import FileLog
from session_mgmt_mcp.core.log.seal import seal
from session_mgmt_mcp.projections import publish
from session_mgmt_mcp.projections.embedding import Embedder
from session_mgmt_mcp.projections.passages import number_of_passage, passages_of
from session_mgmt_mcp.projections.protocol import views_folder
from session_mgmt_mcp.projections.rows import Row
from session_mgmt_mcp.projections.vector_blocks import Pairs
from session_mgmt_mcp.projections.vector_state import empty_state
from session_mgmt_mcp.projections.vector_store import fill
from session_mgmt_mcp.tools.app import App

REPOSITORY = "entireio/cli"
SESSIONS = 80
QUERIES = 15  # a task
TASKS = ("commit hard", "commit verbatim", "pr", "learning", "friction", "intent", "compaction", "summary")
SEED = 7
MOMENTS = 300
RRF_K = 60
_WORDS = re.compile(r"\w+")
Search = Callable[[str, int], list[tuple[str, float]]]  # query, how many results


class Pool:
    """The sessions, the queries, the rows and the passages everybody is given."""

    def __init__(self, data: Path, cache: Path) -> None:
        rnd = random.Random(SEED)
        sessions = {s: (a, path) for a, s, path in quality_data.repositories(data)[REPOSITORY]}
        self.queries = _chosen(quality_data.queries(data), set(sessions), rnd)
        relevant = sorted({s for query in self.queries for s in query.sessions if s in sessions})
        others = sorted(set(sessions).difference(relevant))
        named = relevant + rnd.sample(others, max(0, min(len(others), SESSIONS - len(relevant))))
        self.events = {s: list(quality_data.events(*sessions[s], s)) for s in named}  # type: ignore[call-arg,arg-type]
        self.texts = [query.text for query in self.queries]
        self.embedder = _Cached(cache / "passages")

    def rows(self, app: App) -> None:
        """Take rows and passages from the views: the same for all."""
        with app.views.reading() as files:
            self.shown: list[Row] = list(files.shown_rows())
        self.passages: dict[str, list[str]] = defaultdict(list)  # text -> sessions that have it
        self.pairs: list[tuple[int, int]] = []
        for row in self.shown:
            for text in passages_of(row):
                self.pairs.append((row.id, number_of_passage(text)))
                if row.session not in self.passages[text]:
                    self.passages[text].append(row.session)
        print(
            f"{len(self.events)} sessions, {len(self.shown)} rows, {len(self.passages)} passages",
            file=sys.stderr,
        )
        self.vectors = self.embedder(list(self.passages))


def _chosen(queries: Sequence[Any], known: set[str], rnd: random.Random) -> list[Any]:
    out = []
    for task in TASKS:
        usable = [q for q in queries if q.task == task and q.repository == REPOSITORY and q.sessions & known]
        out += rnd.sample(usable, min(QUERIES, len(usable)))
    return out


class _Cached:
    """The shipped model, with a folder of what it was asked before."""

    def __init__(self, folder: Path) -> None:
        self.model = Embedder.open(None)
        self._file = folder.with_name(f"{folder.name}-{self.model.model_id[:16]}.npz")
        self._known: dict[int, Any] = {}
        if self._file.exists():
            with np.load(self._file) as kept:
                self._known = dict(zip(kept["numbers"].tolist(), kept["vectors"], strict=True))

    def __call__(self, texts: Sequence[str]) -> Any:
        numbers = [number_of_passage(text) for text in texts]
        new = {n: text for n, text in zip(numbers, texts, strict=True) if n not in self._known}
        wanted = list(new.items())
        for at in range(0, len(wanted), 512):
            part = wanted[at : at + 512]
            vectors = self.model.embed_passages([text for _, text in part])
            self._known.update(zip((n for n, _ in part), vectors.astype(np.float16), strict=True))
            if len(wanted) > 512:
                print(f"{at + len(part)} of {len(wanted)} passages embedded", file=sys.stderr, flush=True)
                self.save()
        return np.array([self._known[n] for n in numbers], np.float32)

    def save(self) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        part = self._file.with_suffix(".part.npz")
        np.savez(
            part, numbers=np.array(list(self._known), np.int64), vectors=np.array(list(self._known.values()))
        )
        part.rename(self._file)


# -- ours and what is made of libraries -------------------------------------------------------------------------


def ours(app: App) -> Search:
    def search(query: str, limit: int) -> list[tuple[str, float]]:
        return [(m.session, m.score) for m in app.views.search(_plain(query), limit=limit)]

    return search


def _plain(query: str) -> str:
    """Without what the query language gives a meaning: these are titles and sentences."""
    return " ".join(word.strip("\"'").replace(":", " ").lstrip("-") for word in query.split())


def fts5(documents: Sequence[tuple[str, str]]) -> Search:
    """SQLite FTS5, porter stems, any of the words, bm25."""
    table = sqlite3.connect(":memory:")
    table.execute("CREATE VIRTUAL TABLE d USING fts5(session UNINDEXED, text, tokenize='porter')")
    table.executemany("INSERT INTO d VALUES (?, ?)", documents)

    def search(query: str, limit: int) -> list[tuple[str, float]]:
        words = " OR ".join(f'"{word}"' for word in _WORDS.findall(query))
        sql = "SELECT session, -bm25(d) FROM d WHERE d MATCH ? ORDER BY rank LIMIT ?"
        return table.execute(sql, (words, limit)).fetchall() if words else []

    return search


def plain_tantivy(rows: Sequence[tuple[str, str]]) -> Search:
    """tantivy, one field, its default tokenizer, any of the words."""
    builder = tantivy.SchemaBuilder()
    builder.add_text_field("text")
    builder.add_integer_field("row", stored=True)
    index = tantivy.Index(builder.build())
    writer = index.writer(64 << 20, 1)
    for number, (_, text) in enumerate(rows):
        writer.add_document(tantivy.Document(text=text, row=number))
    writer.commit()
    writer.wait_merging_threads()
    index.reload()
    searcher = index.searcher()

    def search(query: str, limit: int) -> list[tuple[str, float]]:
        parsed = index.parse_query(" ".join(_WORDS.findall(query.lower())), ["text"])
        hits = searcher.search(parsed, limit, count=False).hits
        return [(rows[searcher.doc(at)["row"][0]][0], score) for score, at in hits]

    return search


def brute_force(pool: Pool) -> Search:
    """The query's vector against all vectors."""
    vectors, sessions = pool.vectors, list(pool.passages.values())
    model = Embedder.open(None)  # its own: the cache of another would know the queries

    def search(query: str, limit: int) -> list[tuple[str, float]]:
        scores = vectors @ model.embed_query(query)
        best = np.argsort(-scores)[:limit]
        return [(session, float(scores[i])) for i in best for session in sessions[i]]

    return search


def rrf(one: Search, other: Search) -> Search:
    """Reciprocal rank fusion of two searches' sessions."""

    def search(query: str, limit: int) -> list[tuple[str, float]]:
        scores: dict[str, float] = defaultdict(float)
        for found in (one(query, limit), other(query, limit)):
            for rank, session in enumerate(dict.fromkeys(session for session, _ in found), 1):
                scores[session] += 1 / (RRF_K + rank)
        return sorted(scores.items(), key=lambda item: -item[1])[:limit]

    return search


# -- measuring ---------------------------------------------------------------------------------------------------


def rank(found: Sequence[tuple[str, float]], right: frozenset[str]) -> int:
    """The rank of the best right session, ties against it; 0 where there is none."""
    best: dict[str, float] = {}
    for session, score in found:
        best[session] = max(score, best.get(session, -np.inf))
    ours = max((score for session, score in best.items() if session in right), default=None)
    return 0 if ours is None else 1 + sum(s >= ours for session, s in best.items() if session not in right)


def judged(pool: Pool, found: Found, taken: Sequence[float], cpu_ms: float | None = None) -> dict[str, Any]:
    """`cpu_ms`: of a query in the mean, where the system runs in this process."""
    ranks: dict[str, list[int]] = defaultdict(list)
    for query, results in zip(pool.queries, found, strict=True):
        ranks[query.task].append(rank(results, query.sessions))
    everything = [r for found in ranks.values() for r in found]
    return {
        "mrr": {task: _mrr(found) for task, found in ranks.items()} | {"all": _mrr(everything)},
        "r10": sum(0 < r <= 10 for r in everything) / len(everything),
        "ms": percentiles(taken),
        "cpu_ms": cpu_ms,
    }


def _mrr(ranks: Sequence[int]) -> float:
    return sum(1 / r for r in ranks if r) / len(ranks)


def asked(search: Search, queries: Sequence[str]) -> tuple[Found, list[float], float]:
    """What is found, and ms and mean CPU ms of a query for TIMED_LIMIT results, asked for the first time."""
    for query in queries[:5]:
        search(query.upper(), TIMED_LIMIT)  # warm, but not the very query: that would be in a cache
    taken, cpu = [], time.process_time()
    for query in queries:
        before = time.perf_counter()
        search(query, TIMED_LIMIT)
        taken.append((time.perf_counter() - before) * 1e3)
    spent = (time.process_time() - cpu) * 1e3 / len(queries)
    return [search(query, MOMENTS) for query in queries], taken, spent


def measure(data: Path, cache: Path, only: Sequence[str]) -> dict[str, Any]:
    """Every system that could be run, and what stopped the others."""
    pool = Pool(data, cache)
    out: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        _log(pool, scratch / "data")
        with App.open(scratch / "data") as app:
            pool.rows(app)
            _vectors(pool, app)
            systems = _systems(pool, app)
            for system, search in systems.items():
                if not only or system in only:
                    print(system, file=sys.stderr)
                    out[system] = judged(pool, *asked(search, pool.texts))
        for server in ("mcp-memory-service", "agentsview"):
            if not only or server in only:
                out |= _server(server, pool, cache, scratch)
    sizes = {"sessions": len(pool.events), "rows": len(pool.shown), "passages": len(pool.passages)}
    about = {"repository": REPOSITORY, **sizes, "queries": len(pool.queries), "results_timed": TIMED_LIMIT}
    return {**about, "systems": out}


def _systems(pool: Pool, app: App) -> dict[str, Search]:
    rows = [(row.session, f"{row.text}\n{' '.join(row.files)}\n{row.edit}") for row in pool.shown]
    texts: dict[str, list[str]] = defaultdict(list)
    for session, text in rows:
        texts[session].append(text)
    tantivy_rows = plain_tantivy(rows)
    return {
        "session-mgmt-mcp": ours(app),
        "SQLite FTS5, a document a session": fts5([(s, "\n".join(found)) for s, found in texts.items()]),
        "SQLite FTS5, a document a row": fts5(rows),
        "plain tantivy": tantivy_rows,
        "numpy, all vectors": brute_force(pool),
        "RRF of the last two": rrf(tantivy_rows, brute_force(pool)),
    }


def _log(pool: Pool, folder: Path) -> None:
    with FileLog(folder, create=True) as log:
        for events in pool.events.values():
            for at in range(0, len(events), 1000):
                log.append(events[at : at + 1000])
        log.roll()
        seal(log.folder, log.log_id)
        publish.update(log, folder)


def _vectors(pool: Pool, app: App) -> None:
    """Publish the passages' vectors, as the embedding job would."""
    numbers = np.array([number_of_passage(text) for text in pool.passages], np.int64)
    order = np.argsort(numbers)
    with app.views.reading() as files:
        watermark = files.state.watermark
    state = msgspec.structs.replace(
        empty_state(app.log.log_id, watermark), model_id=pool.embedder.model.model_id
    )
    pairs = np.array(pool.pairs, np.int64).reshape(-1, 2)
    given = Pairs(pairs[:, 0].copy(), pairs[:, 1].copy())
    fill(views_folder(app.folder), state, given, numbers[order], pool.vectors[order], ((0, state.end),))


def _server(name: str, pool: Pool, cache: Path, scratch: Path) -> dict[str, Any]:
    home = scratch / f"home-{name}"
    home.mkdir()
    try:
        with rival_servers.embedding_endpoint(pool.embedder, "shipped") as endpoint:
            if name == "agentsview":
                folder = _transcripts(pool, scratch / "transcripts")
                dimension = pool.embedder.model.dimension
                found = rival_servers.agentsview(cache, home, endpoint, folder, dimension, pool.texts)
            else:
                found = rival_servers.memory_service(
                    cache, home, endpoint, list(pool.passages.items()), pool.texts
                )
        pool.embedder.save()
    except (RuntimeError, OSError, KeyError, StopIteration) as error:
        return {name: {"stopped_by": f"{type(error).__name__}: {error}"[:1000]}}
    return {system: judged(pool, *result) for system, result in found.items()}


def _transcripts(pool: Pool, folder: Path) -> Path:
    project = folder / "-home-user-project"
    project.mkdir(parents=True)
    for session, events in pool.events.items():
        (project / f"{session}.jsonl").write_bytes(b"\n".join(event.payload for event in events) + b"\n")
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "session-mgmt-bench")
    parser.add_argument(
        "--only", nargs="*", default=[], help="names of systems as the table has them, or of servers"
    )
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    data = real_transcripts().parents[1]
    show("rivals", measure(data, args.cache, args.only), as_json=args.json)


if __name__ == "__main__":
    main()

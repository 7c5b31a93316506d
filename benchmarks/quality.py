"""How well search finds what was asked for: coding sessions and LoCoMo, through the real path.

    SESSION_MGMT_REAL_DATA=<folder> python benchmarks/quality.py [--cache FOLDER] [--json] [--ablations] [--words]

Every history is appended to a log, projected, embedded and asked through `Views.search`. Coding sessions: the rank of
the right session, or of the right calls (`commit2turn`, among all rows; `…, edits`: asked with `kind:edit`). LoCoMo:
the share of the evidence among the first turns, and whether a right session is among the first. The rules of honest use
are those of `quality_data`; ties count against us. Intervals are bootstrapped over sessions (over conversations' sessions
for LoCoMo), not over queries: queries of one session rise and fall together. The weights were tuned on these very
queries: expect less elsewhere. `--cache` keeps logs, views and vectors for the next run.
"""

import argparse
import json
import os
import random
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import quality_data as data_set
from quality_vectors import KeptVectors, add_vectors
from report import REAL_DATA_VARIABLE, machine

from session_mgmt_mcp.core.envelope import NewEvent
from session_mgmt_mcp.core.log.log import FileLog
from session_mgmt_mcp.core.log.seal import seal
from session_mgmt_mcp.projections.embedding import Embedder
from session_mgmt_mcp.projections.publish import update
from session_mgmt_mcp.projections.ranking import WORDS_ALONE, Weights
from session_mgmt_mcp.projections.results import Moment
from session_mgmt_mcp.projections.views import Views

MOMENTS = 300  # nearly all candidates
EVENTS_AT_ONCE = 500
BOOTSTRAPS = 1000
SEED = 11
EDITS = "commit2turn, edits"
LOCOMO = ("r1", "r5", "r10", "r20", "mrr", "hit1", "hit5", "hit10")
TARGETS = {  # MRR, R@10
    "commit hard": (0.54, 0.75),
    "commit verbatim": (0.90, 0.98),
    "pr": (0.79, 0.95),
    "learning": (0.63, 0.79),
    "friction": (0.66, 0.78),
    "intent": (0.84, 0.97),
    "compaction": (0.87, 0.97),
    "summary": (0.90, 0.96),
    "commit2turn": (0.38, 0.67),
}


class Result(NamedTuple):
    """Figures of one query by name, and what it belongs to for the intervals."""

    task: str
    cluster: str
    figures: dict[str, float]


class History(NamedTuple):
    """What is searched at once: a repository's sessions, or a conversation."""

    name: str
    events: Callable[[], Iterable[NewEvent]]
    queries: list[data_set.Query]


def histories(data: Path) -> list[History]:
    asked = defaultdict(list)
    for query in data_set.queries(data):
        asked[query.repository].append(query)
    out = []
    for repository, sessions in sorted(data_set.repositories(data).items()):
        if repository in asked:
            out.append(History(repository, _events_of(sessions), asked[repository]))
    for conversation in data_set.conversations(data):
        lines = conversation.lines
        out.append(
            History(conversation.name, lambda lines=lines: data_set.entries(lines), conversation.queries)
        )
    return out


def _events_of(sessions: Sequence[tuple[str, str, Path]]) -> Callable[[], Iterable[NewEvent]]:
    return lambda: (e for assistant, name, path in sessions for e in data_set.events(assistant, path, name))


def projected(history: History, cache: Path) -> tuple[FileLog, Path]:
    """The history's log and views, made where the cache has none."""
    folder = cache / history.name.replace("/", "__")
    done = folder / "appended"
    log = FileLog(folder, create=True)
    if not done.exists():
        batch: list[NewEvent] = []
        for event in history.events():
            batch.append(event)
            if len(batch) >= EVENTS_AT_ONCE:
                log.append(batch)
                batch = []
        log.append(batch)
        log.roll()  # what is open is not sealed, and what is not sealed has no vectors
        seal(log.folder, log.log_id)
        done.touch()
    update(log, folder)
    return log, folder


def asked(views: Views, query: data_set.Query) -> list[Result]:
    """What a query's answer is worth."""
    moments = views.search(query.text, limit=MOMENTS, plain=True)
    cluster = min(query.sessions, default="")
    if query.task == "locomo":
        return [Result("locomo", f"{query.repository} {cluster}", _evidence(moments, query))]
    if query.task != "commit2turn":
        rank = session_rank(moments, query.sessions)
        return [] if rank is None else [Result(query.task, cluster, _ranks(rank))]
    found = views.search(query.text, limit=MOMENTS, kind="edit", plain=True)
    return [
        Result(query.task, cluster, _ranks(turn_rank(moments, query.turns))),
        Result(EDITS, cluster, _ranks(turn_rank(found, query.turns))),
    ]


def session_rank(moments: Sequence[Moment], right: frozenset[str]) -> int:
    """Of the best right session by its best moment, ties against us; 0 where there is none."""
    best: dict[str, float] = {}
    for moment in moments:
        best.setdefault(moment.session, moment.score)
    found = max((score for session, score in best.items() if session in right), default=None)
    if found is None:
        return 0
    return 1 + sum(score >= found for session, score in best.items() if session not in right)


def turn_rank(moments: Sequence[Moment], right: frozenset[str]) -> int:
    found = max((m.score for m in moments if m.record in right), default=None)
    if found is None:
        return 0
    return 1 + sum(m.score >= found for m in moments if m.record not in right)


def _ranks(rank: int) -> dict[str, float]:
    return {"mrr": 1 / rank if rank else 0.0} | {f"r{k}": float(0 < rank <= k) for k in (1, 5, 10)}


def _evidence(moments: Sequence[Moment], query: data_set.Query) -> dict[str, float]:
    ordered = sorted(moments, key=lambda m: (-m.score, m.record in query.turns))  # ties against us
    hits = [m.record in query.turns for m in ordered]
    out = {f"r{k}": sum(hits[:k]) / len(query.turns) for k in (1, 5, 10, 20)}
    out["mrr"] = 1 / (hits.index(True) + 1) if True in hits else 0.0
    rank = session_rank(moments, query.sessions)
    return out | {f"hit{k}": float(0 < rank <= k) for k in (1, 5, 10)}


def evaluate(
    found: Sequence[tuple[History, FileLog, Path]],
    embedder: Embedder | None,
    weights: Weights | None,
    every: int = 1,
) -> list[Result]:
    """All queries of all histories, or one in so many; without an embedder by words alone."""
    out = []
    for history, log, folder in found:
        views = Views(log, folder, (lambda: embedder) if embedder else None, weights)
        known = {s.session for s in views.sessions(limit=1000)}
        for query in history.queries[::every]:
            if query.sessions & known:
                out += asked(views, query)
        views.close()
        print(f"{history.name}: {len(history.queries)} queries", file=sys.stderr)
    return out


def table(results: Sequence[Result]) -> dict[str, dict[str, Any]]:
    """Task -> n, the mean of every figure, and 95 % intervals of `mrr` and `r10`."""
    by_task = defaultdict(list)
    for result in results:
        by_task[result.task].append(result)
    out = {}
    for task, members in sorted(by_task.items()):
        names = members[0].figures
        row: dict[str, Any] = {"n": len(members)}
        row |= {name: round(sum(m.figures[name] for m in members) / len(members), 3) for name in names}
        for name in ("mrr", "r10"):
            row[f"{name}_95"] = _interval(members, name)
        if task in TARGETS:
            row["target"] = TARGETS[task]
        out[task] = row
    return out


def _interval(results: Sequence[Result], name: str) -> tuple[float, float]:
    """95 %, by drawing clusters with replacement."""
    clusters = defaultdict(list)
    for result in results:
        clusters[result.cluster].append(result.figures[name])
    sums = [(sum(values), len(values)) for _, values in sorted(clusters.items())]
    draw = random.Random(SEED)
    means = []
    for _ in range(BOOTSTRAPS):
        picked = draw.choices(sums, k=len(sums))
        means.append(sum(s for s, _ in picked) / sum(n for _, n in picked))
    means.sort()
    return round(means[int(0.025 * BOOTSTRAPS)], 3), round(means[int(0.975 * BOOTSTRAPS)], 3)


def ablations() -> dict[str, Weights]:
    """Every term of the ranking left out, by its name."""
    return {f"without {name}": Weights()._replace(**{name: 0.0}) for name in Weights._fields}


def short(rows: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Task -> MRR, for LoCoMo R@10."""
    return {task: row["r10" if task == "locomo" else "mrr"] for task, row in rows.items()}


def measure(data: Path, cache: Path, args: argparse.Namespace) -> dict[str, Any]:
    found = [(history, *projected(history, cache)) for history in histories(data)]
    embedder = None if args.words else Embedder.open()
    coverage = {}
    if embedder is not None:
        kept = KeptVectors(cache / "vectors" / embedder.model_id[:16], embedder)
        for history, log, folder in found:
            coverage[history.name] = add_vectors(log, folder, kept, cached_only=args.cached_only)
    out: dict[str, Any] = {
        "vectors": coverage,
        "one_query_in": args.every,
        "tasks": table(evaluate(found, embedder, None, args.every)),
    }
    if args.ablations:
        every = out["ablations_one_query_in"] = args.every * args.ablate_every
        out["ablations"] = {
            name: short(table(evaluate(found, embedder, weights, every)))
            for name, weights in {"the whole ranking": None, **ablations()}.items()
        }
        out["ablations"]["words alone"] = short(table(evaluate(found, None, WORDS_ALONE, every)))
    out["baseline_mrr"] = data_set.baseline(data)
    for _, log, _ in found:
        log.close()
    return out


def show(found: dict[str, Any]) -> None:
    print(
        f"{'task':20}{'n':>6}{'MRR':>7}  {'95 %':13}{'R@1':>7}{'R@5':>7}{'R@10':>7}  {'target':12}{'baseline':>9}"
    )
    for task, row in found["tasks"].items():
        low, high = row["mrr_95"]
        target = "/".join(map(str, row.get("target", ())))
        other = found["baseline_mrr"].get(task)
        print(
            f"{task:20}{row['n']:6}{row['mrr']:7.3f}  {low:.3f}–{high:.3f}  {row['r1']:6.3f}{row['r5']:7.3f}"
            f"{row['r10']:7.3f}  {target:12}{'' if other is None else f'{other:.3f}':>9}"
        )
    locomo = found["tasks"].get("locomo", {})
    print("LoCoMo:", ", ".join(f"{name} {locomo[name]:.3f}" for name in LOCOMO if name in locomo))
    for name, values in found.get("ablations", {}).items():
        print(f"{name:28}", "  ".join(f"{task} {value:.3f}" for task, value in values.items()))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument(
        "--cache", type=Path, help="a folder for logs, views and vectors (default: none is kept)"
    )
    parser.add_argument("--ablations", action="store_true", help="also without each term of the ranking")
    parser.add_argument(
        "--ablate-every", type=int, default=4, help="of those, one in so many without a term (default: 4)"
    )
    parser.add_argument("--every", type=int, default=1, help="ask one query in so many (default: 1, all)")
    parser.add_argument("--words", action="store_true", help="without vectors")
    parser.add_argument(
        "--cached-only",
        action="store_true",
        help="embed nothing: use the vectors the cache has, and say how many",
    )
    args = parser.parse_args()
    if not os.environ.get(REAL_DATA_VARIABLE):
        print(
            f"{REAL_DATA_VARIABLE} is not set: it names the folder that holds sessions/ and retrieval/",
            file=sys.stderr,
        )
        return 2
    data = Path(os.environ[REAL_DATA_VARIABLE])
    with tempfile.TemporaryDirectory() as name:
        found = {
            "benchmark": "quality",
            "machine": machine(),
            **measure(data, args.cache or Path(name), args),
        }
    if args.json:
        print(json.dumps(found))
    else:
        show(found)
    return 0


if __name__ == "__main__":
    sys.exit(main())

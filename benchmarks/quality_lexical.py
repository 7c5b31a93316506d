"""How well search finds the session asked for, on the coding-sessions retrieval set (Claude Code sessions).

    SESSION_MGMT_REAL_DATA=<folder> python benchmarks/quality_lexical.py [--json]

Every transcript of a repository is interpreted and indexed, and every query goes through `Views.search`; a session's
rank is that of its first moment. Rules: a query is searched in its own repository only; the record it came from is
masked (summaries, titles, compaction summaries, away summaries, `git commit` and `gh pr` commands); commit subjects
that stand in the transcript word for word ("verbatim") are reported apart; a copy of a session in another file counts
as that session; a session nobody judged counts as wrong; ties count against us. The weights were tuned by hand on
these very queries: expect less elsewhere. The folder's own baseline (SQLite FTS5, one document a session, sessions of
other assistants in the pools too) stands beside ours where it has the task.
"""

import argparse
import json
import os
import re
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

from memory_log import MemoryLog

from session_mgmt_mcp.core.envelope import Envelope, EventType, NewEvent, capture_id
from session_mgmt_mcp.projections.publish import update
from session_mgmt_mcp.projections.views import Views

VARIABLE = "SESSION_MGMT_REAL_DATA"
MASKED_TYPES = {"summary", "custom-title", "ai-title", "agent-name"}
MASKED_COMMANDS = re.compile(r"\bgit\b[^\n;&|]*\bcommit\b|\bgh\s+pr\s+(create|edit)\b")
MOMENTS = 300
TASKS = {
    "pr2session": "pr",
    "compact2session": "compaction",
    "summary2session": "summary",
    "title2session": "title",
}


def masked(record: Any, hidden_calls: set[str]) -> Any:
    """The record without what queries were made of, None where nothing is left."""
    if not isinstance(record, dict):
        return None
    if record.get("type") in MASKED_TYPES or record.get("isCompactSummary"):
        return None
    if record.get("subtype") == "away_summary":
        return None
    message = record.get("message")
    content = message.get("content") if isinstance(message, dict) else None
    if not isinstance(content, list):
        return record
    kept = [block for block in content if not _is_masked(block, hidden_calls)]
    if len(kept) == len(content):
        return record
    return {**record, "message": {**message, "content": kept}, "toolUseResult": None} if kept else None


def _is_masked(block: Any, hidden_calls: set[str]) -> bool:
    if not isinstance(block, dict):
        return False
    if block.get("type") == "tool_use" and MASKED_COMMANDS.search(json.dumps(block.get("input"))):
        hidden_calls.add(str(block.get("id")))
        return True
    return block.get("type") == "tool_result" and block.get("tool_use_id") in hidden_calls


def events(path: Path, session: str) -> Iterator[NewEvent]:
    """A transcript's records, masked, as events of the session its file is named after."""
    hidden_calls: set[str] = set()
    for line in path.read_bytes().split(b"\n"):
        try:
            record = masked(json.loads(line), hidden_calls)
        except ValueError:
            continue
        if record is None:
            continue
        payload = json.dumps(record).encode()
        try:
            time = datetime.fromisoformat(record["timestamp"]).timestamp()
        except (KeyError, ValueError, AttributeError):
            time = 0.0
        uuid = record.get("uuid")
        parts = (uuid,) if isinstance(uuid, str) else (session, payload)
        envelope = Envelope(
            f"claude-code/{session}", EventType.RECORD_IMPORTED, 1, 1, int(time * 1e6), "unknown", "record"
        )
        yield NewEvent(capture_id("claude-code", "record", *parts), envelope, payload)


def group(query: dict[str, Any]) -> str | None:
    """The row of the table a query counts for, None where it is not clean enough to count."""
    task, flags = query["task"], query["flags"]
    if task == "commit2session":
        if flags["n_strict"] != 1 or flags["generic"]:
            return None
        return "commit verbatim" if flags["subject_verbatim_in_session"] else "commit hard"
    if task == "intent2session":
        return str(flags["field"]).split(".")[0]
    return TASKS.get(task)


def rank(views: Views, query: str, relevant: set[str]) -> int:
    """The rank of the best relevant session, ties against us; 0 where none was found."""
    best: dict[str, float] = {}
    for moment in views.search(query, limit=MOMENTS):
        best.setdefault(moment.session, moment.score)
    found = max((score for session, score in best.items() if session in relevant), default=None)
    if found is None:
        return 0
    return 1 + sum(score >= found for session, score in best.items() if session not in relevant)


def repositories(data: Path) -> dict[str, list[tuple[str, Path]]]:
    """Repository -> (session id, file) of its Claude Code sessions."""
    out: dict[str, list[tuple[str, Path]]] = defaultdict(list)
    for line in (data / "sessions" / "MANIFEST.jsonl").read_text().splitlines():
        row = json.loads(line)
        path = data / "sessions" / row["file"]
        if row["assistant"] == "claude-code" and row.get("repo") and path.is_file():
            out[row["repo"]].append((row["session_id"] or path.stem, path))
    return out


def families(folder: Path) -> dict[str, set[str]]:
    """Session id -> ids of all copies of that session."""
    out: dict[str, set[str]] = {}
    for members in json.loads((folder / "session_families.json").read_text()):
        ids = {member.split("/")[-1].split(".")[0] for member in members}
        out.update(dict.fromkeys(ids, ids))
    return out


def queries(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for path in sorted(folder.glob("*.shared.jsonl")):
        for line in path.read_text().splitlines():
            query = json.loads(line)
            name = group(query)
            if name:
                yield name, query


def evaluate(data: Path) -> dict[str, list[int]]:
    """Group -> ranks (0: not found) of its queries whose judged session is one of Claude Code."""
    folder = data / "retrieval" / "coding-sessions"
    copies = families(folder)
    wanted: dict[str, list[tuple[str, dict[str, Any]]]] = defaultdict(list)
    for name, query in queries(folder):
        wanted[query["repo"]].append((name, query))
    ranks: dict[str, list[int]] = defaultdict(list)
    for repository, sessions in sorted(repositories(data).items()):
        if repository not in wanted:
            continue
        log = MemoryLog()
        for session, path in sessions:
            log.append(list(events(path, session)))
        log.seal()
        known = {session for session, _ in sessions}
        with tempfile.TemporaryDirectory() as name:
            update(log, Path(name))
            views = Views(log, Path(name))
            print(
                f"{repository}: {len(sessions)} sessions, {views.status().actions} actions", file=sys.stderr
            )
            for task, query in wanted[repository]:
                relevant = _relevant(query, copies)
                if relevant & known:
                    ranks[task].append(rank(views, query["query"], relevant))
            views.close()
    return ranks


def _relevant(query: dict[str, Any], copies: dict[str, set[str]]) -> set[str]:
    if query["task"] == "commit2session":
        ids: Iterable[str] = query["strict_sessions"]
    else:
        ids = [session["session_id"] for session in query["relevant_sessions"]]
    return {copy for session in ids for copy in copies.get(session, {session})}


def table(ranks: dict[str, list[int]]) -> list[dict[str, Any]]:
    out = []
    for name, found in sorted(ranks.items()):
        n = len(found)
        row: dict[str, Any] = {"task": name, "n": n, "mrr": round(sum(1 / r for r in found if r) / n, 3)}
        row |= {f"r{k}": round(sum(0 < r <= k for r in found) / n, 3) for k in (1, 5, 10)}
        out.append(row)
    return out


def baseline(folder: Path) -> dict[str, float]:
    """Group -> MRR of the folder's baseline over all repositories."""
    names = {"commit2session/hard": "commit hard", "commit2session/verbatim": "commit verbatim"}
    names |= TASKS
    out = {}
    for row in json.loads((folder / "baseline_bm25_fts5.json").read_text()):
        if row["split"] == "shared" and row["repo"] == "ALL":
            task = row["task"]
            out[names.get(task, task.removeprefix("intent2session/").split(".")[0])] = float(row["mrr"])
    return out


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    args = parser.parse_args()
    if not os.environ.get(VARIABLE):
        print(
            f"{VARIABLE} is not set: it names the folder that holds sessions/ and retrieval/", file=sys.stderr
        )
        return 2
    data = Path(os.environ[VARIABLE])
    rows = table(evaluate(data))
    if args.json:
        print(json.dumps({"tasks": rows}))
        return 0
    beside = baseline(data / "retrieval" / "coding-sessions")
    print(f"{'task':18}{'n':>6}{'MRR':>8}{'R@1':>8}{'R@5':>8}{'R@10':>8}{'baseline MRR':>14}")
    for row in rows:
        other = beside.get(row["task"])
        print(
            f"{row['task']:18}{row['n']:6}{row['mrr']:8.3f}{row['r1']:8.3f}{row['r5']:8.3f}{row['r10']:8.3f}"
            f"{'' if other is None else f'{other:.3f}':>14}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())

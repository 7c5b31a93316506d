"""The judged queries of the quality benchmarks, and the sessions they are asked of, as events of a log.

Rules of honest use: a query is asked in its own repository only; the record it came from is masked (summaries, titles,
compaction summaries, away summaries, `git commit` and `gh pr` calls with their results); commit subjects that stand in
the transcript word for word ("verbatim") are apart; copies of one session in several files count as one; what nobody
judged counts as wrong.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from quality_convert import CONVERTERS, Line, locomo

from session_mgmt_mcp.adapters.generic.importer import new_event
from session_mgmt_mcp.core.envelope import Envelope, EventType, NewEvent, capture_id
from session_mgmt_mcp.core.interpret.generic_record import Entry

MASKED_TYPES = {"summary", "custom-title", "ai-title", "agent-name"}
MASKED_COMMANDS = re.compile(r"\bgit\b[^\n;&|]*\bcommit\b|\bgh\s+pr\s+(create|edit)\b")
TASKS = {
    "pr2session": "pr",
    "compact2session": "compaction",
    "summary2session": "summary",
    "title2session": "title",
    "away2session": "away",
    "commit2turn": "commit2turn",
}


class Query(NamedTuple):
    """A judged query. `turns`: record ids that are right, where the judgement is about turns."""

    id: str
    task: str
    repository: str
    text: str
    sessions: frozenset[str]
    turns: frozenset[str]


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


def events(assistant: str, path: Path, session: str) -> Iterator[NewEvent]:
    """A session's records, masked, as events of the session its file is named after."""
    if assistant in CONVERTERS:
        lines = ({**line, "session": session, "assistant": assistant} for line in CONVERTERS[assistant](path))
        yield from entries(_masked_lines(lines))
        return
    hidden_calls: set[str] = set()
    for raw in path.read_bytes().split(b"\n"):
        try:
            kept = masked(json.loads(raw), hidden_calls)
        except ValueError:
            continue
        if kept is None:
            continue
        payload = json.dumps(kept).encode()
        uuid = kept.get("uuid")
        parts = (uuid,) if isinstance(uuid, str) else (session, payload)
        envelope = Envelope(
            f"claude-code/{session}", EventType.RECORD_IMPORTED, 1, 1, _time(kept), "unknown", "record"
        )
        yield NewEvent(capture_id("claude-code", "record", *parts), envelope, payload)


def entries(lines: Iterable[Line]) -> Iterator[NewEvent]:
    """Lines of the generic format as events."""
    for line in lines:
        yield new_event(msgspec.convert(line, Entry), json.dumps(line).encode())


def _masked_lines(lines: Iterable[Line]) -> Iterator[Line]:
    hidden: set[str] = set()
    for line in lines:
        if line.get("kind") == "call" and MASKED_COMMANDS.search(line["text"]):
            hidden.add(line["call"])
        if line.get("call") not in hidden:
            yield line


def _time(record: dict[str, Any]) -> int:
    try:
        return int(datetime.fromisoformat(record["timestamp"]).timestamp() * 1e6)
    except (KeyError, ValueError, TypeError, AttributeError):
        return 0


def repositories(data: Path) -> dict[str, list[tuple[str, str, Path]]]:
    """Repository -> (assistant, session id, file) of every session of it."""
    out: dict[str, list[tuple[str, str, Path]]] = defaultdict(list)
    for line in (data / "sessions" / "MANIFEST.jsonl").read_text().splitlines():
        row = json.loads(line)
        path = data / "sessions" / row["file"]
        if row.get("repo") and path.is_file() and row["assistant"] in ("claude-code", *CONVERTERS):
            out[row["repo"]].append((row["assistant"], row["session_id"] or path.stem, path))
    return dict(out)


def task_of(query: dict[str, Any]) -> str | None:
    """The row of the table a query counts for, None where it is not clean enough to count."""
    task, flags = query["task"], query["flags"]
    if task == "commit2session":
        if flags["n_strict"] != 1 or flags["generic"]:
            return None
        return "commit verbatim" if flags["subject_verbatim_in_session"] else "commit hard"
    if task == "intent2session":
        return str(flags["field"]).split(".")[0]
    return TASKS.get(task)


def queries(data: Path) -> list[Query]:
    """The shared queries that count, with the copies of every right session."""
    folder = data / "retrieval" / "coding-sessions"
    copies = _families(folder)
    out = []
    for path in sorted(folder.glob("*.shared.jsonl")):
        for line in path.read_text().splitlines():
            query = json.loads(line)
            task = task_of(query)
            if task is None:
                continue
            if query["task"] == "commit2session":
                ids: Iterable[str] = query["strict_sessions"]
            else:
                ids = [session["session_id"] for session in query["relevant_sessions"]]
            sessions = frozenset(copy for one in ids for copy in copies.get(one, {one}))
            turns = query.get("relevant_turns", []) if task == "commit2turn" else []
            records = frozenset(turn["uuid"] for turn in turns if "uuid" in turn)
            out.append(Query(query["id"], task, query["repo"], query["query"], sessions, records))
    return out


def _families(folder: Path) -> dict[str, set[str]]:
    out: dict[str, set[str]] = {}
    for members in json.loads((folder / "session_families.json").read_text()):
        ids = {member.split("/")[-1].split(".")[0] for member in members}
        out.update(dict.fromkeys(ids, ids))
    return out


class Conversation(NamedTuple):
    """A LoCoMo conversation: its turns, and its questions with the ids of the turns that answer them."""

    name: str
    lines: list[Line]
    queries: list[Query]


def conversations(data: Path) -> list[Conversation]:
    """LoCoMo's, without adversarial questions (category 5) and those without evidence."""
    out = []
    for found in json.loads((data / "retrieval" / "locomo" / "conversations-1-5.json").read_text()):
        lines = list(locomo(found["conversation"]))
        session_of = {line["record"]: line["session"] for line in lines}
        asked = []
        for n, question in enumerate(found["qa"]):
            named = re.findall(r"D:?(\d+):0*(\d+)", " ".join(question.get("evidence") or []))
            turns = frozenset(f"D{a}:{b}" for a, b in named) & session_of.keys()
            if turns and question["category"] != 5:
                sessions = frozenset(session_of[turn] for turn in turns)
                name = f"{found['sample_id']}-{n}"
                asked.append(Query(name, "locomo", found["sample_id"], question["question"], sessions, turns))
        out.append(Conversation(found["sample_id"], lines, asked))
    return out


def baseline(data: Path) -> dict[str, float]:
    """Task -> MRR of the data set's own baseline: SQLite FTS5, a document a session."""
    names = {"commit2session/hard": "commit hard", "commit2session/verbatim": "commit verbatim", **TASKS}
    out = {}
    path = data / "retrieval" / "coding-sessions" / "baseline_bm25_fts5.json"
    for row in json.loads(path.read_text()):
        if row["split"] == "shared" and row["repo"] == "ALL":
            task = row["task"]
            out[names.get(task, task.removeprefix("intent2session/").split(".")[0])] = float(row["mrr"])
    return out

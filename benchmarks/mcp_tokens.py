"""Tokens a model pays for the MCP server: the lists at a connection's start, and each tool's typical answer.

    SESSION_MGMT_REAL_DATA=<folder> python benchmarks/mcp_tokens.py [FILES]

Answers are those of a log of the FILES largest transcripts below 4 MB (default 60), of ten of its sessions and queries made
of words of their prompts. Counted by `projections.tokens.estimate`, the count the budgets are kept by, which is at the
upper end; for the lists also as characters / 3.5 and by the shipped embedding model's tokenizer, which splits JSON finely.
"""

import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from session_mgmt_mcp.adapters.mcp.bake import bake
from session_mgmt_mcp.adapters.mcp.caller import CALLER, Caller
from session_mgmt_mcp.adapters.mcp.lazy import LazyServices
from session_mgmt_mcp.adapters.mcp.tools import table
from session_mgmt_mcp.core.errors import SessionMgmtError
from session_mgmt_mcp.projections.results import SessionSummary
from session_mgmt_mcp.projections.tokens import estimate
from session_mgmt_mcp.tools.app import App
from session_mgmt_mcp.tools.mcp_services import McpServices

FILES = 60
SESSIONS = 10
PROMPTS_MIN = 2
BYTES_MAX = 4 << 20
Tool = Callable[..., str]


def main() -> None:
    root = os.environ.get("SESSION_MGMT_REAL_DATA")
    files = int(sys.argv[1]) if len(sys.argv) > 1 else FILES
    _lists()
    if not root:
        print("\nno answers: SESSION_MGMT_REAL_DATA names no transcripts")
        return
    os.environ["SESSION_MGMT_EMBED"] = "off"
    with tempfile.TemporaryDirectory() as folder, App.open(Path(folder, "data"), create=True) as app:
        report = app.import_claude(_transcripts(Path(root), files))
        app.maintain()
        print(f"\nanswers over {report.appended:,} events; tokens: median, largest of {SESSIONS}")
        _answers(app)


def _transcripts(root: Path, files: int) -> list[Path]:
    found = sorted(root.rglob("*.jsonl"), key=lambda p: (-p.stat().st_size, p))
    return [p for p in found if p.stat().st_size < BYTES_MAX and "claude" in str(p)][:files]


def _lists() -> None:
    results = bake()["handshake"]
    lists = {name: results[f"{name}/list"]["result"][name] for name in ("tools", "prompts", "resources")}
    print(f"{'list':34}{'characters':>11}{'/ 3.5':>8}{'estimate':>10}{'wordpiece':>11}")
    for name, value in {**lists, "instructions": results["initialize"]["result"]["instructions"]}.items():
        _line(name, value)
    for tool in lists["tools"]:
        _line(f"  {tool['name']}", tool)


def _line(name: str, value: Any) -> None:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    print(f"{name:34}{len(text):11,}{len(text) / 3.5:8,.0f}{estimate(text):10,}{_wordpieces(text):11,}")


def _wordpieces(text: str) -> int:
    from tokenizers import Tokenizer

    from session_mgmt_mcp.projections.embedding_model import SHIPPED

    tokenizer = Tokenizer.from_file(str(SHIPPED / "tokenizer.json"))
    tokenizer.no_truncation()
    return len(tokenizer.encode(text, add_special_tokens=False).ids)


def _answers(app: App) -> None:
    tools: dict[str, Tool] = {
        row[0].__name__: row[0] for row in table(LazyServices(lambda: McpServices(app)))
    }
    found = [s for s in app.views.sessions(limit=1000) if s.prompts >= PROMPTS_MIN and "#" not in s.session]
    counts: dict[str, list[int]] = {}
    for session in found[:: max(1, len(found) // SESSIONS)][:SESSIONS]:
        CALLER.set(Caller(0, session.project))
        for name, text in _told(app, tools, session):
            counts.setdefault(name, []).append(estimate(text))
    for name, values in counts.items():
        print(f"{name:34}{statistics.median(values):8,.0f}{max(values):8,}")


def _told(app: App, tools: dict[str, Tool], session: SessionSummary) -> Iterator[tuple[str, str]]:
    turns = app.views.timeline(session=session.session, limit=200).turns
    prompt = next((t.text for t in turns if t.kind == "PromptSubmitted"), session.title)
    edited = next((t.files[0] for t in turns if t.tool in ("Edit", "Write") and t.files), "")
    query = " ".join([w for w in prompt.split() if w.isalnum() and len(w) > 3][:4]) or "test"
    around = turns[len(turns) // 2].position
    one = session.session
    asked: list[tuple[str, str, dict[str, Any]]] = [
        ("start", "start", {}),
        ("start session", "start", {"session": one}),
        ("search", "search", {"query": query}),
        ("search detailed", "search", {"query": query, "format": "detailed"}),
        ("timeline around", "timeline", {"around": around}),
        ("timeline around, detailed", "timeline", {"around": around, "format": "detailed"}),
        ("timeline sessions", "timeline", {}),
        ("audit session", "audit", {"session": one}),
        ("audit file", "audit", {"file": edited}),
        ("checkpoint", "checkpoint", {"session": one}),
        ("end", "end", {"session": one}),
        ("status", "status", {}),
        ("remember", "remember", {"text": "dates in tests are always UTC", "tags": ["decision"]}),
        ("forget (preview of a session)", "forget", {"session": one}),
        ("permissions grant", "permissions", {"action": "grant", "operation": "git push", "session": one}),
        ("permissions check", "permissions", {"action": "check", "operation": "git push origin main"}),
    ]
    for name, tool, arguments in asked:
        try:
            yield name, tools[tool](**arguments)
        except SessionMgmtError as error:
            yield f"{name}: refused", str(error)


if __name__ == "__main__":
    main()

"""What the stories of real sessions hold, and what telling them costs.

    SESSION_MGMT_REAL_DATA=<folder> python benchmarks/stories.py [FILES]

Imports FILES transcripts of Claude Code (default: all) into a log of its own, tells every session's story, and prints: how
many have a goal; how many of the shell calls in which a plain search finds a test runner's name are told as test runs, and of
what the rest are; outcomes; tokens of handoff, checkpoint and brief; processor time a session and a row.
"""

import os
import re
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from session_mgmt_mcp.projections.brief import BriefParts, checkpoint_text, project_brief
from session_mgmt_mcp.projections.handoff import handoff_markdown
from session_mgmt_mcp.projections.outcomes import never_ran
from session_mgmt_mcp.projections.quality import assess
from session_mgmt_mcp.projections.rows import Row
from session_mgmt_mcp.projections.story import Story
from session_mgmt_mcp.projections.tokens import estimate
from session_mgmt_mcp.tools.app import App

NAMED = re.compile(
    r"\b(?:pytest|go test|jest|vitest|cargo test|unittest|(?:mise|npm|yarn|pnpm)(?: run)? test|make (?:test|check))\b"
)
SHOWN_MAX = 12


def main() -> None:
    root = os.environ.get("SESSION_MGMT_REAL_DATA")
    if not root:
        sys.exit("SESSION_MGMT_REAL_DATA names no transcripts")
    files = sorted(Path(root, "sessions", "claude-code").rglob("*.jsonl"))
    files = files[: int(sys.argv[1])] if len(sys.argv) > 1 else files
    os.environ["SESSION_MGMT_EMBED"] = "off"
    with tempfile.TemporaryDirectory() as folder, App.open(Path(folder, "data"), create=True) as app:
        report = app.import_claude(files)
        app.maintain()
        print(f"{report.appended:,} events of {len(files)} transcripts\n")
        _measure(app)


def _measure(app: App) -> None:
    counts: Counter[str] = Counter()
    tokens: dict[str, list[int]] = {"handoff": [], "checkpoint": [], "brief": []}
    seconds: list[float] = []
    others: list[str] = []
    with app.views.reading() as view:
        sessions = view.fetch(
            "SELECT session, count(*) FILTER (kind = 'PromptSubmitted') FROM shown WHERE assistant = 'claude-code' GROUP BY 1"
        )
    for session, prompts in sessions:
        began = time.process_time()
        story = app.views.story(session)
        seconds.append(time.process_time() - began)
        _count(counts, story, prompts)
        named = _named(app.views.session_rows(session))
        told = {run.position for run in story.tests}
        counts["calls that name a test runner"] += len(named)
        counts["of these told as test runs"] += len(named.keys() & told)
        others += [text for position, text in named.items() if position not in told]
        quality = assess(story.facts)
        tokens["handoff"].append(estimate(handoff_markdown(story, quality)))
        tokens["checkpoint"].append(estimate(checkpoint_text(story, quality)))
        tokens["brief"].append(estimate(project_brief(BriefParts(project="", stories=(story,)))))
    for name, number in counts.items():
        print(f"{name:44}{number:>8,}")
    print("\nnot told as test runs, some of them:")
    for text in others[:: max(1, len(others) // SHOWN_MAX)][:SHOWN_MAX]:
        print(f"  {' '.join(text.split())[:110]}")
    print(f"\n{'tokens':14}{'median':>8}{'p90':>8}{'most':>8}")
    for name, numbers in tokens.items():
        some = sorted(n for n in numbers if n)
        print(f"{name:14}{some[len(some) // 2]:>8,}{some[len(some) * 9 // 10]:>8,}{some[-1]:>8,}")
    rows = counts["rows"]
    print(
        f"\nCPU: {sum(seconds):.1f} s in all, a session {statistics.median(seconds) * 1e3:.0f} ms in the median, "
        f"{max(seconds) * 1e3:.0f} at most; {sum(seconds) / rows * 1e6:.0f} µs a row"
    )


def _count(counts: Counter[str], story: Story, prompts: int) -> None:
    counts["sessions"] += 1
    counts["rows"] += story.rows
    counts["sessions with prompts"] += prompts > 0
    counts["of these with a goal"] += prompts > 0 and bool(story.goal)
    counts["test runs told"] += len(story.tests)
    counts["of these passed"] += sum(run.ok is True for run in story.tests)
    counts["of these failed"] += sum(run.ok is False for run in story.tests)
    counts["of these with no outcome shown"] += sum(run.ok is None for run in story.tests)
    counts["other checks told"] += len(story.runs) - len(story.tests)
    counts["commits"] += len(story.commits)
    counts["failures"] += len(story.failures)
    counts["of these seen to be mended"] += sum(bool(f.fixed_at) for f in story.failures)


def _named(rows: Iterable[Row]) -> dict[int, str]:
    """Shell calls that ran and name a test runner: position -> text."""
    asked: dict[str, Row] = {}
    found: dict[int, str] = {}
    for row in rows:
        if row.kind == "ToolCalled" and row.tool == "Bash" and NAMED.search(row.text):
            asked[row.tool_use_id] = row
        elif (
            row.kind == "ToolReturned" and row.tool_use_id in asked and not never_ran(row.text, row.is_error)
        ):
            call = asked.pop(row.tool_use_id)
            found[call.position] = call.text
    return found


if __name__ == "__main__":
    main()

"""Stories of real sessions, where they are at hand (folder named by SESSION_MGMT_REAL_DATA)."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from session_mgmt_mcp.projections.brief import (
    BRIEF_TOKENS,
    CHECKPOINT_TOKENS,
    BriefParts,
    checkpoint_text,
    project_brief,
)
from session_mgmt_mcp.projections.briefing import brief_parts
from session_mgmt_mcp.projections.handoff import handoff_markdown
from session_mgmt_mcp.projections.outcomes import never_ran
from session_mgmt_mcp.projections.quality import assess
from session_mgmt_mcp.projections.story import Story
from session_mgmt_mcp.projections.tokens import estimate
from session_mgmt_mcp.tools.app import App
from session_mgmt_mcp.tools.cli import main

FOLDER = os.environ.get("SESSION_MGMT_REAL_DATA", "")
# One project's sessions of several people, enough to meet every kind of work; all of them take minutes
WHERE = "sessions/claude-code/entireio__cli"
SESSIONS_MAX = 40
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not FOLDER, reason="SESSION_MGMT_REAL_DATA names no folder of real sessions"),
]


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    data = tmp_path_factory.mktemp("real")
    with App.open(data, create=True) as opened:
        opened.import_claude(sorted(Path(FOLDER, WHERE).glob("*.jsonl"))[:SESSIONS_MAX])
        opened.maintain()
        yield opened


@pytest.fixture(scope="module")
def stories(app: App) -> list[Story]:
    return [app.views.story(s.session) for s in app.views.sessions(limit=1000)]


def positions(story: Story) -> set[int]:
    """Every position a story refers to."""
    notes = (*story.goal, *story.asked, *story.decisions, *story.corrections, *story.open_items, *story.notes)
    found = {n.position for n in notes} | {c.position for c in (*story.commits, *story.commands)}
    found |= {f.position for f in story.files} | {run.position for run in story.runs}
    found |= {p for failure in story.failures for p in (failure.position, failure.fixed_at)}
    found |= {n.position for n in (story.last_prompt, story.last_reply) if n is not None}
    return found - {0}


def test_every_position_is_one_of_the_sessions_own(app: App, stories: list[Story]) -> None:
    assert len(stories) >= 30
    for story in stories:
        own = {row.position for row in app.views.session_rows(story.session)}
        assert positions(story) <= own


def test_sessions_with_prompts_have_a_goal_and_most_work_its_files(app: App, stories: list[Story]) -> None:
    prompted = [s for s in app.views.sessions(limit=1000) if s.prompts]
    told = {story.session: story for story in stories}
    assert all(told[s.session].goal for s in prompted)
    assert sum(bool(story.runs) for story in stories) > len(stories) / 2
    assert sum(len(story.commits) for story in stories) > 10


def test_no_budget_is_exceeded_and_telling_twice_gives_the_same(app: App, stories: list[Story]) -> None:
    for story in stories:
        quality = assess(story.facts)
        assert quality.score is None or 0 <= quality.score <= 100
        for budget in (60, CHECKPOINT_TOKENS):
            assert estimate(checkpoint_text(story, quality, budget)) <= budget
        for budget in (60, 200, BRIEF_TOKENS):
            assert estimate(project_brief(BriefParts(project="", stories=(story,)), budget)) <= budget
    for story in stories[:10]:
        again = app.views.story(story.session)
        assert again == story
        assert handoff_markdown(again) == handoff_markdown(story)


def test_what_is_forgotten_is_in_no_story(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SESSION_MGMT_DATA_DIR", str(tmp_path / "data"))
    with App.open(create=True) as app:
        app.import_claude(sorted(Path(FOLDER, WHERE).glob("*.jsonl"))[:5])
        app.maintain()
        stories = [app.views.story(s.session) for s in app.views.sessions()]
    goals = [story.goal[0] for story in stories if story.goal and len(story.goal[0].text) > 40]
    replies = [story.last_reply for story in stories if story.last_reply]
    notes = goals + [note for note in replies if note is not None]
    assert len(notes) >= 5
    assert main(["forget", *(str(note.position) for note in notes), "--yes"]) in (
        0,
        1,
    )  # 1: transcripts still hold it
    with App.open() as app:
        told = [app.views.story(story.session) for story in stories]
        parts = [brief_parts(app.views, story.project) for story in stories]
    for text in (repr(told), *map(handoff_markdown, told), *map(project_brief, parts)):
        assert not any(note.text in text for note in notes)


def test_runs_that_anyone_can_see_are_recognised(app: App, stories: list[Story]) -> None:
    """Calls that begin with a test runner and got their result, against the runs that are told."""
    plain = ("go test ", "mise run test", "npm test", "pytest", "cargo test")
    seen = 0
    for story in stories:
        asked: dict[str, int] = {}
        ran: set[int] = set()
        for row in app.views.session_rows(story.session):
            if row.kind == "ToolCalled" and row.text.startswith(plain) and " -c " not in row.text:
                asked[row.tool_use_id] = row.position
            elif row.kind == "ToolReturned" and not never_ran(row.text, row.is_error):
                ran.update({asked[row.tool_use_id]} if row.tool_use_id in asked else ())
        assert ran <= {run.position for run in story.runs}
        seen += len(ran)
    assert seen > 50

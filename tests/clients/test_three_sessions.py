"""Three sessions in a row in the real Claude Code: one compacted, one killed, and what the third is told at its start."""

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from claude_client import Conversation, client_environment, shown_text
from claude_machine import PLUGIN_TOOLS, Machine

from session_mgmt_mcp.projections.tokens import estimate
from session_mgmt_mcp.tools.app import App

BUDGET_TOKENS = 800
PATIENCE_S = 30
TESTS = "python3 -m unittest -q"
WRONG = "def total(*amounts):\n    return round(sum(amounts), 2)\n"
RIGHT = """\
from decimal import ROUND_HALF_UP, Decimal


def total(*amounts):
    return sum(map(Decimal, amounts)).quantize(Decimal("0.01"), ROUND_HALF_UP)
"""
CHECK = """\
import unittest
from decimal import Decimal

from invoice import total


class Total(unittest.TestCase):
    def test_half_a_cent_is_rounded_up(self):
        self.assertEqual(total("0.005", "1.00"), Decimal("1.01"))
"""
FIRST_PROMPT = "Invoice totals must be rounded half up: half a cent becomes a cent"
SECOND_PROMPT = "Now mend the CSV export, it still prints floats"
DECISION = "Money is Decimal everywhere, never float"


class Seen(NamedTuple):
    """What a session was told at its start, and the conversation it was part of."""

    told: str
    talk: Conversation


def bash(command: str, why: str) -> tuple[str, dict[str, Any]]:
    return "Bash", {"command": command, "description": why}


def told(talk: Conversation, source: str) -> str:
    """The context the SessionStart hook gave; "" for none. It is what the model was shown."""
    answers = [json.loads(text)["hookSpecificOutput"] for text in talk.hook_answers(f"SessionStart:{source}")]
    assert len(answers) <= 1, "one hook answers"
    context = "".join(answer["additionalContext"] for answer in answers)
    assert context in shown_text(talk.model.requests[-1])
    return context


def first(machine: Machine, work: Path) -> Iterator[Seen]:
    """Works to the end, is compacted, goes on."""
    written = [
        ("Write", {"file_path": str(work / "invoice.py"), "content": WRONG}),
        ("Write", {"file_path": str(work / "test_invoice.py"), "content": CHECK}),
        bash(TESTS, "run the tests"),
        ("Write", {"file_path": str(work / "invoice.py"), "content": RIGHT}),
        bash(TESTS, "run the tests again"),
        (PLUGIN_TOOLS + "remember", {"text": DECISION, "tags": ["decision"]}),
        *([bash("git add -A && git commit -m 'Round totals half up'", "commit")] if has_git(work) else []),
        "Totals are rounded half up now. The CSV export still uses float.",
    ]
    turns = [*written, lambda: summary(machine), "On with the export."]
    tools = f"Bash,Write,Edit,{PLUGIN_TOOLS}remember"
    with machine.conversation(work, *turns, tools=tools) as talk:
        talk.say(FIRST_PROMPT)
        yield Seen(told(talk, "startup"), talk)
        talk.say("/compact")
        talk.say("go on")
        yield Seen(told(talk, "compact"), talk)


def summary(machine: Machine) -> str:
    """The model's summary at compaction. A real one takes its time: until then the checkpoint is written."""
    ends = time.monotonic() + PATIENCE_S
    while time.monotonic() < ends and not list(machine.data.glob("views/briefs/session-*")):
        time.sleep(0.05)
    return "Summary: the rounding is done."


def second(machine: Machine, work: Path) -> Seen:
    """Killed in the middle of a command."""
    turns = [
        ("Write", {"file_path": str(work / "export.py"), "content": "HEADER = 'total'\n"}),
        bash("python3 export.py && sleep 60", "export all invoices"),
    ]
    with machine.conversation(work, *turns) as talk:
        talk.say_and_wait_for_tool(SECOND_PROMPT, "Bash")
        talk.kill()
    return Seen(told(talk, "startup"), talk)


def fresh(machine: Machine, work: Path) -> Seen:
    """Only starts, and says hello."""
    with machine.conversation(work, "Hello.") as talk:
        talk.say("What is next?")
        return Seen(told(talk, "startup"), talk)


def has_git(work: Path) -> bool:
    return (work / ".git").exists()


class Story(NamedTuple):
    """The three sessions of one project, and two others."""

    machine: Machine
    started: Seen
    compacted: Seen
    killed: Seen
    third: Seen
    elsewhere: Seen  # a worktree of the same repository; another folder where there is no git


@pytest.fixture(scope="module", params=["git", "no git"])
def story(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Story:
    machine = Machine(tmp_path_factory.mktemp("three"))
    machine.run("setup", "--yes")
    other = machine.folder / "other"
    if request.param == "git":
        git(machine, machine.work, "init", "-q")
        git(machine, machine.work, "commit", "-q", "--allow-empty", "-m", "Begin")
        git(machine, machine.work, "worktree", "add", "-q", str(other))
    else:
        other.mkdir()
    started, compacted = first(machine, machine.work)
    killed = second(machine, machine.work)
    third = fresh(machine, machine.work)
    return Story(machine, started, compacted, killed, third, fresh(machine, other))


def git(machine: Machine, folder: Path, *words: str) -> None:
    environment = client_environment(machine.clients, machine.home, "")
    subprocess.run(["git", "-C", str(folder), *words], check=True, env=environment)


def test_the_first_session_of_a_project_is_told_nothing(story: Story) -> None:
    assert story.started.told == ""


def test_after_compaction_the_session_is_told_what_it_did(story: Story) -> None:
    context = story.compacted.told
    assert estimate(context) <= BUDGET_TOKENS
    assert FIRST_PROMPT in context
    assert "invoice.py" in context, "what it changed"
    assert "unittest" in context and "test_half_a_cent_is_rounded_up" in context, "what failed, and its mend"
    assert "The CSV export still uses float" in context, "what it said last"


def test_the_second_session_is_told_of_the_first(story: Story) -> None:
    context = story.killed.told
    assert estimate(context) <= BUDGET_TOKENS
    assert FIRST_PROMPT in context
    assert "unittest" in context and "test_half_a_cent_is_rounded_up" in context, (
        "what failed, and that it was mended"
    )
    assert DECISION in context
    if has_git(story.machine.work):
        assert "Round totals half up" in context, "what was committed"


def test_the_third_session_is_told_what_matters(story: Story) -> None:
    context = story.third.told
    assert estimate(context) <= BUDGET_TOKENS
    assert SECOND_PROMPT in context, "what the killed session was asked"
    assert "export.py" in context, "what it had done"
    assert FIRST_PROMPT in context, "what was done before that"
    assert DECISION in context


def test_a_worktree_is_the_same_project_and_another_folder_is_not(story: Story) -> None:
    if has_git(story.machine.work):
        assert SECOND_PROMPT in story.elsewhere.told
        assert DECISION in story.elsewhere.told
    else:
        assert SECOND_PROMPT not in story.elsewhere.told
        assert DECISION not in story.elsewhere.told


def test_no_hook_failed_in_any_of_them(story: Story) -> None:
    for seen in (story.compacted, story.killed, story.third, story.elsewhere):
        assert seen.talk.hook_failures() == []


def test_the_log_has_a_checkpoint_of_the_compaction_and_an_end_of_each_session(story: Story) -> None:
    story.machine.run("maintain", "--once")
    with App.open(story.machine.data) as app:
        events = [event for batch in app.log.read() for event in batch]
        sessions = {s.session: s for s in app.views.sessions()}
    kinds = [event.envelope.event_type for event in events]
    assert kinds.count("SessionCheckpointed") == 1
    killed = sessions[story.killed.talk.session]
    closed = [e for e in events if e.envelope.event_type == "SessionClosed"]
    assert [json.loads(e.payload or b"")["reason"] for e in closed] == ["orphaned"]
    assert killed.session in closed[0].envelope.stream

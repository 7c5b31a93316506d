"""Start, checkpoint and end as tools and commands ask for them."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from lifecycle_kit import Hooks

from session_mgmt_mcp.core import live
from session_mgmt_mcp.core.envelope import EventType
from session_mgmt_mcp.core.errors import IdempotencyConflictError, InputError
from session_mgmt_mcp.core.events import SessionCheckpointed, SessionClosed
from session_mgmt_mcp.tools import lifecycle
from session_mgmt_mcp.tools.app import App
from session_mgmt_mcp.tools.cli import main


@pytest.fixture
def app(hooks: Hooks) -> Iterator[App]:
    hooks.report("abc-1", "SessionStart", source="startup")
    hooks.report("abc-1", "UserPromptSubmit", prompt="mend the till")
    edit = {"file_path": f"{hooks.work}/till.py", "old_string": "a", "new_string": "b"}
    hooks.report("abc-1", "PostToolUse", tool_name="Edit", tool_use_id="t-1", tool_input=edit)
    hooks.report("abc-1", "Stop", last_assistant_message="It is mended.")
    with App.open(Path(hooks.folder)) as opened:
        yield opened


def events(app: App, kind: EventType) -> list[bytes]:
    found = [event for batch in app.log.read() for event in batch]
    return [event.payload or b"" for event in found if event.envelope.event_type == kind]


def test_start_tells_what_was_done_in_the_project_and_who_is_at_work(app: App, hooks: Hooks) -> None:
    brief = lifecycle.start(app, hooks.work)
    assert "mend the till" in brief.text and "session abc-1 is at work now" in brief.text
    assert (brief.project, brief.session) == (hooks.work, "") and 0 < brief.tokens <= 800


def test_the_session_that_starts_is_not_told_of_itself(app: App, hooks: Hooks) -> None:
    assert lifecycle.start(app, hooks.work, "abc-1").text == ""
    assert lifecycle.start(app, hooks.work, own="abc-1").text == ""
    assert lifecycle.start(app, None, "abc").project == hooks.work, "the beginning of its id is enough"


def test_a_session_whose_context_was_compacted_is_told_where_it_stands(app: App, hooks: Hooks) -> None:
    hooks.report("abc-1", "PreCompact", trigger="manual")
    brief = lifecycle.start(app, hooks.work, "abc-1")
    assert "mend the till" in brief.text and "till.py" in brief.text and brief.tokens <= 800


def test_of_an_unknown_session_only_a_guess_is_forgiven(app: App, hooks: Hooks) -> None:
    with pytest.raises(InputError, match="no session 'nope'"):
        lifecycle.start(app, hooks.work, "nope")
    assert "mend the till" in lifecycle.start(app, hooks.work, own="nope").text


@pytest.mark.parametrize("budget", [lifecycle.BUDGET_MIN - 1, lifecycle.BUDGET_MAX + 1])
def test_a_budget_out_of_bounds_is_refused(app: App, hooks: Hooks, budget: int) -> None:
    with pytest.raises(InputError, match="ask for 100 to"):
        lifecycle.start(app, hooks.work, budget=budget)


def test_without_project_and_session_nothing_can_be_told(app: App) -> None:
    with pytest.raises(InputError, match="of which project"):
        lifecycle.start(app, None)


def test_a_checkpoint_stores_numbers_and_the_note_alone(app: App, hooks: Hooks) -> None:
    made = lifecycle.checkpoint(app, "abc", "the bell is still missing")
    assert (made.session, made.upto, made.appended) == ("abc-1", 4, True)
    assert "mend the till" in made.text and "the bell is still missing" in made.text
    [raw] = events(app, EventType.SESSION_CHECKPOINTED)
    stored = msgspec.json.decode(raw, type=SessionCheckpointed)
    assert (stored.session, stored.reason, stored.upto) == ("abc-1", "asked", 4)
    assert (stored.note, stored.facts["files_changed"]) == ("the bell is still missing", 1)
    assert b"mend the till" not in raw and b"till.py" not in raw
    assert stored.score == made.score
    [turn] = [t for t in app.views.timeline(session="abc-1").turns if t.kind == "SessionCheckpointed"]
    assert turn.text == "the bell is still missing"


def test_the_call_that_asks_for_a_checkpoint_is_not_an_open_item_of_it(app: App, hooks: Hooks) -> None:
    hooks.report("abc-1", "UserPromptSubmit", prompt="take a checkpoint")
    hooks.report("abc-1", "PreToolUse", tool_name="mcp__x__checkpoint", tool_use_id="t-9", tool_input={})
    said = lifecycle.checkpoint(app, "abc-1").text + lifecycle.end(app, "abc-1").text
    assert "no reply was recorded" not in said and "no result was recorded" not in said
    assert "no reply was recorded" in lifecycle.handoff(app, "abc-1").text, "as the log has it"


def test_the_same_key_takes_one_checkpoint_though_time_went_on(app: App, hooks: Hooks) -> None:
    first = lifecycle.checkpoint(app, "abc-1", "n", "k")
    hooks.report("abc-1", "UserPromptSubmit", prompt="and the bell")
    again = lifecycle.checkpoint(app, "abc-1", "n", "k")
    assert (again.position, again.upto, again.appended) == (first.position, first.upto, False)
    with pytest.raises(IdempotencyConflictError, match="'k' was used"):
        lifecycle.checkpoint(app, "abc-1", "another", "k")
    assert len(events(app, EventType.SESSION_CHECKPOINTED)) == 1


def test_a_secret_in_a_note_is_not_stored(app: App) -> None:
    secret = "gh" + "p_" + "a1B2" * 9
    lifecycle.checkpoint(app, "abc-1", f"the token is {secret}", "k")
    assert lifecycle.checkpoint(app, "abc-1", f"the token is {secret}", "k").appended is False
    assert secret.encode() not in events(app, EventType.SESSION_CHECKPOINTED)[0]


def test_a_note_that_is_too_long_and_an_unknown_session_are_refused(app: App) -> None:
    with pytest.raises(InputError, match="a note holds at most"):
        lifecycle.checkpoint(app, "abc-1", "x" * (lifecycle.NOTE_BYTES_MAX + 1))
    with pytest.raises(InputError, match="no session 'nope'"):
        lifecycle.checkpoint(app, "nope")
    assert events(app, EventType.SESSION_CHECKPOINTED) == []


def test_an_ended_session_is_closed_and_handed_over(app: App, hooks: Hooks) -> None:
    done = lifecycle.end(app, "abc-1", "hang the bell next", "k")
    for expected in ("mend the till", "till.py", "hang the bell next", "ended"):
        assert expected in done.text
    [raw] = events(app, EventType.SESSION_CLOSED)
    assert msgspec.json.decode(raw, type=SessionClosed).reason == "ended"
    again = lifecycle.end(app, "abc-1", "hang the bell next", "k")
    assert (again.appended, again.position) == (False, done.position)
    assert len(events(app, EventType.SESSION_CLOSED)) == 1
    assert "hang the bell next" in lifecycle.start(app, hooks.work).text
    assert lifecycle.handoff(app, "abc-1").text == done.text, "nothing else was open"


def test_the_session_of_a_process_is_found_by_its_ancestors_else_by_its_folder(
    app: App, hooks: Hooks
) -> None:
    nobody = 0  # a process that descends from none: init may be an assistant's, in a container
    assert lifecycle.current_session(app, nobody) is None
    assert lifecycle.current_session(app, nobody, hooks.work) == "abc-1"
    hooks.report("abc-2", "UserPromptSubmit", prompt="x")
    assert lifecycle.current_session(app, nobody, hooks.work) is None, "two are at work there"
    found = live.read(hooks.folder, "abc-2")
    assert found is not None
    found.process = live.assistant_process(os.getpid())
    live.write(hooks.folder, found)
    os.utime(live.path_of(hooks.folder, "abc-1"), (1, 1))
    assert lifecycle.current_session(app, os.getpid(), "/elsewhere") == "abc-2"


def test_the_commands_say_the_same(
    app: App, hooks: Hooks, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SESSION_MGMT_DATA_DIR", hooks.folder)
    monkeypatch.chdir(hooks.work)
    assert main(["brief"]) == 0
    assert "mend the till" in capsys.readouterr().out
    assert main(["brief", "--project", "/nowhere", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["text"] == ""
    assert main(["checkpoint", "--note", "so far", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert (made["session"], made["appended"]) == ("abc-1", True)
    assert main(["checkpoint", "--end", "--session", "abc"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("# ") and "ended: session abc-1" in said.err
    live.remove(hooks.folder, "abc-1")  # or it would be found by the process this runs in
    monkeypatch.chdir("/")
    assert main(["checkpoint"]) == 2
    assert "no session is recorded of /" in capsys.readouterr().err

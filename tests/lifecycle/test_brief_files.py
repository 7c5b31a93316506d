"""What maintenance prepares for sessions: briefs, checkpoints before a compaction, the end of those nobody ended."""

import json
import os
import time
from pathlib import Path

import msgspec
import pytest
from lifecycle_kit import Hooks, killed

from session_mgmt_mcp.core import briefs, live
from session_mgmt_mcp.core.envelope import Envelope, EventType, NewEvent, Source, uuid7
from session_mgmt_mcp.core.events import SessionCheckpointed, SessionClosed
from session_mgmt_mcp.core.log.log import FileLog
from session_mgmt_mcp.projections.tokens import estimate
from session_mgmt_mcp.tools import brief_files, maintenance
from session_mgmt_mcp.tools.app import App
from session_mgmt_mcp.tools.forget_match import Matcher
from session_mgmt_mcp.tools.forget_select import Selectors
from session_mgmt_mcp.tools.forgetting import carry_out, plan


def maintain(hooks: Hooks) -> None:
    with FileLog(hooks.folder) as log:
        maintenance.maintain(log)


def remember(hooks: Hooks, text: str, *tags: str, project: str | None = None) -> None:
    with App.open(Path(hooks.folder)) as app:
        app.remember(text, tags, project)


def of_type(hooks: Hooks, kind: EventType) -> list[bytes]:
    with FileLog(hooks.folder) as log:
        return [
            event.payload or b""
            for batch in log.read()
            for event in batch
            if event.envelope.event_type == kind
        ]


def closings(hooks: Hooks) -> list[SessionClosed]:
    return [msgspec.json.decode(raw, type=SessionClosed) for raw in of_type(hooks, EventType.SESSION_CLOSED)]


def work(hooks: Hooks, session: str, prompt: str = "mend the till") -> None:
    hooks.report(session, "SessionStart", source="startup")
    hooks.report(session, "UserPromptSubmit", prompt=prompt)
    edit = {"file_path": f"{hooks.work}/till.py", "old_string": "a", "new_string": "b"}
    hooks.report(session, "PostToolUse", tool_name="Edit", tool_use_id=f"{session}-1", tool_input=edit)
    run = {"command": "pytest -q"}
    hooks.report(
        session,
        "PostToolUseFailure",
        tool_name="Bash",
        tool_use_id=f"{session}-2",
        tool_input=run,
        error="Exit code 1\n1 failed, 3 passed in 0.10s",
    )


def test_the_next_session_is_told_what_the_last_one_did_decided_and_left_open(hooks: Hooks) -> None:
    work(hooks, "s-1")
    remember(hooks, "dates in tests are always UTC", "decision", project=hooks.work)
    hooks.report("s-1", "Stop", last_assistant_message="One test still fails.")
    hooks.report("s-1", "SessionEnd", reason="exit")
    maintain(hooks)
    said = hooks.told("s-2")
    for expected in (
        "mend the till",
        "till.py",
        "1 failed",
        "dates in tests are always UTC",
        "One test still fails.",
    ):
        assert expected in said
    assert "not instructions" in said
    assert "Since then" not in said, "nothing happened since"
    assert estimate(said) <= 800


def test_what_was_captured_since_the_brief_is_in_the_next_one(hooks: Hooks) -> None:
    work(hooks, "s-1")
    maintain(hooks)
    hooks.report("s-1", "UserPromptSubmit", prompt="now oil the wheel")
    hooks.report("s-1", "SessionEnd", reason="exit")
    maintain(hooks)
    head, _, since = hooks.told("s-2").partition("Since then")
    assert "oil the wheel" in head and not since


def test_a_brief_stays_as_it_is_while_nothing_happens(hooks: Hooks) -> None:
    work(hooks, "s-1")
    maintain(hooks)
    path = Path(briefs.project_path(hooks.folder, hooks.work))
    os.utime(path, (1, 1))
    hooks.report("s-2", "SessionStart", source="startup")
    maintain(hooks)
    assert path.stat().st_mtime == 1, "that a session started changes no brief"
    hooks.report("s-2", "UserPromptSubmit", prompt="oil the wheel")
    maintain(hooks)
    assert path.stat().st_mtime > 1


@pytest.mark.slow
def test_briefs_that_are_gone_or_of_another_log_are_made_anew(hooks: Hooks) -> None:
    work(hooks, "s-1")
    hooks.report("s-1", "SessionEnd", reason="exit")
    maintain(hooks)
    state = Path(hooks.folder, "views/briefs/state.json")
    for damage in ("gone", "{", '{"position": "x"}', '{"version": 1, "log_id": "other", "position": 3}'):
        briefs.clear(hooks.folder)
        if damage != "gone":
            state.write_text(damage)
        maintain(hooks)
        assert "mend the till" in hooks.told("s-2"), damage


@pytest.mark.slow
def test_a_project_long_without_a_brief_gets_one_when_a_session_starts_in_it(hooks: Hooks) -> None:
    work(hooks, "s-1")
    hooks.report("s-1", "SessionEnd", reason="exit")
    maintain(hooks)
    os.unlink(briefs.project_path(hooks.folder, hooks.work))
    hooks.told("s-2")
    maintain(hooks)
    assert "mend the till" in hooks.told("s-3")


def test_what_only_looks_like_a_compaction_takes_no_checkpoint(hooks: Hooks) -> None:
    work(hooks, "s-1")
    hooks.report("s-1", "PostToolUse", tool_name="X", tool_use_id="x", tool_input={"event": "PreCompact"})
    maintain(hooks)
    assert of_type(hooks, EventType.SESSION_CHECKPOINTED) == []


def test_no_text_in_a_brief_can_break_the_answer(hooks: Hooks) -> None:
    work(hooks, "s-1", 'say "\\" and \u2028 and </system-reminder>\x1b[2J \U0001f600')
    maintain(hooks)
    said = hooks.told("s-2")
    assert "</system-reminder>" not in said and "\x1b" not in said and "\U0001f600" in said


def test_the_context_after_a_compaction_holds_the_sessions_checkpoint_and_the_projects_decisions(
    hooks: Hooks,
) -> None:
    remember(hooks, "dates in tests are always UTC", "decision", project=hooks.work)
    work(hooks, "s-1")
    hooks.report("s-1", "PreCompact", trigger="auto", custom_instructions="")
    maintain(hooks)
    [stored] = of_type(hooks, EventType.SESSION_CHECKPOINTED)
    checkpoint = msgspec.json.decode(stored, type=SessionCheckpointed)
    assert (checkpoint.session, checkpoint.reason, checkpoint.note) == ("s-1", "compact", "")
    assert checkpoint.facts["files_changed"] == 1 and checkpoint.score is not None and checkpoint.upto >= 4
    assert b"mend the till" not in stored, "it copies no prompt"
    said = hooks.told("s-1", "compact")
    for expected in ("mend the till", "till.py", "1 failed", "dates in tests are always UTC"):
        assert expected in said
    assert estimate(said) <= 800
    maintain(hooks)
    assert len(of_type(hooks, EventType.SESSION_CHECKPOINTED)) == 1


@pytest.mark.slow
def test_each_compaction_has_one_checkpoint_whatever_is_read_again(hooks: Hooks) -> None:
    work(hooks, "s-1")
    hooks.report("s-1", "PreCompact", trigger="auto")
    maintain(hooks)
    hooks.report("s-1", "SessionStart", source="compact")
    hooks.report("s-1", "UserPromptSubmit", prompt="go on")
    hooks.report("s-1", "PreCompact", trigger="auto")
    maintain(hooks)
    assert len(of_type(hooks, EventType.SESSION_CHECKPOINTED)) == 2
    state = Path(hooks.folder, "views/briefs/state.json")
    known = json.loads(state.read_bytes())
    state.write_text(json.dumps({**known, "position": 0}))
    maintain(hooks)
    assert len(of_type(hooks, EventType.SESSION_CHECKPOINTED)) == 2


def test_a_killed_session_is_closed_once_and_its_live_file_goes(hooks: Hooks) -> None:
    work(hooks, "s-1")
    killed(hooks, "s-1")
    maintain(hooks)
    [closed] = closings(hooks)
    assert (closed.session, closed.reason, closed.project, closed.upto) == ("s-1", "orphaned", hooks.work, 4)
    assert live.read_all(hooks.folder) == []
    maintain(hooks)
    assert len(closings(hooks)) == 1
    assert "mend the till" in hooks.told("s-2")


def test_a_session_at_work_is_not_closed(hooks: Hooks) -> None:
    work(hooks, "s-1")
    maintain(hooks)
    assert closings(hooks) == []
    assert [one.session for one in live.read_all(hooks.folder)] == ["s-1"]


def test_a_session_that_ended_by_itself_is_not_closed_again(hooks: Hooks) -> None:
    work(hooks, "s-1")
    hooks.report("s-1", "SessionEnd", reason="exit")
    hooks.report("s-1", "Stop", last_assistant_message="a late one")
    killed(hooks, "s-1")
    maintain(hooks)
    assert closings(hooks) == [] and live.read_all(hooks.folder) == []


@pytest.mark.slow
def test_a_session_picked_up_and_killed_again_is_closed_again(hooks: Hooks) -> None:
    for _ in range(2):
        hooks.report("s-1", "SessionStart", source="resume")
        killed(hooks, "s-1")
        maintain(hooks)
    assert [closed.session for closed in closings(hooks)] == ["s-1", "s-1"]


@pytest.mark.slow
def test_a_session_silent_for_a_day_with_no_process_known_is_closed(
    hooks: Hooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    work(hooks, "s-1")
    work(hooks, "s-2")
    live.remove(hooks.folder, "s-1")
    maintain(hooks)
    assert closings(hooks) == [], "not yet silent for so long"
    later = time.time_ns() + brief_files.SILENT_US * 1000 + 10**9
    monkeypatch.setattr(time, "time_ns", lambda: later)
    maintain(hooks)
    assert [closed.session for closed in closings(hooks)] == ["s-1"], "the other one's process is there"


def test_forgetting_removes_what_briefs_and_live_files_say(hooks: Hooks) -> None:
    work(hooks, "s-1", "the safe opens with marzipan-4711")
    hooks.report("s-1", "PreCompact", trigger="auto")
    maintain(hooks)
    work(hooks, "s-2")
    remember(hooks, "dates in tests are always UTC", "decision", project=hooks.work)
    assert b"marzipan" in Path(briefs.project_path(hooks.folder, hooks.work)).read_bytes()
    with App.open(Path(hooks.folder)) as app:
        selectors = Selectors(matcher=Matcher(("marzipan-4711",)))
        carry_out(
            app, selectors, plan(app, selectors, lambda *_: None), "it was said by mistake", lambda *_: None
        )
    kept = b"".join(p.read_bytes() for p in Path(hooks.folder, "views").rglob("*") if p.is_file())
    assert b"marzipan" not in kept
    said = hooks.told("s-3")
    assert "mend the till" in said and "decisions" in said.lower() and "marzipan" not in said


def test_turned_off_sessions_are_checkpointed_and_closed_but_not_told(
    hooks: Hooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SESSION_MGMT_BRIEF", "off")
    work(hooks, "s-1")
    hooks.report("s-1", "PreCompact", trigger="auto")
    killed(hooks, "s-1")
    maintain(hooks)
    assert len(of_type(hooks, EventType.SESSION_CHECKPOINTED)) == 1 and len(closings(hooks)) == 1
    assert [p.name for p in Path(hooks.folder, "views/briefs").iterdir()] == ["state.json"]


@pytest.mark.parametrize("budget", ["300", "none"])
def test_a_brief_keeps_to_the_budget_asked_for(
    hooks: Hooks, monkeypatch: pytest.MonkeyPatch, budget: str
) -> None:
    monkeypatch.setenv("SESSION_MGMT_BRIEF_TOKENS", budget)
    for number in range(4):
        work(hooks, f"s-{number}", f"{number}: " + "mend the till and oil the wheel, " * 30)
    maintain(hooks)
    hooks.report("s-1", "UserPromptSubmit", prompt="and something new " * 20)
    said = hooks.told("s-9")
    assert "mend the till" in said and "something new" in said
    assert estimate(said) <= (int(budget) if budget.isdigit() else 800)


@pytest.mark.slow
def test_a_project_joined_to_another_is_told_the_same(hooks: Hooks, tmp_path: Path) -> None:
    old = tmp_path / "old-mill"
    old.mkdir()
    work(hooks, "s-1")
    hooks.report("s-0", "UserPromptSubmit", prompt="the first stone", cwd=str(old))
    hooks.report("s-0", "SessionEnd", reason="exit", cwd=str(old))
    maintain(hooks)
    assert "the first stone" not in hooks.told("s-2")
    from session_mgmt_mcp.tools import projects

    with App.open(Path(hooks.folder)) as app:
        projects.join(app, str(old), hooks.work)
    maintain(hooks)
    assert "the first stone" in hooks.told("s-3")
    assert "mend the till" in hooks.told("s-4", cwd=str(old))


@pytest.mark.slow
def test_files_nobody_came_back_to_are_removed(hooks: Hooks) -> None:
    work(hooks, "s-1")
    maintain(hooks)
    old = Path(hooks.folder, "views/live/0123.77.tmp")
    for path in (old, Path(briefs.session_path(hooks.folder, "s-old"))):
        path.write_bytes(b"x")
        os.utime(path, (1, 1))
    state = Path(hooks.folder, "views/briefs/state.json")
    state.write_text(json.dumps({**json.loads(state.read_bytes()), "silent_at": 0}))
    maintain(hooks)
    assert not old.exists() and not Path(briefs.session_path(hooks.folder, "s-old")).exists()
    assert Path(briefs.project_path(hooks.folder, hooks.work)).exists()


def test_the_longer_briefs_take_the_seldomer_the_end_of_a_turn_starts_a_pass(
    hooks: Hooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    stamp = Path(hooks.folder, "views/maintained")
    maintain(hooks)
    assert stamp.read_text() == "60"
    clock = iter(range(0, 10_000, 12))
    monkeypatch.setattr(time, "process_time", lambda: float(next(clock)))
    before = time.time()
    maintain(hooks)
    assert stamp.read_text() == "240" and before - 1 <= stamp.stat().st_mtime


def test_a_pass_asked_for_while_another_is_on_is_made_by_that_one(
    hooks: Hooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[int] = []
    real = brief_files.update

    def meanwhile(log: FileLog, say: maintenance.Report) -> brief_files.Done:
        done = real(log, say)
        passes.append(log.head().position)
        if len(passes) == 1:  # a hook's process comes now, finds the lock held, and leaves
            hooks.report("s-1", "UserPromptSubmit", prompt="just now")
            maintenance.ask(hooks.folder)
        return done

    monkeypatch.setattr(brief_files, "update", meanwhile)
    work(hooks, "s-1")
    maintain(hooks)
    assert len(passes) == 2
    assert "just now" in Path(briefs.project_path(hooks.folder, hooks.work)).read_text()
    assert not Path(hooks.folder, "views/due").exists()


@pytest.mark.parametrize("payload", [b"[]", b"not JSON", b'{"project": 7}'])
def test_a_reflection_nobody_can_read_keeps_no_brief_from_being_prepared(
    hooks: Hooks, payload: bytes
) -> None:
    work(hooks, "s-1")
    with FileLog(hooks.folder) as log:
        envelope = Envelope("session-mgmt/log", EventType.REFLECTION_STORED, 1, 1, 1, "user", Source.COMMAND)
        log.append([NewEvent(uuid7(), envelope, payload)])
    maintain(hooks)
    assert "mend the till" in hooks.told("s-2")
    assert briefs.read(briefs.project_path(hooks.folder, hooks.work)) is not None


def test_briefs_that_fail_leave_the_log_maintained(
    hooks: Hooks, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("strange")

    work(hooks, "s-1")
    monkeypatch.setattr(brief_files, "update", fail)
    with FileLog(hooks.folder) as log:
        assert maintenance.maintain(log, force=True).sealed == log.head().position
    assert "ZeroDivisionError: strange" in caplog.text

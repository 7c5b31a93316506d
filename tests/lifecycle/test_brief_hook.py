"""What a session is told at its start: what was prepared, and what happened since."""

import errno
import fcntl
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from lifecycle_kit import Hooks, killed, told

from session_mgmt_mcp.adapters.claude_code import brief_hook, capture, unread
from session_mgmt_mcp.core import briefs
from session_mgmt_mcp.core.log.log import FileLog

SCRIPT = Path(capture.__file__).parent / "hook.py"


def prepare(hooks: Hooks, text: str, position: int = 1 << 40, session: str = "") -> None:
    escaped = json.dumps(text)[1:-1].encode()
    path = (
        briefs.session_path(hooks.folder, session)
        if session
        else briefs.project_path(hooks.folder, hooks.work)
    )
    briefs.write(path, briefs.Prepared(position, escaped, escaped, b"decisions"))


def test_nothing_is_said_where_nothing_is_known(hooks: Hooks) -> None:
    assert hooks.told("s-1") == ""


@pytest.mark.parametrize("source", ["startup", "resume", "clear"])
def test_a_session_is_told_the_brief_of_its_project(hooks: Hooks, source: str) -> None:
    prepare(hooks, 'Last time: "mend the till"\nüber 日本 [12]')
    assert hooks.told("s-1", source) == 'Last time: "mend the till"\nüber 日本 [12]'


def test_subfolders_and_worktrees_are_told_the_brief_of_their_repository(
    hooks: Hooks, tmp_path: Path
) -> None:
    identity = ("-c", "user.name=ada", "-c", "user.email=ada@example.org")
    for words in (
        ["init", "-q"],
        [*identity, "commit", "-q", "--allow-empty", "-m", "first"],
        ["worktree", "add", "-q", str(tmp_path / "tree")],
    ):
        subprocess.run(["git", *words], cwd=hooks.work, check=True, capture_output=True)
    Path(hooks.work, "src").mkdir()
    prepare(hooks, "what matters")
    assert hooks.told("s-1", cwd=f"{hooks.work}/src") == "what matters"
    assert hooks.told("s-2", cwd=str(tmp_path / "tree")) == "what matters"
    assert hooks.told("s-3", cwd=str(tmp_path)) == ""


def test_after_a_compaction_the_session_is_told_its_own_checkpoint(hooks: Hooks) -> None:
    prepare(hooks, "of the project")
    prepare(hooks, "of the session", session="s-1")
    assert hooks.told("s-1", "compact") == "of the session"
    assert hooks.told("s-1", "startup") == "of the project"


def test_after_a_compaction_nobody_prepared_for_the_session_is_told_what_it_did(hooks: Hooks) -> None:
    prepare(hooks, "of the project, and how s-1 stood", position=1)
    hooks.report("s-1", "UserPromptSubmit", prompt="mend the till")
    hooks.report("s-1", "PreCompact", trigger="auto")
    said = hooks.told("s-1", "compact")
    assert said.startswith("decisions\n\n"), "how the brief says it stands is older"
    assert 'this one before it was compacted: asked: "mend the till"' in said
    assert "mend the till" not in hooks.told("s-1", "resume"), "what is in its context is not repeated"


def test_a_second_compaction_adds_to_the_checkpoint_of_the_first(hooks: Hooks) -> None:
    hooks.report("s-1", "UserPromptSubmit", prompt="mend the till")
    hooks.report("s-1", "PreCompact", trigger="auto")
    prepare(hooks, "at the first", position=2, session="s-1")
    hooks.report("s-1", "UserPromptSubmit", prompt="oil the wheel")
    assert hooks.told("s-1", "compact") == "at the first", "it is in the context still"
    hooks.report("s-1", "PreCompact", trigger="auto")
    head, _, since = hooks.told("s-1", "compact").partition("\n\n")
    assert head == "at the first" and "oil the wheel" in since and "till" not in since


def test_others_at_work_are_named_with_what_they_were_asked_and_did(hooks: Hooks) -> None:
    prepare(hooks, "what matters", position=0)
    hooks.report("s-1", "UserPromptSubmit", prompt="mend the <b>till</b>")
    hooks.report(
        "s-1", "PostToolUse", tool_name="Edit", tool_use_id="t1", tool_input={"file_path": "/x/till.py"}
    )
    hooks.report(
        "s-1", "PostToolUse", tool_name="Read", tool_use_id="t2", tool_input={"file_path": "/x/wheel.py"}
    )
    hooks.report("s-1", "PreToolUse", tool_name="Bash", tool_use_id="t3", tool_input={"command": "pytest -q"})
    hooks.report(
        "s-1", "PostToolUseFailure", tool_name="Bash", tool_use_id="t3", tool_input={"command": "pytest -q"}
    )
    head, _, since = hooks.told("s-2").partition("\n\n")
    assert head == "what matters"
    assert "not instructions" in since
    assert (
        'session s-1, at work now: asked just now: "mend the ‹b›till‹/b›"; edited till.py, ran `pytest -q` (failed)'
        in since
    )
    assert "wheel" not in since


def test_a_session_of_another_project_is_not_named(hooks: Hooks, tmp_path: Path) -> None:
    hooks.report("s-1", "UserPromptSubmit", prompt="elsewhere", cwd=str(tmp_path))
    assert hooks.told("s-2") == ""


def test_a_session_killed_since_is_told_of_before_maintenance_came(hooks: Hooks) -> None:
    prepare(hooks, "what matters", position=0)
    hooks.report("s-1", "SessionStart", source="startup")
    hooks.report("s-1", "UserPromptSubmit", prompt="mend the till")
    hooks.report("s-1", "PreToolUse", tool_name="Bash", tool_use_id="t", tool_input={"command": "make\nall"})
    killed(hooks, "s-1")
    said = hooks.told("s-2")
    assert 'session s-1, stopped without an end just now: asked: "mend the till"; ran `make all`' in said


def test_what_the_brief_knows_of_is_not_told_twice(hooks: Hooks) -> None:
    hooks.report("s-1", "UserPromptSubmit", prompt="mend the till")
    hooks.report("s-1", "SessionEnd", reason="exit")
    prepare(hooks, "knows all", position=2)
    assert hooks.told("s-2") == "knows all"


def test_events_in_a_journal_that_was_closed_are_told_too(hooks: Hooks) -> None:
    hooks.report("s-1", "UserPromptSubmit", prompt="mend the till")
    with FileLog(hooks.folder) as log:
        log.roll()
    hooks.report("s-1", "Stop", last_assistant_message="It is mended.")
    hooks.report("s-1", "SessionEnd", reason="exit")
    said = hooks.told("s-2")
    assert 's-1, ended just now: asked: "mend the till"; answered: "It is mended."' in said
    [one] = [one for one in unread.unread(hooks.folder, 1, hooks.work) if one.session == "s-1"]
    assert (one.prompt, one.reply) == ("", "It is mended."), "a position leaves out what came before"


@pytest.mark.parametrize("sessions", [1, 4, 9])
def test_what_is_added_stays_small(hooks: Hooks, sessions: int) -> None:
    prepare(hooks, "short", position=0)
    for number in range(sessions):
        hooks.report(f"s-{number}", "UserPromptSubmit", prompt="mühlrad ölen " * 40)
        for call in range(20):
            tool = {
                "tool_name": "Bash",
                "tool_use_id": f"t{call}",
                "tool_input": {"command": f"run {call} " + "x" * 99},
            }
            hooks.report(f"s-{number}", "PostToolUse", **tool)
    said = hooks.told("s-new")
    assert (
        0 < len(said.encode()) <= len("short\n\n") + brief_hook.SINCE_BYTES_MAX + len(brief_hook._SINCE) + 1
    )
    assert said.count("- session") == min(sessions, brief_hook.OTHERS_MAX)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"brief 2 1\nx\ny\nz\n",
        b"brief 1 -1\nx\ny\nz\n",
        b"brief 1 1\nx\ny\n",
        b"brief 1 1\nx\ny\ntorn",
        b"brief 1 1\na\nb\nc\nd\n",
    ],
)
def test_a_damaged_brief_is_left_out(hooks: Hooks, raw: bytes) -> None:
    prepare(hooks, "what matters")
    Path(briefs.project_path(hooks.folder, hooks.work)).write_bytes(raw)
    assert hooks.told("s-1") == ""


@pytest.mark.parametrize("word", ["off", "0", "No"])
def test_briefs_can_be_turned_off(hooks: Hooks, monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    prepare(hooks, "what matters")
    monkeypatch.setenv("SESSION_MGMT_BRIEF", word)
    assert hooks.told("s-1") == ""


def run(hooks: Hooks, payload: bytes, *, limit: int | None = None) -> subprocess.CompletedProcess[bytes]:
    """The hook as the assistant runs it; `limit`: bytes a file may have."""

    def bounded() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    command = [sys.executable, "-I", "-S", str(SCRIPT), "--data-dir", hooks.folder]
    return subprocess.run(command, input=payload, capture_output=True, check=False, preexec_fn=bounded)


def start(hooks: Hooks, **fields: object) -> bytes:
    return hooks.payload("s-9", "SessionStart", source="startup", **fields)


def test_the_script_answers_with_one_line_of_json(hooks: Hooks) -> None:
    prepare(hooks, "what\nmatters")
    Path(hooks.folder, "maintenance.lock").touch()
    with open(f"{hooks.folder}/maintenance.lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the maintenance it starts ends at once
        done = run(hooks, start(hooks))
    assert (done.returncode, done.stderr, done.stdout.count(b"\n")) == (0, b"", 1)
    assert told(done.stdout) == "what\nmatters"


def test_while_paused_nothing_is_said(hooks: Hooks) -> None:
    prepare(hooks, "what matters")
    Path(hooks.folder, "paused").write_text("1")
    done = run(hooks, start(hooks))
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_where_nothing_can_be_written_the_session_is_told_all_the_same(hooks: Hooks) -> None:
    prepare(hooks, "what matters")
    done = run(hooks, start(hooks), limit=0)
    assert done.returncode == 0
    assert told(done.stdout) == "what matters"
    assert done.stderr.count(b"\n") == 1 and b"not captured" in done.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_costs_one_line_on_stderr(hooks: Hooks) -> None:
    os.chmod(hooks.folder, 0)
    try:
        done = run(hooks, start(hooks))
    finally:
        os.chmod(hooks.folder, 0o700)
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (0, b"", 1)


def test_while_the_log_is_locked_the_event_is_spooled_and_the_session_told(hooks: Hooks) -> None:
    prepare(hooks, "what matters")
    Path(hooks.folder, "maintenance.lock").touch()
    with open(f"{hooks.folder}/append.lock", "a") as lock, open(f"{hooks.folder}/maintenance.lock") as other:
        fcntl.flock(lock, fcntl.LOCK_EX)
        fcntl.flock(other, fcntl.LOCK_EX)
        done = run(hooks, start(hooks))
    assert (done.returncode, told(done.stdout), done.stderr) == (0, "what matters", b"")
    assert len(list(Path(hooks.folder, "spool").glob("*.event"))) == 1


def test_an_error_while_answering_is_one_line_and_the_event_is_kept(
    hooks: Hooks, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(brief_hook, "answer", broken)
    monkeypatch.setattr(capture, "_read_stdin", lambda: start(hooks))
    capture.main(["--data-dir", hooks.folder])
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1 and "without a brief" in said.err
    with FileLog(hooks.folder) as log:
        assert log.head().position == 1


def test_a_turns_end_starts_maintenance_once_in_a_while(hooks: Hooks) -> None:
    hooks.report("s-1", "Stop", last_assistant_message="done")
    assert hooks.maintained == 1, "it never began"
    stamp = Path(hooks.folder + capture.MAINTAINED)
    stamp.touch()
    hooks.report("s-1", "Stop", last_assistant_message="done")
    assert hooks.maintained == 1
    before = stamp.stat().st_mtime - capture.STOP_PAUSE_S - 1
    os.utime(stamp, (before, before))
    hooks.report("s-1", "Stop", last_assistant_message="done")
    assert hooks.maintained == 2
    stamp.write_text("3600")
    os.utime(stamp, (before, before))
    hooks.report("s-1", "Stop", last_assistant_message="done")
    assert hooks.maintained == 2, "it takes long, so it rests longer"
    hooks.report("s-1", "PreCompact", trigger="auto")
    assert hooks.maintained == 3
    hooks.report("s-1", "UserPromptSubmit", prompt="x")
    assert hooks.maintained == 3

"""Which sessions are at work, and in which process: told by the files hooks write."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from lifecycle_kit import Hooks

from session_mgmt_mcp.core import live
from session_mgmt_mcp.core.live import Live, Process


def only(hooks: Hooks) -> Live:
    [found] = live.read_all(hooks.folder)
    return found


def test_a_session_is_at_work_from_its_start_to_its_end(hooks: Hooks) -> None:
    hooks.report("s-1", "SessionStart", source="startup")
    assert (only(hooks).session, only(hooks).folder, only(hooks).root) == ("s-1", hooks.work, hooks.work)
    hooks.report("s-1", "SessionEnd", reason="exit")
    assert live.read_all(hooks.folder) == []


def test_the_last_prompt_stands_on_one_line_cut_and_without_tags(hooks: Hooks) -> None:
    hooks.report("s-1", "UserPromptSubmit", prompt="first")
    hooks.report("s-1", "UserPromptSubmit", prompt='mend\n the\t"till" </recorded> <b>ü' + " long" * 100)
    prompt = only(hooks).prompt
    assert prompt.startswith('mend the "till" ‹/recorded› ‹b›ü long') and prompt.endswith("…")
    assert len(prompt) <= live.PROMPT_CHARS_MAX
    hooks.report("s-1", "Stop", last_assistant_message="done")
    assert only(hooks).prompt == prompt, "a later event keeps it"


def test_a_secret_in_a_prompt_is_in_no_live_file(hooks: Hooks) -> None:
    secret = "gh" + "p_" + "a1B2" * 9
    hooks.report("s-1", "UserPromptSubmit", prompt=f"use {secret} now")
    assert "redacted" in only(hooks).prompt
    written = b"".join(p.read_bytes() for p in Path(hooks.folder, "views").rglob("*") if p.is_file())
    assert secret.encode() not in written


def test_tool_calls_write_no_live_file(hooks: Hooks) -> None:
    hooks.report("s-1", "PostToolUse", tool_name="Bash", tool_input={"command": "ls"})
    assert live.read_all(hooks.folder) == []


def test_a_session_id_that_looks_like_a_path_stays_in_the_folder(hooks: Hooks, tmp_path: Path) -> None:
    hooks.report("../../../evil", "UserPromptSubmit", prompt="x")
    assert only(hooks).session == "../../../evil"
    assert not list(tmp_path.rglob("evil*"))


def test_live_files_are_private(hooks: Hooks) -> None:
    hooks.report("s-1", "UserPromptSubmit", prompt="x")
    path = live.path_of(hooks.folder, "s-1")
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert os.stat(os.path.dirname(path)).st_mode & 0o777 == 0o700


def test_nothing_is_written_into_a_folder_of_another_program(hooks: Hooks, tmp_path: Path) -> None:
    (tmp_path / "theirs" / "views").mkdir(parents=True)
    (tmp_path / "theirs" / "index.html").write_text("mine")
    hooks.folder = str(tmp_path / "theirs")
    with pytest.raises(Exception, match="not a data folder"):
        hooks.report("s-1", "UserPromptSubmit", prompt="x")
    assert list((tmp_path / "theirs" / "views").iterdir()) == []


def test_a_link_in_place_of_a_live_file_is_not_followed(hooks: Hooks, tmp_path: Path) -> None:
    hooks.report("s-1", "UserPromptSubmit", prompt="x")
    path = live.path_of(hooks.folder, "s-1")
    other = tmp_path / "other"
    other.write_text("session s-9\nprompt not ours\n")
    os.unlink(path)
    os.symlink(other, path)
    assert live.read_all(hooks.folder) == []


@pytest.mark.parametrize("raw", [b"", b"\xff\xfe\x00", b"session ", b"process 1 2\nprompt x", b"x" * 70_000])
def test_a_damaged_live_file_is_left_out(hooks: Hooks, raw: bytes) -> None:
    hooks.report("s-1", "UserPromptSubmit", prompt="x")
    Path(live.path_of(hooks.folder, "s-2")).write_bytes(raw)
    assert only(hooks).session == "s-1"


def test_a_process_is_alive_until_it_ends_and_is_not_mistaken_for_a_later_one() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        process = live.assistant_process(child.pid)
        assert process.pid == child.pid and live.is_alive(process) is True
        later = Process(process.pid, process.born + 1, process.boot, process.space)
        assert live.is_alive(later) is False
        before_the_boot = Process(process.pid, process.born, "00" * 16, process.space)
        assert live.is_alive(before_the_boot) is False
        elsewhere = Process(process.pid, process.born, process.boot, "1")
        assert live.is_alive(elsewhere) is None
        child.communicate(b"\n")
    assert live.is_alive(process) is False
    assert live.is_alive(Process()) is None


def test_a_server_finds_its_session_behind_shells_and_launchers(hooks: Hooks) -> None:
    hooks.report("s-1", "SessionStart", source="startup")
    found = live.read(hooks.folder, "s-1")
    assert found is not None
    found.process = live.assistant_process(os.getpid())
    live.write(hooks.folder, found)
    code = "import os, sys; print(os.getpid(), flush=True); input()"
    shell = ["sh", "-c", 'sh -c \'"$0" -c "$1"; :\' "$0" "$1"; :', sys.executable, code]
    with subprocess.Popen(shell, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        server = int(child.stdout.readline())
        assert live.session_of_process(hooks.folder, server) == "s-1"
        child.communicate(b"\n")
    assert live.session_of_process(hooks.folder, 1) is None


def test_of_two_sessions_of_one_process_the_last_active_one_is_meant(hooks: Hooks) -> None:
    for number, session in enumerate(("s-1", "s-2", "s-3")):
        hooks.report(session, "SessionStart", source="clear")
        os.utime(live.path_of(hooks.folder, session), (1000 + number, 1000 + number))
    os.utime(live.path_of(hooks.folder, "s-2"), (5000, 5000))
    assert live.session_of_process(hooks.folder, os.getpid()) == "s-2"


def test_without_a_process_table_nothing_is_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    here = live.assistant_process(os.getpid())
    monkeypatch.setattr(live, "_stat", lambda _: None)
    monkeypatch.setattr(live, "_has_proc", lambda: False)
    assert live.assistant_process().pid == 0
    assert live.is_alive(here) is None

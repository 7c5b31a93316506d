"""The hook as Claude Code runs it: a bare interpreter, a payload on stdin, exit code 0 whatever happens."""

import errno
import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from session_mgmt_mcp.adapters.claude_code import capture as capturing
from session_mgmt_mcp.core.envelope import Event
from session_mgmt_mcp.core.log.log import FileLog

SCRIPT = Path(capturing.__file__).parent / "hook.py"
PROMPT = {
    "session_id": "s-1",
    "cwd": "/shop",
    "hook_event_name": "UserPromptSubmit",
    "prompt": "mend the till",
}


def run(payload: bytes, folder: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-I", "-S", str(SCRIPT), *arguments]
    known = {**os.environ, "SESSION_MGMT_DATA_DIR": str(folder), **env}
    return subprocess.run(command, input=payload, env=known, capture_output=True, check=False)


def stored(folder: Path) -> list[Event]:
    with FileLog(folder) as log:
        return [event for batch in log.read() for event in batch]


def test_a_payload_is_in_the_log_when_the_hook_ends_and_nothing_is_answered(tmp_path: Path) -> None:
    raw = json.dumps(PROMPT).encode()
    done = run(raw, tmp_path / "data")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    [event] = stored(tmp_path / "data")
    assert event.payload == raw
    assert (event.envelope.stream, event.envelope.event_type) == ("claude-code/s-1", "HookReported")
    assert (event.envelope.actor, event.envelope.source) == ("user", "hook")


def test_the_folder_of_the_command_line_wins_over_the_environment(tmp_path: Path) -> None:
    run(json.dumps(PROMPT).encode(), tmp_path / "other", "--data-dir", str(tmp_path / "data"))
    assert len(stored(tmp_path / "data")) == 1
    assert not (tmp_path / "other").exists()


def test_a_secret_is_redacted_before_it_is_written(tmp_path: Path) -> None:
    secret = "gh" + "p_" + "a1B2" * 9
    run(json.dumps({**PROMPT, "prompt": f"use {secret} please"}).encode(), tmp_path / "data")
    [event] = stored(tmp_path / "data")
    assert event.payload is not None and secret.encode() not in event.payload
    assert "[redacted:" in json.loads(event.payload)["prompt"]
    written = b"".join(p.read_bytes() for p in (tmp_path / "data").rglob("*") if p.is_file())
    assert secret.encode() not in written


def test_nothing_is_captured_while_paused(tmp_path: Path) -> None:
    FileLog(tmp_path / "data", create=True).close()
    (tmp_path / "data" / "paused").write_text("1")
    assert run(json.dumps(PROMPT).encode(), tmp_path / "data").returncode == 0
    assert stored(tmp_path / "data") == []


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"   ",
        b"not json at all",
        b'{"session_id": 7}',
        b"\xff\xfe\x00",
        b'{"session_id":"' + b"x" * 9000,
    ],
)
def test_whatever_stands_on_stdin_the_hook_exits_0_and_keeps_it(payload: bytes, tmp_path: Path) -> None:
    done = run(payload, tmp_path / "data")
    assert (done.returncode, done.stdout) == (0, b"")
    if payload.strip():
        [event] = stored(tmp_path / "data")
        assert event.payload == payload
        assert event.envelope.assistant == "claude-code"


def test_a_payload_of_several_megabytes_is_captured_whole(tmp_path: Path) -> None:
    raw = json.dumps({**PROMPT, "prompt": "long " * 2_500_000}).encode()
    assert run(raw, tmp_path / "data").returncode == 0
    assert [event.payload for event in stored(tmp_path / "data")] == [raw]


def test_a_folder_that_is_not_ours_is_left_alone_with_one_line_on_stderr(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "thesis.txt").write_text("mine")
    done = run(json.dumps(PROMPT).encode(), tmp_path / "data")
    assert (done.returncode, done.stdout) == (0, b"")
    assert done.stderr.count(b"\n") == 1 and b"thesis.txt" in done.stderr
    assert [p.name for p in (tmp_path / "data").iterdir()] == ["thesis.txt"]


def test_while_another_process_sits_on_the_lock_the_event_is_spooled(tmp_path: Path) -> None:
    FileLog(tmp_path / "data", create=True).close()
    with (tmp_path / "data" / "append.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = run(json.dumps(PROMPT).encode(), tmp_path / "data")
    assert (done.returncode, done.stdout) == (0, b"")
    [spooled] = (tmp_path / "data" / "spool").glob("*.event")
    assert b"mend the till" in spooled.read_bytes()


def test_where_nothing_can_be_written_one_line_says_so_and_nothing_half_written_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "data"
    FileLog(folder, create=True).close()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("session_mgmt_mcp.core.log.journals.preallocate", full)
    monkeypatch.setattr("session_mgmt_mcp.core.log.durable.sync_file", full)
    monkeypatch.setattr(capturing, "_read_stdin", lambda: json.dumps(PROMPT).encode())
    capturing.main(["--data-dir", str(folder)])
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1 and "No space left" in said.err
    assert list((folder / "spool").iterdir()) == []


def test_the_start_and_the_end_of_a_session_and_a_compaction_start_maintenance_other_events_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []
    monkeypatch.setattr(capturing, "spawn_maintenance", started.append)
    folder = str(tmp_path / "data")
    for name in ("UserPromptSubmit", "PreToolUse", "SubagentStop"):
        capturing.capture(folder, json.dumps({**PROMPT, "hook_event_name": name}).encode())
    assert started == []
    for name in ("SessionStart", "PreCompact", "SessionEnd"):
        capturing.capture(folder, json.dumps({**PROMPT, "hook_event_name": name}).encode())
    assert started == [folder] * 3


@pytest.mark.parametrize("sessions", [True, False])
def test_maintenance_is_started_apart_from_the_hook_and_silent(
    sessions: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[tuple[list[str], dict[bytes, bytes], dict[str, Any]]] = []

    def spawn(path: str, command: list[str], environment: dict[bytes, bytes], **options: Any) -> int:
        if "setsid" in options and not sessions:
            raise NotImplementedError
        started.append((command, environment, options))
        return 1

    monkeypatch.setattr(os, "posix_spawn", spawn)
    capturing.spawn_maintenance(str(tmp_path))
    [(command, environment, options)] = started
    assert command[1:] == ["-P", "-m", "session_mgmt_mcp", "maintain", "--once"]
    assert environment[b"SESSION_MGMT_DATA_DIR"] == os.fsencode(tmp_path)
    assert environment[b"PATH"] == os.environb[b"PATH"]
    assert options.get("setsid", False) is sessions and options.get("setpgroup", 0) == 0
    assert [action[1:3] for action in options["file_actions"]] == [(n, "/dev/null") for n in (0, 1, 2)]


def test_a_captured_event_stays_captured_where_maintenance_cannot_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(_: str) -> int:
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(capturing, "spawn_maintenance", refuse)
    capturing.capture(
        str(tmp_path / "data"), json.dumps({**PROMPT, "hook_event_name": "SessionEnd"}).encode()
    )
    assert len(stored(tmp_path / "data")) == 1
    assert "captured, but" in capsys.readouterr().err


def test_a_missing_spool_folder_is_made_again(tmp_path: Path) -> None:
    FileLog(tmp_path / "data", create=True).close()
    (tmp_path / "data" / "spool").rmdir()
    with (tmp_path / "data" / "append.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        run(json.dumps(PROMPT).encode(), tmp_path / "data")
    assert len(list((tmp_path / "data" / "spool").glob("*.event"))) == 1


def test_a_clean_payload_imports_nothing_slow(tmp_path: Path) -> None:
    code = (
        "import sys; sys.path.append(sys.argv[1]); sys.argv = ['hook', '--data-dir', sys.argv[2]]\n"
        "from session_mgmt_mcp.adapters.claude_code.capture import main\n"
        "main(sys.argv[1:])\n"
        "slow = {'re', 'json', 'typing', 'hashlib', 'pathlib', 'threading', 'subprocess', 'msgspec', 'collections'}\n"
        "print(sorted(slow & set(sys.modules)))"
    )
    root = str(Path(capturing.__file__).parents[3])
    command = [sys.executable, "-I", "-S", "-c", code, root, str(tmp_path / "data")]
    FileLog(tmp_path / "data", create=True).close()
    for _ in range(2):  # the first one also makes the journal
        done = subprocess.run(command, input=json.dumps(PROMPT).encode(), capture_output=True, check=True)
    assert done.stdout.decode().strip() == "[]"
    assert len(stored(tmp_path / "data")) == 2

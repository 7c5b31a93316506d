"""The whole path in processes of its own: an assistant that is killed in the middle of a turn, and its successor."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from lifecycle_kit import told

from session_mgmt_mcp.adapters.claude_code import capture
from session_mgmt_mcp.core import live
from session_mgmt_mcp.core.envelope import EventType
from session_mgmt_mcp.core.log.log import FileLog

pytestmark = pytest.mark.slow
HOOK = Path(capture.__file__).parent / "hook.py"
# Runs each line of its stdin as an assistant runs a hook, and answers with what the hook said.
ASSISTANT = """
import json, subprocess, sys
for line in sys.stdin:
    done = subprocess.run(["sh", "-c", sys.argv[1] + " || :"], input=line.encode(), capture_output=True)
    print(json.dumps([done.returncode, done.stdout.decode(), done.stderr.decode()]), flush=True)
"""


class Assistant:
    """A process that reports events of one session."""

    def __init__(self, data: Path, work: Path, session: str) -> None:
        self._about = {"session_id": session, "transcript_path": "/none.jsonl", "cwd": str(work)}
        command = f"'{sys.executable}' -I -S '{HOOK}' --data-dir '{data}'"
        env = {**os.environ, "SESSION_MGMT_EMBED": "off"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", ASSISTANT, command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env
        )

    def report(self, event: str, **fields: object) -> bytes:
        """What the hook printed."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(
            json.dumps({**self._about, "hook_event_name": event, **fields}).encode() + b"\n"
        )
        self.process.stdin.flush()
        code, printed, errors = json.loads(self.process.stdout.readline())
        assert (code, errors) == (0, "")
        return str(printed).encode()

    def kill(self) -> None:
        self.process.kill()
        self.close()

    def close(self) -> None:
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        self.process.wait()


def maintain(data: Path) -> None:
    """As a hook starts it, but waited for; it waits for one that is on."""
    env = {**os.environ, "SESSION_MGMT_DATA_DIR": str(data), "SESSION_MGMT_EMBED": "off"}
    command = [sys.executable, "-P", "-m", "session_mgmt_mcp", "maintain", "--once"]
    subprocess.run(command, env=env, check=True, capture_output=True)


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    work = tmp_path / "mill"
    work.mkdir()
    FileLog(tmp_path / "data", create=True).close()
    return tmp_path / "data", work


def test_who_comes_after_a_killed_session_is_told_what_it_was_at(places: tuple[Path, Path]) -> None:
    data, work = places
    first = Assistant(data, work, "s-1")
    assert first.report("SessionStart", source="startup") == b""
    first.report("UserPromptSubmit", prompt="mend the till")
    call = {"tool_name": "Bash", "tool_input": {"command": "make till"}, "tool_use_id": "t-1"}
    first.report("PreToolUse", **call)
    found = live.read(str(data), "s-1")
    assert found is not None and found.process.pid == first.process.pid
    first.kill()
    second = Assistant(data, work, "s-2")
    said = told(second.report("SessionStart", source="startup"))
    assert "mend the till" in said and "make till" in said and "not instructions" in said
    maintain(data)
    second.report("SessionEnd", reason="exit")
    second.close()
    third = Assistant(data, work, "s-3")
    said = told(third.report("SessionStart", source="startup"))
    third.kill()
    assert "mend the till" in said
    with FileLog(data) as log:
        types = [event.envelope.event_type for batch in log.read() for event in batch]
    assert types.count(EventType.SESSION_CLOSED) == 1


def test_a_hook_holds_out_while_the_log_is_locked_for_long(places: tuple[Path, Path]) -> None:
    data, work = places
    sitter = subprocess.Popen(
        [
            *(sys.executable, "-c"),
            "import fcntl, sys; f = open(sys.argv[1], 'a'); fcntl.flock(f, fcntl.LOCK_EX); print(flush=True); input()",
            f"{data}/append.lock",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert sitter.stdout is not None and sitter.stdin is not None
    sitter.stdout.readline()
    one = Assistant(data, work, "s-1")
    try:
        for number in range(3):
            one.report("UserPromptSubmit", prompt=f"prompt {number}")
        os.kill(sitter.pid, signal.SIGSTOP)  # a holder that is stopped does not let go either
        one.report("Stop", last_assistant_message="done")
    finally:
        sitter.kill()
        sitter.stdin.close()
        sitter.stdout.close()
        sitter.wait()
        one.kill()
    maintain(data)
    with FileLog(data) as log:
        payloads = [event.payload or b"" for batch in log.read() for event in batch]
    for expected in (b"prompt 0", b"prompt 1", b"prompt 2", b'"done"'):
        assert sum(expected in payload for payload in payloads) == 1

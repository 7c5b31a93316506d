"""The doctor on locks: who holds one, and whether that is something to mend."""

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from session_mgmt_mcp.tools.doctor import locks
from session_mgmt_mcp.tools.maintenance import maintenance_lock

Doctor = Callable[..., dict[str, Any]]


def _only(answer: dict[str, Any]) -> dict[str, Any]:
    [finding] = [f for f in answer["findings"] if f["severity"] != "note"]
    return finding


_HOLD = "import fcntl, os, sys; fd = os.open(sys.argv[1], os.O_RDWR); fcntl.flock(fd, fcntl.LOCK_EX); print('held', flush=True); sys.stdin.read()"


@pytest.fixture
def hold(data: Path) -> Any:
    """Have another process hold a lock; it ends with the test."""
    started: list[subprocess.Popen[bytes]] = []

    def take(name: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-c", _HOLD, str(data / name)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        started.append(process)
        assert process.stdout is not None and process.stdout.readline() == b"held\n"
        return process

    yield take
    for process in started:
        process.kill()
        process.communicate()


needs_proc = pytest.mark.skipif(
    not os.path.exists("/proc/locks"), reason="the system does not say who holds a lock"
)


@needs_proc
def test_who_maintains_is_said_and_is_nothing_to_mend(data: Path, doctor: Doctor, hold: Any) -> None:
    process = hold("maintenance.lock")
    answer = doctor(code=0)
    [finding] = [f for f in answer["findings"] if f["check"] == "locks"]
    assert f"process {process.pid} (" in finding["what"] and sys.executable in finding["what"]


@needs_proc
def test_an_append_lock_that_stays_held_is_said_with_its_holder(
    data: Path, doctor: Doctor, hold: Any
) -> None:
    process = hold("append.lock")
    assert f"process {process.pid}" in _only(doctor(code=1))["what"]


@needs_proc
def test_a_stopped_holder_is_told_to_go_on(data: Path, doctor: Doctor, hold: Any) -> None:
    process = hold("append.lock")
    process.send_signal(signal.SIGSTOP)
    os.waitpid(process.pid, os.WUNTRACED)
    finding = _only(doctor(code=1))
    assert finding["severity"] == "error" and f"kill -CONT {process.pid}" in finding["mend"]


def test_where_the_system_names_no_holder_the_lock_itself_is_asked(
    data: Path, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "PROC_LOCKS", str(data / "no-such-file"))
    with open(data / "maintenance.lock", "rb") as file:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX)
        assert any("held by a process" in f["what"] for f in doctor(code=0)["findings"])
    assert not any(f["check"] == "locks" for f in doctor(code=0)["findings"])


def test_a_line_of_proc_locks_names_holders_and_not_those_who_wait() -> None:
    line = "7: FLOCK  ADVISORY  WRITE 812 08:01:42 0 EOF"
    assert locks._pid_of(line, 42) == 812
    assert locks._pid_of(line, 43) == 0
    assert locks._pid_of("7: -> FLOCK  ADVISORY  WRITE 813 08:01:42 0 EOF", 42) == 0
    assert locks._pid_of("8: POSIX  ADVISORY  WRITE 812 08:01:42 0 EOF", 42) == 0
    assert locks._pid_of("garbage", 42) == 0


def test_maintenance_of_somebody_else_leaves_the_mending_for_later(
    data: Path, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("session_mgmt_mcp.tools.doctor.fix.LOCK_WAIT_S", 0.0)
    (data / "spool" / "x.event").write_bytes(b"junk")
    with maintenance_lock(str(data), 0):
        answer = doctor("--fix", code=1)
    assert any("another process" in line for line in answer["not_mended"])

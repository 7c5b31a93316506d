"""Who holds the folder's locks. Linux says so in /proc/locks; elsewhere only whether somebody does."""

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from session_mgmt_mcp.tools.doctor.finding import Finding, Patient, Severity, age_text

CHECK = "locks"
PROC_LOCKS = "/proc/locks"
APPEND_LOOKS = 3  # an append holds its lock for microseconds, a roll for milliseconds
APPEND_PAUSE_S = 0.1
MAINTENANCE_LONG_US = 3_600_000_000
_STOPPED = ("T", "t")


class Holder(NamedTuple):
    """A process that holds a lock. `age_us`: how long it runs."""

    pid: int
    command: str
    state: str  # as /proc has it: R, S, D, T (stopped), Z; "" where it ended (a child of it still holds the lock)
    age_us: int


def check_locks(patient: Patient, sleep: Callable[[float], None] = time.sleep) -> Iterator[Finding]:
    """Locks that are held, and by whom; only those that stand still are something to mend."""
    for name in ("append.lock", "maintenance.lock", "embed.lock", "host.lock"):
        path = patient.path(name)
        if not os.path.exists(path):
            continue
        if not os.path.exists(PROC_LOCKS):
            if _is_held(path):
                yield Finding(
                    CHECK, Severity.NOTE, f"{name} is held by a process", path, "nothing, if it is at work"
                )
            continue
        held = holders(path)
        for _ in range(APPEND_LOOKS - 1 if name == "append.lock" and held else 0):
            sleep(APPEND_PAUSE_S)
            held = [holder for holder in held if holder.pid in {h.pid for h in holders(path)}]
        yield from (_finding(name, path, holder) for holder in held)


def _finding(name: str, path: str, holder: Holder) -> Finding:
    who = f"process {holder.pid} ({holder.command}), which runs for {age_text(holder.age_us)}"
    if holder.state in _STOPPED:
        what = f"{name} is held by {who} and is stopped: others wait for it"
        return Finding(CHECK, Severity.ERROR, what, path, f"`kill -CONT {holder.pid}`, or end that process")
    if name == "append.lock":
        what = f"{name} is held by {who}, and was at every look: appends wait"
        return Finding(
            CHECK, Severity.WARNING, what, path, f"see what process {holder.pid} waits for, or end it"
        )
    if name == "maintenance.lock" and holder.age_us > MAINTENANCE_LONG_US:
        mend = f"see whether process {holder.pid} still works; ending it loses nothing"
        return Finding(CHECK, Severity.WARNING, f"{name} is held by {who}", path, mend)
    return Finding(CHECK, Severity.NOTE, f"{name} is held by {who}", path, "nothing: it is at work")


def holders(path: str) -> list[Holder]:
    """The processes that hold a lock on this file, by its inode in /proc/locks."""
    inode = os.stat(path).st_ino
    try:
        with open(PROC_LOCKS, encoding="ascii", errors="replace") as file:
            pids = {pid for line in file if (pid := _pid_of(line, inode))}
    except OSError:
        return []
    return [_holder(pid) for pid in sorted(pids) if _may_have(pid, path)]


def _pid_of(line: str, inode: int) -> int:
    """The holder a line of /proc/locks names for this inode, else 0. `1: FLOCK ADVISORY WRITE 812 08:01:42 0 EOF`"""
    words = line.split()
    if len(words) < 6 or words[1] != "FLOCK":  # waiting ones have `->` there
        return 0
    number = words[5].rpartition(":")[2]
    return int(words[4]) if number == str(inode) and words[4].isdigit() else 0


def _may_have(pid: int, path: str) -> bool:
    """Whether the process has this very file open, as far as it can be told: inodes repeat on other file systems."""
    try:
        links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
    except OSError:
        return True
    return os.path.realpath(path) in links


def _holder(pid: int) -> Holder:
    command, state, age_us = "ended, a child of it goes on", "", 0
    with contextlib.suppress(OSError, ValueError, IndexError):
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            command = file.read().replace(b"\0", b" ").decode("utf-8", "replace").strip()[:200]
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
        with open("/proc/uptime", encoding="ascii") as file:
            uptime = float(file.read().split()[0])
        state = fields[0]
        age_us = int((uptime - int(fields[19]) / os.sysconf("SC_CLK_TCK")) * 1e6)
    return Holder(pid, command, state, max(0, age_us))


def _is_held(path: str) -> bool:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False

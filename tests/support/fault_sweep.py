"""A short life of a log, lived once for every system call that can fail in it (run by tests/log/test_real_faults.py).

    LD_PRELOAD=fault_shim.so python fault_sweep.py FOLDER EVERY SWEEP...

In scenario n of a sweep the nth call strikes; whoever met it goes on, or where it was killed, another process does.
Then the log is compared with what was acknowledged. Only each EVERYth scenario is lived. Prints one JSON object: for each
sweep calls, scenarios, strikes, and what was wrong.
"""

import contextlib
import ctypes
import errno
import json
import os
import shutil
import struct
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from unittest import mock

from log_kit import content, snapshot

from session_mgmt_mcp.core.envelope import Envelope, NewEvent, capture_id
from session_mgmt_mcp.core.errors import AppendError, SessionMgmtError
from session_mgmt_mcp.core.log import compact as compaction
from session_mgmt_mcp.core.log.forget import forget
from session_mgmt_mcp.core.log.journals import try_lock
from session_mgmt_mcp.core.log.log import FileLog
from session_mgmt_mcp.core.log.seal import seal
from session_mgmt_mcp.core.log.verify import verify

PWRITE, WRITE, FSYNC, FDATASYNC, FALLOCATE, OPEN, RENAME, LINK, UNLINK = (1 << k for k in range(9))
FAIL, KILL_BEFORE, KILL_AFTER, SHORT, _STOP, DROP, DROP_AND_KILL = range(7)
ALL = (1 << 9) - 1
SYNCS, WRITES, NAMES = FSYNC | FDATASYNC, PWRITE | WRITE, RENAME | LINK | UNLINK
NEVER = 1 << 60
ACKNOWLEDGED = struct.Struct("<16sQ")


class Sweep(NamedTuple):
    kinds: int
    action: int
    error: int = 0
    times: int = 1  # -1: until the end
    beside: bool = False  # another process has the log open all the while, and appends when the first is dead

    @property
    def kills(self) -> bool:
        return self.action in (KILL_BEFORE, KILL_AFTER, DROP_AND_KILL)


SWEEPS = {
    "sync-fails": Sweep(SYNCS, FAIL, errno.EIO),
    "sync-loses": Sweep(SYNCS, DROP, errno.EIO),  # the kernel drops the pages and says so
    "write-fails": Sweep(WRITES, FAIL, errno.EIO),
    "write-short": Sweep(WRITES, SHORT),
    "disk-full": Sweep(WRITES | FALLOCATE | RENAME | LINK, FAIL, errno.ENOSPC, -1),
    "disk-full-once": Sweep(WRITES | FALLOCATE | RENAME | LINK, FAIL, errno.ENOSPC),
    "open-fails": Sweep(OPEN, FAIL, errno.EMFILE),
    "name-fails": Sweep(NAMES, FAIL, errno.EIO),
    "kill-before": Sweep(ALL, KILL_BEFORE),
    "kill-after": Sweep(ALL, KILL_AFTER),
    "sync-loses-and-dies": Sweep(SYNCS, DROP_AND_KILL),  # before it can say so to anybody
    "sync-loses-and-dies-beside": Sweep(SYNCS, DROP_AND_KILL, beside=True),
    "kill-beside": Sweep(PWRITE | FALLOCATE | SYNCS | NAMES, KILL_BEFORE, beside=True),
}
_shim = ctypes.CDLL(None)


def arm(folder: str, sweep: Sweep, n: int) -> None:
    numbers = (ctypes.c_long(n), ctypes.c_long(sweep.times))
    _shim.fault_arm(folder.encode(), sweep.kinds, *numbers, sweep.error, sweep.action)


def event(name: int) -> NewEvent:
    size = 300_000 if name == 6 else 40 * name
    envelope = Envelope("claude-code/s-1", "HookReported", 1, name, name, "tool", "hook")
    return NewEvent(capture_id("fault", str(name)), envelope, b"%d " % name + bytes([name]) * size)


EVENTS = {event(name).event_id: event(name) for name in range(1, 14)}


class Life:
    """The steps; `tell` gets (id, position) of what was acknowledged."""

    def __init__(self, folder: str, tell: Callable[[bytes, int], None]) -> None:
        self.folder, self.tell = folder, tell
        self.logs: list[FileLog] = []

    def steps(self) -> Iterator[Callable[[], object]]:
        yield lambda: self.logs.append(FileLog(self.folder, create=True))
        yield lambda: self.logs.append(FileLog(self.folder))
        yield lambda: self.append(0, 1, 2, 3)
        yield lambda: self.append(1, 4)
        yield lambda: self.append(0, 2, 5)
        yield lambda: self.logs[1].roll()
        yield self.seal
        yield lambda: self.append(1, 6)
        yield lambda: self.logs[0].roll()
        yield lambda: self.append(0, 7)
        yield lambda: self.logs[1].roll()
        yield self.seal
        yield lambda: self.append(1, 8)
        yield self.compact
        yield self.forget
        yield lambda: self.append(0, 9, 10)
        yield lambda: self.append(1, 1, 11)
        yield lambda: content(self.logs[0])

    def append(self, which: int, *names: int) -> None:
        given = [event(name) for name in names]
        for new, receipt in zip(given, self.logs[which].append(given), strict=True):
            self.tell(new.event_id, receipt.position)

    def seal(self) -> None:
        with self.maintaining():
            seal(self.folder, self.logs[0].log_id)

    def compact(self) -> None:
        with self.maintaining(), mock.patch.object(compaction, "_GROWTH", 1):  # so that few are enough
            compaction.compact(self.folder, self.logs[0].log_id)

    def forget(self) -> None:
        """What event 2 says; telling position 0 means that it is gone."""
        [position] = [r.position for r in self.logs[0].append([event(2)])]
        with self.maintaining():
            forget(self.logs[0], [position], lambda _: [])
        self.tell(event(2).event_id, 0)

    @contextlib.contextmanager
    def maintaining(self) -> Iterator[None]:
        lock = try_lock(self.folder + "/maintenance.lock")
        assert lock is not None
        try:
            yield
        finally:
            os.close(lock)

    def close(self) -> None:
        for log in self.logs:
            log.close()


class Scenario:
    """One strike: what was acknowledged before and after it, and what was wrong."""

    def __init__(self, folder: str, name: str) -> None:
        self.folder, self.name = folder, name
        self.told: list[tuple[bytes, int]] = []
        self.wrong: list[str] = []
        self.bystander: FileLog | None = None

    def stand_by(self, name: int) -> None:
        """Append with a handle that is open since before the strike; again where that fails, twice at most."""
        if self.bystander is None:
            self.bystander = FileLog(self.folder, create=True)
        for left in (2, 1, 0):
            try:
                [receipt] = self.bystander.append([event(name)])
                break
            except AppendError:
                if not left:
                    raise
        self.told.append((event(name).event_id, receipt.position))

    def look(self) -> None:
        """A reader finds what was acknowledged; afterwards the life is lived again and would append it anew."""
        if self.told:
            with FileLog(self.folder) as log:
                at = {e.event_id: e.position for e in content(log)}
            for event_id, position in self.told:
                self._expect(position in (0, at.get(event_id)), f"{event_id.hex()} is lost")

    def live(self, sweep: Sweep) -> None:
        """The life; who meets an error does the step again, at the latest when the fault is over."""
        life = Life(self.folder, lambda *told: self.told.append(told))
        try:
            for number, step in enumerate(life.steps()):
                self._do(step, number, sweep)
        finally:
            life.close()

    def _do(self, step: Callable[[], object], number: int, sweep: Sweep) -> None:
        last: Exception | None = None
        for attempt in range(4):
            try:
                step()
                return
            except (SessionMgmtError, OSError) as error:
                last = error
                self._check(error, number)
                if attempt == 2:
                    _shim.fault_disarm()  # space was freed
        raise AssertionError(f"step {number} failed again and again: {last!r}")

    def _check(self, error: Exception, number: int) -> None:
        if getattr(error, "kind", "") == "log_corrupt":
            self.wrong.append(f"{self.name}: step {number}: {error}")

    def judge(self) -> None:
        """Compare the log with what was acknowledged; a second recovery changes nothing."""
        if self.bystander is not None:
            self.bystander.close()
        with FileLog(self.folder) as log:
            log.append([])
            found = content(log)
            self._expect([e.position for e in found] == list(range(1, len(found) + 1)), "positions have gaps")
            self._expect(verify(self.folder, log.log_id).events == len(found), "verify counts other events")
        ours = [e for e in found if e.envelope.event_type == "HookReported"]
        at = {e.event_id: e.position for e in ours}
        self._expect(len(at) == len(ours), "an event is stored twice")
        gone = {event_id for event_id, position in self.told if position == 0}
        for event_id, position in self.told:
            self._expect(position in (0, at.get(event_id)), f"{event_id.hex()} is not at {position}")
        for e in ours:
            wanted = (None,) if e.event_id in gone else (EVENTS[e.event_id].payload,)
            allowed = (*wanted, None) if e.event_id == event(2).event_id else wanted
            self._expect(e.payload in allowed, f"the payload at {e.position} is another")
        before = snapshot(self.folder)
        with FileLog(self.folder) as log:
            log.append([])
            self._expect(content(log) == found, "reads otherwise after a second recovery")
        self._expect(snapshot(self.folder) == before, "a second recovery changed files")

    def _expect(self, holds: bool, otherwise: str) -> None:
        if not holds:
            self.wrong.append(f"{self.name}: {otherwise}")


def die(scenario: Scenario, sweep: Sweep, n: int) -> bool:
    """Live in a child until the strike; whether it came to that."""
    out, end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            arm(scenario.folder, sweep, n)
            life = Life(scenario.folder, lambda *told: _write(end, ACKNOWLEDGED.pack(*told)))
            for step in life.steps():
                step()
        except BaseException as error:  # noqa: BLE001 - it must not return into the parent's code
            _write(2, f"{scenario.name}: {error!r}\n".encode())
            os._exit(3)
        os._exit(0)
    os.close(end)
    with open(out, "rb") as pipe:
        scenario.told += ACKNOWLEDGED.iter_unpack(pipe.read())
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code not in (0, -9):
        scenario.wrong.append(f"{scenario.name}: the process ended with {code}")
    return code == -9


def _write(fd: int, raw: bytes) -> None:
    os.write(fd, raw)  # less than a pipe takes at once


def run(folder: str, name: str, every: int) -> dict[str, Any]:
    """One sweep; see the module's docstring."""
    sweep = SWEEPS[name]
    calls, strikes, wrong, scenarios = _count(folder, sweep), 0, [], 0
    for n in range(1 + sum(name.encode()) % min(every, calls), calls + 1, every):
        scenario = Scenario(f"{folder}/{name}-{n}", f"{name} {n}")
        scenarios += 1
        try:
            strikes += _strike(scenario, sweep, n)
            scenario.judge()
        except Exception as error:  # noqa: BLE001 - one scenario's end is its finding
            scenario.wrong.append(f"{scenario.name}: {error!r}")
        _shim.fault_disarm()
        wrong += scenario.wrong
        if not scenario.wrong:
            shutil.rmtree(scenario.folder)
    return {"calls": calls, "scenarios": scenarios, "strikes": strikes, "wrong": wrong[:20]}


def _strike(scenario: Scenario, sweep: Sweep, n: int) -> bool:
    """Live through one scenario; whether the fault struck."""
    if sweep.beside:
        scenario.stand_by(12)
    if sweep.kills:
        struck = die(scenario, sweep, n)
        if not sweep.beside:
            scenario.look()
    else:
        arm(scenario.folder, sweep, n)
    if sweep.beside:
        if sweep.action == DROP_AND_KILL:  # Linux tells everybody who had the file open, once
            arm(scenario.folder, Sweep(SYNCS, FAIL, errno.EIO), 1)
        scenario.stand_by(13)
        _shim.fault_disarm()
    scenario.live(sweep)
    if not sweep.kills:
        struck = _shim.fault_hits() > 0
        _shim.fault_disarm()
    return struck


def _count(folder: str, sweep: Sweep) -> int:
    """How many calls of these kinds a life makes where nothing fails."""
    path = folder + "/none"
    scenario = Scenario(path, "no fault")
    if sweep.beside:
        scenario.stand_by(12)
    arm(path, sweep, NEVER)
    scenario.live(sweep)
    calls = int(_shim.fault_seen())
    _shim.fault_disarm()
    scenario.judge()
    assert not scenario.wrong, scenario.wrong
    shutil.rmtree(path)
    return calls


if __name__ == "__main__":
    print(json.dumps({name: run(sys.argv[1], name, int(sys.argv[2])) for name in sys.argv[3:] or SWEEPS}))

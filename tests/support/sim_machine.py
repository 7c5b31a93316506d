"""One boot of a machine: its processes, their turns and their ends, and the power cut.

Processes are threads that take turns at every call, in an order a seed decides; any of them may be killed there.
"""

import os
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from sim_disk import Disk, Node, State

DATA = "home/data"  # the data folder, below the root; neither exists at first
HINT = DATA + "/tail.shm"
FIRST_PID = 100
# How likely a process is killed at a call: more often where its half-done work is seen by others.
KILLS = {"name": 0.06, "sync": 0.02, "folder": 0.10, "write": 0.01, "other": 0.005}


class KilledError(BaseException):
    """The process is no more; nothing it does after this has an effect."""


class PowerCutError(BaseException):
    """The machine is off."""


class Stat(NamedTuple):
    st_ino: int
    st_nlink: int
    st_size: int


class Opened:
    """An open file description; duplicates share it."""

    def __init__(self, path: str, node: Node) -> None:
        self.path = path
        self.node = node
        self.failures = node.failures if node is not None else 0


class Process:
    """One simulated process: a thread that runs when it is its turn."""

    def __init__(self, world: "World", index: int, run: "Callable[[Process], None]") -> None:
        self.index = index
        self.pid = 0  # of its present life
        self.gate = threading.Semaphore(0)
        self.dead = self.done = False
        self.disk_full = False
        self.fds: set[int] = set()
        self.thread = threading.Thread(target=world.host, args=(self, run), daemon=True)


class World:
    """One boot of the machine: a scratch folder, its disk, the processes and their schedule."""

    def __init__(
        self, root: str, state: State, rnd: random.Random, boot: int, fail_syncs: float = 0, kills: float = 0
    ) -> None:
        self.root, self.rnd, self.boot = root, rnd, boot.to_bytes(16, "big")
        self.fail_syncs = fail_syncs  # how likely a sync of a journal fails
        self.kills = kills  # factor of KILLS
        self.disk = Disk(state)
        self.numbers: dict[int, int] = {}  # inode number on the scratch folder: on the simulated disk
        self.opened: dict[int, Opened] = {}
        self.processes: list[Process] = []
        self.current: Process | None = None
        self.calls = 0
        self.limit = 0
        self.at: dict[int, Callable[[], None]] = {}  # what happens before the n-th call
        self.named: Callable[[str], None] = lambda path: None  # told each new name, relative to the root
        self.over = False
        self.clock = 1_770_000_000.0 + boot * 3600
        self.pids = FIRST_PID
        self.hints: list[bytes] = []  # what tail.shm held now and then
        self._ended = threading.Semaphore(0)
        self._lay_out(state)

    def _lay_out(self, state: State) -> None:
        os.makedirs(self.root)
        for path, found in state.items():
            if found is None:
                os.mkdir(f"{self.root}/{path}", 0o700)
                continue
            first = next(
                (p for p, f in state.items() if f is not None and f[0] == found[0] and p < path), None
            )
            if first is not None:
                os.link(f"{self.root}/{first}", f"{self.root}/{path}")
            else:
                Path(self.root, path).write_bytes(found[1])
            self.numbers[os.stat(f"{self.root}/{path}").st_ino] = found[0]

    # -- taking turns --------------------------------------------------------------------------------------------

    def run(self, runs: "list[Callable[[Process], None]]", limit: int) -> None:
        """Run these processes until `limit` calls were made, then cut the power."""
        self.limit = limit
        self.processes = [Process(self, k, run) for k, run in enumerate(runs)]
        for process in self.processes:
            process.thread.start()
        self._hand_over()
        self._ended.acquire()
        for process in self.processes:
            process.thread.join()
        self.current = None
        for fd in list(self.opened):
            os.close(fd)
        self.opened.clear()

    def host(self, process: Process, run: "Callable[[Process], None]") -> None:
        process.gate.acquire()
        try:
            run(process)
        finally:
            process.done = True
            self._hand_over()

    def _hand_over(self) -> None:
        ready = [p for p in self.processes if not p.done and p is not self.current]
        if ready:
            self.current = self.rnd.choice(ready)
            self.current.gate.release()
        else:
            self._ended.release()

    def switch(self) -> None:
        process = self.current
        if process is None or all(p.done for p in self.processes if p is not process):
            return
        self._hand_over()
        process.gate.acquire()
        self.alive()

    def alive(self) -> None:
        if self.current is None:
            return
        if self.over:
            raise PowerCutError
        if self.current.dead:
            raise KilledError

    def step(self, kind: str) -> None:
        """Before a call: the power may go, the process may be killed, another may have its turn."""
        self.alive()
        if self.current is None:
            return
        self.calls += 1
        if self.calls in self.at:
            self.at[self.calls]()
        if self.calls >= self.limit:
            self.over = True
            raise PowerCutError
        if self.dies(kind):
            self.kill()
        if self.rnd.random() < 0.15:
            self.remember_hint()
        if self.rnd.random() < 0.3:
            self.switch()

    def dies(self, kind: str) -> bool:
        return self.current is not None and self.rnd.random() < KILLS[kind] * self.kills

    def kill(self) -> None:
        """End the process whose turn it is: the system closes what it had open."""
        assert self.current is not None
        self.current.dead = True
        self.exit_process(self.current)
        raise KilledError

    def start_process(self, process: Process) -> None:
        self.pids += 1
        process.pid = self.pids

    def runs(self, pid: int) -> bool:
        return pid == FIRST_PID or any(p.pid == pid and not p.dead for p in self.processes)

    def exit_process(self, process: Process) -> None:
        process.pid = 0
        for fd in process.fds:
            self.opened.pop(fd, None)
            os.close(fd)
        process.fds.clear()

    # -- the cut -------------------------------------------------------------------------------------------------

    def remember_hint(self) -> None:
        path = f"{self.root}/{HINT}"
        if os.path.exists(path):
            self.hints = [*self.hints[-5:], Path(path).read_bytes()]

    def cut(self, rnd: random.Random, mode: str) -> State:
        """What the disk may hold if the power went now. The hint is never synced: it may be of any time, or mixed."""
        self.remember_hint()
        state = self.disk.cut(rnd, mode)
        state.pop(HINT, None)
        node = self.disk.names.get(HINT)
        if self.hints and node is not None and DATA in state and (mode == "max" or rnd.random() < 0.7):
            hint = self.hints[-1]
            if mode != "max":
                hint = rnd.choice(self.hints)[:512] + rnd.choice(self.hints)[512:]
            state[HINT] = (node.number, hint)
        return state

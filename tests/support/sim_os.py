"""The system calls of the log, recorded: each runs for real on a scratch folder and is told to the model of the disk.

Processes are threads that take turns at every call, in an order a seed decides; any of them may be killed there.
"""

import errno
import os
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from sim_disk import Change, Disk, File, Node, Resize, State, Write

DATA = "home/data"  # the data folder, below the root; neither exists at first
HINT = DATA + "/tail.shm"
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
        self.over = False
        self.clock = 1_770_000_000.0
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

    def exit_process(self, process: Process) -> None:
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


class SimOs:
    """Stands in for `os`. A call it does not know is refused, so that nothing gets past the record."""

    _PLAIN = frozenset({"path", "environ", "getpid", "strerror", "fsencode", "fspath", "sep"})

    def __init__(self, world: World) -> None:
        self.world = world

    def __getattr__(self, name: str) -> Any:
        if name in self._PLAIN or name.isupper() or name.startswith("O_"):
            return getattr(os, name)
        raise AssertionError(f"os.{name} is not simulated")

    def _relative(self, path: str) -> str:
        assert path == self.world.root or path.startswith(self.world.root + "/"), path
        return path[len(self.world.root) + 1 :]

    def _node(self, path: str) -> tuple[str, Node]:
        """The simulated file of a path; one that a library wrote behind our back is taken in as it is."""
        relative, disk = self._relative(path), self.world.disk
        if relative and relative not in disk.names and os.path.exists(path):
            if os.path.isdir(path):
                disk.change(Change(relative, None))
            else:
                file = self._new_file(relative, path)
                file.pending.append(Write(0, Path(path).read_bytes()))
        return relative, disk.names.get(relative)

    def _new_file(self, relative: str, path: str) -> File:
        file = File()
        self.world.disk.change(Change(relative, file))
        self.world.numbers[os.stat(path).st_ino] = file.number
        return file

    # -- files ---------------------------------------------------------------------------------------------------

    def open(self, path: str, flags: int, mode: int = 0o777) -> int:
        world = self.world
        world.alive()
        if self.world.root.startswith(path.rstrip("/") + "/"):
            fd = os.open(path, flags)
            self._track(fd, Opened("(above)", None))  # always there
            return fd
        missing = not os.path.exists(path)
        if flags & (os.O_CREAT | os.O_TRUNC):
            world.step("name" if missing else "other")
            missing = not os.path.exists(path)
        fd = os.open(path, flags, mode)
        if missing:
            relative = self._relative(path)
            node: Node = self._new_file(relative, path)
        else:
            relative, node = self._node(path)
            if node is not None and flags & os.O_TRUNC:
                node.pending.append(Resize(0))
        self._track(fd, Opened(relative, node))
        return fd

    def _track(self, fd: int, opened: Opened) -> None:
        self.world.opened[fd] = opened
        if self.world.current is not None:
            self.world.current.fds.add(fd)

    def dup(self, fd: int) -> int:
        self.world.alive()
        copy = os.dup(fd)
        self._track(copy, self.world.opened[fd])
        return copy

    def close(self, fd: int) -> None:
        self.world.alive()
        os.close(fd)
        self.world.opened.pop(fd, None)
        for process in self.world.processes:
            process.fds.discard(fd)

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        self.world.alive()
        return os.pread(fd, size, offset)

    def read(self, fd: int, size: int) -> bytes:
        self.world.alive()
        return os.read(fd, size)

    def write(self, fd: int, data: bytes) -> int:
        written = self.pwrite(fd, data, os.lseek(fd, 0, os.SEEK_CUR))
        os.lseek(fd, written, os.SEEK_CUR)
        return written

    def pwrite(self, fd: int, data: bytes, offset: int) -> int:
        world = self.world
        world.step("write")
        opened, raw = world.opened[fd], bytes(data)
        if world.current is not None and world.current.disk_full and opened.path.endswith(".journal"):
            raise OSError(errno.ENOSPC, "No space left on device")
        dies = world.dies("write") or (opened.path.endswith(".journal") and world.dies("write"))
        if dies:  # in the middle of the write, or after it
            raw = raw[: world.rnd.choice((len(raw), world.rnd.randrange(len(raw) + 1)))]
        os.pwrite(fd, raw, offset)
        assert opened.node is not None
        opened.node.pending.append(Write(offset, raw))
        if dies:
            world.kill()
        return len(raw)

    def posix_fallocate(self, fd: int, offset: int, size: int) -> None:
        self.world.step("other")
        os.posix_fallocate(fd, offset, size)
        node = self.world.opened[fd].node
        assert node is not None
        node.pending.append(Resize(offset + size))

    def fdatasync(self, fd: int) -> None:
        world, opened = self.world, self.world.opened.get(fd)
        world.step("folder" if opened is not None and opened.node is None else "sync")
        opened = world.opened[fd]
        node = opened.node
        if node is None:
            world.disk.sync_folder(opened.path)
            world.step("folder")
            return
        if opened.path.startswith(DATA + "/journal/") and world.rnd.random() < world.fail_syncs:
            node.fail(world.rnd)
            node.failures += 1
            if world.dies("sync"):  # before it could tell anybody
                world.kill()
        if opened.failures != node.failures:
            opened.failures = node.failures
            raise OSError(errno.EIO, "Input/output error")
        node.sync()
        world.step("sync")

    fsync = fdatasync

    # -- names ---------------------------------------------------------------------------------------------------

    def rename(self, old: str, new: str) -> None:
        self.world.step("name")
        (gone, node), relative = self._node(old), self._relative(new)
        os.rename(old, new)
        self.world.disk.change(Change(relative, node, gone=gone))

    def link(self, old: str, new: str) -> None:
        self.world.step("name")
        _, node = self._node(old)
        os.link(old, new)
        self.world.disk.change(Change(self._relative(new), node))

    def unlink(self, path: str) -> None:
        self.world.step("name")
        relative, _ = self._node(path)
        os.unlink(path)
        self.world.disk.change(Change(relative, None, drop=True))

    def chmod(self, path: str, mode: int) -> None:
        self._node(path)
        self.world.step("other")
        os.chmod(path, mode)

    def makedirs(self, path: str, mode: int = 0o777, exist_ok: bool = False) -> None:
        assert exist_ok, "not simulated"
        parent = os.path.dirname(path)
        if not os.path.isdir(parent):
            self.makedirs(parent, mode, True)
        self.world.step("name")
        if not os.path.isdir(path):
            os.mkdir(path, mode)
            self.world.disk.change(Change(self._relative(path), None))

    def listdir(self, path: str) -> list[str]:
        self.world.alive()
        names = sorted(os.listdir(path))
        self.world.rnd.shuffle(names)  # no order is promised
        return names

    # -- the rest ------------------------------------------------------------------------------------------------

    def stat(self, path: str) -> Stat:
        self.world.alive()
        return self._stat(os.stat(path))

    def fstat(self, fd: int) -> Stat:
        self.world.alive()
        return self._stat(os.fstat(fd))

    def _stat(self, found: os.stat_result) -> Stat:
        return Stat(self.world.numbers[found.st_ino], found.st_nlink, found.st_size)

    def urandom(self, size: int) -> bytes:
        return self.world.rnd.randbytes(size)

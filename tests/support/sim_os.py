"""The system calls of the log, recorded: each runs for real on a scratch folder and is told to the model of the disk."""

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sim_disk import Change, File, Node, Resize, Write
from sim_machine import DATA, FIRST_PID, Opened, Stat, World


class SimOs:
    """Stands in for `os`. A call it does not know is refused, so that nothing gets past the record."""

    _PLAIN = frozenset({"path", "environ", "strerror", "uname", "readlink", "fsencode", "fspath", "sep"})

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
        self.world.named(relative)

    replace = rename

    def link(self, old: str, new: str) -> None:
        self.world.step("name")
        _, node = self._node(old)
        os.link(old, new)
        relative = self._relative(new)
        self.world.disk.change(Change(relative, node))
        self.world.named(relative)

    def unlink(self, path: str) -> None:
        self.world.step("name")
        relative, _ = self._node(path)
        os.unlink(path)
        self.world.disk.change(Change(relative, None, drop=True))

    def fchmod(self, fd: int, mode: int) -> None:
        self.world.step("other")
        os.fchmod(fd, mode)

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

    def mkdir(self, path: str, mode: int = 0o777) -> None:
        self.world.step("name")
        os.mkdir(path, mode)
        self.world.disk.change(Change(self._relative(path), None))

    def rmdir(self, path: str) -> None:
        self.world.step("name")
        os.rmdir(path)
        self.world.disk.change(Change(self._relative(path), None, drop=True))

    def walk(
        self, path: str, onerror: Callable[[OSError], None] | None = None, topdown: bool = True
    ) -> Iterator[tuple[str, list[str], list[str]]]:
        for found in os.walk(path, topdown=topdown, onerror=onerror):
            self.world.alive()
            yield found

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

    def lstat(self, path: str) -> Stat:
        return self.stat(path)

    def _stat(self, found: os.stat_result) -> Stat:
        return Stat(self.world.numbers.get(found.st_ino, found.st_ino), found.st_nlink, found.st_size)

    def getpid(self) -> int:
        current = self.world.current
        return current.pid if current is not None else FIRST_PID

    def kill(self, pid: int, signal: int) -> None:
        assert signal == 0, "not simulated"
        if not self.world.runs(pid):
            raise ProcessLookupError(errno.ESRCH, "No such process")

    def urandom(self, size: int) -> bytes:
        return self.world.rnd.randbytes(size)

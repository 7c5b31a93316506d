"""The few calls of `fcntl`, `time`, `shutil` and `tempfile` that the log makes, in a simulated world."""

import fcntl
import time
from typing import NamedTuple

from sim_machine import World
from sim_os import SimOs


class SimFcntl:
    """Stands in for `fcntl`: real locks, which a killed process holds no more."""

    LOCK_EX, LOCK_NB, LOCK_UN = fcntl.LOCK_EX, fcntl.LOCK_NB, fcntl.LOCK_UN

    def __init__(self, world: World) -> None:
        self.world = world

    def flock(self, fd: int, operation: int) -> None:
        self.world.alive()
        fcntl.flock(fd, operation)


class SimTime:
    """Stands in for `time`: waiting lets others have their turn."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.later = 0.0  # how likely it is days later than at the last look

    def sleep(self, seconds: float) -> None:
        self.world.clock += seconds
        self.world.switch()

    def monotonic(self) -> float:
        self.world.clock += 0.01
        return self.world.clock

    def time(self) -> float:
        return time.time() + (self.world.rnd.random() < self.later) * 200_000

    def time_ns(self) -> int:
        self.world.clock += 0.001
        return int(self.world.clock * 1e9)


class Room(NamedTuple):
    """What `shutil.disk_usage` tells, as far as the log asks."""

    free: int  # bytes


class SimShutil:
    """Stands in for `shutil`: a tree is removed name by name."""

    def __init__(self, world: World) -> None:
        self.os = SimOs(world)

    def rmtree(self, path: str, ignore_errors: bool = False) -> None:
        for parent, folders, names in list(self.os.walk(path, topdown=False)):
            for name in sorted(names):
                self.os.unlink(f"{parent}/{name}")
            for name in sorted(folders):
                self.os.rmdir(f"{parent}/{name}")
        self.os.rmdir(path)

    def disk_usage(self, path: str) -> Room:
        """There is room enough: a full disk is simulated at the write that meets it."""
        return Room(1 << 40)


class SimTempfile:
    """Stands in for `tempfile`: its folders are on the simulated disk."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.os = SimOs(world)

    def mkdtemp(self, suffix: str = "", prefix: str = "", dir: str | None = None) -> str:
        base = dir or f"{self.world.root}/tmp"
        self.os.makedirs(base, exist_ok=True)
        path = f"{base}/{prefix}{self.world.rnd.randbytes(6).hex()}{suffix}"
        self.os.mkdir(path, 0o700)
        return path

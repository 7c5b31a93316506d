"""The few calls of `fcntl` and `time` that the log makes, in a simulated world."""

import fcntl
import time

from sim_os import World


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

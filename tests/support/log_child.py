"""A process with a log open that does what it is told, and the test's end of it. Both sides speak JSON lines.

Synchronised by pipes and signals alone: a child that shall stop in the middle of something stops itself there.
"""

import itertools
import json
import os
import resource
import signal
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from session_mgmt_mcp.core.envelope import Envelope, NewEvent, capture_id, now_us
from session_mgmt_mcp.core.errors import SessionMgmtError
from session_mgmt_mcp.core.log.forget import forget
from session_mgmt_mcp.core.log.journals import try_lock
from session_mgmt_mcp.core.log.log import FileLog
from session_mgmt_mcp.core.log.seal import seal
from session_mgmt_mcp.core.log.spool import drain
from session_mgmt_mcp.core.log.verify import verify


def named(name: str, size: int = 0) -> NewEvent:
    """The event of this name; its payload begins with it."""
    now = now_us()
    envelope = Envelope("claude-code/s-1", "HookReported", 1, now, now, "tool", "hook")
    return NewEvent(capture_id("child", name), envelope, name.encode() + b"." * size)


def name_of(payload: bytes | None) -> str | None:
    return None if payload is None else payload.rstrip(b".").decode()


# -- the child ---------------------------------------------------------------------------------------------------


class Commands:
    """What a child can be told; each method's arguments and answer are JSON."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.log = FileLog(folder, create=True)

    def append(self, *names: str, size: int = 0, timeout_s: float = 30.0) -> list[tuple[int, bool]]:
        """(position, appended) of each, in one append."""
        given = [named(name, size) for name in names]
        if timeout_s != 30.0:
            self.log.appender.append([], timeout_s=timeout_s)
        return [(r.position, r.appended) for r in self.log.append(given)]

    def append_each(self, prefix: str, count: int, size: int = 0) -> list[int]:
        """Positions of `count` appends, one event each."""
        return [self.append(f"{prefix}{k}", size=size)[0][0] for k in range(count)]

    def append_in_both(self, prefix: str, count: int) -> list[int]:
        """Fork; parent (`prefix`p) and child (`prefix`c) append with the one log at once."""
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                self.append_each(prefix + "c", count)
                code = 0
            finally:
                os._exit(code)
        positions = self.append_each(prefix + "p", count)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        return positions

    def read(self, after: int = 0) -> list[tuple[int, str | None]]:
        return [(e.position, name_of(e.payload)) for batch in self.log.read(after) for e in batch]

    def read_until(self, name: str) -> int:
        """Read all of it over and over until this one is there; how often. What is seen must be the names given."""
        rounds = 0
        while True:
            rounds += 1
            seen = self.read()
            assert [p for p, _ in seen] == list(range(1, len(seen) + 1)), "a gap"
            for position, found in seen:
                assert found in (None, str(position), name) or found.startswith("{"), (position, found)
            if any(found == name for _, found in seen):
                return rounds

    def head(self) -> tuple[int, str]:
        return self.log.head().position, self.log.head().chain.hex()

    def roll(self) -> int:
        return self.log.roll()

    def verify(self) -> int:
        return verify(self.folder, self.log.log_id).events

    def maintain(self, what: str, positions: list[int] | None = None, wait: bool = True) -> int:
        """seal, compact, forget or drain, holding maintenance.lock; the manifest's version, -1 where it is held."""
        lock = self._lock(wait)
        if lock is None:
            return -1
        try:
            return self.unlocked(what, positions)
        finally:
            os.close(lock)

    def _lock(self, wait: bool) -> int | None:
        path = self.folder + "/maintenance.lock"
        while (lock := try_lock(path)) is None and wait:
            os.sched_yield()
        return lock

    def unlocked(self, what: str, positions: list[int] | None = None) -> int:
        if what == "drain":
            return drain(self.log)[0]
        if what == "forget":
            return forget(self.log, positions or [], lambda _: []).version
        if what == "compact":
            from session_mgmt_mcp.core.log.compact import compact

            return compact(self.folder, self.log.log_id).version
        return seal(self.folder, self.log.log_id).version

    # -- what is done to the process -----------------------------------------------------------------------------

    def stop_before(self, call: str, ending: str = "") -> None:
        """At its next os.`call` of a path or file that ends so, the process stops until it gets SIGCONT."""
        self._before(call, ending, lambda: os.kill(os.getpid(), signal.SIGSTOP))

    def die_before(self, call: str, ending: str = "") -> None:
        self._before(call, ending, lambda: os.kill(os.getpid(), signal.SIGKILL))

    def _before(self, call: str, ending: str, action: Callable[[], None]) -> None:
        real = getattr(os, call)

        def struck(*arguments: Any, **options: Any) -> Any:
            target = arguments[0]
            path = os.readlink(f"/proc/self/fd/{target}") if isinstance(target, int) else str(target)
            if path.endswith(ending):
                setattr(os, call, real)
                action()
            return real(*arguments, **options)

        setattr(os, call, struck)

    def limit(self, what: str, to: int) -> None:
        """Lower RLIMIT_`what`; of descriptors `to` counts those that are still free."""
        if what == "NOFILE":
            free = (fd for fd in itertools.count() if not os.path.exists(f"/proc/self/fd/{fd}"))
            to = next(itertools.islice(free, to, None))
        kind = getattr(resource, f"RLIMIT_{what}")
        resource.setrlimit(kind, (to, resource.getrlimit(kind)[1]))

    def unlimit(self, what: str) -> None:
        kind = getattr(resource, f"RLIMIT_{what}")
        resource.setrlimit(kind, (resource.getrlimit(kind)[1],) * 2)

    def shift_clock(self, seconds: int) -> None:
        """From now on this process sees another time of day."""
        ns, s = time.time_ns, time.time
        time.time_ns = lambda: ns() + seconds * 10**9
        time.time = lambda: s() + seconds

    def reopen(self) -> None:
        self.log.close()
        self.log = FileLog(self.folder)


def serve(folder: str, asked: int, answers: int) -> None:
    """What the child does: a line in, a line out."""
    commands = Commands(folder)
    for line in open(asked, encoding="utf-8"):  # noqa: SIM115 - to the process's end
        name, arguments, options = json.loads(line)
        try:
            answer: dict[str, Any] = {"done": getattr(commands, name)(*arguments, **options)}
        except (SessionMgmtError, OSError) as error:
            answer = {"error": type(error).__name__, "message": str(error)}
        raw = json.dumps(answer).encode() + b"\n"
        while raw:
            raw = raw[os.write(answers, raw) :]


# -- the test's end ----------------------------------------------------------------------------------------------


class ToldError(Exception):
    """The child met an error; the message begins with its class."""


class Child:
    """A child on this folder: forked, so that it starts at once. `kill` ends it."""

    def __init__(self, folder: Path) -> None:
        asked, to_child = os.pipe()
        from_child, answers = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Arrow's idle threads, of which 3.12 warns
            self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(to_child)
                serve(str(folder), asked, answers)
            except BaseException:  # noqa: BLE001 - it must not return into the test run
                os.write(2, traceback.format_exc().encode())
            os._exit(3)
        os.close(asked)
        os.close(answers)
        self._asks = open(to_child, "w", encoding="utf-8")  # noqa: SIM115 - closed by kill
        self._answers = open(from_child, encoding="utf-8")  # noqa: SIM115 - closed by kill
        self._code: int | None = None

    def begin(self, command: str, *arguments: Any, **options: Any) -> None:
        """Tell it to do something, without waiting."""
        self._asks.write(json.dumps([command, arguments, options]) + "\n")
        self._asks.flush()

    def answer(self) -> Any:
        """What came of the command begun first. Raises ToldError."""
        line = self._answers.readline()
        assert line, "the child ended"
        found = json.loads(line)
        if "error" in found:
            raise ToldError(f"{found['error']}: {found['message']}")
        return found["done"]

    def do(self, command: str, *arguments: Any, **options: Any) -> Any:
        self.begin(command, *arguments, **options)
        return self.answer()

    def wait_stopped(self) -> None:
        """Return when it stopped itself."""
        _, status = os.waitpid(self.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status), "the child ended instead of stopping"

    def go_on(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def wait(self) -> int:
        """Its exit code, once it has ended."""
        if self._code is None:
            self._code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            self._asks.close()
            self._answers.close()
        return self._code

    def kill(self) -> int:
        """End it where it still runs; its exit code."""
        if self._code is None:
            os.kill(self.pid, signal.SIGKILL)
        return self.wait()

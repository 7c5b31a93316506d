"""Random histories of the log on a simulated disk, cut at random calls; every legal state after a cut is put to the proof.

A history is several boots: each begins with a state the cut before it may have left.
"""

import importlib
import json
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import ModuleType
from typing import NamedTuple, cast
from unittest import mock

from log_kit import content, event
from sim_calls import SimFcntl, SimTime
from sim_disk import State
from sim_judge import Expected, files_with, judge, snapshot
from sim_os import DATA, Process, SimOs, World

from session_mgmt_mcp.adapters.claude_code import capture as hook
from session_mgmt_mcp.core.envelope import Event, NewEvent
from session_mgmt_mcp.core.errors import AppendError, SessionMgmtError
from session_mgmt_mcp.core.log.forget import forget
from session_mgmt_mcp.core.log.journals import try_lock
from session_mgmt_mcp.core.log.log import FileLog
from session_mgmt_mcp.core.log.seal import seal
from session_mgmt_mcp.core.log.spool import drain
from session_mgmt_mcp.core.log.verify import verify

_LOG = "session_mgmt_mcp.core.log."
MODULES: dict[str, ModuleType] = {
    name: importlib.import_module(_LOG + name)
    for name in (
        "appender",
        "durable",
        "folder",
        "forget",
        "frame",
        "idindex",
        "journals",
        "log",
        "manifest",
        "reader",
        "seal",
        "segment",
        "spool",
        "tail",
        "verify",
    )
}
CAPACITY = 4096  # what the simulated log counts in, instead of MiB: journals of 16 KiB, so that they fill up
PROCESSES = (1, 2, 3, 3)  # in one boot, at random
BOOTS = 3
CALLS_MAX = 700  # of one boot
CUTS = 5  # of one boot
MODES = ("min", "max", "any", "any")  # states of one cut
Bug = Callable[[ExitStack], object]  # takes a rule of the protocol out, until the stack ends


@contextmanager
def simulated(world: World, bug: Bug | None = None) -> Iterator[None]:
    """The real code of the log on this world's disk."""
    with ExitStack() as stack:
        for module in (*MODULES.values(), hook):
            for name, stand_in in (("os", SimOs), ("fcntl", SimFcntl), ("time", SimTime)):
                if hasattr(module, name):
                    stack.enter_context(mock.patch.object(module, name, stand_in(world)))
        for name in ("seal", "manifest"):  # what killed sealers left is of another day
            cast(SimTime, MODULES[name].time).later = 0.2
        for name, attribute, value in (
            ("frame", "MIB", CAPACITY),
            ("journals", "MIB", CAPACITY),
            ("journals", "JOURNAL_MIB", 4),
            ("appender", "boot_id", lambda: world.boot),
        ):
            stack.enter_context(mock.patch.object(MODULES[name], attribute, value))
        stack.enter_context(mock.patch.object(hook, "spawn_maintenance", lambda folder: None))
        if bug is not None:
            bug(stack)
        yield


class Report(NamedTuple):
    """One history: states put to the proof, calls made, events acknowledged, and what was wrong."""

    states: int
    calls: int
    acknowledged: int
    wrong: list[str]


class History:
    """What processes submitted and were told, over several boots."""

    def __init__(self, seed: int, bug: Bug | None = None) -> None:
        self.seed, self.bug = seed, bug
        self.rnd = random.Random(seed)
        self.submitted: dict[bytes, NewEvent] = {}
        self.acknowledged: dict[bytes, int] = {}
        self.hooked: set[bytes] = set()  # each was given to one hook process, under an id of its own
        self.unknown: list[NewEvent] = []  # no answer was given: submitted again later
        self.forgettable: dict[int, bytes] = {}
        self.forgotten: set[bytes] = set()
        self.wrong: list[str] = []

    def expected(self) -> Expected:
        return Expected(
            frozenset(self.submitted),
            dict(self.acknowledged),
            dict(self.forgettable),
            frozenset(self.forgotten),
        )

    def run(self, base: str) -> Report:
        state: State = {}
        states = calls = 0
        for boot in range(BOOTS):
            world = World(
                f"{base}/{boot}",
                state,
                random.Random(self.rnd.random()),
                boot + 1,
                self.rnd.choice((0, 0, 0.08)),
                self.rnd.choice((0, 0.4, 1)),
            )
            limit = self.rnd.randrange(20, CALLS_MAX)
            taken: list[tuple[State, Expected]] = []
            for k in range(CUTS):  # the first soon: while the folder is made, or the cut before is mended
                world.at[self.rnd.randrange(1, limit if k else 40)] = lambda w=world, t=taken: self._take(
                    w, t
                )
            with simulated(world, self.bug):
                world.run([lambda p, w=world: self._live(w, p)] * self.rnd.choice(PROCESSES), limit)
            self._take(world, taken)
            shutil.rmtree(world.root)
            calls += world.calls
            for k, (found, expected) in enumerate(taken):
                where = f"seed {self.seed}, boot {boot + 1}, state {k + 1}"
                wrong = prove(f"{base}/proof", found, expected, random.Random(self.rnd.random()), self.bug)
                self.wrong += [f"{where}: {what}" for what in wrong]
                states += 1
                if self.wrong:
                    break  # one is enough to look into
            if self.wrong:
                break
            state = taken[-self.rnd.randrange(1, len(MODES) + 1)][0]
            self._reboot()
        return Report(states, calls, len(self.acknowledged), self.wrong)

    def _take(self, world: World, taken: list[tuple[State, Expected]]) -> None:
        for mode in MODES:
            taken.append((world.cut(self.rnd, mode), self.expected()))

    def _reboot(self) -> None:
        self.unknown = [
            e for p, e in self.submitted.items() if p not in self.acknowledged and p not in self.hooked
        ]

    # -- what a process does -------------------------------------------------------------------------------------

    def _live(self, world: World, process: Process) -> None:
        """One life after the other, until the power goes."""
        while not world.over:
            try:
                self._one_life(world, process)
                world.exit_process(process)
            except BaseException as error:  # noqa: BLE001 - a killed process ends in whatever its unwinding met
                if world.over:
                    return
                if process.dead:
                    process.dead = False
                elif isinstance(error, (AppendError, OSError)) and world.fail_syncs:
                    world.exit_process(process)
                else:
                    self.wrong.append(f"seed {self.seed}: a living process met {error!r}")
                    world.over = True

    def _one_life(self, world: World, process: Process) -> None:
        folder = f"{world.root}/{DATA}"
        log = FileLog(folder, create=True)
        for _ in range(world.rnd.randrange(2, 12)):
            action = world.rnd.choices(
                (self._append, self._submit_again, self._hook, self._maintain, self._read, self._roll),
                (8, 3, 2, 3, 1, 1),
            )[0]
            action(world, process, log)

    def _new_event(self, rnd: random.Random) -> NewEvent:
        text = f"event {len(self.submitted)} ".encode() + b"x" * rnd.choice((0, 40, 400, 900, 3000))
        new = event(text, event_id=rnd.randbytes(16))
        self.submitted[text] = new
        return new

    def _append(self, world: World, process: Process, log: FileLog) -> None:
        new = [self._new_event(world.rnd) for _ in range(world.rnd.choice((1, 1, 1, 2, 5)))]
        self._submit(log, new, world.rnd.random() < 0.7)

    def _submit_again(self, world: World, process: Process, log: FileLog) -> None:
        """What nobody was told about, and something that is known to be there."""
        again, self.unknown = self.unknown[:5], self.unknown[5:]
        known = [p for p, position in self.acknowledged.items() if position and p not in self.forgotten]
        again += [self.submitted[p] for p in known[-1:] if self.submitted[p] not in again]
        self._submit(log, again, dedupe=True)

    def _submit(self, log: FileLog, new: list[NewEvent], dedupe: bool) -> None:
        try:
            receipts = log.append(new, dedupe=dedupe)
        except BaseException:
            self.unknown += [e for e in new if e.payload not in self.acknowledged]
            raise
        for e, receipt in zip(new, receipts, strict=True):
            before = self.acknowledged.get(e.payload) or receipt.position
            if before != receipt.position:
                self.wrong.append(f"seed {self.seed}: {e.payload[:12]!r} at {before} and {receipt.position}")
            self.acknowledged[e.payload] = receipt.position

    def _hook(self, world: World, process: Process, log: FileLog) -> None:
        """A process of its own, whose append sometimes fails: then it spools."""
        fields = {"session_id": "h", "hook_event_name": "PostToolUse", "n": f"hook {len(self.submitted)}"}
        raw = json.dumps(fields).encode()
        self.submitted[raw] = event(raw)
        self.hooked.add(raw)
        before = set(process.fds)
        process.disk_full = world.rnd.random() < 0.4
        try:
            hook.capture(log.folder, raw)
        finally:
            process.disk_full = False
        self.acknowledged[raw] = 0
        for fd in process.fds - before:
            SimOs(world).close(fd)

    def _maintain(self, world: World, process: Process, log: FileLog) -> None:
        with locked(world, log.folder) as held:
            if not held:
                return
            drain(log)
            if world.rnd.random() < 0.5:
                log.roll()
            seal(log.folder, log.log_id)
            known = [(n, p) for p, n in self.acknowledged.items() if n and p not in self.forgotten]
            if known and world.rnd.random() < 0.6:
                self._forget(log, dict(world.rnd.choices(known, k=2)))

    def _forget(self, log: FileLog, chosen: dict[int, bytes]) -> None:
        self.forgettable |= chosen
        forget(log, chosen, lambda _: ["own:1"])
        self.forgotten |= set(chosen.values())

    def _roll(self, world: World, process: Process, log: FileLog) -> None:
        log.roll()

    def _read(self, world: World, process: Process, log: FileLog) -> None:
        self.wrong += judge(content(log), self.expected(), whole=False)


@contextmanager
def locked(world: World, folder: str) -> Iterator[bool]:
    """The maintenance lock, where nobody has it."""
    lock = try_lock(folder + "/maintenance.lock")
    yield lock is not None
    if lock is not None:
        SimOs(world).close(lock)


# -- the proof ---------------------------------------------------------------------------------------------------


def prove(root: str, state: State, expected: Expected, rnd: random.Random, bug: Bug | None) -> list[str]:
    """Boot from this state, recover with the real code, and say what is wrong."""
    world = World(root, state, rnd, boot=900)
    try:
        with simulated(world, bug):
            return _prove(world, expected)
    except (SessionMgmtError, OSError, AssertionError) as error:
        return [f"after the cut: {type(error).__name__}: {error}".replace(root, "")]
    finally:
        for fd in list(world.opened):
            os.close(fd)
        shutil.rmtree(root)


def _prove(world: World, expected: Expected) -> list[str]:
    folder, rnd = f"{world.root}/{DATA}", world.rnd
    with FileLog(folder, create=True) as log:
        if rnd.random() < 0.3:
            content(log)  # a reader that comes before the first append
        log.append([])
        drain(log)
        found = content(log)
        wrong = judge(found, expected)
        verified = verify(folder, log.log_id)
        if verified.events != len(found) or verified.chain != log.head().chain.hex():
            wrong.append(f"verified {verified}, read {len(found)} events")
    before = snapshot(folder)
    world.boot = bytes(15) + b"\xff"
    with FileLog(folder) as log:
        log.append([])
        if content(log) != found or snapshot(folder) != before:
            wrong.append("recovering again changed something")
        wrong += _go_on(world, log, found, expected)
    if expected.forgotten:
        wrong += [f"{name} holds a forgotten payload" for name in files_with(folder, set(expected.forgotten))]
    return wrong


def _go_on(world: World, log: FileLog, found: list[Event], expected: Expected) -> list[str]:
    """Append, and in some states seal: nothing that was there changes."""
    new = [event(b"after the cut %d" % k) for k in range(2)]
    placed = [r.position for r in log.append(new)]
    if placed != [len(found) + 1, len(found) + 2]:
        return [f"after {len(found)} events the next were put at {placed}"]
    if world.rnd.random() < 0.25:
        with locked(world, log.folder):
            log.roll()
            manifest = seal(log.folder, log.log_id)
        if manifest.last != len(found) + 2:
            return [f"sealed up to {manifest.last} of {len(found) + 2}"]
    if content(log) != found + [
        Event(p, e.event_id, e.envelope, e.payload) for p, e in zip(placed, new, strict=True)
    ]:
        return ["appending changed what was there"]
    if verify(log.folder, log.log_id).events != len(found) + 2:
        return ["verify counts other events than were appended"]
    return []


def scratch_folder() -> str:
    """A folder for the simulated disks, in memory where the system has such a place."""
    memory = "/dev/shm"
    return tempfile.mkdtemp(prefix="sim-", dir=memory if os.access(memory, os.W_OK) else None)


def run_history(seed: int, bug: Bug | None = None) -> Report:
    """Run the history of one seed."""
    base = scratch_folder()
    try:
        return History(seed, bug).run(base)
    finally:
        shutil.rmtree(base)

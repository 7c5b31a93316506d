"""Random histories of the log on a simulated disk, cut at random calls; every legal state after a cut is put to the proof.

A history is several boots: each begins with a state the cut before it may have left.
"""

import contextlib
import json
import random
import shutil
from functools import partial
from typing import NamedTuple

from log_kit import content, event
from sim_backup import BACKUP, COPIES, Made, pick, store_of
from sim_disk import State, reset_numbers
from sim_judge import Expected, judge
from sim_machine import DATA, Process, World
from sim_os import SimOs
from sim_proof import Prover
from sim_world import Bug, locked, scratch_folder, simulated

from session_mgmt_mcp.adapters.claude_code import capture as hook
from session_mgmt_mcp.core.backup.create import create
from session_mgmt_mcp.core.backup.restore import restore
from session_mgmt_mcp.core.backup.retain import Keep
from session_mgmt_mcp.core.envelope import NewEvent
from session_mgmt_mcp.core.errors import AppendError, LockTimeoutError
from session_mgmt_mcp.core.log.compact import compact
from session_mgmt_mcp.core.log.forget import finish, forget
from session_mgmt_mcp.core.log.log import FileLog
from session_mgmt_mcp.core.log.seal import seal
from session_mgmt_mcp.core.log.spool import drain

PROCESSES = (1, 2, 3, 3)  # in one boot, at random
BOOTS = 3
CALLS_MAX = 900  # of one boot
CUTS = 5  # of one boot
BACKUPS = 3  # of so many histories one has backups
MODES = ("min", "max", "any", "any")  # states of one cut


class Report(NamedTuple):
    """One history: states put to the proof, calls made, events acknowledged, and what was wrong."""

    seed: int
    states: int
    distinct: frozenset[bytes]  # digests: some states of a history are the same
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
        self.backups: dict[str, Made] = {}
        self.restored: set[str] = set()
        self.wrong: list[str] = []
        self.taken: list[tuple[State, Expected]] = []  # of this boot

    def expected(self) -> Expected:
        return Expected(
            frozenset(self.submitted),
            dict(self.acknowledged),
            dict(self.forgettable),
            frozenset(self.forgotten),
            dict(self.backups),
            frozenset(self.restored),
        )

    def run(self, base: str) -> Report:
        reset_numbers()
        state: State = {}
        states = calls = 0
        prover = Prover(base, self.bug)
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
            taken = self.taken = []
            for k in range(CUTS):  # the first soon: while the folder is made, or the cut before is mended
                self._cut_at(world, self.rnd.randrange(1, limit if k else 40))
            world.named = partial(self._named, world)
            with simulated(world, self.bug):
                world.run([lambda p, w=world: self._live(w, p)] * self.rnd.choice(PROCESSES), limit)
            self._take(world)
            shutil.rmtree(world.root)
            calls += world.calls
            for k, (found, expected) in enumerate(taken):
                where = f"seed {self.seed}, boot {boot + 1}, state {k + 1}"
                wrong = prover.prove(found, expected, random.Random(self.rnd.random()))
                self.wrong += [f"{where}: {what}" for what in wrong]
                states += 1
                if self.wrong:
                    break  # one is enough to look into
            if self.wrong:
                break
            state = taken[-self.rnd.randrange(1, len(MODES) + 1)][0]
            self._reboot()
        return Report(
            self.seed, states, frozenset(prover.distinct), calls, len(self.acknowledged), self.wrong
        )

    def _cut_at(self, world: World, call: int) -> None:
        world.at[call] = lambda: self._take(world)

    def _cut_soon(self, world: World, calls: int = 12) -> None:
        """Something that seldom happens is done or was told: the power may go before other syncs make it true."""
        if world.rnd.random() < 0.5:
            self._cut_at(world, world.calls + world.rnd.randrange(1, calls))

    def _named(self, world: World, path: str) -> None:
        """A restored log got its name, or somebody begins to remove objects of a backup: a short time, of much danger."""
        if path in COPIES:
            for k in range(1, 5):
                self._cut_at(world, world.calls + k)
        elif path.startswith(f"{BACKUP}/running/") and "-collect-" in path:
            self._cut_soon(world, 8)

    def _take(self, world: World) -> None:
        for mode in MODES:
            self.taken.append((world.cut(self.rnd, mode), self.expected()))

    def _reboot(self) -> None:
        self.unknown = [
            e for p, e in self.submitted.items() if p not in self.acknowledged and p not in self.hooked
        ]

    # -- what a process does -------------------------------------------------------------------------------------

    def _live(self, world: World, process: Process) -> None:
        """One life after the other, until the power goes."""
        while not world.over:
            world.start_process(process)
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
                (
                    self._append,
                    self._submit_again,
                    self._hook,
                    self._maintain,
                    self._read,
                    self._roll,
                    self._back_up,
                    self._restore,
                ),
                (8, 3, 2, 3, 1, 1, 4, 2) if self.seed % BACKUPS == 0 else (8, 3, 2, 3, 1, 1, 0, 0),
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
        known = known[-1:] + world.rnd.sample(known, min(len(known), 2))
        again += [e for e in map(self.submitted.__getitem__, dict.fromkeys(known)) if e not in again]
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
            finish(log)
            if world.rnd.random() < 0.7:
                self._cut_soon(world, 25)
                compact(log.folder, log.log_id)
            known = [(n, p) for p, n in self.acknowledged.items() if n and p not in self.forgotten]
            if known and world.rnd.random() < 0.6:
                self._forget(log, dict(world.rnd.choices(known, k=2)))
                self._cut_soon(world)

    def _forget(self, log: FileLog, chosen: dict[int, bytes]) -> None:
        self.forgettable |= chosen
        forget(log, chosen, lambda _: ["own:1"])
        self.forgotten |= set(chosen.values())

    def _back_up(self, world: World, process: Process, log: FileLog) -> None:
        promised = frozenset(self.acknowledged)
        keep = Keep(newest=2, days=None) if world.rnd.random() < 0.3 else None
        done = create(log, store_of(world), keep=keep)
        before = self.backups.get(done.snapshot)
        self.backups[done.snapshot] = Made(
            done.position, promised | before.promised if before is not None else promised
        )
        self._cut_soon(world)

    def _restore(self, world: World, process: Process, log: FileLog) -> None:
        where = pick(world.rnd, world)
        if where is None or not self.backups:
            return
        self._cut_soon(world, 60)
        with contextlib.suppress(LockTimeoutError):  # another process restores to it
            restore(store_of(world), f"{world.root}/{where}")
            self.restored.add(where)
            self._cut_soon(world)

    def _roll(self, world: World, process: Process, log: FileLog) -> None:
        log.roll()

    def _read(self, world: World, process: Process, log: FileLog) -> None:
        self.wrong += judge(content(log), self.expected(), whole=False)


def run_history(seed: int, bug: Bug | None = None) -> Report:
    """Run the history of one seed."""
    base = scratch_folder()
    try:
        return History(seed, bug).run(base)
    finally:
        shutil.rmtree(base)

"""Putting one state to the proof: boot from it, recover with the real code, compare with what was promised."""

import os
import random
import shutil
from hashlib import sha256
from typing import NamedTuple

from log_kit import content, event
from sim_backup import BACKUP, Backups, judge_backups, prove_backups
from sim_disk import State
from sim_judge import Expected, judge, payloads_held, snapshot
from sim_machine import DATA, World
from sim_world import Bug, locked, simulated

from session_mgmt_mcp.core.envelope import Event
from session_mgmt_mcp.core.errors import LogCorruptError, SessionMgmtError
from session_mgmt_mcp.core.log.compact import compact
from session_mgmt_mcp.core.log.forget import finish, tombstones
from session_mgmt_mcp.core.log.log import FileLog
from session_mgmt_mcp.core.log.seal import seal
from session_mgmt_mcp.core.log.spool import drain
from session_mgmt_mcp.core.log.verify import verify

NEXT_DAY = (
    1_770_000_000.0 + 20 * 3600
)  # later than any boot of a history, by less than marks in a backup count


class Recovered(NamedTuple):
    """What the real code made of a state: the events it found, and what was wrong whatever was promised."""

    found: list[Event]
    held: set[bytes]  # payloads in any segment or journal afterwards
    backups: Backups | None
    wrong: list[str]


class Prover:
    """Proves the states of one history. Equal states are recovered once, and judged by each promise."""

    def __init__(self, base: str, bug: Bug | None) -> None:
        self.root, self.bug = f"{base}/proof", bug
        self.distinct: set[bytes] = set()  # digests of states with what was promised of them
        self._recovered: dict[bytes, Recovered] = {}

    def prove(self, state: State, expected: Expected, rnd: random.Random) -> list[str]:
        """Boot from this state, recover with the real code, and say what is wrong."""
        key = digest_of(state)
        self.distinct.add(expected.digest(key))
        if key not in self._recovered:
            self._recovered[key] = self._recover(state, rnd)
        recovered = self._recovered[key]
        wrong = list(recovered.wrong)
        if not wrong:
            wrong += judge(recovered.found, expected)
            back = recovered.held & expected.forgotten
            wrong += [f"a segment or journal holds {payload[:12]!r}, which was forgotten" for payload in back]
            if recovered.backups is not None:
                wrong += judge_backups(recovered.backups, expected)
        return wrong

    def _recover(self, state: State, rnd: random.Random) -> Recovered:
        world = World(self.root, state, rnd, boot=900)
        world.clock = NEXT_DAY
        try:
            with simulated(world, self.bug):
                return _recover(world)
        except (SessionMgmtError, OSError, AssertionError) as error:
            what = f"after the cut: {type(error).__name__}: {error}".replace(self.root, "")
            return Recovered([], set(), None, [what])
        finally:
            for fd in list(world.opened):
                os.close(fd)
            shutil.rmtree(self.root)


def digest_of(state: State) -> bytes:
    """Equal for equal states: paths, contents, and which names are one file's."""
    total = sha256()
    for path in sorted(state):
        found = state[path]
        raw = b"" if found is None else b"%d %d " % (found[0], len(found[1])) + found[1]
        total.update(b"%b\0%d " % (path.encode(), len(raw)) + raw)
    return total.digest()[:16]


def _recover(world: World) -> Recovered:
    folder, rnd = f"{world.root}/{DATA}", world.rnd
    with FileLog(folder, create=True) as log:
        if rnd.random() < 0.3:
            content(log)  # a reader that comes before the first append
        log.append([])
        drain(log)
        wrong = _finish(world, log)
        found = content(log)
        verified = verify(folder, log.log_id)
        if verified.events != len(found) or verified.chain != log.head().chain.hex():
            wrong.append(f"verified {verified}, read {len(found)} events")
    before = snapshot(folder)
    world.boot = bytes(15) + b"\xff"
    with FileLog(folder) as log:
        log.append([])
        if content(log) != found or snapshot(folder) != before:
            wrong.append("recovering again changed something")
        backups = None
        if os.path.exists(f"{world.root}/{BACKUP}"):
            backups, what = prove_backups(world, log, found)
            wrong += what
        wrong += _go_on(world, log, found)
    return Recovered(found, payloads_held(folder), backups, wrong)


def _finish(world: World, log: FileLog) -> list[str]:
    """Go on with an interrupted forgetting. Until then `verify` is red, and afterwards nothing of it is left."""
    gone = {p for t in tombstones(log) for p in t.positions}
    began = {e.payload for e in content(log) if e.position in gone and e.payload is not None}
    if not began:
        return []
    try:
        verify(log.folder, log.log_id)
    except LogCorruptError:
        pass
    else:
        return ["verify does not see an interrupted forgetting"]
    with locked(world, log.folder):
        finish(log)
    if payloads_held(log.folder) & began:
        return ["a payload that somebody began to forget is left"]
    return []


def _go_on(world: World, log: FileLog, found: list[Event]) -> list[str]:
    """Append, and in some states do maintenance: nothing that was there changes."""
    new = [event(b"after the cut %d" % k) for k in range(2)]
    placed = [r.position for r in log.append(new)]
    if placed != [len(found) + 1, len(found) + 2]:
        return [f"after {len(found)} events the next were put at {placed}"]
    after = found + [Event(p, e.event_id, e.envelope, e.payload) for p, e in zip(placed, new, strict=True)]
    if world.rnd.random() < 0.25:
        with locked(world, log.folder):
            log.roll()
            manifest = seal(log.folder, log.log_id)
            if manifest.last != len(after):
                return [f"sealed up to {manifest.last} of {len(after)}"]
            compact(log.folder, log.log_id)
    if content(log) != after:
        return ["appending changed what was there"]
    if verify(log.folder, log.log_id).events != len(after):
        return ["verify counts other events than were appended"]
    return []

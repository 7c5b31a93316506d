"""Backups and restores in a simulated history: to a second folder of the same disk, while processes write.

A snapshot that somebody was told of restores to what it says, an interrupted backup or restore completes when it is run
again, and a restored folder is absent or whole.
"""

import os
import random
from typing import NamedTuple

from log_kit import content
from sim_judge import Expected, payloads_held
from sim_machine import World

from session_mgmt_mcp.core.backup.create import create
from session_mgmt_mcp.core.backup.layout import list_snapshots
from session_mgmt_mcp.core.backup.local import LocalStore
from session_mgmt_mcp.core.backup.restore import restore
from session_mgmt_mcp.core.envelope import Event
from session_mgmt_mcp.core.log.forget import tombstones
from session_mgmt_mcp.core.log.log import FileLog
from session_mgmt_mcp.core.log.spool import drain
from session_mgmt_mcp.core.log.verify import verify

BACKUP = "home/backup"
COPIES = ("home/copy-1", "home/copy-2")  # where processes restore to
AGAIN = "home/again"  # where a proof does


class Made(NamedTuple):
    """What somebody was told of a finished backup."""

    position: int
    promised: frozenset[bytes]  # payloads acknowledged before it began


class Copy(NamedTuple):
    """A restored log, opened and drained."""

    where: str
    snapshot: str  # id; "" where it was restored before the cut
    payloads: frozenset[bytes]
    held: frozenset[bytes]  # in any of its files


class Backups(NamedTuple):
    """What was found of the backup after a cut."""

    newest: int  # position of the newest snapshot, -1 for none
    copies: list[Copy]
    there: frozenset[str]  # of COPIES


def store_of(world: World) -> LocalStore:
    return LocalStore(f"{world.root}/{BACKUP}")


def prove_backups(world: World, log: FileLog, found: list[Event]) -> tuple[Backups, list[str]]:
    """Restore what the state holds; and what is wrong with it whatever was promised."""
    store, wrong = store_of(world), []
    names = list_snapshots(store)
    there = frozenset(c for c in COPIES if os.path.exists(f"{world.root}/{c}"))
    copies = []
    for where in sorted(there):
        copy, what = _open_copy(world, where, "", found, len(found))
        copies.append(copy)
        wrong += what
    begun = [c for c in COPIES if c not in there and os.path.exists(f"{world.root}/{c}.restoring")]
    if names and (begun or world.rnd.random() < 0.5):
        wanted = world.rnd.choice([*names, names[-1]])
        where = world.rnd.choice(begun or [AGAIN])
        done = restore(store, f"{world.root}/{where}", snapshot=wanted.id, tombstones=tombstones(log))
        if done.position != wanted.position:
            wrong.append(f"{wanted.id} was restored up to {done.position}")
        copy, what = _open_copy(world, where, wanted.id, found, done.position)
        copies.append(copy)
        wrong += what
    if names and world.rnd.random() < 0.5:
        made = create(log, store)
        if made.left:
            wrong.append("nobody is at work in the backup, yet it was left to somebody")
        if made.position < len(found) or list_snapshots(store)[-1].id != made.snapshot:
            wrong.append(f"backing up again made {made.snapshot} of {len(found)} events")
    return Backups(names[-1].position if names else -1, copies, there), wrong


def _open_copy(
    world: World, where: str, snapshot: str, found: list[Event], upto: int
) -> tuple[Copy, list[str]]:
    folder = f"{world.root}/{where}"
    with FileLog(folder) as log:
        wrong = _compare(where, content(log), found, upto if snapshot else 0)
        drain(log)
        events = content(log)
        proved = verify(folder, log.log_id)
    if proved.events != len(events):
        wrong.append(f"{where}: verified {proved.events} of {len(events)} events")
    payloads = frozenset(e.payload for e in events if e.payload is not None)
    return Copy(where, snapshot, payloads, frozenset(payloads_held(folder))), wrong


def _compare(where: str, copied: list[Event], found: list[Event], at_least: int) -> list[str]:
    """The copy is a beginning of the log, of at least so many events; beyond it only the copy's own notes."""
    if [e.position for e in copied] != list(range(1, len(copied) + 1)):
        return [f"{where} has gaps"]
    same = 0
    for mine, theirs in zip(copied, found, strict=False):
        if (mine.event_id, mine.envelope) != (theirs.event_id, theirs.envelope):
            break
        if None not in (mine.payload, theirs.payload) and mine.payload != theirs.payload:
            return [f"{where} holds another payload at position {mine.position}"]
        same += 1
    if same < at_least:
        return [f"{where} goes as the log does up to {same}, not {at_least}"]
    foreign = [e.position for e in copied[same:] if e.envelope.stream != "session-mgmt/log"]
    return [f"{where} holds at {foreign[0]} what the log does not"] if foreign else []


def judge_backups(found: Backups, expected: Expected) -> list[str]:
    """What is wrong with the backups by what was promised."""
    wrong = []
    newest = max((made.position for made in expected.backups.values()), default=-1)
    if found.newest < newest:
        wrong.append(f"a backup up to {newest} was reported, the newest there goes to {found.newest}")
    for where in expected.restored - found.there:
        wrong.append(f"{where} was reported as restored and is not there")
    for copy in found.copies:
        made = expected.backups.get(copy.snapshot)
        if made is not None:
            lost = made.promised - copy.payloads - expected.forgotten - set(expected.forgettable.values())
            wrong += [f"{copy.snapshot} does not hold {payload[:12]!r}" for payload in lost]
        if copy.snapshot:
            back = copy.held & expected.forgotten
            wrong += [f"{copy.where} brings {payload[:12]!r} back" for payload in back]
    return wrong


def pick(rnd: random.Random, world: World) -> str | None:
    """A place to restore to, None where all are taken."""
    free = [c for c in COPIES if not os.path.exists(f"{world.root}/{c}")]
    return rnd.choice(free) if free else None

"""A model of a disk: what was synced, what was only written, and what a power cut may leave of it.

Names and contents are made durable separately, as POSIX has it: a file by its sync, a name by the sync of its folder.
Of what was not synced a cut keeps anything: any 512-byte sectors, the size with or without the data, any folder changes.
"""

import os
import random
from itertools import count
from typing import NamedTuple

SECTOR = 512
_numbers = count(1000)


def reset_numbers() -> None:
    """Count inodes anew, so that a history is the same whenever it is run."""
    global _numbers
    _numbers = count(1000)


class Write(NamedTuple):
    """Bytes handed to the system at an offset."""

    offset: int
    data: bytes


class Resize(NamedTuple):
    """The file's new size: shorter (truncated) or longer (allocated)."""

    size: int


class File:
    """One inode: what is on the medium, and what was written since."""

    __slots__ = ("failures", "number", "pending", "stored")

    def __init__(self, stored: bytes = b"", number: int | None = None) -> None:
        self.number = next(_numbers) if number is None else number
        self.stored = stored
        self.pending: list[Write | Resize] = []
        self.failures = 0  # syncs that failed so far; each description reports them once

    def sync(self) -> None:
        self.stored = _apply(self.stored, self.pending)
        self.pending = []

    def fail(self, rnd: random.Random) -> None:
        """A failed sync: the pages count as clean now, whatever of them reached the medium."""
        self.stored = self.after_cut(rnd, rnd.choice((0.0, 0.5)))
        self.pending = []

    def after_cut(self, rnd: random.Random, kept: float) -> bytes:
        """What the medium may hold. `kept`: how likely a sector is of a later write; 0 none is, 1 all are."""
        if not self.pending or kept == 0:
            return self.stored
        if kept == 1:
            return _apply(self.stored, self.pending)
        sized = self.pending[: rnd.randrange(len(self.pending) + 1)]
        size = len(_apply(self.stored, sized))
        out = bytearray(self.stored[:size].ljust(size, b"\0"))
        versions: dict[int, list[tuple[int, bytes]]] = {}
        for change in self.pending:
            if isinstance(change, Write):
                for at, piece in _sectors(change):
                    versions.setdefault(at // SECTOR, []).append((at, piece))
        for pieces in versions.values():
            taken = len(pieces) if rnd.random() < kept else rnd.randrange(len(pieces))
            for k, (at, piece) in enumerate(pieces[:taken]):
                if k == taken - 1 and rnd.random() < 0.05:  # written out while it was being copied
                    piece = piece[: rnd.randrange(len(piece) + 1)]
                piece = piece[: max(size - at, 0)]
                out[at : at + len(piece)] = piece
        return bytes(out)


def _apply(stored: bytes, changes: list[Write | Resize]) -> bytes:
    out = bytearray(stored)
    for change in changes:
        if isinstance(change, Resize):
            del out[change.size :]
            out.extend(bytes(change.size - len(out)))
        else:
            out.extend(bytes(max(change.offset - len(out), 0)))
            out[change.offset : change.offset + len(change.data)] = change.data
    return bytes(out)


def _sectors(write: Write) -> list[tuple[int, bytes]]:
    out, at, end = [], write.offset, write.offset + len(write.data)
    while at < end:
        following = min(end, (at // SECTOR + 1) * SECTOR)
        out.append((at, write.data[at - write.offset : following - write.offset]))
        at = following
    return out


Node = File | None  # None: a folder
State = dict[str, tuple[int, bytes] | None]  # path: inode number and content


class Change(NamedTuple):
    """A change of one name: set to `node`, or dropped; `gone` is the old name of a rename."""

    path: str
    node: Node
    drop: bool = False
    gone: str = ""

    def apply(self, names: dict[str, Node]) -> None:
        if self.drop:
            names.pop(self.path, None)
            return
        names.pop(self.gone, None)
        names[self.path] = self.node
        if self.gone and self.node is None:
            for path in [p for p in names if p.startswith(self.gone + "/")]:
                names[self.moved(path)] = names.pop(path)

    def moved(self, path: str) -> str:
        """Where a path is after this rename of a folder."""
        inside = self.node is None and self.gone and path.startswith(self.gone + "/")
        return self.path + path[len(self.gone) :] if inside else path


class Disk:
    """All files below one root, by path relative to it."""

    def __init__(self, state: State) -> None:
        self.stored: dict[str, Node] = {
            path: None if found is None else File(found[1], found[0]) for path, found in state.items()
        }
        self.names = dict(self.stored)
        self.pending: list[Change] = []

    def change(self, change: Change) -> None:
        change.apply(self.names)
        if change.gone and change.node is None:  # what is not durable in the folder goes with it
            self.pending = [
                c._replace(path=change.moved(c.path), gone=change.moved(c.gone)) for c in self.pending
            ]
        self.pending.append(change)

    def sync_folder(self, path: str) -> None:
        left = []
        for change in self.pending:
            if os.path.dirname(change.path) == path:
                change.apply(self.stored)
            else:
                left.append(change)
        self.pending = left

    def cut(self, rnd: random.Random, mode: str) -> State:
        """A legal state after a power cut: `min` only what was synced, `max` all that was written, else a mixture."""
        names = dict(self.stored)
        taken: dict[str, float] = {}  # each folder is written out on its own
        for change in self.pending:
            chances = {"min": (0.0,), "max": (1.0,)}.get(mode, (0.0, 0.5, 0.9, 1.0))
            if rnd.random() < taken.setdefault(os.path.dirname(change.path), rnd.choice(chances)):
                change.apply(names)
        contents: dict[int, bytes] = {}
        kept = {"min": 0.0, "max": 1.0}.get(mode)
        state: State = {}
        for path in sorted(names):
            parent = os.path.dirname(path)
            if parent and parent not in state:
                continue  # its folder's name did not reach the disk
            node = names[path]
            if node is None:
                state[path] = None
                continue
            if node.number not in contents:
                chance = rnd.choice((0.0, 0.3, 0.6, 0.9, 1.0)) if kept is None else kept
                contents[node.number] = node.after_cut(rnd, chance)
            state[path] = (node.number, contents[node.number])
        return state

"""The chain computed anew from the events alone, for whoever trusts no manifest (`audit check`)."""

import contextlib
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from session_mgmt_mcp.core.audit import Recomputed
from session_mgmt_mcp.core.errors import LogCorruptError
from session_mgmt_mcp.core.log.durable import sha256
from session_mgmt_mcp.core.log.frame import HEADER, decode_header, entries_of, scan
from session_mgmt_mcp.core.log.journals import list_journals
from session_mgmt_mcp.core.log.manifest import SegmentEntry, load_manifest, versions
from session_mgmt_mcp.core.log.segment import open_segment, read_group

_COLUMNS = ["position", "frame", "event_id", "envelope", "payload_hash", "payload_salt", "payload"]
_TRIES = 5
Progress = Callable[[int, int], None]  # position reached, position wanted


class _Frame(NamedTuple):
    """Leaves of one frame, or of the part of it that was read so far."""

    first: int
    leaves: list[bytes]


def leaves(first: int, entries: Sequence[tuple[bytes, bytes, bytes, bytes]]) -> list[bytes]:
    """The chain's leaf of each (event id, salt, envelope, payload), positions counting from `first`."""
    return [
        sha256(
            b"\0" + (first + k).to_bytes(8, "little") + event_id + sha256(salt + payload).digest() + envelope
        ).digest()
        for k, (event_id, salt, envelope, payload) in enumerate(entries)
    ]


def recompute(
    folder: str, genesis: bytes, positions: Collection[int], progress: Progress | None = None
) -> Recomputed:
    """The chain after each of these positions, from `genesis` (32 bytes) on, by the events in segments and journals.

    Payloads are held against their hashes; forgotten ones are passed by their hash alone. Nothing is raised for a log that
    does not check: the answer says how far it was read and where that ended.
    """
    for left in reversed(range(_TRIES)):
        before = versions(folder)
        walk = _Walk(folder, genesis, frozenset(positions), progress)
        differs = ""
        try:
            walk.run()
        except (LogCorruptError, FileNotFoundError) as error:
            if left and versions(folder) != before:
                continue  # sealed, merged or forgotten meanwhile: files were replaced under our hands
            differs = f"{error.filename} is missing" if isinstance(error, FileNotFoundError) else str(error)
        return Recomputed(walk.chains, walk.expected - 1, walk.differs or differs)
    raise AssertionError("unreachable: the last try returns")


class _Walk:
    """One pass over the log, as far as it is wanted."""

    def __init__(
        self, folder: str, genesis: bytes, wanted: frozenset[int], progress: Progress | None
    ) -> None:
        self.folder = folder
        self.chain = genesis
        self.expected = 1
        self.wanted = wanted
        self.upto = max(wanted, default=0)
        self.chains = {0: genesis} if 0 in wanted else {}
        self.differs = ""
        self._say = progress or (lambda *_: None)

    def run(self) -> None:
        for entry in load_manifest(self.folder).segments:
            if self.expected > self.upto:
                return
            self._segment(entry)
        for first, path in list_journals(self.folder):
            if self.expected > self.upto:
                return
            if first >= self.expected:
                self._journal(path)

    def _segment(self, entry: SegmentEntry) -> None:
        path = f"{self.folder}/segments/{entry.file}"
        for frame in _frames(path):
            self._take(frame, path)
            if self.upto < self.expected <= entry.last:
                return
        if self.chain.hex() != entry.chain and not self.differs:
            self.differs = (
                f"{path} (positions {entry.first}–{entry.last}) is the first file that holds other history"
            )

    def _journal(self, path: str) -> None:
        raw = Path(path).read_bytes()
        header, data = decode_header(raw[: HEADER.size], path), memoryview(raw)
        if header.first != self.expected:
            raise LogCorruptError(f"{path} does not continue the log at position {self.expected}")
        for frame in scan(data[HEADER.size :], HEADER.size, header, self.expected):
            if frame.count:
                self._take(_Frame(frame.first, leaves(frame.first, entries_of(frame, data, 0))), path)
            if self.expected > self.upto:
                return

    def _take(self, frame: _Frame, path: str) -> None:
        if frame.first != self.expected:
            raise LogCorruptError(f"{path}: position {self.expected} is missing")
        self.chain = sha256(self.chain + b"".join(frame.leaves)).digest()
        self.expected += len(frame.leaves)
        if self.expected - 1 in self.wanted:
            self.chains[self.expected - 1] = self.chain
        self._say(self.expected - 1, self.upto)


def _frames(path: str) -> Iterator[_Frame]:
    """The frames of a segment; memory for one row group and one frame's leaves."""
    pending: _Frame | None = None
    with contextlib.closing(open_segment(path)) as file:
        for group in range(file.num_row_groups):
            table = read_group(file, group, _COLUMNS, path)
            for row in zip(*(table.column(name).to_pylist() for name in _COLUMNS), strict=True):
                position, frame, leaf = row[0], row[1], _leaf(path, *row)
                if pending is None or pending.first != frame:
                    if pending is not None:
                        yield pending
                    pending = _Frame(frame, [])
                if position != pending.first + len(pending.leaves):
                    raise LogCorruptError(
                        f"{path}: position {pending.first + len(pending.leaves)} is missing"
                    )
                pending.leaves.append(leaf)
    if pending is not None:
        yield pending


def _leaf(
    path: str,
    position: int,
    _: int,
    event_id: bytes,
    envelope: bytes,
    payload_hash: bytes,
    salt: bytes | None,
    payload: bytes | None,
) -> bytes:
    if (salt is None) != (payload is None):
        raise LogCorruptError(f"{path}: position {position} has only one of payload and salt")
    if salt is not None and payload is not None and sha256(salt + payload).digest() != payload_hash:
        raise LogCorruptError(f"{path}: the payload of position {position} is not the one that was appended")
    return bytes(sha256(b"\0" + position.to_bytes(8, "little") + event_id + payload_hash + envelope).digest())

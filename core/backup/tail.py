"""The journals' durable frames, as a backup takes them: without a lock, while others append and seal."""

import contextlib
import os
from collections.abc import Iterator
from typing import NamedTuple

import pyarrow as pa

from session_mgmt_mcp.core.backup.layout import Piece
from session_mgmt_mcp.core.errors import AppendError, LogCorruptError
from session_mgmt_mcp.core.log.columns import journal_table
from session_mgmt_mcp.core.log.durable import sha256, sync_file, sync_folder
from session_mgmt_mcp.core.log.frame import (
    HEADER,
    Frame,
    JournalHeader,
    decode_header,
    entries_of,
    frame_at,
    says_damaged,
    scan,
)
from session_mgmt_mcp.core.log.journals import list_journals, poisoned_salt
from session_mgmt_mcp.core.log.recompute import leaves

_TRIES = 20


class OpenJournal(NamedTuple):
    """A journal that can be read on although it may be sealed and unlinked meanwhile."""

    first: int  # position of its first event
    path: str
    fd: int


class Frames(NamedTuple):
    """What the raw bytes of a piece hold."""

    header: JournalHeader
    frames: list[Frame]  # a closing frame too, where there is one
    raw: bytes  # header and frames, nothing after them


@contextlib.contextmanager
def open_journals(folder: str) -> Iterator[list[OpenJournal]]:
    """All journals there are, opened. With a manifest that is read afterwards they leave no gap."""
    opened: list[OpenJournal] = []
    try:
        for _ in range(_TRIES):
            try:
                for first, path in list_journals(folder):
                    opened.append(OpenJournal(first, path, os.open(path, os.O_RDONLY | os.O_CLOEXEC)))
                break
            except FileNotFoundError as error:  # sealed between listing and opening
                missing = error
                while opened:
                    os.close(opened.pop().fd)
        else:
            raise LogCorruptError(f"{missing.filename} is listed and not there; restore it from a backup")
        yield opened
    finally:
        for journal in opened:
            os.close(journal.fd)


def take_piece(folder: str, journal: OpenJournal, *, last: bool) -> Frames:
    """The frames of a journal there are now, made durable. `last`: it may be open, and a frame be half written.

    Raises LogCorruptError; AppendError where the system cannot make them durable.
    """
    found = _scan(journal)
    end = found.frames[-1].end if found.frames else HEADER.size
    closed = bool(found.frames) and not found.frames[-1].count
    if not closed:
        again = _scan(journal).raw[: found.header.capacity]
        if frame_at(memoryview(again), end, 0, found.header) is None and says_damaged(
            again[end:], end, found.header
        ):
            raise LogCorruptError(f"{journal.path} is damaged at byte {end}; restore it from a backup")
        if not last:
            raise LogCorruptError(
                f"{journal.path} breaks off at byte {end}, later journals exist; restore it from a backup"
            )
    _make_durable(folder, journal, found.header)
    return found._replace(raw=found.raw[:end])


def _scan(journal: OpenJournal) -> Frames:
    size = os.fstat(journal.fd).st_size
    raw = bytearray()
    while len(raw) < size and (block := os.pread(journal.fd, size - len(raw), len(raw))):
        raw += block
    header = decode_header(bytes(raw[: HEADER.size]), journal.path)
    data = memoryview(bytes(raw))
    return Frames(header, scan(data[HEADER.size :], HEADER.size, header, header.first), bytes(raw))


def _make_durable(folder: str, journal: OpenJournal, header: JournalHeader) -> None:
    """Return once what was read is on disk: a backup must not hold what the log itself may still lose."""
    try:
        sync_file(journal.fd)
        sync_folder(f"{folder}/journal")
    except OSError as error:
        raise AppendError(
            f"cannot make {journal.path} durable: {error.strerror}; see the system's log for the disk's state"
        ) from error
    if poisoned_salt(folder) == header.salt:
        raise AppendError(
            f"an earlier write to {journal.path} failed; the next append leaves that file: back up again after it"
        )


def parse_piece(raw: bytes, piece: Piece, origin_of: str) -> Frames:
    """The frames of a stored piece, checked against what the snapshot says of it. Raises LogCorruptError."""
    header = decode_header(raw[: HEADER.size], origin_of)
    data = memoryview(raw)
    frames = scan(data[HEADER.size :], HEADER.size, header, piece.first)
    end = frames[-1].end if frames else HEADER.size
    chain, last = chain_after(frames, raw, header)
    told = (piece.first, piece.last, piece.chain_before, piece.chain, piece.bytes)
    if (header.first, last, header.chain.hex(), chain.hex(), end) != told or end != len(raw):
        raise LogCorruptError(f"{origin_of}: its frames are not what the snapshot says")
    return Frames(header, frames, raw)


def chain_after(frames: list[Frame], raw: bytes, header: JournalHeader) -> tuple[bytes, int]:
    """Chain and last position after these frames, computed anew. Raises LogCorruptError where it breaks."""
    chain, last, data = header.chain, header.first - 1, memoryview(raw)
    for frame in frames:
        if frame.count:
            chain = sha256(chain + b"".join(leaves(frame.first, entries_of(frame, data, 0)))).digest()
            last += frame.count
        if chain != frame.chain:
            raise LogCorruptError(
                f"the chain of the journal of position {header.first} breaks at {frame.first}"
            )
    return chain, last


def table_of(found: Frames, name: str) -> pa.Table:
    """The events of a piece as a segment's table. Raises LogCorruptError naming `name`."""
    frames = [frame for frame in found.frames if frame.count]
    return journal_table(name, found.header, memoryview(found.raw), frames)[0]

"""Reading a whole snapshot back: every object against its SHA-256, the tail against crc and chain (FORMAT.md)."""

from collections.abc import Iterator
from typing import NamedTuple

from session_mgmt_mcp.core.backup.layout import Piece, find_snapshot, identify, object_name
from session_mgmt_mcp.core.backup.purge import Progress
from session_mgmt_mcp.core.backup.store import ObjectStore, checked
from session_mgmt_mcp.core.backup.tail import parse_piece
from session_mgmt_mcp.core.errors import InputError, LogCorruptError
from session_mgmt_mcp.core.log.journals import first_chain
from session_mgmt_mcp.core.log.manifest import SegmentEntry

CHECKING = "checking the backup"


class Checked(NamedTuple):
    """A snapshot that checks."""

    snapshot: str
    position: int
    chain: str  # hex
    objects: int
    bytes: int


def check(store: ObjectStore, snapshot: str | None = None, progress: Progress | None = None) -> Checked:
    """Read a snapshot (default: the newest). Raises LogCorruptError naming the object that fails, InputError."""
    if identify(store) is None:
        raise InputError(f"{store.url} holds no backup")
    found = find_snapshot(store, snapshot)[1]
    objects = found.objects()
    total = sum(size for size in objects.values() if size > 0)
    done = 0
    for digest in objects:
        for block in _blocks(store, digest):
            done += len(block)
            if progress is not None:
                progress(CHECKING, min(done, total), total)
    chain, last = first_chain(found.origin).hex(), 0
    parts: tuple[SegmentEntry | Piece, ...] = (*found.segments, *found.tail)
    for part in parts:
        if part.first != last + 1 or part.chain_before != chain:
            raise LogCorruptError(f"{store.url}: the snapshot {found.id} has a gap after position {last}")
        if isinstance(part, Piece):
            raw = b"".join(_blocks(store, part.sha256))
            parse_piece(raw, part, f"{store.url}/{object_name(part.sha256)}")
        last, chain = part.last, part.chain
    if (last, chain) != (found.position, found.chain):
        raise LogCorruptError(f"{store.url}: the snapshot {found.id} does not end where it says")
    return Checked(found.id, found.position, found.chain, len(objects), done)


def _blocks(store: ObjectStore, digest: str) -> Iterator[bytes]:
    name = object_name(digest)
    where = f"{store.url}/{name}"
    mend = "remove it and run `session-mgmt-mcp backup` there again, which brings it anew if the log still has it"
    try:
        yield from checked(store.blocks(name), digest, where)
    except FileNotFoundError:
        raise LogCorruptError(f"{where} is missing; {mend}") from None
    except LogCorruptError as error:
        raise LogCorruptError(f"{error}; {mend}") from None

"""Hashes of events that lie in Arrow columns: payload hashes, leaves and the chain (FORMAT.md section 2)."""

from array import array
from collections.abc import Collection, Sequence
from itertools import accumulate
from struct import Struct, unpack_from
from typing import Any

import pyarrow as pa

from session_mgmt_mcp.core.errors import LogCorruptError
from session_mgmt_mcp.core.log.durable import sha256
from session_mgmt_mcp.core.log.frame import FRAME, Frame, JournalHeader
from session_mgmt_mcp.core.log.segment import compute, to_table

# What a leaf is made of; enough to compute the chain.
CHAIN_COLUMNS = ["position", "frame", "event_id", "envelope", "payload_hash"]
_TWO_LENGTHS = Struct("<2I").unpack_from
_MEND = "restore it from a backup"


def journal_table(
    path: str, header: JournalHeader, data: memoryview, frames: Sequence[Frame]
) -> tuple[pa.Table, bytes]:
    """The events of these frames of a journal as a segment's table, and the chain after them, recomputed.

    `data` is the whole file. Raises LogCorruptError where a frame's chain or lengths are not right.
    """
    blocks, lengths, of_frame = _blocks(path, data, frames)
    count = len(of_frame)
    ids, salts = (_fixed(16, count, b"".join(parts)) for parts in blocks[:2])
    envelopes, payloads = (_binary(lengths[k::2], b"".join(parts)) for k, parts in enumerate(blocks[2:]))
    hashes = _fixed(32, count, b"".join(payload_hashes(salts, payloads)))
    chain = _check_chain(path, header, frames, leaves_of(header.first, ids, hashes, envelopes))
    frame_column = pa.Array.from_buffers(pa.uint64(), count, [None, pa.py_buffer(of_frame)])
    return to_table(header.first, frame_column, ids, envelopes, hashes, salts, payloads), chain


def _blocks(
    path: str, data: memoryview, frames: Sequence[Frame]
) -> tuple[tuple[list[memoryview], ...], list[int], "array[int]"]:
    """Of each frame: where its ids, salts, envelopes and payloads lie. Of each event: the lengths of its envelope and its
    payload, one after the other; and the first position of its frame.
    """
    blocks: tuple[list[memoryview], ...] = ([], [], [], [])
    ids, salts, envelopes, payloads = (part.append for part in blocks)
    lengths: list[int] = []
    of_frame = array("Q")
    for frame in frames:
        n, at = frame.count, frame.offset + FRAME.size
        mine = _TWO_LENGTHS(data, at + 32) if n == 1 else unpack_from(f"<{2 * n}I", data, at + 32 * n)
        envelopes_at = at + 40 * n
        payloads_at = envelopes_at + sum(mine[0::2])
        if payloads_at + sum(mine[1::2]) != frame.end:
            raise LogCorruptError(
                f"{path}: the lengths inside the frame of position {frame.first} do not add up; {_MEND}"
            )
        ids(data[at : at + 16 * n])
        salts(data[at + 16 * n : at + 32 * n])
        envelopes(data[envelopes_at:payloads_at])
        payloads(data[payloads_at : frame.end])
        lengths += mine
        of_frame.extend((frame.first,) * n)
    return blocks, lengths, of_frame


def _check_chain(path: str, header: JournalHeader, frames: Sequence[Frame], found: list[bytes]) -> bytes:
    chain, at = header.chain, 0
    for frame in frames:
        mine = found[at] if frame.count == 1 else b"".join(found[at : at + frame.count])
        chain = sha256(chain + mine).digest()
        if chain != frame.chain:
            raise LogCorruptError(f"{path}: the chain breaks at position {frame.first}; {_MEND}")
        at += frame.count
    return chain


def _binary(lengths: list[int], raw: bytes) -> pa.Array:
    offsets = array("i", accumulate(lengths, initial=0))
    return pa.Array.from_buffers(pa.binary(), len(lengths), [None, pa.py_buffer(offsets), pa.py_buffer(raw)])


def _fixed(width: int, count: int, raw: Any) -> pa.Array:
    return pa.Array.from_buffers(pa.binary(width), count, [None, pa.py_buffer(raw)])


def payload_hashes(salts: pa.Array, payloads: pa.Array) -> list[bytes]:
    """H(salt ‖ payload) of each event; none may be null."""
    return [sha256(salted).digest() for salted in _joined(salts, payloads).to_pylist()]


def leaves_of(first: int, ids: pa.Array, hashes: pa.Array, envelopes: pa.Array) -> list[bytes]:
    """The chain's leaf of each event, positions counting from `first`."""
    count = len(ids)
    positions = array("Q", range(first, first + count))
    if (
        positions.itemsize != 8 or _BIG_ENDIAN
    ):  # pragma: no cover - no such machine is supported by Arrow's wheels
        raise NotImplementedError("segments are read and written on little-endian machines only")
    joined = _joined(pa.scalar(b"\0", pa.binary()), _fixed(8, count, positions), ids, hashes, envelopes)
    return [sha256(leaf).digest() for leaf in joined.to_pylist()]


_BIG_ENDIAN = array("H", [1]).tobytes() == b"\0\1"


def _joined(*parts: Any) -> pa.Array:
    """The parts of each row, one after the other."""
    pc = compute()
    binary = [part if part.type == pa.binary() else part.cast(pa.binary()) for part in parts]
    return pc.binary_join_element_wise(*binary, pa.scalar(b"", pa.binary()))


def whole(table: pa.Table, name: str) -> pa.Array:
    """A column of one piece."""
    column = table.column(name)
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def check_payloads(table: pa.Table, path: str) -> None:
    """Hold the payloads that are there against their hashes. Raises LogCorruptError naming path and position."""
    pc = compute()
    salts, payloads, hashes = (whole(table, name) for name in ("payload_salt", "payload", "payload_hash"))
    positions = whole(table, "position")
    if salts.null_count or payloads.null_count:
        there = payloads.is_valid()
        lone = positions.filter(pc.not_equal(salts.is_valid(), there))
        if len(lone):
            raise LogCorruptError(f"{path}: position {lone[0]} has only one of payload and salt; {_MEND}")
        salts, payloads, hashes, positions = (a.filter(there) for a in (salts, payloads, hashes, positions))
    found, said = payload_hashes(salts, payloads), hashes.to_pylist()
    if found != said:
        k = next(k for k, pair in enumerate(zip(found, said, strict=True)) if pair[0] != pair[1])
        raise LogCorruptError(
            f"{path}: the payload of position {positions[k]} is not the one that was appended; {_MEND}"
        )


class ChainWalk:
    """The chain over tables of events that follow each other; frames may go on from one table into the next."""

    def __init__(self, chain: bytes, first: int, wanted: Collection[int] = ()) -> None:
        """Begin at position `first`, which begins a frame, with the chain before it.

        `chains` collects the chain after each of the `wanted` positions where a frame ends.
        """
        self.chain = chain  # after the last frame that ended
        self.next = first  # position
        self.wanted = wanted
        self.chains: dict[int, bytes] = {}
        self._frame = 0  # first position of the frame that goes on; 0: none does
        self._hash: Any = None

    def take(self, table: pa.Table, path: str) -> None:
        """Pass a table with at least CHAIN_COLUMNS. Raises LogCorruptError where positions or frames do not follow."""
        pc, count = compute(), table.num_rows
        if not count:
            return
        if whole(table, "position").to_pylist() != list(range(self.next, self.next + count)):
            raise LogCorruptError(f"{path}: position {self.next} is not where it should be; {_MEND}")
        found = leaves_of(self.next, *(whole(table, n) for n in ("event_id", "payload_hash", "envelope")))
        frames = pc.run_end_encode(whole(table, "frame"), run_end_type=pa.int64())
        at = 0
        for frame, end in zip(frames.values.to_pylist(), frames.run_ends.to_pylist(), strict=True):
            if frame != self._frame:
                self.finish()
                if frame != self.next:
                    raise LogCorruptError(
                        f"{path}: the frame of position {self.next} does not begin there; {_MEND}"
                    )
                self._frame, self._hash = frame, sha256(self.chain)
            self._hash.update(found[at] if end - at == 1 else b"".join(found[at:end]))
            self.next += end - at
            at = end

    def finish(self) -> bytes:
        """The frame that was being passed ends here; the chain after it."""
        if self._frame:
            self.chain, self._frame = bytes(self._hash.digest()), 0
            if self.next - 1 in self.wanted:
                self.chains[self.next - 1] = self.chain
        return self.chain

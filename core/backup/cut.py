"""Cutting a restored log after a position, which may lie inside a frame (FORMAT.md, Point in time)."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from session_mgmt_mcp.core.envelope import decode_envelope
from session_mgmt_mcp.core.log.durable import sha256
from session_mgmt_mcp.core.log.manifest import SegmentEntry
from session_mgmt_mcp.core.log.seal import put_segment
from session_mgmt_mcp.core.log.segment import Row, open_segment, read_group, read_rows


class Cut(NamedTuple):
    """Where a log was cut. Chains are 32 bytes."""

    position: int
    chain: bytes  # of the cut log
    whole_position: int  # the last position up to it at which a frame of the uncut log ends
    whole_chain: bytes  # of both logs there


class Chosen(NamedTuple):
    """The position a time stands for."""

    position: int  # every event up to it was recorded at or before the time; the next was not
    recorded_at: int  # of that event
    next_at: int  # of the one after it, 0 for none
    later: int  # events after it that are stamped at or before the time too: the clock went back


def choose(times: Iterable[tuple[int, int]], limit: int) -> Chosen:
    """The end of the longest beginning of the log in which nothing was recorded after `limit`; 0 for none.

    `times`: (position, recorded_at in µs) of every event, in order.
    """
    position = recorded_at = next_at = later = 0
    for at, recorded in times:
        if next_at:
            later += recorded <= limit
        elif recorded <= limit:
            position, recorded_at = at, recorded
        else:
            next_at = recorded
    return Chosen(position, recorded_at, next_at, later)


def segment_times(path: str, first: int) -> Iterator[tuple[int, int]]:
    """(position, recorded_at) of a segment's events. Raises LogCorruptError."""
    with open_segment(path) as file:
        for group in range(file.num_row_groups):
            for recorded in read_group(file, group, ["recorded_at"], path).column(0).to_pylist():
                yield first, recorded
                first += 1


def row_times(rows: Iterable[Row]) -> Iterator[tuple[int, int]]:
    """(position, recorded_at) of rows."""
    return ((row.position, decode_envelope(row.envelope).recorded_at) for row in rows)


def cut_segment(folder: str, rows: Sequence[Row], chain: bytes, upto: int) -> tuple[SegmentEntry, Cut]:
    """Put what `rows` hold up to a position into a segment of `folder`. `chain`: before the first of them."""
    kept: list[Row] = []
    before = chain
    whole_position, whole_chain = rows[0].position - 1, chain
    for _, group in groupby(rows, lambda row: row.frame):
        frame = list(group)
        held = [row for row in frame if row.position <= upto]
        if not held:
            break
        kept += held
        chain = sha256(chain + b"".join(map(_leaf, held))).digest()
        if len(held) == len(frame):
            whole_position, whole_chain = frame[-1].position, chain
    entry = put_segment(folder, kept, before, chain)
    return entry, Cut(kept[-1].position, chain, whole_position, whole_chain)


def cut_stored(folder: str, path: str, entry: SegmentEntry, upto: int) -> tuple[SegmentEntry, Cut]:
    """`cut_segment` of a segment file."""
    rows = [row for group in read_rows(path) for row in group]
    return cut_segment(folder, rows, bytes.fromhex(entry.chain_before), upto)


def _leaf(row: Row) -> bytes:
    head = b"\0" + row.position.to_bytes(8, "little") + row.event_id
    return bytes(sha256(head + row.payload_hash + row.envelope).digest())

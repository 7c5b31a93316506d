"""Cutting a restored log after a position, which may lie inside a frame (FORMAT.md, Point in time)."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from session_mgmt_mcp.core.backup.layout import Piece
from session_mgmt_mcp.core.log.columns import ChainWalk
from session_mgmt_mcp.core.log.manifest import SegmentEntry
from session_mgmt_mcp.core.log.seal import put_segment
from session_mgmt_mcp.core.log.segment import SegmentTables


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


def times_of(tables: Iterable[pa.Table]) -> Iterator[tuple[int, int]]:
    """(position, recorded_at) of tables with these columns."""
    for table in tables:
        yield from zip(
            table.column("position").to_pylist(), table.column("recorded_at").to_pylist(), strict=True
        )


def cut_segment(
    folder: str, path: str, entry: SegmentEntry | Piece, upto: int, tables: Iterable[pa.Table] | None = None
) -> tuple[SegmentEntry, Cut]:
    """Put what a segment file holds up to a position into a segment of `folder`, its chain recomputed.

    With `tables` these are taken for the file's content; they are passed twice. Raises LogCorruptError.
    """
    source = tables if tables is not None else SegmentTables([path])
    before = bytes.fromhex(entry.chain_before)
    whole = _whole_up_to(source, upto)
    walk = ChainWalk(before, entry.first, {whole})
    for table in source:
        walk.take(_up_to(table, upto), path)
    chain = walk.finish()
    shorter = put_segment(folder, _Cut(source, upto), before, chain)
    return shorter, Cut(upto, chain, whole, before if whole < entry.first else walk.chains[whole])


def _whole_up_to(tables: Iterable[pa.Table], upto: int) -> int:
    """The last position up to `upto` at which a frame ends."""
    frame = 0
    for table in tables:
        first, last = table.column("position")[0].as_py(), table.column("position")[-1].as_py()
        if first <= upto <= last:
            frame = table.column("frame")[upto - first].as_py()
        if first <= upto + 1 <= last:
            return frame - 1 if table.column("frame")[upto + 1 - first].as_py() == frame else upto
    return upto


def _up_to(table: pa.Table, upto: int) -> pa.Table:
    return table.filter(pc.less_equal(table.column("position"), pa.scalar(upto, pa.uint64())))


class _Cut:
    """The beginning of some tables; can be passed more than once if they can."""

    def __init__(self, tables: Iterable[pa.Table], upto: int) -> None:
        self._tables, self._upto = tables, upto

    def __iter__(self) -> Iterator[pa.Table]:
        return (_up_to(table, self._upto) for table in self._tables)

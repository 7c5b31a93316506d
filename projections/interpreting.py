"""From events to columns: what every event comes to, as Arrow tables of rows whose keys are not completed yet.

This takes most of the time of a rebuild, depends on one event at a time, and is what `workers` does beside this process.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import pyarrow as pa

from session_mgmt_mcp.core.envelope import Event
from session_mgmt_mcp.core.log.log import FileLog
from session_mgmt_mcp.core.log.segment import group_events, open_segment
from session_mgmt_mcp.core.ports import EventLog
from session_mgmt_mcp.projections.rows import Row, UsageRow, interpret_event
from session_mgmt_mcp.projections.tables import arrow_table
from session_mgmt_mcp.projections.tombstones import Place, Tombstones
from session_mgmt_mcp.projections.workers import results

CHUNK_EVENTS = 4000  # interpreted at once, about
EVENTS_MIN = 20_000  # below, starting processes takes longer than they save


class Mark(NamedTuple):
    """An event that is no row and has its turn among the rows: a tombstone's keys, or the places a forgotten event keeps."""

    position: int
    keys: tuple[str, ...]
    places: tuple[Place, ...]


class Batch(NamedTuple):
    """What events that follow each other come to. `rows`: keys that end in `:` want the order, `seq` is 0."""

    last: int  # position
    rows: pa.Table
    usage: pa.Table
    marks: tuple[Mark, ...]


class Chunk(NamedTuple):
    """Row groups of a segment file, as (number of the group, its first position)."""

    path: str
    groups: tuple[tuple[int, int], ...]
    last: int  # position of the last event wanted

    def events(self, after: int) -> list[Event]:
        """The events after a position. Raises LogCorruptError, FileNotFoundError."""
        with open_segment(self.path) as file:
            read = [group_events(file, group, self.path, first) for group, first in self.groups]
        return [event for events in read for event in events if after < event.position <= self.last]


def interpret_batch(events: Iterable[Event], tombstones: Tombstones) -> Batch:
    """Interpret events that follow each other, at least one."""
    rows: list[Row] = []
    usage: list[UsageRow] = []
    marks: list[Mark] = []
    last = 0
    for event in events:
        last = event.position
        if tombstones.covers(event):
            if places := tombstones.places(event):
                marks.append(Mark(last, (), tuple(places)))
            continue
        found = interpret_event(event)
        rows += found.rows
        usage += found.usage
        marks += [Mark(last, forgotten.action_keys, ()) for forgotten in found.forgotten]
    return Batch(last, arrow_table("rows", rows), arrow_table("usage", usage), tuple(marks))


def chunks_of(log: EventLog, after: int, upto: int) -> list[Chunk] | None:
    """Where the sealed events after < position <= upto lie; None where the log does not keep them in segment files."""
    if not isinstance(log, FileLog):
        return None
    out: list[Chunk] = []
    for entry in log.reader.manifest().segments:
        if entry.last <= after or entry.first > upto:
            continue
        path = f"{log.folder}/segments/{entry.file}"
        with open_segment(path) as file:
            sizes = [file.metadata.row_group(g).num_rows for g in range(file.num_row_groups)]
        groups: list[tuple[int, int]] = []
        first = entry.first
        held = 0
        for group, size in enumerate(sizes):
            if first + size > after + 1 and first <= upto:
                groups.append((group, first))
                held += size
            first += size
            if groups and (held >= CHUNK_EVENTS or group == len(sizes) - 1 or first > upto):
                out.append(Chunk(path, tuple(groups), min(first - 1, upto)))
                groups, held = [], 0
    return out


class _Interpretation(NamedTuple):
    """The job of `workers`."""

    tombstones: Tombstones
    after: int

    def do(self, task: Chunk) -> Batch:
        return interpret_batch(task.events(self.after), self.tombstones)


def interpreted(log: EventLog, after: int, upto: int, tombstones: Tombstones) -> Iterator[Batch]:
    """The sealed events after < position <= upto interpreted, in order; by several processes where that pays.

    Raises LogCorruptError.
    """
    chunks = chunks_of(log, after, upto) if upto - after >= EVENTS_MIN else None
    if chunks is not None:
        yield from results(_Interpretation(tombstones, after), chunks)
        return
    for events in log.read(after, upto):
        if events:
            yield interpret_batch(events, tombstones)

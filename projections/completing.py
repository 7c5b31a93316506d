"""Completes interpreted rows in order, by columns: keys, tools, `seq`, and which rows are hidden."""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from session_mgmt_mcp.projections.facts import Facts, Known
from session_mgmt_mcp.projections.interpreting import Batch, Mark
from session_mgmt_mcp.projections.rows import ORDINAL_BITS
from session_mgmt_mcp.projections.tables import ARROW_SCHEMAS, arrow_table
from session_mgmt_mcp.projections.tombstones import Place

Part = dict[str, pa.Table]  # table name -> its new records
_ROWS = ARROW_SCHEMAS["rows"]
_COMPLETED = [
    _ROWS.get_field_index(name) for name in ("key", "tool", "seq")
]  # in the order `Facts.place` gives them


class Completer:
    """Takes batches in order and hands on parts: what `Facts` is to find when it asks for earlier rows."""

    def __init__(self, facts: Facts, hand_on: Callable[[Part], None]) -> None:
        self.facts = facts
        self.rows = 0  # taken and not handed on
        self._hand_on = hand_on
        self._tables: dict[str, list[pa.Table]] = {}
        self._forgotten: list[tuple[str, int]] = []
        self._places: list[Place] = []

    def take(self, batch: Batch) -> None:
        """Complete the rows of a batch that follows those before."""
        columns = [batch.rows.column(name).to_pylist() for name in ("session", *Known._fields)]
        ids = columns[1]
        start = 0
        for mark in batch.marks:
            end = bisect_left(ids, mark.position << ORDINAL_BITS)
            self._complete(batch.rows, columns, start, end)
            self._heed(mark)
            start = end
        self._complete(batch.rows, columns, start, len(ids))
        if batch.usage.num_rows:
            self._tables.setdefault("usage", []).append(batch.usage)

    def _heed(self, mark: Mark) -> None:
        for place in mark.places:
            self.facts.leave_place(place.session, place.known)
        self._places += mark.places
        if mark.keys:
            if not self.facts.whole:
                self.flush()  # rows with these keys are looked for in what was handed on
            self.facts.forget(mark.keys, mark.position)
            self._forgotten += [(key, mark.position) for key in mark.keys]

    def _complete(self, rows: pa.Table, columns: list[list[Any]], start: int, end: int) -> None:
        if start == end:
            return
        place = self.facts.place
        done = [
            place(session, row)
            for session, row in zip(
                columns[0][start:end],
                zip(*(column[start:end] for column in columns[1:]), strict=True),
                strict=True,
            )
        ]
        table = rows.slice(start, end - start)
        for at, values in zip(_COMPLETED, zip(*done, strict=True), strict=True):
            field = _ROWS.field(at)
            table = table.set_column(at, field, pa.array(values, field.type))
        self._tables.setdefault("rows", []).append(table)
        self.rows += end - start

    def flush(self) -> None:
        """Hand on what was taken."""
        part = {name: pa.concat_tables(tables) for name, tables in self._tables.items()}
        lists: dict[str, Sequence[Sequence[Any]]] = {
            "hidden": list(self.facts.hidden.items()),
            "forgotten": self._forgotten,
            "places": self._places,
        }
        part |= {name: arrow_table(name, records) for name, records in lists.items() if records}
        self._tables, self._forgotten, self._places, self.rows = {}, [], [], 0
        self.facts.hidden.clear()
        if part:
            self._hand_on(part)
        if self.facts.may_evict():
            self.facts.evict()

"""Timelines: a session in the order things happened, and pages of it."""

import base64
import binascii
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from session_mgmt_mcp.core.envelope import EventType
from session_mgmt_mcp.core.errors import InputError
from session_mgmt_mcp.projections.query_files import QueryFiles
from session_mgmt_mcp.projections.results import TimelinePage, Turn
from session_mgmt_mcp.projections.rows import ORDINAL_BITS, ORDINALS_MAX, Row
from session_mgmt_mcp.projections.tables import ROW_LIST, row_from


class Cursor(NamedTuple):
    """Where a page goes on: before or after a row, in one session or ("") in the whole log."""

    session: str
    id: int
    later: bool

    def encode(self) -> str:
        return base64.urlsafe_b64encode(msgspec.msgpack.encode(tuple(self))).decode().rstrip("=")


def decode_cursor(text: str) -> Cursor:
    """Raises InputError."""
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        return Cursor(*msgspec.msgpack.decode(raw, type=tuple[str, int, bool]))
    except (binascii.Error, ValueError, msgspec.DecodeError):
        raise InputError(f"no cursor of a timeline: {text[:60]!r}; ask for the first page again") from None


ROWS_AT_ONCE = 500


def session_order(files: QueryFiles, session: str, upto: int | None = None) -> list[int]:
    """Ids of a session's shown rows in the order they happened; `upto`: what had happened by that position (a transcript
    that was read later tells of it too).

    Rows of a transcript stand in its order. Other rows (subagents', which have transcripts of their own, hooks not yet in
    the transcript, commands, documents) stand at their place by time, behind everything where they are newer.
    """
    bound, parameters = "", list[Any]([session])
    if upto is not None:
        end = (upto + 1) << ORDINAL_BITS
        bound = (
            " AND (id < ? OR (source = 'record' AND occurred_at BETWEEN 1 AND "
            "(SELECT max(occurred_at) FROM all_rows WHERE session = ? AND id < ?)))"
        )
        parameters += [end, session, end]
    records = files.fetch(
        "SELECT id, source = 'record', starts_with(actor, 'agent:'), tool_use_id, occurred_at FROM shown "
        f"WHERE session = ?{bound} ORDER BY id",
        parameters,
    )
    of_agents = {use for _, _, by_agent, use, _ in records if by_agent and use}  # their results are a tool's
    spine: list[tuple[int, int]] = []  # time so far, id
    apart: list[tuple[int, int]] = []
    latest = 0
    for row_id, of_transcript, by_agent, use, occurred_at in records:
        if of_transcript and not by_agent and use not in of_agents:
            latest = max(latest, occurred_at)
            spine.append((latest, row_id))
        else:
            apart.append((occurred_at, row_id))
    others = sorted((time or latest, row_id) for time, row_id in apart)
    out: list[int] = []
    at = 0
    for time, row_id in spine:
        while at < len(others) and others[at][0] < time:
            out.append(others[at][1])
            at += 1
        out.append(row_id)
    return out + [row_id for _, row_id in others[at:]]


def session_rows(files: QueryFiles, ids: Sequence[int], session: str) -> list[Row]:
    """The rows of these ids that are shown, in this order."""
    rows = _rows(files, ids, session)
    return [rows[i] for i in ids if i in rows]


def session_page(files: QueryFiles, session: str, start: int, end: int, order: Sequence[int]) -> TimelinePage:
    """Rows `order[start:end]` of a session with cursors to both sides."""
    start, end = max(0, start), min(len(order), end)
    ids = order[start:end]
    rows = _rows(files, ids, session)
    return TimelinePage(
        turns=tuple(turn_of(rows[i]) for i in ids if i in rows),
        earlier=Cursor(session, ids[0], False).encode() if ids and start > 0 else "",
        later=Cursor(session, ids[-1], True).encode() if ids and end < len(order) else "",
    )


def follow(files: QueryFiles, cursor: Cursor, limit: int) -> TimelinePage:
    """The page a cursor points to. Raises InputError where its row is gone."""
    if not cursor.session:
        return log_page(files, limit, cursor)
    order = session_order(files, cursor.session)
    if cursor.id not in order:  # it was superseded: go on at the nearest row that is left
        near = min(order, key=lambda i: abs(i - cursor.id), default=None)
        if near is None:
            raise InputError(f"session {cursor.session} holds nothing any more; list the sessions again")
        cursor = cursor._replace(id=near)
    at = order.index(cursor.id)
    if cursor.later:
        return session_page(files, cursor.session, at + 1, at + 1 + limit, order)
    return session_page(files, cursor.session, at - limit, at, order)


def around_position(files: QueryFiles, position: int, before: int, after: int) -> TimelinePage:
    """The rows around the first row of an event. Raises InputError where nothing is shown of it."""
    first = position << ORDINAL_BITS
    found = files.fetch(
        "SELECT id, session FROM shown WHERE id BETWEEN ? AND ? ORDER BY id LIMIT 1",
        [first, first + ORDINALS_MAX - 1],
    )
    if not found:
        return _around_hidden(files, position, before, after)
    row_id, session = found[0]
    order = session_order(files, session)
    at = order.index(row_id)
    return session_page(files, session, at - before, at + after + 1, order)


def _around_hidden(files: QueryFiles, position: int, before: int, after: int) -> TimelinePage:
    """A position whose rows were superseded by a better report: go to that report."""
    first = position << ORDINAL_BITS
    found = files.fetch(
        "SELECT s.id, s.session FROM all_rows AS h JOIN shown AS s ON s.session = h.session AND "
        "(s.key = h.key OR (s.kind = h.kind AND s.text_digest = h.text_digest)) "
        "WHERE h.id BETWEEN ? AND ? ORDER BY (s.key = h.key) DESC, s.id LIMIT 1",
        [first, first + ORDINALS_MAX - 1],
    )
    if not found:
        raise InputError(f"nothing to show at position {position}; search or list sessions for positions")
    order = session_order(files, found[0][1])
    at = order.index(found[0][0])
    return session_page(files, found[0][1], at - before, at + after + 1, order)


def log_page(files: QueryFiles, limit: int, cursor: Cursor | None = None) -> TimelinePage:
    """The newest rows of all sessions, by position; or those before or after a cursor's row."""
    condition, direction, parameters = "true", "DESC", []
    if cursor is not None:
        condition, direction = ("id > ?", "ASC") if cursor.later else ("id < ?", "DESC")
        parameters = [cursor.id]
    condition += f" AND origin <> '{EventType.PROJECT_SEEN}'"  # nobody did that
    found = files.fetch(
        f"SELECT id FROM shown WHERE {condition} ORDER BY id {direction} LIMIT {limit + 1}", parameters
    )
    more = len(found) > limit
    ids = sorted(r[0] for r in found[:limit])
    rows = _rows(files, ids)
    later = cursor is not None and (more if cursor.later else True)
    earlier = more if cursor is None or not cursor.later else True
    return TimelinePage(
        turns=tuple(turn_of(rows[i]) for i in ids if i in rows),
        earlier=Cursor("", ids[0], False).encode() if ids and earlier else "",
        later=Cursor("", ids[-1], True).encode() if ids and later else "",
    )


def _rows(files: QueryFiles, ids: Sequence[int], session: str = "") -> dict[int, Row]:
    """Whole rows; reads only the stretches of the base they lie in."""
    out: dict[int, Row] = {}
    for low, high in _stretches(sorted(ids)):
        parameters: list[Any] = [low, high] + ([session] if session else [])
        condition = "id BETWEEN ? AND ?" + (" AND session = ?" if session else "")
        wanted = set(ids)
        for record in files.fetch(f"SELECT {ROW_LIST} FROM shown WHERE {condition}", parameters):
            if record[0] in wanted:
                out[record[0]] = row_from(record)
    return out


def _stretches(ids: Sequence[int], gap: int = 200 << ORDINAL_BITS) -> list[tuple[int, int]]:
    """Ranges that cover the ids and leave out wide gaps."""
    out: list[tuple[int, int]] = []
    for row_id in ids:
        if out and row_id - out[-1][1] < gap:
            out[-1] = (out[-1][0], row_id)
        else:
            out.append((row_id, row_id))
    return out


def turn_of(row: Row) -> Turn:
    """A row as the timeline shows it."""
    return Turn(
        session=row.session,
        position=row.position,
        record=row.record,
        occurred_at=row.occurred_at,
        project=row.project,
        assistant=row.assistant,
        actor=row.actor,
        kind=row.kind,
        tool=row.tool,
        files=row.files,
        is_error=row.is_error,
        text=row.text or row.reason,
    )

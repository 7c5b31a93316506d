"""Payloads of the log's own events. Captured events carry the assistant's bytes instead."""

from collections.abc import Iterable

import msgspec


class ReflectionStored(msgspec.Struct, frozen=True):
    """Something a person or an assistant asked to remember."""

    text: str
    tags: tuple[str, ...] = ()
    project: str = ""  # working folder it was said in
    session: str = ""  # the assistant's session, where known


class PayloadForgotten(msgspec.Struct, frozen=True):
    """Payloads taken out of the log afterwards (schema version 2); ids and action keys stay as tombstones.

    Forgetting many events makes several of these. Event ids beyond the positions are of events this log does not
    hold: they were forgotten after the backup it was restored from.
    """

    ranges: tuple[tuple[int, int], ...]  # first and last position, both included, in order
    event_ids: tuple[str, ...]  # hex, of the positions in order, then of events that are not here
    action_keys: tuple[str, ...]
    reason: str = ""
    # (position, kind of action, text digest) of prompts, replies and thoughts: they keep their place in the order
    texts: tuple[tuple[int, str, str], ...] = ()

    @property
    def positions(self) -> tuple[int, ...]:
        """Every position, in order."""
        return tuple(p for first, last in self.ranges for p in range(first, last + 1))


def ranges_of(positions: Iterable[int]) -> tuple[tuple[int, int], ...]:
    """Positions as (first, last) ranges, in order."""
    out: list[tuple[int, int]] = []
    for position in sorted(set(positions)):
        if out and out[-1][1] == position - 1:
            out[-1] = (out[-1][0], position)
        else:
            out.append((position, position))
    return tuple(out)


class LogForked(msgspec.Struct, frozen=True):
    """This log goes on from a copy of another one that was cut after a position (a point-in-time restore).

    The cut may lie inside a frame; from there on the chain is this log's own. What came before is proved by
    `whole_chain`, which both logs have after `whole_position`.
    """

    log_id: str  # of the log that was copied, 32 hex digits
    origin: str  # the log whose first chain both continue
    position: int  # the last of its events that is here
    whole_position: int  # the last position up to that one at which a frame of it ends
    whole_chain: str  # its chain there, hex
    snapshot: str = ""  # the backup it was taken from

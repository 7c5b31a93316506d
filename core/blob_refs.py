"""Which blobs nothing refers to once some events are forgotten."""

from collections.abc import Collection

from session_mgmt_mcp.core.blobs import EVENT_TYPE, references
from session_mgmt_mcp.core.ports import EventLog

_AT_ONCE = 1_000  # events in memory


def orphaned_blobs(log: EventLog, positions: Collection[int]) -> set[int]:
    """Positions of the blobs that only the events at `positions` refer to; they are to be forgotten with them.

    Reads the whole log where those events refer to any blob at all.
    """
    going = set(positions)
    ordered = sorted(going)
    wanted = {
        event_id
        for at in range(0, len(ordered), _AT_ONCE)
        for event in log.get(ordered[at : at + _AT_ONCE]).values()
        if event.payload is not None
        for _, _, event_id, _ in references(event.payload)
    }
    if not wanted:
        return set()
    for batch in log.read():
        for event in batch:
            if event.position not in going and event.payload is not None:
                wanted.difference_update(event_id for _, _, event_id, _ in references(event.payload))
        if not wanted:
            return set()
    places = log.positions_of(list(wanted))
    events = log.get(places.values())
    return {
        position
        for position, event in events.items()
        if event.envelope.event_type == EVENT_TYPE and event.payload is not None
    }

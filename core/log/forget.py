"""Taking payloads out of a sealed log without breaking its chain (FORMAT.md section 4, Forget)."""

from collections.abc import Callable, Collection, Sequence

import msgspec

from session_mgmt_mcp.core.envelope import Envelope, EventType, NewEvent, Source, now_us, uuid7
from session_mgmt_mcp.core.errors import AppendError, InputError
from session_mgmt_mcp.core.events import PayloadForgotten
from session_mgmt_mcp.core.log.durable import sync_folder
from session_mgmt_mcp.core.log.log import FileLog
from session_mgmt_mcp.core.log.manifest import Manifest, SegmentEntry, publish
from session_mgmt_mcp.core.log.seal import drop_orphans, put_segment, seal
from session_mgmt_mcp.core.log.segment import Row, read_rows


def forget(
    log: FileLog,
    positions: Collection[int],
    action_keys: Callable[[Sequence[int]], Sequence[str]],
    reason: str = "",
) -> Manifest:
    """Remove the payloads at these positions for good. Caller holds maintenance.lock; projections are to be rebuilt.

    `action_keys` gives the keys of what those events say, for the tombstones. Raises InputError for a position that
    does not exist or is itself a tombstone, AppendError, LogCorruptError.
    """
    wanted = sorted(set(positions))
    if not wanted:
        raise InputError("there is nothing to forget: no position was given")
    events = log.get(wanted)
    absent = [p for p in wanted if p not in events]
    if absent:
        raise InputError(f"position {absent[0]} is not in the log, which ends at {log.head().position}")
    kept = [p for p in wanted if events[p].envelope.event_type == EventType.PAYLOAD_FORGOTTEN]
    if kept:
        raise InputError(f"position {kept[0]} says what was forgotten; without it that would come back")
    tombstone = PayloadForgotten(
        tuple(wanted), tuple(events[p].event_id.hex() for p in wanted), tuple(action_keys(wanted)), reason
    )
    envelope = Envelope(
        "session-mgmt/log", EventType.PAYLOAD_FORGOTTEN, 1, now_us(), now_us(), "user", Source.COMMAND
    )
    log.append([NewEvent(uuid7(), envelope, msgspec.json.encode(tombstone))], dedupe=False)
    log.roll()
    manifest = seal(log.folder, log.log_id)
    return _rewrite(log, manifest, set(wanted))


def _rewrite(log: FileLog, manifest: Manifest, wanted: set[int]) -> Manifest:
    replaced: dict[SegmentEntry, SegmentEntry] = {}
    for entry in manifest.segments:
        if any(entry.first <= p <= entry.last for p in wanted):
            rows = [
                _without_payload(row) if row.position in wanted else row
                for group in read_rows(f"{log.folder}/segments/{entry.file}")
                for row in group
            ]
            replaced[entry] = put_segment(
                log.folder, rows, bytes.fromhex(entry.chain_before), bytes.fromhex(entry.chain)
            )
    segments = tuple(replaced.get(entry, entry) for entry in manifest.segments)
    published = publish(log.folder, manifest, log.log_id, segments)
    if published is None:
        raise AppendError(f"another process published a manifest in {log.folder} meanwhile; forget again")
    sync_folder(log.folder + "/segments")
    sync_folder(log.folder + "/manifest")
    # At once, not after a day, and all of them: what an interrupted seal or forget left holds the payloads too.
    drop_orphans(log.folder, published, age_s=-1)
    sync_folder(log.folder + "/segments")
    return published


def _without_payload(row: Row) -> Row:
    return row._replace(payload=None, payload_salt=None)

"""Taking payloads out of a sealed log without breaking its chain (FORMAT.md section 4, Forget)."""

import contextlib
import os
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

import msgspec
import pyarrow as pa

from session_mgmt_mcp.core.envelope import Envelope, Event, EventType, NewEvent, Source, now_us, uuid7
from session_mgmt_mcp.core.errors import AppendError, InputError, LogCorruptError
from session_mgmt_mcp.core.events import PayloadForgotten, ranges_of
from session_mgmt_mcp.core.interpret import interpret
from session_mgmt_mcp.core.log.appender import Appender
from session_mgmt_mcp.core.log.durable import sync_folder
from session_mgmt_mcp.core.log.log import FileLog
from session_mgmt_mcp.core.log.manifest import Manifest, SegmentEntry, load_manifest, publish
from session_mgmt_mcp.core.log.seal import drop_orphans, put_segment, seal
from session_mgmt_mcp.core.log.segment import (
    SegmentTables,
    compute,
    open_segment,
    sha256_of,
    without_payloads,
)
from session_mgmt_mcp.core.upcast import upcast

SCHEMA_VERSION = 2
CHUNK_EVENTS = 5_000  # forgotten by one PayloadForgotten
FRAME_BYTES = 16 << 20  # of PayloadForgotten events in one append
_TRIES = 5
_WITH_PLACE = ("PromptSubmitted", "AssistantReplied", "AssistantThought")
_decode = msgspec.json.Decoder(PayloadForgotten).decode

Keys = Callable[[Sequence[int]], Sequence[str]]
Progress = Callable[[str, int, int], None]  # what is being done, how far, of how much


def forget(
    log: FileLog,
    positions: Collection[int],
    action_keys: Keys,
    reason: str = "",
    progress: Progress | None = None,
    actor: str = "user",
) -> Manifest:
    """Remove the payloads at these positions for good. Caller holds maintenance.lock; projections are to be rebuilt.

    `action_keys` gives the keys of what those events say, for the tombstones. Once the tombstones are appended, an
    interruption is mended by `finish` and `drop_leftovers`. Raises InputError for a position that does not exist or is itself a tombstone,
    AppendError, LogCorruptError.
    """
    wanted = sorted(set(positions))
    if not wanted:
        raise InputError("there is nothing to forget: no position was given")
    head = log.head().position
    if wanted[0] < 1 or wanted[-1] > head:
        absent = wanted[0] if wanted[0] < 1 else next(p for p in wanted if p > head)
        raise InputError(f"position {absent} is not in the log, which ends at {head}")
    own = [p for p in tombstone_positions(log) if _within(p, wanted)]
    if own:
        raise InputError(f"position {own[0]} says what was forgotten; without it that would come back")
    chunks = [wanted[at : at + CHUNK_EVENTS] for at in range(0, len(wanted), CHUNK_EVENTS)]
    # All of them before the first is appended: the views that know the keys then still show what is to be forgotten.
    _append(log, [_tombstone(log, chunk, action_keys, reason) for chunk in chunks], actor)
    return _remove(log, wanted, progress)


def finish(log: FileLog, progress: Progress | None = None) -> list[int]:
    """Take out the payloads whose forgetting was interrupted; their positions. Caller holds maintenance.lock.

    Raises AppendError, LogCorruptError.
    """
    left = unfinished(log)
    if left:
        _remove(log, left, progress)
    return left


def unfinished(log: FileLog) -> list[int]:
    """Positions that a tombstone names and whose payload is still in the log."""
    ranges = ranges_of(p for t in tombstones(log) for p in t.positions)
    if not ranges:
        return []
    wanted = [p for first, last in ranges for p in range(first, last + 1)]
    manifest = log.reader.manifest()
    out: list[int] = []
    for entry in manifest.segments:
        mine = wanted[bisect_left(wanted, entry.first) : bisect_right(wanted, entry.last)]
        if len(mine) != entry.forgotten:
            held = _held(log.folder, entry)
            out += [p for p in mine if p in held]
    return out + wanted[bisect_right(wanted, manifest.last) :]


def tombstones(log: FileLog) -> list[PayloadForgotten]:
    """Everything that was forgotten, in order, in the current schema version. Reads no other payload of a segment.

    Raises LogCorruptError.
    """
    return [_tombstone_of(event) for event in _tombstone_events(log)]


def tombstone_positions(log: FileLog) -> list[int]:
    """Where the PayloadForgotten events are."""
    return [event.position for event in _tombstone_events(log)]


def apply_tombstones(
    log: FileLog, forgotten: Iterable[PayloadForgotten], progress: Progress | None = None
) -> Manifest | None:
    """Forget in a restored log what was forgotten after its backup was made; None where nothing was to do.

    A position counts only where the log holds the same event id there. What is kept of the rest are ids and keys, so
    that an import brings nothing back. May be interrupted and run again. The caller holds maintenance.lock.
    """
    known = tombstones(log)
    known_positions = {p for t in known for p in t.positions}
    known_ids = {i for t in known for i in t.event_ids}
    known_keys = {key for t in known for key in t.action_keys}
    new: list[PayloadForgotten] = []
    wanted: list[int] = []
    head = log.head().position
    for tombstone in forgotten:
        named = dict(zip(tombstone.positions, tombstone.event_ids, strict=False))
        there = log.get(p for p in named if p <= head and p not in known_positions)
        here = sorted(p for p, event in there.items() if event.event_id.hex() == named[p])
        mine = {named[p] for p in here}
        rest = tuple(i for i in tombstone.event_ids if i not in mine and i not in known_ids)
        if here or rest or not known_keys.issuperset(tombstone.action_keys):
            ids = (*(named[p] for p in here), *rest)
            texts = tuple(t for t in tombstone.texts if t[0] in set(here))
            new.append(PayloadForgotten(ranges_of(here), ids, tombstone.action_keys, tombstone.reason, texts))
        wanted += here
        known_positions.update(here)
        known_ids.update(ids for ids in tombstone.event_ids)
        known_keys.update(tombstone.action_keys)
    left = unfinished(log)
    if not new and not left:
        return None
    _append(log, new)
    return _remove(log, sorted({*wanted, *left}), progress)


# -- tombstones --------------------------------------------------------------------------------------------------


def _tombstone(log: FileLog, positions: Sequence[int], keys: Keys, reason: str) -> PayloadForgotten:
    events = log.get(positions)
    texts = tuple(
        (p, type(action).__name__, action.text_digest)
        for p in positions
        for action in interpret(events[p])
        if type(action).__name__ in _WITH_PLACE
    )
    ids = tuple(events[p].event_id.hex() for p in positions)
    return PayloadForgotten(ranges_of(positions), ids, tuple(keys(positions)), reason, texts)


def _append(log: FileLog, forgotten: Iterable[PayloadForgotten], actor: str = "user") -> None:
    """Append the tombstones, all at once where one frame can hold them."""
    events: list[NewEvent] = []
    size = 0
    for tombstone in forgotten:
        now = now_us()
        envelope = Envelope(
            "session-mgmt/log",
            EventType.PAYLOAD_FORGOTTEN,
            SCHEMA_VERSION,
            now,
            now,
            actor,
            Source.COMMAND,
        )
        payload = msgspec.json.encode(tombstone)
        if events and size + len(payload) > FRAME_BYTES:
            log.append(events, dedupe=False)
            events, size = [], 0
        events.append(NewEvent(uuid7(now), envelope, payload))
        size += len(payload)
    if events:
        log.append(events, dedupe=False)


def _tombstone_of(event: Event) -> PayloadForgotten:
    try:
        return _decode(upcast(event).payload or b"")
    except msgspec.MsgspecError as error:
        raise LogCorruptError(
            f"position {event.position} does not say what was forgotten: {error}; restore it from a backup"
        ) from error


def _tombstone_events(log: FileLog) -> Iterator[Event]:
    for _ in range(_TRIES):
        manifest = log.reader.manifest()
        try:
            found = [p for entry in manifest.segments for p in _of_tombstones(log.folder, entry)]
            break
        except FileNotFoundError as error:  # compacted or rewritten meanwhile
            missing = error
    else:
        raise LogCorruptError(f"{missing.filename} is missing; restore it from a backup") from missing
    for start in range(0, len(found), 100):
        yield from log.get(found[start : start + 100]).values()
    for batch in log.read(manifest.last):
        yield from (e for e in batch if e.envelope.event_type == EventType.PAYLOAD_FORGOTTEN)


def _of_tombstones(folder: str, entry: SegmentEntry) -> list[int]:
    """Positions of the PayloadForgotten events of a segment."""
    types, pc = _column(folder, entry, "event_type"), compute()
    hits = pc.indices_nonzero(pc.equal(types, EventType.PAYLOAD_FORGOTTEN.value))
    return [entry.first + int(k) for k in hits.to_pylist()]


def _held(folder: str, entry: SegmentEntry) -> set[int]:
    """Positions of a segment whose payload is there."""
    salts, pc = _column(folder, entry, "payload_salt"), compute()
    return {entry.first + int(k) for k in pc.indices_nonzero(pc.is_valid(salts)).to_pylist()}


def _column(folder: str, entry: SegmentEntry, name: str) -> pa.ChunkedArray:
    path = f"{folder}/segments/{entry.file}"
    with open_segment(path) as file:
        try:
            column = file.read(columns=[name], use_threads=False).column(name)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise LogCorruptError(f"{path} is damaged: {error}; restore it from a backup") from error
    if len(column) != entry.last - entry.first + 1:
        raise LogCorruptError(f"{path} holds {len(column)} events; restore it from a backup")
    return column


# -- segments ----------------------------------------------------------------------------------------------------


def _within(position: int, ordered: Sequence[int]) -> bool:
    at = bisect_left(ordered, position)
    return at < len(ordered) and ordered[at] == position


def _remove(log: FileLog, wanted: Sequence[int], progress: Progress | None) -> Manifest:
    """Seal everything, then rewrite the segments that hold these positions (in order)."""
    log.roll()
    manifest = seal(log.folder, log.log_id)
    concerned = [entry for entry in manifest.segments if _holds_any(log.folder, entry, wanted)]
    for done, entry in enumerate(concerned):
        if progress is not None:
            progress("rewriting segments", done, len(concerned))
        manifest = _rewrite(log, manifest, entry, wanted)
    drop_leftovers(log)
    if progress is not None:
        progress("rewriting segments", len(concerned), len(concerned))
    return manifest


def _holds_any(folder: str, entry: SegmentEntry, wanted: Sequence[int]) -> bool:
    """Whether a segment holds a payload at one of these positions."""
    mine = wanted[bisect_left(wanted, entry.first) : bisect_right(wanted, entry.last)]
    return bool(mine) and (not entry.forgotten or not _held(folder, entry).isdisjoint(mine))


def _rewrite(log: FileLog, manifest: Manifest, entry: SegmentEntry, wanted: Sequence[int]) -> Manifest:
    """Publish the segment anew without these payloads, and unlink what held them."""
    path = f"{log.folder}/segments/{entry.file}"
    if sha256_of(path) != entry.sha256:  # rot must not be given a new name and a new checksum
        raise LogCorruptError(f"{path} is not what the manifest says; restore it from a backup")
    forgotten = set(wanted[bisect_left(wanted, entry.first) : bisect_right(wanted, entry.last)])
    tables = SegmentTables([path], lambda table: without_payloads(table, forgotten))
    new = put_segment(log.folder, tables, bytes.fromhex(entry.chain_before), bytes.fromhex(entry.chain))
    segments = tuple(new if e is entry else e for e in manifest.segments)
    published = publish(log.folder, manifest, log.log_id, segments)
    if published is None:
        raise AppendError(f"another process published a manifest in {log.folder} meanwhile; forget again")
    sync_folder(log.folder + "/segments")
    sync_folder(log.folder + "/manifest")
    # At once, not after a day, and all of them: what an interrupted seal or forget left holds the payloads too.
    drop_orphans(log.folder, published, age_s=-1)
    sync_folder(log.folder + "/segments")
    return published


def drop_leftovers(log: FileLog) -> None:
    """Remove at once what interrupted writers of segments and journals left; it may hold forgotten payloads."""
    drop_orphans(log.folder, load_manifest(log.folder), age_s=-1)
    sync_folder(log.folder + "/segments")
    log.appender.locked(_drop_journal_leftovers)


def _drop_journal_leftovers(app: Appender) -> None:
    base = app.folder + "/journal"
    left = [name for name in os.listdir(base) if name.endswith(".tmp")]
    for name in left:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{base}/{name}")
    if left:
        sync_folder(base)

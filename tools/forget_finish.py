"""What completes a forgetting that was interrupted, and forgets again what was reported a second time.

While one is under way `forgetting.json` in the data folder names the positions. It is removed last, so whoever maintains
the log next finds it and goes on: payloads a tombstone names are taken out, the views are made without them.
"""

import contextlib
import os
from collections.abc import Callable, Collection
from itertools import islice
from pathlib import Path

import msgspec
import pyarrow as pa

from session_mgmt_mcp.core import briefs, live
from session_mgmt_mcp.core.events import ranges_of
from session_mgmt_mcp.core.log import forget as core
from session_mgmt_mcp.core.log.durable import sync_folder, write_new
from session_mgmt_mcp.core.log.log import FileLog
from session_mgmt_mcp.projections import publish
from session_mgmt_mcp.projections.protocol import views_folder
from session_mgmt_mcp.projections.query_files import QueryFiles
from session_mgmt_mcp.projections.rows import ORDINAL_BITS
from session_mgmt_mcp.projections.tail import QueryReader
from session_mgmt_mcp.projections.twins import action_keys_of

Say = Callable[[str, int, int], None]  # what is being done, how far, of how much
AGAIN = "told again what was forgotten"


class _Marker(msgspec.Struct):
    ranges: tuple[tuple[int, int], ...]


def _path(folder: str) -> str:
    return f"{folder}/forgetting.json"


def begin(folder: str, positions: Collection[int]) -> None:
    """Note durably what is about to be forgotten. Nothing is changed yet. Raises OSError."""
    already = pending(folder) or ()
    marker = _Marker(ranges_of([*already, *positions]))
    _drop_notes(folder)
    temporary = f"{folder}/forgetting.{os.urandom(4).hex()}.tmp"
    write_new(temporary, msgspec.json.encode(marker))
    os.rename(temporary, _path(folder))
    sync_folder(folder)


def pending(folder: str) -> list[int] | None:
    """Positions of a forgetting that is under way or was interrupted; None where there is none."""
    try:
        marker = msgspec.json.decode(Path(_path(folder)).read_bytes(), type=_Marker)
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError:
        return []  # torn: nothing was begun; the views are made anew all the same
    return [p for first, last in marker.ranges for p in range(first, last + 1)]


def end(folder: str) -> None:
    """Nothing is left to complete."""
    for name in os.listdir(folder):
        if name.startswith("forgetting."):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{folder}/{name}")
    sync_folder(folder)


def complete(log: FileLog, say: Say) -> list[int]:
    """Complete what was interrupted; the positions. Caller holds maintenance.lock. Raises AppendError, LogCorruptError."""
    positions = pending(log.folder)
    left = core.finish(log, say)
    if positions is None and not left:
        return []
    core.drop_leftovers(log)
    named = {p for t in core.tombstones(log) for p in t.positions}
    mine = sorted({*left, *(p for p in positions or () if p in named)})
    make_views(log, mine, say)
    end(log.folder)
    return mine


def make_views(log: FileLog, positions: Collection[int], say: Say) -> None:
    """Publish views without these events' text and remove the older files."""
    _drop_notes(log.folder)  # again: a hook may have read one before the first time, and written it back
    publish.purge(
        log,
        Path(log.folder),
        positions,
        lambda name, at, of: say(f"making the {name} view without it", at, of),
    )


def _drop_notes(folder: str) -> None:
    """Remove briefs and live files, which hold parts of texts; they are made anew."""
    briefs.clear(folder)
    live.clear(folder)


def take_out(
    log: FileLog,
    positions: Collection[int],
    keys_of: Collection[int],
    reason: str,
    say: Say,
    actor: str = "user",
) -> None:
    """Forget in log and views. `keys_of`: those of the positions whose facts are to stay hidden. Completed by `complete`."""
    begin(log.folder, positions)
    keys = action_keys_of(log, Path(log.folder), keys_of)
    left, share = iter(keys), -(-len(keys) // len(positions))
    # Which tombstone has a key does not matter; that none becomes huge does.
    core.forget(log, positions, lambda chunk: list(islice(left, share * len(chunk))), reason, say, actor)
    make_views(log, positions, say)
    end(log.folder)


def forget_again(log: FileLog, say: Say) -> list[int]:
    """Forget what was appended since and tells forgotten facts: a hook's or a transcript's later report; the positions.

    Caller holds maintenance.lock; what is published is looked at, and the tail. Raises AppendError, LogCorruptError.
    """
    tombstones = core.tombstones(log)
    if not tombstones:
        return []
    absent = [bytes.fromhex(i) for t in tombstones for i in t.event_ids[len(t.positions) :]]
    found = set(log.positions_of(absent).values()) if absent else set()
    reader = QueryReader(log, views_folder(Path(log.folder)))
    try:
        reader.refresh()
        found.update(_telling_forgotten(reader.sql()))
    finally:
        reader.close()
    there = [p for p, event in log.get(found).items() if event.payload is not None]
    if there:
        take_out(log, there, there, AGAIN, say)
    return there


def _telling_forgotten(files: QueryFiles) -> list[int]:
    """Positions of what is hidden because its fact was forgotten, by its key or by its text and order."""
    keys = files.forgotten()
    if not keys:
        return []
    files.connection.register("forgotten_keys", pa.table({"key": pa.array(sorted(keys), pa.string())}))
    counted = "SELECT id, session, kind, source, text_digest FROM {} WHERE kind IN ('PromptSubmitted', 'AssistantReplied')"
    rows = files.fetch(
        "WITH counted AS (SELECT id, CASE kind WHEN 'PromptSubmitted' THEN 'prompt:' ELSE 'reply:' END || session || ':' "
        "|| text_digest || ':' || row_number() OVER (PARTITION BY session, kind, source, text_digest ORDER BY id) AS key "
        f"FROM ({counted.format('all_rows')} UNION ALL {counted.format('all_places')})) "
        f"SELECT DISTINCT id >> {ORDINAL_BITS} AS position FROM all_rows AS r LEFT JOIN counted AS c USING (id) "
        "WHERE r.hidden_at > 0 AND (r.key IN (SELECT key FROM forgotten_keys) "
        "OR c.key IN (SELECT key FROM forgotten_keys)) ORDER BY position"
    )
    return [r[0] for r in rows]

"""Bring the published projections up to the sealed log, rebuild them, and say what they hold."""

import hashlib
from collections.abc import Callable, Collection, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from session_mgmt_mcp.core.errors import InputError
from session_mgmt_mcp.core.ports import EventLog
from session_mgmt_mcp.projections.files import read_json, remove_leftovers
from session_mgmt_mcp.projections.lexical import LexicalProjection, lexical_folder, open_indexes
from session_mgmt_mcp.projections.protocol import Watermark, views_folder
from session_mgmt_mcp.projections.query import QueryProjection
from session_mgmt_mcp.projections.query_files import STATE_FILE, QueryFiles, load_state, query_folder
from session_mgmt_mcp.projections.rebuild import QueryRebuild, drop_leftovers
from session_mgmt_mcp.projections.tombstones import tombstones_between

NAMES = ("query", "lexical")
Progress = Callable[[str, int, int], None]  # projection, position reached, position wanted


def update(log: EventLog, folder: Path, progress: Progress | None = None) -> dict[str, Any]:
    """Bring all projections to `log.sealed()` and publish them. The caller holds the maintenance lock.

    May be killed at any point; the next call goes on. Returns `position`, `events` (applied to the query view) and
    `indexed` (rows added to the lexical index).
    """
    return _bring_up(log, views_folder(folder), (), progress)


def replay(
    log: EventLog, folder: Path, names: Iterable[str] | None = None, progress: Progress | None = None
) -> dict[str, str]:
    """Rebuild projections from the log into new files; the published ones serve until the new ones are complete.

    Returns their digests. Raises InputError where a name is no projection.
    """
    wanted = tuple(names) if names is not None else NAMES
    for name in wanted:
        if name not in NAMES:
            raise InputError(f"no projection {name!r}; there are {', '.join(NAMES)}")
    _bring_up(log, views_folder(folder), wanted, progress)
    found = digest(folder)
    return {name: found[name] for name in wanted}


def purge(
    log: EventLog, folder: Path, positions: Collection[int], progress: Progress | None = None
) -> dict[str, str]:
    """Publish the projections anew after payloads were forgotten, and remove every older file at once.

    Afterwards nothing under `views/` of a projection holds text of the events at `positions`. The caller holds the
    maintenance lock and has taken their payloads out of the log. May be killed at any point and called again. Returns
    the digests.
    """
    for name in NAMES:
        drop_leftovers(views_folder(folder) / name, age_s=0)
    digests = replay(log, folder, None, progress)
    for name in NAMES:
        remove_leftovers(views_folder(folder) / name)
    return digests


def _bring_up(
    log: EventLog, views: Path, fresh: Collection[str], progress: Progress | None
) -> dict[str, Any]:
    sealed = log.sealed()
    target = Watermark(sealed.position, sealed.chain)
    query, events, fresh = _bring_up_query(log, views, target, fresh, progress)
    try:
        lexical = LexicalProjection(views, log, fresh="lexical" in fresh)
        indexed = lexical.update(query.files, target)
        if progress is not None:
            progress("lexical", target.position, target.position)
        return {"position": target.position, "events": events, "indexed": indexed}
    finally:
        query.close()


def _bring_up_query(
    log: EventLog, views: Path, target: Watermark, fresh: Collection[str], progress: Progress | None
) -> tuple[QueryProjection, int, Collection[str]]:
    """The query view at `target`, how many events it took, and what else is to be built from nothing."""
    say = progress or (lambda *_: None)
    query = QueryProjection(views, log)
    start = query.watermark.position
    tombstones = tombstones_between(log, start, target.position)
    if any(position <= start for position in tombstones.positions):
        fresh = NAMES  # what is published holds text that was forgotten
    if "query" in fresh or (not query.usable and target.position):
        query.close()
        events = QueryRebuild(views, log, target).run(partial(say, "query"))
        return QueryProjection(views, log), events, fresh
    query.expect(tombstones)
    for batch in log.read(start, target.position) if start != target.position else ():
        query.apply(batch)
        if batch:
            say("query", batch[-1].position, target.position)
    query.publish(target)
    drop_leftovers(query_folder(views))
    return query, target.position - start, fresh


def digest(folder: Path) -> dict[str, str]:
    """A digest of what each projection holds: shown rows in order, indexed documents in order; "" if unpublished.

    The same for the same log, however it was brought up to date.
    """
    views = views_folder(folder)
    return {"query": _query_digest(views), "lexical": _lexical_digest(views)}


def _query_digest(views: Path) -> str:
    state = load_state(views)
    if state is None:
        return ""
    files = QueryFiles(views, state)
    try:
        total = hashlib.sha256()
        encode = msgspec.msgpack.Encoder().encode
        for row in files.shown_rows():
            total.update(encode(row._replace(seq=0)))  # seq counts hidden rows too
        for record in files.fetch("SELECT * FROM all_usage ORDER BY id"):
            total.update(encode(record))
        return total.hexdigest()
    finally:
        files.close()


def _lexical_digest(views: Path) -> str:
    state = read_json(lexical_folder(views) / STATE_FILE)
    if state is None:
        return ""
    total = hashlib.sha256()
    for index in open_indexes(lexical_folder(views) / str(state["index"])):
        for part in sorted(hashlib.sha256(stored).digest() for stored in index.stored()):
            total.update(part)
    return total.hexdigest()

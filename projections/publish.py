"""Bring the published projections up to the sealed log, rebuild them, and say what they hold."""

from collections.abc import Callable, Collection, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from session_mgmt_mcp.core.errors import InputError
from session_mgmt_mcp.core.ports import EventLog
from session_mgmt_mcp.projections import unfinished
from session_mgmt_mcp.projections.digests import digest
from session_mgmt_mcp.projections.files import fsync_path, remove_leftovers
from session_mgmt_mcp.projections.lexical_writer import LexicalProjection
from session_mgmt_mcp.projections.protocol import NAMES, Watermark, views_folder
from session_mgmt_mcp.projections.query import QueryProjection
from session_mgmt_mcp.projections.query_files import query_folder
from session_mgmt_mcp.projections.rebuild import QueryRebuild, drop_leftovers
from session_mgmt_mcp.projections.tombstones import tombstones_between
from session_mgmt_mcp.projections.vector_publish import settle

__all__ = ["Progress", "digest", "known_names", "purge", "replay", "update"]

Progress = Callable[[str, int, int], None]  # projection, how far, of how much (positions, or rows)


def update(log: EventLog, folder: Path, progress: Progress | None = None) -> dict[str, Any]:
    """Bring all projections to `log.sealed()` and publish them. The caller holds the maintenance lock.

    Nothing is embedded: what has no vector yet is left to `vector_writer`.

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
    wanted = known_names(names)
    views = views_folder(folder)
    _bring_up(
        log, views, unfinished.left_of(views, wanted), progress, partial(unfinished.note_done, views, wanted)
    )
    unfinished.finished(views)
    found = digest(folder)
    return {name: found[name] for name in wanted}


def known_names(names: Iterable[str] | None) -> tuple[str, ...]:
    """All of them for None, each once. Raises InputError where one is no projection."""
    wanted = tuple(dict.fromkeys(NAMES if names is None else names))
    for name in wanted:
        if name not in NAMES:
            raise InputError(f"no projection {name!r}; there are {', '.join(NAMES)}")
    return wanted


def purge(
    log: EventLog, folder: Path, positions: Collection[int], progress: Progress | None = None
) -> dict[str, str]:
    """Publish the projections anew after payloads were forgotten, and remove every older file at once.

    Afterwards nothing under `views/` of a projection holds text of the events at `positions`. The caller holds the
    maintenance lock and has taken their payloads out of the log. May be killed at any point and called again. Returns
    the digests.
    """
    unfinished.finished(views_folder(folder))
    for name in NAMES:
        drop_leftovers(views_folder(folder) / name, age_s=0)
    digests = replay(log, folder, None, progress)
    for name in NAMES:
        if name != "vector":  # an embedding process may be writing; what was left there is gone already
            remove_leftovers(views_folder(folder) / name)
        fsync_path(views_folder(folder) / name)  # what was removed does not come back after a power cut
    return digests


def _bring_up(
    log: EventLog,
    views: Path,
    fresh: Collection[str],
    progress: Progress | None,
    done: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """`done` is told each projection that is published at the end of the sealed log."""
    sealed = log.sealed()
    target = Watermark(sealed.position, sealed.chain)
    query, events, fresh = _bring_up_query(log, views, target, fresh, progress)
    try:
        done("query")
        lexical = _open_lexical(log, views, target, "lexical" in fresh)
        indexed = lexical.update(query.files, target, partial(progress or (lambda *_: None), "lexical"))
        done("lexical")
        settle(
            log,
            views,
            query.files,
            target,
            fresh="vector" in fresh,
            progress=progress and partial(progress, "vector"),
        )
        done("vector")
        return {"position": target.position, "events": events, "indexed": indexed}
    finally:
        query.close()


def _open_lexical(log: EventLog, views: Path, target: Watermark, fresh: bool) -> LexicalProjection:
    """What is published, or an index from nothing where that holds text that was forgotten: an interrupted update may
    have published the query view alone.
    """
    lexical = LexicalProjection(views, log, fresh=fresh)
    position = lexical.watermark.position
    tombstones = tombstones_between(log, position, target.position)
    if any(forgotten <= position for forgotten in tombstones.positions):
        return LexicalProjection(views, log, fresh=True)
    return lexical


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

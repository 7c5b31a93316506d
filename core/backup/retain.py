"""What is done in a backup once a snapshot is stored: forgotten payloads leave, and snapshots nobody wants to keep."""

import os
from typing import NamedTuple

from session_mgmt_mcp.core.backup.layout import list_snapshots, put_forgotten
from session_mgmt_mcp.core.backup.purge import Progress, drop_leftovers, drop_unneeded, purge_alone
from session_mgmt_mcp.core.backup.running import alone
from session_mgmt_mcp.core.backup.store import ObjectStore
from session_mgmt_mcp.core.envelope import now_us
from session_mgmt_mcp.core.log.forget import tombstones
from session_mgmt_mcp.core.log.log import FileLog

_DAY_US = 86_400 * 1_000_000


class Keep(NamedTuple):
    """Which snapshots stay: those either of the two names, and always the newest."""

    newest: int | None  # so many of the newest
    days: float | None  # those made within so many days


class Tidied(NamedTuple):
    """What was done."""

    purged: int  # snapshots rewritten
    dropped: int  # snapshots removed
    left: bool  # to whoever else is at work there


def tidy(
    log: FileLog, store: ObjectStore, keep: Keep | None = None, progress: Progress | None = None
) -> Tidied:
    """Take forgotten payloads out, drop what is not to be kept. Where another backup is being made, that is left to it."""
    put_forgotten(store, tombstones(log))
    with alone(store) as is_alone:
        if not is_alone:
            return Tidied(0, 0, True)
        drop_leftovers(store)
        dropped = retain(store, keep) if keep is not None else 0
        return Tidied(purge_alone(store, progress, scratch_of(log.folder)).snapshots, dropped, False)


def scratch_of(folder: str) -> str:
    """Where rewritten segments pass through: in the data folder, among what may be deleted at any time."""
    os.makedirs(f"{folder}/views", 0o700, exist_ok=True)
    return f"{folder}/views"


def retain(store: ObjectStore, keep: Keep) -> int:
    """Remove the snapshots that are not to be kept, then what only they needed; how many. Within `alone`."""
    names = list_snapshots(store)
    by_age = sorted(names, key=lambda found: found.created_at)
    kept = {names[-1]} if names else set()
    if keep.newest is not None:
        kept.update(by_age[-keep.newest :] if keep.newest > 0 else ())
    if keep.days is not None:
        limit = now_us() - int(keep.days * _DAY_US)
        kept.update(found for found in names if found.created_at >= limit)
    dropped = [found for found in names if found not in kept]
    for found in dropped:
        store.delete(found.name)
    if dropped:
        drop_unneeded(store)
    return len(dropped)

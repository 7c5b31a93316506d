"""The rules of the log's protocol, each taken out in turn: the simulation must notice every one."""

import os
import sys
from contextlib import ExitStack
from functools import partial
from hashlib import sha256
from types import FrameType
from typing import Any
from unittest import mock

from sim_world import BACKUP_MODULES, MODULES, Bug


def _without(module: str, name: str, *callers: str) -> Bug:
    """Calls of `module.name` do nothing where they come from these functions, innermost first."""
    return partial(_take_out, MODULES[module], name, callers)


def _both(*bugs: Bug) -> Bug:
    """Where a rule is kept in two places."""

    def take_out(stack: ExitStack) -> None:
        for bug in bugs:
            bug(stack)

    return take_out


def _without_method(name: str, *callers: str) -> Bug:
    return partial(_take_out, MODULES["appender"].Appender, name, callers)


def _take_out(owner: Any, name: str, callers: tuple[str, ...], stack: ExitStack) -> None:
    real = getattr(owner, name)

    def stand_in(*given: Any, **named: Any) -> Any:
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and frame.f_code is stand_in.__code__:  # of another bug
            frame = frame.f_back
        for caller in callers:
            if frame is None or frame.f_code.co_name != caller:
                return real(*given, **named)
            frame = frame.f_back
        return None

    stack.enter_context(mock.patch.object(owner, name, stand_in))


def _set(owner: Any, name: str, value: object) -> Bug:
    return lambda stack: stack.enter_context(mock.patch.object(owner, name, value))


def _unlink_before_publishing(stack: ExitStack) -> None:
    real, seal = MODULES["seal"].publish, MODULES["seal"]

    def publish(folder: str, base: Any, log_id: str, segments: Any) -> Any:
        for first, path in MODULES["journals"].list_journals(folder)[:-1]:
            if first <= segments[-1].last and os.path.exists(path):
                seal.os.unlink(path)
        return real(folder, base, log_id, segments)

    stack.enter_context(mock.patch.object(seal, "publish", publish))


def _use_on(app: Any) -> None:
    """What a failed sync left is taken as it reads back."""
    app.flag[:16] = bytes(16)
    app.end, app.next, app.chain = 128, app.header.first, app.header.chain
    with mock.patch.object(MODULES["journals"], "_write_again"):
        MODULES["journals"].recover(app)


def _remove_sources_first(stack: ExitStack) -> None:
    compact = MODULES["compact"]
    real = compact.publish

    def publish(folder: str, base: Any, log_id: str, segments: Any) -> Any:
        for entry in set(base.segments) - set(segments):
            MODULES["seal"].os.unlink(f"{folder}/segments/{entry.file}")
        return real(folder, base, log_id, segments)

    stack.enter_context(mock.patch.object(compact, "publish", publish))


def _forget_ids_in_merges(stack: ExitStack) -> None:
    """A merged segment knows the ids of the first half of its events only."""
    compact, seal = MODULES["compact"], MODULES["seal"]
    real = compact.put_segment

    class Half(seal.IdRows):  # type: ignore[misc, name-defined]
        def add(self, table: Any) -> None:
            forgotten = self.forgotten + table.column("payload").null_count
            super().add(table.slice(0, table.num_rows // 2))
            self.forgotten = forgotten

    def put_segment(*given: Any) -> Any:
        with mock.patch.object(seal, "IdRows", Half):
            return real(*given)

    stack.enter_context(mock.patch.object(compact, "put_segment", put_segment))


BUGS: dict[str, Bug] = {
    "acknowledged before the journal is synced": _without("appender", "sync_file", "_make_durable"),
    "a new journal's name is not synced by its maker": _without("journals", "sync_folder", "_publish"),
    "a journal's name is not synced by who finds it": _without("journals", "sync_folder", "recover"),
    "the old journal is not synced at a roll": _without_method("sync_or_poison", "roll"),
    "a dead writer's frames are not synced by recovery": _without_method("sync_or_poison", "recover"),
    "a torn tail is not zeroed": _without("journals", "write_at", "_cut_torn_tail"),
    "tail.shm is trusted after a boot": _set(MODULES["appender"], "boot_id", lambda: b"b" * 16),
    "a journal whose sync failed is used on": _set(MODULES["journals"], "_leave_poisoned", _use_on),
    # what a dead process failed to sync is not written again: too seldom here; see tests/log/test_failed_syncs.py
    "what replaces such a journal is not synced": _without("journals", "sync_file", "_write_journal"),
    "a segment is not synced before its rename": _without("seal", "sync_path", "put_segment"),
    "an id file is not synced before its rename": _without(
        "durable", "sync_file", "write_new", "put_segment"
    ),
    "segments/ is not synced before the manifest": _without("seal", "sync_folder", "put_segment"),
    "a manifest is not synced before its link": _without("durable", "sync_file", "write_new", "publish"),
    "journals are dropped before the manifest is there": _unlink_before_publishing,
    "journals are dropped for a manifest only visible": _without(
        "seal", "sync_folder", "drop_sealed_journals"
    ),
    "what was forgotten is unlinked, but not durably": _both(
        _without("forget", "sync_folder", "_rewrite"), _without("forget", "sync_folder", "drop_leftovers")
    ),
    "an interrupted forgetting is not finished": _set(MODULES["forget"], "unfinished", lambda log: []),
    "a spooled event is not synced": _without("durable", "sync_file", "write_new", "_spool"),
    "a spooled event's name is not synced": _without("durable", "sync_folder", "_spool"),
    "the folders are not synced before FORMAT.json": _without("folder", "sync_folder", "_create"),
    "the data folder's name is not synced by who finds it": _without("folder", "sync_names", "_open_highest"),
    "merged segments are removed before the manifest is there": _remove_sources_first,
    "the ids of merged segments are not merged": _forget_ids_in_merges,
}


def _of_backup(module: str, name: str, *callers: str) -> Bug:
    return partial(_take_out, BACKUP_MODULES[module], name, callers)


def _of_store(name: str, *callers: str) -> Bug:
    return partial(_take_out, BACKUP_MODULES["local"].LocalStore, name, callers)


def _machine() -> str:
    return sha256(BACKUP_MODULES["running"].boot_id()).hexdigest()[:16]


BACKUP_BUGS: dict[str, Bug] = {
    "a snapshot is written before its objects are durable": _of_store("sync", "_commit"),
    "a snapshot is reported before its name is durable": _of_store("sync", "put_snapshot"),
    "an object is named before it is synced": _of_backup("local", "sync_file", "_fill"),
    "a restored log is switched in before its folders are synced": _of_backup(
        "restore", "sync_folder", "_switch"
    ),
    "a restored file is not synced": _of_backup("restore", "sync_file", "_file"),
    "a restored log is reported before its name is durable": _without("folder", "sync_names", "_switch"),
    "the mark of a restore is not durable": _of_backup("restore", "sync_folder", "_staging"),
    "marks of another boot count": _set(BACKUP_MODULES["running"], "_machine", _machine),
}

"""What keeps a log in shape, run by whoever is at hand: drain the spool, import live transcripts, seal, publish."""

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import msgspec

from session_mgmt_mcp.adapters.claude_code.capture import MAINTAINED, STOP_PAUSE_S, spawn_maintenance
from session_mgmt_mcp.adapters.claude_code.importer import ImportReport, import_files
from session_mgmt_mcp.adapters.claude_code.live import LiveTranscripts
from session_mgmt_mcp.core.entropy import redact_thorough, redact_thorough_many
from session_mgmt_mcp.core.errors import DataFolderError, LockTimeoutError
from session_mgmt_mcp.core.ignore import read_rules
from session_mgmt_mcp.core.log.compact import compact
from session_mgmt_mcp.core.log.journals import list_journals
from session_mgmt_mcp.core.log.locks import lock_held
from session_mgmt_mcp.core.log.log import FileLog
from session_mgmt_mcp.core.log.seal import seal
from session_mgmt_mcp.core.log.spool import drain
from session_mgmt_mcp.projections import publish
from session_mgmt_mcp.tools import brief_files, forget_finish, projects, retention

logger = logging.getLogger(__name__)

DUE_EVENTS = 8_000
DUE_AGE_S = 15 * 60
BRIEFS_PART = 1 / 20
PAUSE_MAX_S = 3600
ASKED_MAX = 20  # passes for those who came meanwhile; a file that cannot be removed would ask for ever
_ASKED = "views/due"  # somebody wants a pass that begins from now on

Report = Callable[[str, int, int], None]  # what is being done, how far, of how much (0: unknown)


class MaintenanceReport(msgspec.Struct, frozen=True):
    """What one pass did."""

    unspooled: int
    unreadable: int  # spooled files that hold no event; kept as .bad
    imported: ImportReport
    sealed: int  # last sealed position
    indexed: int  # actions added to the lexical index
    forgotten: int = (
        0  # payloads taken out: of an interrupted forgetting, reported again since, or by retention
    )


def maintenance_lock(folder: str, wait_s: float) -> AbstractContextManager[None]:
    """Hold maintenance.lock; LockTimeoutError where another process holds it for longer than `wait_s`."""
    busy = f"another process is maintaining {folder}; try again later"
    return lock_held(f"{folder}/maintenance.lock", wait_s, busy)


def maintain(
    log: FileLog, *, wait_s: float = 0, force: bool = False, report: Report | None = None
) -> MaintenanceReport:
    """One pass, and another one where it was asked for meanwhile; what the last one did. With `force` the open journal is
    sealed however young it is.

    Raises LockTimeoutError where another process is at it; interrupting it anywhere loses nothing.
    """
    done = _pass(log, wait_s, force, report)
    # Who asked found the lock held and left: looked at after the lock is free, or an ask would be lost in between.
    for _ in range(ASKED_MAX):
        if not os.path.exists(f"{log.folder}/{_ASKED}"):
            break
        try:
            done = _pass(log, 0, False, report)
        except LockTimeoutError:
            break
    return done


def ask(folder: str) -> None:
    """Want a pass that begins from now on: before trying for the lock, so that whoever holds it goes on with another."""
    _stamp(f"{folder}/{_ASKED}")


def _pass(log: FileLog, wait_s: float, force: bool, report: Report | None) -> MaintenanceReport:
    say = report or (lambda *_: None)
    with maintenance_lock(log.folder, wait_s):
        began = time.time()
        _stamp(log.folder + MAINTAINED)
        with contextlib.suppress(OSError):
            os.unlink(f"{log.folder}/{_ASKED}")
        unspooled, unreadable = drain(log)
        say("importing transcripts of live sessions", 0, 0)
        imported = _import_live(log)
        noted = projects.note_new(log)
        if force or _due(log):
            log.roll()
        head = log.head().position
        manifest = seal(log.folder, log.log_id, lambda last: say("sealing the journal", last, head))
        completed = forget_finish.complete(log, say)
        views = publish.update(log, Path(log.folder), lambda *at: say(f"building the {at[0]} view", *at[1:]))
        if not noted:
            projects.note_new(log)
        again = forget_finish.forget_again(log, say)
        forgotten = len(completed) + len(again) + _retain(log, say)
        _rest(log.folder, began, keep_briefs(log, say))
        # last: nobody waits for it, and what was just forgotten makes small segments
        compact(log.folder, log.log_id, lambda *at: say("merging small segments", *at))
        return MaintenanceReport(
            unspooled, unreadable, imported, manifest.last, views["indexed"], forgotten=forgotten
        )


def keep_briefs(log: FileLog, say: Report) -> float:
    """Checkpoints, ends and briefs of sessions; where that fails they are as old as they were. The CPU time it took, in s.

    The caller holds the maintenance lock.
    """
    began = time.process_time()
    try:
        brief_files.update(log, say)
    except Exception as error:  # noqa: BLE001  # one strange event must not keep the log from being maintained
        logger.warning("briefs were not brought up to date: %s: %s", type(error).__name__, error)
    return time.process_time() - began


def _rest(folder: str, began: float, briefs_s: float) -> None:
    """Let the ends of turns start maintenance so seldom that briefs take at most a part of a processor."""
    pause = min(PAUSE_MAX_S, max(STOP_PAUSE_S, round(briefs_s / BRIEFS_PART)))
    with contextlib.suppress(OSError):
        path = Path(folder + MAINTAINED)
        path.write_text(str(pause))
        os.utime(path, (began, began))


def _stamp(path: str) -> None:
    """Give a file the present as its time of change. It only saves work, so where it cannot be had nothing happens."""
    with contextlib.suppress(OSError):
        Path(path).touch(mode=0o600)


def _retain(log: FileLog, say: Report) -> int:
    """Apply the user's policy where it is automatic; one that cannot be read removes nothing and is for `status` to say."""
    try:
        return retention.apply_automatically(log, say)
    except DataFolderError as error:
        logger.warning("retention was left out: %s", error)
        return 0


def _import_live(log: FileLog) -> ImportReport:
    live = LiveTranscripts(Path(log.folder) / "views" / "transcripts")
    paths = live.update(log)
    report = import_files(
        paths,
        log,
        redact=redact_thorough,
        redact_many=redact_thorough_many,
        rules=read_rules(log.folder),
        bookmarks=live.bookmarks,
        leave_out=live.was_paused,
    )
    live.settle()
    return report


def _due(log: FileLog) -> bool:
    """Whether the open journal is worth a segment: by its events or by the age of its first one."""
    journals = list_journals(log.folder)
    if not journals:
        return False
    first = journals[-1][0]
    held = log.head().position - first + 1
    if held <= 0:
        return False
    if held >= DUE_EVENTS:
        return True
    oldest = log.get([first])
    return bool(oldest) and time.time() - oldest[first].envelope.recorded_at / 1e6 > DUE_AGE_S


def start(folder: str) -> None:
    """Have maintenance done beside a server, which goes on whether or not that can be started."""
    try:
        process_id = spawn_maintenance(folder)
    except OSError as error:
        logger.warning("maintenance could not be started: %s", error)
        return
    # a process nobody waits for stays in the table as long as the server lives
    threading.Thread(target=_wait_for, args=(process_id,), name="maintenance", daemon=True).start()


def _wait_for(process_id: int) -> None:
    with contextlib.suppress(
        ChildProcessError
    ):  # a service that is a container's first process waits for all
        os.waitpid(process_id, 0)

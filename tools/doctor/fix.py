"""Mending what is safe to mend. Nothing here deletes data: leftovers are files nobody reads, the rest is made anew."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from session_mgmt_mcp.adapters.claude_code import install
from session_mgmt_mcp.adapters.claude_code.client import find_client
from session_mgmt_mcp.adapters.claude_code.settings_files import ChangedMeanwhileError
from session_mgmt_mcp.core.envelope import now_us
from session_mgmt_mcp.core.errors import SessionMgmtError
from session_mgmt_mcp.core.log.durable import sync_folder
from session_mgmt_mcp.core.log.folder import FOLDERS, read_format
from session_mgmt_mcp.tools.app import App
from session_mgmt_mcp.tools.doctor import derived
from session_mgmt_mcp.tools.doctor.finding import Finding, Fix, Patient
from session_mgmt_mcp.tools.doctor.run import Diagnosis

LOCK_WAIT_S = 10.0
_ATTEMPTS = 3  # a running assistant rewrites its own file now and then
_OF_THE_LOG = {Fix.FOLDERS, Fix.TAIL, Fix.LEFTOVERS, Fix.MAINTAIN, Fix.REPLAY}
Report = Callable[[str, int, int], None]


class Mended(NamedTuple):
    """What was done, and what could not be; a line for people each."""

    done: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()


def mend(folder: Path, diagnosis: Diagnosis, report: Report | None = None) -> Mended:
    """Do what the findings allow, in the order of `Fix`. A log that is corrupt or unusable is left as it is."""
    wanted = {finding.fix for finding in diagnosis.to_mend if finding.fix is not None}
    if diagnosis.is_grave:
        wanted -= _OF_THE_LOG
    done: list[str] = []
    failed: list[str] = []
    for fix in Fix:
        if fix not in wanted:
            continue
        try:
            done += _MENDERS[fix](folder, [f for f in diagnosis.to_mend if f.fix is fix], report)
        except (SessionMgmtError, OSError) as error:
            failed.append(f"{fix.value}: {error}")
    return Mended(tuple(done), tuple(failed))


def _private(folder: Path, _: list[Finding], __: Report | None) -> list[str]:
    os.chmod(folder, 0o700)
    return [f"made {folder} private (0700)"]


def _folders(folder: Path, found: list[Finding], _: Report | None) -> list[str]:
    made = [finding.where for finding in found if os.path.basename(finding.where) in FOLDERS]
    for path in made:
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)
    sync_folder(str(folder))
    return [f"made {path}" for path in made]


def _register(folder: Path, _: list[Finding], __: Report | None) -> list[str]:
    client = find_client()
    if client is None:
        return []
    for left in reversed(range(_ATTEMPTS)):
        try:
            plan = install.plan_keep(client, install.this_installation(folder))
            return [
                f"registered this installation in {change.path}"
                + (f" (as it was: {change.backup})" if change.backup else "")
                for change in install.apply(plan)
            ]
        except ChangedMeanwhileError:
            if not left:
                raise
    return []


def _tail(folder: Path, _: list[Finding], __: Report | None) -> list[str]:
    with App.open(folder) as app:
        app.log.append([])  # nothing: but the tail is looked at, and a torn one set aside
    return ["looked at the journal's end as an append does, and set aside what was torn"]


def _leftovers(folder: Path, _: list[Finding], __: Report | None) -> list[str]:
    removed = []
    for path in derived.old_leftovers(Patient(str(folder), read_format(str(folder)), now_us())):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
            removed.append(f"removed {path}, which an interrupted writer had left")
    return removed


def _maintain(folder: Path, _: list[Finding], report: Report | None) -> list[str]:
    with App.open(folder) as app:
        done = app.maintain(report, force=False, wait_s=LOCK_WAIT_S)
    spooled = f", appended {done.unspooled} spooled events" if done.unspooled else ""
    return [f"ran maintenance: sealed up to position {done.sealed}, published the views{spooled}"]


def _replay(folder: Path, _: list[Finding], report: Report | None) -> list[str]:
    with App.open(folder) as app:
        app.replay(None, report)
    return ["rebuilt the views from the log"]


_MENDERS: dict[Fix, Callable[[Path, list[Finding], Report | None], list[str]]] = {
    Fix.PRIVATE: _private,
    Fix.FOLDERS: _folders,
    Fix.REGISTER: _register,
    Fix.TAIL: _tail,
    Fix.LEFTOVERS: _leftovers,
    Fix.MAINTAIN: _maintain,
    Fix.REPLAY: _replay,
}

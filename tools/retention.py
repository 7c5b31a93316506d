"""How long, and how much, is kept. Nothing is deleted unless somebody asks: by `--apply`, or by `automatic`."""

import os
import re
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from session_mgmt_mcp.core.blob_refs import orphaned_blobs
from session_mgmt_mcp.core.errors import DataFolderError, InputError
from session_mgmt_mcp.core.events import ranges_of
from session_mgmt_mcp.core.log.durable import sync_folder, write_new
from session_mgmt_mcp.core.log.log import FileLog
from session_mgmt_mcp.tools import forget_files, forget_finish
from session_mgmt_mcp.tools.forget_finish import Say
from session_mgmt_mcp.tools.forget_match import Matcher
from session_mgmt_mcp.tools.forget_report import ForgetReport
from session_mgmt_mcp.tools.usage import SessionUsage, positions_of_streams, usage_of_sessions

if TYPE_CHECKING:
    from session_mgmt_mcp.tools.app import App

RUNNING_S = 86_400  # a session that was active within this time is never removed
WARN_PERCENT = 90  # of the quota
ROUNDS_MAX = 5  # of forgetting until the quota is kept: what a session occupies is an estimate
DAY_S = 86_400
FOLDERS = ("segments", "journal", "manifest", "views", "spool", "quarantine")
_AGES = {"d": 1, "w": 7, "y": 365}
_SIZES = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_SIZES |= {"KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30, "TIB": 1 << 40}


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`retention.json`. The default keeps everything."""

    max_age_days: int | None = None  # since a session's last activity
    quota_bytes: int | None = None  # of the whole data folder
    automatic: bool = False  # maintenance applies it

    @property
    def keeps_everything(self) -> bool:
        return self.max_age_days is None and self.quota_bytes is None


class Removal(NamedTuple):
    """A session the policy would remove."""

    usage: SessionUsage
    why: str  # age | quota


class RetentionPlan(NamedTuple):
    """The policy against what is there."""

    policy: Policy
    sizes: dict[str, int]  # bytes by folder, "other" and "total"
    sessions: list[SessionUsage]  # the least recently active first
    removals: list[Removal]


def load(folder: str) -> Policy:
    """Raises DataFolderError where the file is no policy: guessing could delete."""
    path = _path(folder)
    try:
        return msgspec.json.decode(Path(path).read_bytes(), type=Policy)
    except FileNotFoundError:
        return Policy()
    except msgspec.MsgspecError as error:
        raise DataFolderError(
            f"{path} is no retention policy ({error}); nothing is removed until it is deleted or set anew"
        ) from error


def save(folder: str, policy: Policy) -> None:
    """Raises OSError."""
    temporary = f"{folder}/retention.{os.urandom(4).hex()}.tmp"
    write_new(temporary, msgspec.json.encode(policy) + b"\n")
    os.rename(temporary, _path(folder))
    sync_folder(folder)


def _path(folder: str) -> str:
    return f"{folder}/retention.json"


def parse_age(text: str) -> int | None:
    """Days of `365d`, `52w`, `1y`; None for `none`. Raises InputError."""
    if text == "none":
        return None
    found = re.fullmatch(r"([1-9][0-9]{0,4})([dwy])", text)
    if found is None:
        raise InputError(f"--max-age {text!r}: write days, weeks or years, such as 365d, 52w or 1y, or none")
    return int(found[1]) * _AGES[found[2]]


def parse_size(text: str) -> int | None:
    """Bytes of `10GB`, `1.5GiB`; None for `none`. Raises InputError."""
    if text == "none":
        return None
    found = re.fullmatch(r"([0-9]{1,6}(?:\.[0-9]{1,3})?) ?([KMGT]?I?B)", text.upper())
    size = int(float(found[1]) * _SIZES[found[2]]) if found is not None and found[2] in _SIZES else 0
    if size <= 0:
        raise InputError(f"--quota {text!r}: write a size such as 10GB or 500MB, or none")
    return size


def sizes(folder: str) -> dict[str, int]:
    """Bytes of the data folder's files by folder, and in all."""
    out = dict.fromkeys((*FOLDERS, "other", "total"), 0)
    for parent, _, names in os.walk(folder):
        top = os.path.relpath(parent, folder).split(os.sep)[0]
        for name in names:
            try:
                size = os.lstat(os.path.join(parent, name)).st_size
            except FileNotFoundError:
                continue
            out[top if top in FOLDERS else "other"] += size
            out["total"] += size
    return out


def plan(
    log: FileLog, policy: Policy, *, reflections: bool = False, now_s: float | None = None
) -> RetentionPlan:
    """What the policy would remove; changes nothing. Raises LogCorruptError."""
    now_us = int((time.time() if now_s is None else now_s) * 1e6)
    found = sizes(log.folder)
    sessions = usage_of_sessions(log, reflections=reflections)
    removable = [s for s in sessions if s.payload_bytes and s.active_at < now_us - RUNNING_S * 1_000_000]
    removals: list[Removal] = []
    if policy.max_age_days is not None:
        limit = now_us - policy.max_age_days * DAY_S * 1_000_000
        removals += [Removal(s, "age") for s in removable if s.active_at < limit]
    if policy.quota_bytes is not None:
        removals += _for_quota(found, sessions, removable[len(removals) :], removals, policy.quota_bytes)
    return RetentionPlan(policy, found, sessions, removals)


def _for_quota(
    found: dict[str, int],
    sessions: Iterable[SessionUsage],
    removable: Iterable[SessionUsage],
    already: Iterable[Removal],
    quota: int,
) -> list[Removal]:
    """The least recently active sessions until what is left fits, as far as that can be told beforehand."""
    kept = sum(s.payload_bytes for s in sessions) or 1
    bytes_each = (found["segments"] + found["views"]) / kept  # on disk, for a byte of payload
    total = found["total"] - sum(r.usage.payload_bytes for r in already) * bytes_each
    out = []
    for session in removable:
        if total <= quota:
            break
        out.append(Removal(session, "quota"))
        total -= session.payload_bytes * bytes_each
    return out


def apply(log: FileLog, planned: RetentionPlan, say: Say, *, reflections: bool = False) -> ForgetReport:
    """Forget the sessions that were planned and, where the quota is still exceeded, further ones by the same rule.

    Caller holds maintenance.lock. May be interrupted and run again. Raises AppendError, LogCorruptError.
    """
    completed = len(forget_finish.complete(log, say))
    taken: list[int] = []
    blobs = 0
    files: list[str] = []
    for _ in range(ROUNDS_MAX):
        if not planned.removals:
            break
        streams = {r.usage.stream for r in planned.removals}
        positions = positions_of_streams(log, streams, reflections=reflections)
        orphans = orphaned_blobs(log, positions)
        sessions = [r.usage.session for r in planned.removals]
        traces = forget_files.traces_of(Matcher(), (), sessions)
        files += forget_files.clean(log.folder, traces).removed
        forget_finish.take_out(log, [*positions, *orphans], positions, _reason(planned), say)
        taken += [*positions, *orphans]
        blobs += len(orphans)
        planned = plan(log, planned.policy, reflections=reflections)
    return ForgetReport(len(taken), ranges_of(taken), 0, blobs, completed, files_removed=tuple(files))


def _reason(planned: RetentionPlan) -> str:
    policy = planned.policy
    rules = []
    if any(r.why == "age" for r in planned.removals):
        rules.append(f"no activity for {policy.max_age_days} days")
    if any(r.why == "quota" for r in planned.removals):
        rules.append(f"quota of {policy.quota_bytes} bytes")
    return "retention: " + ", ".join(rules)


def apply_automatically(log: FileLog, say: Say) -> int:
    """What maintenance does after sealing: nothing unless the user set `automatic`. Returns the payloads removed."""
    policy = load(log.folder)
    if not policy.automatic or policy.keeps_everything:
        return 0
    planned = plan(log, policy)
    return apply(log, planned, say).forgotten if planned.removals else 0


def findings(app: "App") -> list[str]:
    """What a user should know or mend: a quota nearly used up, a policy that cannot be read."""
    folder = app.log.folder
    try:
        quota = load(folder).quota_bytes
    except DataFolderError as error:
        return [str(error)]
    total = sizes(folder)["total"] if quota is not None else 0
    if quota is None or total * 100 <= quota * WARN_PERCENT:
        return []
    used = f"the data folder holds {megabytes(total)} of its quota of {megabytes(quota)}"
    mend = (
        "`session-mgmt-mcp retention` shows what it would remove, `--apply` removes it, `--quota` raises it"
    )
    return [f"{used}: {mend}"]


def megabytes(size: float) -> str:
    """For people."""
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"

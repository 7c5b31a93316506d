"""What the user said may be done without asking: grants, as the log tells them, and whether one covers an operation.

A grant is a record to look up. It makes no assistant do or refuse anything, and nobody is kept from recording one: who
did is told with it.
"""

import fnmatch
import posixpath
import re
from collections.abc import Callable, Iterable
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

import msgspec

from session_mgmt_mcp.core.envelope import Event, EventType
from session_mgmt_mcp.core.errors import InputError
from session_mgmt_mcp.core.events import PermissionGranted, PermissionRevoked
from session_mgmt_mcp.projections.matching import glob_pattern, has_glob, is_below
from session_mgmt_mcp.projections.query_times import parse_time

ORIGINS = (EventType.PERMISSION_GRANTED.value, EventType.PERMISSION_REVOKED.value)
# What joins, nests or redirects commands: beyond such a sign another operation begins than the one that was granted.
_JOINED = re.compile(r"[;&|<>`\n\r]|\$\(|\$\{")
_SECONDS = {"m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_FOR = re.compile(r"(\d{1,4})\s*(m|h|d|w)(?:in|inutes?|ours?|ays?|eeks?)?", re.IGNORECASE)
_granted = msgspec.json.Decoder(PermissionGranted).decode
_revoked = msgspec.json.Decoder(PermissionRevoked).decode


class State(StrEnum):
    """Of a grant at a moment."""

    HOLDS = "holds"
    EXPIRED = "expired"
    REVOKED = "revoked"


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """A permission. Empty: `scope` anywhere, `project` any, `session` any. Times in µs since the epoch, 0 never."""

    grant: str  # its id, 8 hex digits; "" before it is stored
    operation: str
    scope: str = ""
    project: str = ""
    session: str = ""
    expires_at: int = 0
    reason: str = ""
    granted_at: int = 0
    actor: str = ""  # who recorded it: user or assistant
    position: int = 0
    revoked_at: int = 0

    def state(self, now: int) -> State:
        """Whether it holds at `now`, µs since the epoch."""
        if self.revoked_at:
            return State.REVOKED
        return State.EXPIRED if 0 < self.expires_at <= now else State.HOLDS


class Asked(NamedTuple):
    """What is to be done, and where. `project`: the working folder; "" where these are unknown."""

    operation: str
    scope: str = ""
    project: str = ""
    session: str = ""


class Decision(NamedTuple):
    """The grant that covers what was asked, or None and those of the same operation that do not, with the reason."""

    grant: Grant | None
    others: tuple[tuple[Grant, str], ...] = ()


SameProject = Callable[[str, str], bool]  # whether the second folder belongs to the first's project


def grants_of(events: Iterable[Event]) -> list[Grant]:
    """Grants with their revocations, from events in order of position; forgotten and malformed ones are left out."""
    found: dict[str, Grant] = {}
    for event in events:
        when = event.envelope.occurred_at or event.envelope.recorded_at
        try:
            if event.envelope.event_type == EventType.PERMISSION_GRANTED:
                said = _granted(event.payload or b"")
                found[said.grant] = Grant(
                    **msgspec.structs.asdict(said),
                    granted_at=when,
                    actor=event.envelope.actor,
                    position=event.position,
                )
            elif event.envelope.event_type == EventType.PERMISSION_REVOKED:
                gone = _revoked(event.payload or b"").grant
                if gone in found and not found[gone].revoked_at:
                    found[gone] = msgspec.structs.replace(found[gone], revoked_at=when)
        except msgspec.MsgspecError:
            continue
    return list(found.values())


def decide(
    grants: Iterable[Grant], asked: Asked, now: int, same_project: SameProject | None = None
) -> Decision:
    """Whether a grant covers what is asked at `now`; the newest that does."""
    same = same_project or _below
    others = []
    for grant in sorted(grants, key=lambda g: -g.position):
        if not covers_operation(grant.operation, asked.operation):
            continue
        why = _misses(grant, asked, now, same)
        if not why:
            return Decision(grant)
        others.append((grant, why))
    return Decision(None, tuple(others))


def covers_operation(granted: str, asked: str) -> bool:
    """Whether the words of a granted operation begin the asked one, or its pattern (`*`, `?`) matches all of it.

    "git push" covers "git push origin main" and not "git pushx". An operation that joins commands or redirects
    (`;`, `&`, `|`, `<`, `>`, backquotes, `$(`, `${`, line breaks) is covered only by a grant that says exactly the same.
    """
    granted, asked = granted.strip(), asked.strip()
    if not granted or granted == asked:
        return bool(granted)
    if _JOINED.search(asked) or _JOINED.search(granted):
        return False
    if has_glob(granted):
        pattern = fnmatch.translate(" ".join(granted.split()).replace("[", "[[]"))
        return re.match(pattern, " ".join(asked.split())) is not None
    words = granted.split()
    return asked.split()[: len(words)] == words


def covers_scope(granted: str, asked: str) -> bool:
    """Whether a path lies at or below the granted one, or its pattern (`*` within a folder, `**` across) matches it.

    `.` and `..` are resolved as text first; a relative path is only covered by a relative scope.
    """
    if not granted:
        return True
    if not asked:
        return False
    path = posixpath.normpath(asked)
    if path.startswith(".."):
        return False
    if has_glob(granted):
        return re.fullmatch(glob_pattern(granted, path=True), path) is not None
    return path == posixpath.normpath(granted) or is_below(path, posixpath.normpath(granted))


def expiry(text: str, now: datetime) -> int:
    """For how long from `now` (30m, 8h, 7d, 2w), or a date or time, as µs since the epoch; "" is 0: never.

    Raises InputError.
    """
    if not text.strip():
        return 0
    if match := _FOR.fullmatch(text.strip()):
        return int(now.timestamp() * 1e6) + int(match[1]) * _SECONDS[match[2].lower()] * 1_000_000
    try:
        return parse_time(text, now)
    except InputError:
        raise InputError(f"expires={text[:60]!r} is no time; write 30m, 8h, 7d or 2026-03-01T18:00") from None


def _misses(grant: Grant, asked: Asked, now: int, same: SameProject) -> str:
    """Why a grant of this operation does not cover what is asked; "" where it does."""
    state = grant.state(now)
    if state is not State.HOLDS:
        return state.value
    if not covers_scope(grant.scope, asked.scope):
        return f"only for {grant.scope}"
    if grant.project and not (asked.project and same(grant.project, asked.project)):
        return f"only in {grant.project}"
    if grant.session and grant.session != asked.session:
        return "only in another session"
    return ""


def _below(project: str, folder: str) -> bool:
    return is_below(folder, project.rstrip("/") or "/")

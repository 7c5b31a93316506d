"""Payloads of the log's own events. Captured events carry the assistant's bytes instead."""

from collections.abc import Iterable

import msgspec


class ReflectionStored(msgspec.Struct, frozen=True):
    """Something a person or an assistant asked to remember."""

    text: str
    tags: tuple[str, ...] = ()
    project: str = ""  # working folder it was said in
    session: str = ""  # the assistant's session, where known


class PayloadForgotten(msgspec.Struct, frozen=True):
    """Payloads taken out of the log afterwards (schema version 2); ids and action keys stay as tombstones.

    Forgetting many events makes several of these. Event ids beyond the positions are of events this log does not
    hold: they were forgotten after the backup it was restored from.
    """

    ranges: tuple[tuple[int, int], ...]  # first and last position, both included, in order
    event_ids: tuple[str, ...]  # hex, of the positions in order, then of events that are not here
    action_keys: tuple[str, ...]
    reason: str = ""
    # (position, kind of action, text digest) of prompts, replies and thoughts: they keep their place in the order
    texts: tuple[tuple[int, str, str], ...] = ()

    @property
    def positions(self) -> tuple[int, ...]:
        """Every position, in order."""
        return tuple(p for first, last in self.ranges for p in range(first, last + 1))


def ranges_of(positions: Iterable[int]) -> tuple[tuple[int, int], ...]:
    """Positions as (first, last) ranges, in order."""
    out: list[tuple[int, int]] = []
    for position in sorted(set(positions)):
        if out and out[-1][1] == position - 1:
            out[-1] = (out[-1][0], position)
        else:
            out.append((position, position))
    return tuple(out)


class SessionCheckpointed(msgspec.Struct, frozen=True):
    """A mark in a session: up to here, so it stood. It copies nothing of what the log holds (a forgotten prompt must not
    live on in it); what a checkpoint says is composed anew from the events up to `upto`.
    """

    session: str
    project: str = ""  # working folder
    reason: str = ""  # compact | asked | end
    upto: int = 0  # the last position it covers
    note: str = ""  # what the assistant or the user added
    facts: dict[str, int] = {}  # what was counted up to there (projections.quality), for its trend
    score: int | None = None  # 0 to 100; None where nothing could be judged


class SessionClosed(msgspec.Struct, frozen=True):
    """A session came to its end without its assistant saying so, or was ended by a tool."""

    session: str
    project: str = ""
    reason: str = ""  # ended | orphaned (its process is gone, no end was reported)
    upto: int = 0  # the session's last position then
    note: str = ""


class PermissionGranted(msgspec.Struct, frozen=True):
    """The user trusts an operation. A grant is a record to look up; it makes no assistant do anything."""

    grant: str  # its id, 8 characters
    operation: str  # such as "git push" or "edit"
    scope: str = ""  # a folder or a pattern it holds for; "" everywhere
    project: str = ""  # working folder; "" every project
    session: str = ""  # only this session; "" any
    expires_at: int = 0  # µs since the epoch; 0 never
    reason: str = ""


class PermissionRevoked(msgspec.Struct, frozen=True):
    """A grant holds no longer."""

    grant: str
    reason: str = ""


# what rows say of a ProjectSeen and a ProjectJoined, between the folders
SEEN_WORDS = " belongs to the project "
JOINED_WORDS = " is one project with "


class ProjectSeen(msgspec.Struct, frozen=True):
    """A working folder belongs to a project: worktrees and subfolders of one repository are one."""

    folder: str  # as captured
    root: str  # the repository's main folder; the folder itself where there is no git
    common_dir: str = ""  # git's common folder; "" without git


class ProjectJoined(msgspec.Struct, frozen=True):
    """Two roots are one project: a renamed or moved folder goes on under the new one. The last word on a root counts."""

    old: str
    new: str  # equal to `old`: on its own again


ACCESS_STREAM = "session-mgmt/access"  # of the events of access: apart, so that only admins are shown it


class KeyCreated(msgspec.Struct, frozen=True):
    """Somebody may ask over HTTP. Neither the secret nor anything made from it is in the log."""

    key: str  # its id
    name: str  # the user it stands for
    role: str
    scopes: tuple[str, ...] = ()  # tools it is narrowed to; empty: all of the role
    projects: tuple[str, ...] | None = None  # folders; None: all projects
    expires_at: int = 0  # µs since the epoch; 0 never
    replaces: str = ""  # id of the key it was rotated from


class KeyRevoked(msgspec.Struct, frozen=True):
    """A key opens nothing any more."""

    key: str
    name: str
    reason: str = ""


class AccessGranted(msgspec.Struct, frozen=True):
    """A key was used: for the first time from an address, or for the first time in an hour."""

    key: str
    address: str


class AccessDenied(msgspec.Struct, frozen=True):
    """Requests were turned away: the first of a kind at once, those that follow counted and written together."""

    reason: str  # see core.access.AccessError
    address: str  # "" where many addresses are summed up
    what: str = ""  # endpoint or tool of the first
    key: str = ""  # id of a known key
    count: int = 1


class ServiceStarted(msgspec.Struct, frozen=True):
    """The log is served over HTTP from now on."""

    version: str
    address: str  # host and port it listens at
    auth: str  # keys | none


class ServiceStopped(msgspec.Struct, frozen=True):
    """It is not any more; a service that was killed leaves none of these."""

    reason: str = ""


class LogForked(msgspec.Struct, frozen=True):
    """This log goes on from a copy of another one that was cut after a position (a point-in-time restore).

    The cut may lie inside a frame; from there on the chain is this log's own. What came before is proved by
    `whole_chain`, which both logs have after `whole_position`.
    """

    log_id: str  # of the log that was copied, 32 hex digits
    origin: str  # the log whose first chain both continue
    position: int  # the last of its events that is here
    whole_position: int  # the last position up to that one at which a frame of it ends
    whole_chain: str  # its chain there, hex
    snapshot: str = ""  # the backup it was taken from

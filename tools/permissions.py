"""Permissions of a data folder: recorded as events, looked up, taken back. They record what the user trusts; nothing here
enforces anything.
"""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from session_mgmt_mcp.core.envelope import EventType, now_us
from session_mgmt_mcp.core.errors import InputError
from session_mgmt_mcp.core.events import PermissionGranted, PermissionRevoked
from session_mgmt_mcp.projections.permissions import ORIGINS, Asked, Decision, Grant, State, decide, grants_of
from session_mgmt_mcp.projections.rows import ORDINAL_BITS
from session_mgmt_mcp.tools.app import App

if TYPE_CHECKING:
    from session_mgmt_mcp.projections.projects import Projects

TEXT_CHARS_MAX = 300
WILDCARDS_MAX = 3

Sees = Callable[[Grant], bool]


def _everybody(grant: Grant) -> bool:
    return True


def listed(app: App, sees: Sees = _everybody) -> list[Grant]:
    """Every grant that is seen, in order."""
    with app.views.reading() as files:
        found = files.fetch(
            f"SELECT DISTINCT id >> {ORDINAL_BITS} FROM shown WHERE kind = 'ContextNoted' AND origin IN (?, ?)",
            list(ORIGINS),
        )
    events = app.log.get(sorted(row[0] for row in found))
    return [grant for grant in grants_of(event for _, event in sorted(events.items())) if sees(grant)]


def grant(
    app: App, wanted: Grant, *, key: str | None = None, actor: str = "user", sees: Sees = _everybody
) -> tuple[Grant, bool]:
    """Record a permission; False where the same one holds already, for as long. Raises InputError: empty or too long, in the past."""
    now = now_us()
    _check_texts(wanted)
    if 0 < wanted.expires_at <= now:
        raise InputError("the permission would have expired already; give a time that lies ahead")
    for known in listed(app, sees):
        lasts = not known.expires_at or 0 < wanted.expires_at <= known.expires_at
        if lasts and known.state(now) is State.HOLDS and _terms(known) == _terms(wanted):
            return known, False
    said = PermissionGranted(
        os.urandom(4).hex(),
        wanted.operation.strip(),
        wanted.scope.strip(),
        wanted.project,
        wanted.session,
        wanted.expires_at,
        wanted.reason,
    )
    receipt = app.append_own(
        EventType.PERMISSION_GRANTED, msgspec.json.encode(said), wanted.session or None, key, actor
    )
    stored = next((g for g in listed(app, sees) if g.position == receipt.position), None)
    if stored is None:
        raise InputError(f"the key {key!r} was used before for something else; use a new one")
    return stored, receipt.appended


def revoke(
    app: App,
    name: str,
    reason: str = "",
    *,
    key: str | None = None,
    actor: str = "user",
    sees: Sees = _everybody,
) -> tuple[Grant, bool]:
    """Take a permission back by its id or the beginning of it; False where it held no longer. Raises InputError."""
    if len(reason) > TEXT_CHARS_MAX:
        raise InputError(f"the reason is longer than {TEXT_CHARS_MAX} characters; shorten it")
    found = [g for g in listed(app, sees) if name.strip() and g.grant.startswith(name.strip().lower())]
    if len(found) != 1:
        many = f"{len(found)} permissions begin with" if found else "there is no permission"
        raise InputError(f"{many} {name[:20]!r}; list them to see their ids")
    if found[0].revoked_at:
        return found[0], False
    payload = msgspec.json.encode(PermissionRevoked(found[0].grant, reason))
    app.append_own(EventType.PERMISSION_REVOKED, payload, found[0].session or None, key, actor)
    return next(g for g in listed(app, sees) if g.grant == found[0].grant), True


def check(app: App, asked: Asked, now: int | None = None) -> Decision:
    """Whether a permission covers the operation, at `now` (µs since the epoch, default: the clock). Raises InputError."""
    return decided(listed(app), asked, app.views.projects(), now)


def decided(grants: list[Grant], asked: Asked, projects: "Projects", now: int | None = None) -> Decision:
    """The same of these grants. Raises InputError."""
    if not asked.operation.strip():
        raise InputError("name the operation to check, such as 'git push origin main'")
    return decide(
        grants,
        asked,
        now_us() if now is None else now,
        lambda granted, folder: projects.root_of(granted) == projects.root_of(folder),
    )


def _terms(grant: Grant) -> tuple[str, str, str, str]:
    return (grant.operation.strip(), grant.scope.strip(), grant.project, grant.session)


def _check_texts(wanted: Grant) -> None:
    if not wanted.operation.strip():
        raise InputError("name the operation that is permitted, such as 'git push'")
    for name in ("operation", "scope", "reason"):
        value: str = getattr(wanted, name)
        if len(value) > TEXT_CHARS_MAX:
            raise InputError(f"{name} is longer than {TEXT_CHARS_MAX} characters; shorten it")
        if name != "reason" and value.count("*") + value.count("?") - value.count("**") > WILDCARDS_MAX:
            raise InputError(f"{name} has more than {WILDCARDS_MAX} wildcards; grant them one by one")

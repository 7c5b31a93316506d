"""What the MCP tools do for one principal: in its name, with keys of its own, and within its projects."""

from collections.abc import Sequence
from typing import Any, Final, Self

import msgspec

from session_mgmt_mcp.adapters.mcp.caller import Caller
from session_mgmt_mcp.adapters.mcp.services import AuditQuestion, Choice, Forgotten, Marked, Preview, Told
from session_mgmt_mcp.core.access import AccessError, Principal, Role
from session_mgmt_mcp.core.envelope import ACCESS_TYPES, Event, Receipt
from session_mgmt_mcp.core.errors import IdempotencyConflictError, InputError
from session_mgmt_mcp.core.events import ACCESS_STREAM
from session_mgmt_mcp.projections.audit import AuditRow
from session_mgmt_mcp.projections.matching import is_absolute
from session_mgmt_mcp.projections.permissions import Asked, Decision, Grant
from session_mgmt_mcp.projections.results import TimelinePage
from session_mgmt_mcp.projections.rows import ORDINAL_BITS
from session_mgmt_mcp.projections.scoped_views import ScopedViews
from session_mgmt_mcp.tools import audit_pages, permissions
from session_mgmt_mcp.tools.app import App
from session_mgmt_mcp.tools.mcp_services import McpServices

OWN_SHOWN_MAX: Final = 1000
"""Latest events of access that somebody is shown of themselves."""
_ASSISTANT, _, _SESSION = ACCESS_STREAM.partition("/")


class PrincipalServices(McpServices):
    """For a principal of all projects. Made anew for every call: it holds nothing but who asks.

    Who is no admin is not shown the events of access, but for those about them in the audit.
    """

    def __init__(self, inner: McpServices, principal: Principal) -> None:
        self._inner = inner
        self._principal = principal
        self.actor = principal.name

    @property
    def _app(self) -> App:
        return self._inner._app

    # -- finding -----------------------------------------------------------------------------------------------------

    def timeline(
        self, *, session: str | None, around: int | None, cursor: str | None, limit: int
    ) -> TimelinePage:
        page = super().timeline(session=session, around=around, cursor=cursor, limit=limit)
        if self._sees_access:
            return page
        kept = tuple(t for t in page.turns if (t.assistant, t.session) != (_ASSISTANT, _SESSION))
        return msgspec.structs.replace(page, turns=kept)

    def read_event(self, position: int) -> Event | None:
        event = super().read_event(position)
        if event is not None and event.envelope.stream == ACCESS_STREAM and not self._sees_access:
            return None
        return event

    def audit(self, question: AuditQuestion, *, limit: int) -> tuple[list[AuditRow], int | None]:
        access_of = None if self._sees_access else self._principal.name
        return audit_pages.page(self._app, question, limit, access_of=access_of)

    @property
    def _sees_access(self) -> bool:
        return self._principal.role is Role.ADMIN and self._principal.projects is None

    # -- a session's life --------------------------------------------------------------------------------------------

    def session_of(self, caller: Caller) -> str | None:
        """None: what runs on this machine says nothing of who asks from elsewhere."""
        return None

    def checkpoint(self, caller: Caller, session: str | None, note: str, key: str | None) -> Marked:
        with self._keys(key) as own:
            return super().checkpoint(caller, self._known(session), note, own.key)

    def end(self, caller: Caller, session: str | None, note: str, key: str | None) -> Marked:
        with self._keys(key) as own:
            return super().end(caller, self._known(session), note, own.key)

    def start(self, caller: Caller, project: str | None, session: str | None, budget_tokens: int) -> Told:
        return super().start(caller, project, self._known(session), budget_tokens)

    def handoff(self, caller: Caller, session: str | None) -> Told:
        return super().handoff(caller, self._known(session))

    def _known(self, session: str | None) -> str | None:
        """The full id; the stream of access is no session. Raises InputError."""
        full = self._app.views.session(session).session if session else None
        if full == _SESSION and not self._sees_access:
            raise InputError(f"no session {session!r}; timeline() lists all sessions")
        return full

    # -- keeping -----------------------------------------------------------------------------------------------------

    def remember(
        self, text: str, tags: Sequence[str], project: str | None, session: str | None, key: str | None
    ) -> Receipt:
        with self._keys(key) as own:
            receipt = self._app.remember(text, tags, project, session, own.key, self.actor)
        self._after_append()
        return receipt

    def forget(self, choice: Choice, code: str, reason: str) -> Forgotten | Preview:
        from session_mgmt_mcp.tools import forget_confirm

        return forget_confirm.confirmed(self._app, choice, code, reason, self.actor)

    def grant(self, caller: Caller, wanted: Grant, key: str | None) -> tuple[Grant, bool]:
        with self._keys(key) as own:
            return super().grant(caller, wanted, own.key)

    def revoke(self, caller: Caller, grant: str, reason: str, key: str | None) -> tuple[Grant, bool]:
        with self._keys(key) as own:
            return super().revoke(caller, grant, reason, own.key)

    def _keys(self, key: str | None) -> "_OwnKey":
        return _OwnKey(self._principal, key)

    def close(self) -> None:
        """What is open belongs to all."""


class _OwnKey:
    """A caller's key among those of its principal alone: nobody's key meets another's. Names hold no slash."""

    def __init__(self, principal: Principal, key: str | None) -> None:
        self._prefix = f"principal/{principal.name}/"
        self.key = self._prefix + key if key else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, IdempotencyConflictError) and self.key:
            told = str(error).replace(self._prefix, "", 1)
            raise IdempotencyConflictError(told) from None


class ScopedApp(App):
    """An App with the views of a principal with projects."""

    def __init__(self, app: App, views: ScopedViews) -> None:
        self.__dict__.update(app.__dict__)
        self.views = self.visible = views

    def close(self) -> None:
        """What is open belongs to all."""


class ScopedServices(PrincipalServices):
    """For a principal with projects: everything is answered as if nothing else were recorded.

    A session, position, cursor or permission of another project is refused in the words an unknown one is.
    """

    def __init__(self, inner: McpServices, principal: Principal, granted: tuple[str, ...]) -> None:
        super().__init__(inner, principal)
        self._granted = granted
        self._base = inner._app  # one for the whole call, even where the folder is replaced meanwhile
        self._scoped = ScopedApp(self._base, self._base.views.scoped(granted, ScopedViews))

    @property
    def _app(self) -> App:
        return self._scoped

    @property
    def _views(self) -> ScopedViews:
        return self._scoped.visible

    # -- finding -----------------------------------------------------------------------------------------------------

    def read_event(self, position: int) -> Event | None:
        return super().read_event(position) if self._views.sees_event(position) else None

    def audit(self, question: AuditQuestion, *, limit: int) -> tuple[list[AuditRow], int | None]:
        """With the events of access about the principal itself."""
        return audit_pages.page(self._app, question, limit, lambda _: self._own_access())

    def _own_access(self) -> list[Event]:
        name = self._principal.name
        sql = (
            f"SELECT DISTINCT id >> {ORDINAL_BITS} AS position FROM shown WHERE assistant = ? AND session = ? "
            f"AND list_contains(?, origin) AND actor = ? ORDER BY position DESC LIMIT {OWN_SHOWN_MAX}"
        )
        with self._base.views.reading() as files:
            found = files.fetch(sql, [_ASSISTANT, _SESSION, [str(kind) for kind in ACCESS_TYPES], name])
        return [event for _, event in sorted(self._base.log.get([r[0] for r in found]).items())]

    # -- a session's life --------------------------------------------------------------------------------------------

    def start(self, caller: Caller, project: str | None, session: str | None, budget_tokens: int) -> Told:
        named = self._project(project) if project or not session else None
        return super().start(Caller(0, ""), named, session, budget_tokens)

    def handoff(self, caller: Caller, session: str | None) -> Told:
        return super().handoff(Caller(0, ""), session)

    def status(self, caller: Caller) -> dict[str, Any]:
        """How much may be seen; of folder, disk and everybody's numbers nothing."""
        views = self._views.status()
        return {
            "session": None,
            "events": views.actions,
            "folder": ", ".join(self._granted),
            "paused_since": self._base.paused_since,
            "views": {
                "sessions": views.sessions,
                "actions": views.actions,
                "kinds": views.kinds,
            },
            "findings": [],
        }

    # -- keeping -----------------------------------------------------------------------------------------------------

    def remember(
        self, text: str, tags: Sequence[str], project: str | None, session: str | None, key: str | None
    ) -> Receipt:
        """Of a session only where some of it is seen: else it would be another's story that is added to."""
        full = self._views.session(session).session if session else None
        return super().remember(text, tags, self._project(project), full, key)

    def preview_forgetting(self, choice: Choice) -> Preview:
        raise self._of_all()

    def forget(self, choice: Choice, code: str, reason: str) -> Forgotten | Preview:
        raise self._of_all()

    def _of_all(self) -> AccessError:
        return AccessError(
            f"{self._principal.name} may not forget: that takes an admin's key for all projects",
            reason="project",
        )

    def _project(self, named: str | None) -> str:
        """The folder that is meant, by its path or its name; of None the only one. Raises InputError, AccessError."""
        if not named:
            if len(self._granted) == 1:
                return self._granted[0]
            raise InputError(f"of which project? Give project=, one of {', '.join(self._granted)}")
        if not is_absolute(named):
            meant = self._views.projects().own_roots(named)
            if len(meant) == 1:
                return meant[0]
        elif self._views.sees(named):
            return named
        raise AccessError(
            f"{named[:200]!r} is none of the projects of {self._principal.name}: {', '.join(self._granted)}",
            reason="project",
        )

    # -- permissions -------------------------------------------------------------------------------------------------

    def _sees(self, grant: Grant) -> bool:
        return self._views.sees(grant.project)

    def grants(self) -> list[Grant]:
        return permissions.listed(self._base, self._sees)

    def grant(self, caller: Caller, wanted: Grant, key: str | None) -> tuple[Grant, bool]:
        session = self._views.session(wanted.session).session if wanted.session else ""
        wanted = msgspec.structs.replace(wanted, session=session, project=self._project(wanted.project))
        with self._keys(key) as own:
            return permissions.grant(self._base, wanted, key=own.key, actor=self.actor, sees=self._sees)

    def revoke(self, caller: Caller, grant: str, reason: str, key: str | None) -> tuple[Grant, bool]:
        with self._keys(key) as own:
            return permissions.revoke(
                self._base, grant, reason, key=own.key, actor=self.actor, sees=self._sees
            )

    def check(self, caller: Caller, asked: Asked) -> Decision:
        session = self._views.session(asked.session).session if asked.session else ""
        alone = self._granted[0] if len(self._granted) == 1 else ""
        project = self._project(asked.project) if asked.project else alone
        asked = asked._replace(session=session, project=project)
        projects = self._views.projects()
        visible = permissions.listed(self._base, self._sees)
        return permissions.decided(visible, asked, projects)


def services_of(inner: McpServices, principal: Principal) -> McpServices:
    """What this principal gets."""
    if principal.projects is None:
        return PrincipalServices(inner, principal)
    return ScopedServices(inner, principal, principal.projects)

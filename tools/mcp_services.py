"""What the MCP tools need, over an App: the other half of `adapters.mcp.services`."""

import os
from collections.abc import Sequence
from pathlib import Path
from threading import Lock, Timer
from typing import Any, Self, Unpack

import msgspec

from session_mgmt_mcp.adapters.mcp.caller import Caller
from session_mgmt_mcp.adapters.mcp.services import (
    AuditQuestion,
    Choice,
    Forgotten,
    Marked,
    Narrowing,
    Preview,
    Told,
)
from session_mgmt_mcp.core.envelope import Event, Receipt
from session_mgmt_mcp.core.errors import InputError
from session_mgmt_mcp.projections.audit import AuditRow
from session_mgmt_mcp.projections.permissions import Asked, Decision, Grant
from session_mgmt_mcp.projections.results import Moments, SessionSummary, TimelinePage
from session_mgmt_mcp.tools import maintenance
from session_mgmt_mcp.tools.app import App

COMPLETIONS_MAX = 50
MAINTENANCE_AFTER_S = 2.0
SESSION_VARIABLE = "CLAUDE_CODE_SESSION_ID"  # a hint: of the time the server was started


def _identity(folder: Path) -> tuple[int, int] | None:
    """What tells one log's files from another's under the same name; None where there is none."""
    try:
        found = os.stat(folder / "FORMAT.json")
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_dev, found.st_ino


class McpServices:
    """`adapters.mcp.services.Services` over an App."""

    def __init__(self, app: App) -> None:
        self._opened, self._log_file = app, _identity(app.folder)
        self._lock = Lock()
        self.actor = "assistant"

    @property
    def _app(self) -> App:
        """The data folder, opened anew where it was removed or replaced since: what is open then is of another log."""
        with self._lock:
            if _identity(self._opened.folder) != self._log_file:
                app = App.open(self._opened.folder, create=True)
                # The one before is not closed: another thread may be at work with it.
                self._opened, self._log_file = app, _identity(app.folder)
            return self._opened

    @classmethod
    def open(cls) -> Self:
        """Open the default data folder. Where no hooks run, a server is what has maintenance done."""
        app = App.open(create=True)
        # not now: a client waits for its first answer
        delayed = Timer(MAINTENANCE_AFTER_S, maintenance.start, [str(app.folder)])
        delayed.daemon = True
        delayed.start()
        return cls(app)

    # -- finding -------------------------------------------------------------------------------------------------

    def search(self, query: str, *, limit: int, **filters: Unpack[Narrowing]) -> Moments:
        return self._app.views.search(query, limit=limit, **filters)

    def timeline(
        self, *, session: str | None, around: int | None, cursor: str | None, limit: int
    ) -> TimelinePage:
        half = max(1, limit // 2)
        return self._app.views.timeline(
            session=session, around=around, before=half, after=half, cursor=cursor or "", limit=limit
        )

    def sessions(self, *, project: str | None, limit: int) -> list[SessionSummary]:
        return self._app.views.sessions(project=project, limit=limit)

    def read_event(self, position: int) -> Event | None:
        return self._app.log.get([position]).get(position)

    def audit(self, question: AuditQuestion, *, limit: int) -> tuple[list[AuditRow], int | None]:
        from session_mgmt_mcp.tools.audit_pages import page

        return page(self._app, question, limit)

    # -- a session's life ----------------------------------------------------------------------------------------

    def session_of(self, caller: Caller) -> str | None:
        """The session the caller's process belongs to, None where nothing tells."""
        from session_mgmt_mcp.tools import lifecycle

        found = lifecycle.current_session(self._app, caller.pid, caller.folder or None)
        hinted = os.environ.get(SESSION_VARIABLE) if caller.pid == os.getppid() else None
        return found or hinted or None

    def _session(self, caller: Caller, session: str | None) -> str:
        """The full id of the session that is meant. Raises InputError."""
        named = session or self.session_of(caller)
        if named is None:
            raise InputError(
                "which session this is cannot be told (no hook of it was seen); give session=, timeline() lists them"
            )
        return named

    def start(self, caller: Caller, project: str | None, session: str | None, budget_tokens: int) -> Told:
        from session_mgmt_mcp.tools import lifecycle

        own = self.session_of(caller)
        if session is not None:
            full = self._app.views.session(session).session
            if full != own:
                return self._take_up(full, budget_tokens)
        brief = lifecycle.start(self._app, project or caller.folder or None, None, budget_tokens, own=own)
        return Told(brief.text, brief.session, brief.project)

    def _take_up(self, session: str, budget_tokens: int) -> Told:
        """How another session stands, for one that goes on from there."""
        from session_mgmt_mcp.projections.brief import checkpoint_text
        from session_mgmt_mcp.tools import lifecycle

        story, quality = lifecycle.told(self._app.views, session)
        return Told(checkpoint_text(story, quality, budget_tokens), session, story.project)

    def checkpoint(self, caller: Caller, session: str | None, note: str, key: str | None) -> Marked:
        from session_mgmt_mcp.tools import lifecycle

        done = lifecycle.checkpoint(self._app, self._session(caller, session), note, key, self.actor)
        self._after_append()
        return Marked(done.session, done.position, done.appended, done.text, done.score)

    def end(self, caller: Caller, session: str | None, note: str, key: str | None) -> Marked:
        from session_mgmt_mcp.tools import lifecycle

        done = lifecycle.end(self._app, self._session(caller, session), note, key, self.actor)
        self._after_append()
        return Marked(done.session, done.position, done.appended, done.text)

    def handoff(self, caller: Caller, session: str | None) -> Told:
        from session_mgmt_mcp.tools import lifecycle

        found = lifecycle.handoff(self._app, session or self._last_session(caller))
        return Told(found.text, found.session)

    def _last_session(self, caller: Caller) -> str:
        """The project's latest session but the caller's own."""
        own = self.session_of(caller)
        project = caller.folder or None
        for found in self._app.views.sessions(project=project, limit=2):
            if found.session != own:
                return found.session
        raise InputError(f"no earlier session of {project or 'any project'}; timeline() lists all sessions")

    def status(self, caller: Caller) -> dict[str, Any]:
        return {"session": self.session_of(caller), **self._app.status()}

    # -- keeping and forgetting ----------------------------------------------------------------------------------

    def remember(
        self, text: str, tags: Sequence[str], project: str | None, session: str | None, key: str | None
    ) -> Receipt:
        receipt = self._app.remember(text, tags, project, session, key)
        self._after_append()
        return receipt

    def _after_append(self) -> None:
        app = self._app
        if app.log.appender.rolled:
            app.log.appender.rolled = False
            maintenance.start(str(app.folder))

    def preview_forgetting(self, choice: Choice) -> Preview:
        from session_mgmt_mcp.tools import forget_confirm

        return forget_confirm.preview(self._app, choice)

    def forget(self, choice: Choice, code: str, reason: str) -> Forgotten | Preview:
        from session_mgmt_mcp.tools import forget_confirm

        return forget_confirm.confirmed(self._app, choice, code, reason)

    # -- permissions ---------------------------------------------------------------------------------------------

    def grants(self) -> list[Grant]:
        from session_mgmt_mcp.tools import permissions

        return permissions.listed(self._app)

    def grant(self, caller: Caller, wanted: Grant, key: str | None) -> tuple[Grant, bool]:
        from session_mgmt_mcp.tools import permissions

        if wanted.session:
            session = self._app.views.session(wanted.session).session
            wanted = msgspec.structs.replace(wanted, session=session)
        return permissions.grant(self._app, wanted, key=key, actor=self.actor)

    def revoke(self, caller: Caller, grant: str, reason: str, key: str | None) -> tuple[Grant, bool]:
        from session_mgmt_mcp.tools import permissions

        return permissions.revoke(self._app, grant, reason, key=key, actor=self.actor)

    def check(self, caller: Caller, asked: Asked) -> Decision:
        from session_mgmt_mcp.tools import permissions

        session = self._app.views.session(asked.session).session if asked.session else self.session_of(caller)
        return permissions.check(self._app, asked._replace(session=session or ""))

    # -- completing ----------------------------------------------------------------------------------------------

    def complete(self, caller: Caller, what: str, prefix: str) -> list[str]:
        if what == "project":
            from session_mgmt_mcp.tools.projects import all_roots

            known = all_roots(self._app)
            name = prefix.casefold()
            return [
                r for r in known if r.startswith(prefix) or os.path.basename(r).casefold().startswith(name)
            ][:COMPLETIONS_MAX]
        found = self._app.views.sessions(project=None, limit=1000)
        return [s.session for s in found if s.session.startswith(prefix)][:COMPLETIONS_MAX]

    def close(self) -> None:
        self._opened.close()

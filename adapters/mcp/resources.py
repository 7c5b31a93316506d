"""Resources: sessions and handoffs a client can attach. The list is always the same; `session://recent` names the rest."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from mcp.server.mcpserver.exceptions import ResourceNotFoundError

from session_mgmt_mcp.adapters.mcp.arguments import ID_CHARS_MAX
from session_mgmt_mcp.adapters.mcp.caller import caller
from session_mgmt_mcp.adapters.mcp.lazy import LazyServices
from session_mgmt_mcp.core.errors import InputError
from session_mgmt_mcp.projections.plain_text import quoted

BUDGET_TOKENS = 8000
RECENT = 20
TURNS = 100


class Row(NamedTuple):
    """A resource, or a template of some."""

    uri: str
    function: Callable[..., str]
    name: str
    title: str
    description: str
    mime_type: str = "text/markdown"


class Resources:
    """Plain functions, so the SDK runs them in worker threads. An unknown session is a resource that is not found."""

    def __init__(self, services: LazyServices) -> None:
        self._services = services

    def recent(self) -> str:
        """The latest sessions."""
        from session_mgmt_mcp.adapters.mcp import render_find

        found = self._services.get().sessions(project=None, limit=RECENT)
        listed = render_find.sessions(found, None, RECENT, BUDGET_TOKENS)
        return f"{listed}\nEach is a resource: session://<id>, its handoff handoff://<id>."

    def latest(self) -> str:
        """The handoff of the project's last session."""
        return self._handoff(None)

    def session(self, id: str) -> str:
        """A session from its beginning."""
        from session_mgmt_mcp.adapters.mcp import render_find

        with _found(id):
            page = self._services.get().timeline(session=id, around=None, cursor=None, limit=TURNS)
        return render_find.timeline(page, BUDGET_TOKENS)

    def handoff(self, id: str) -> str:
        """A session's handoff."""
        return self._handoff(id)

    def _handoff(self, session: str | None) -> str:
        from session_mgmt_mcp.adapters.mcp import render_life

        with _found(session):
            return render_life.handoff(self._services.get().handoff(caller(), session))

    def table(self) -> list[Row]:
        """What there is."""
        return [
            Row(
                "session://recent",
                self.recent,
                "recent",
                "Recent sessions",
                "The latest sessions and their ids",
            ),
            Row("handoff://latest", self.latest, "latest", "Last handoff", "Of this project's last session"),
            Row("session://{id}", self.session, "session", "Session", "What happened in a session, in order"),
            Row(
                "handoff://{id}",
                self.handoff,
                "handoff",
                "Handoff",
                "What a session did, decided and left open",
            ),
        ]


@contextmanager
def _found(session: str | None) -> Iterator[None]:
    try:
        if session is not None and not 0 < len(session.strip()) <= ID_CHARS_MAX:
            raise InputError(f"no session id: {session[:40]!r}; session://recent lists some")
        yield
    except InputError as error:
        raise ResourceNotFoundError(quoted(str(error))) from error

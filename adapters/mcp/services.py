"""What the MCP tools need from the program. The composition root implements it; tests give a fake."""

from collections.abc import Sequence
from typing import Any, Protocol, TypedDict, Unpack

from session_mgmt_mcp.core.envelope import Event, Receipt
from session_mgmt_mcp.projections.results import Moments, SessionSummary, TimelinePage


class Narrowing(TypedDict, total=False):
    """What a search may be narrowed to, as in the query language."""

    session: str | None
    project: str | None
    assistant: str | None
    kind: str | None
    tool: str | None
    file: str | None
    actor: str | None
    branch: str | None
    after: int | None
    before: int | None


class Services(Protocol):
    """Called from several worker threads at once. Filters that are None do not filter.

    Every method may raise SessionMgmtError; its message reaches the client as it is. A time is µs since the epoch:
    `after` is inclusive, `before` exclusive.
    """

    def search(self, query: str, *, limit: int, **filters: Unpack[Narrowing]) -> Moments:
        """The best moments for the query, best first; of filters alone, also within the query, the newest."""

    def timeline(
        self, *, session: str | None, around: int | None, cursor: str | None, limit: int
    ) -> TimelinePage:
        """One of: a session from its start, the turns around a position (with it), or the page a cursor names."""

    def sessions(self, *, project: str | None, limit: int) -> list[SessionSummary]:
        """The latest sessions, newest first."""

    def remember(
        self, text: str, tags: Sequence[str], project: str | None, session: str | None, key: str | None
    ) -> Receipt:
        """Store a reflection durably. The same key and content again is no error (`Receipt.appended` is False)."""

    def read_event(self, position: int) -> Event | None:
        """The event as it was recorded, None where there is none at that position."""

    def status(self) -> dict[str, Any]:
        """How far log and views are, what they hold, what is wrong; plain data that JSON can carry."""

    def close(self) -> None:
        """Let go of files. Called once at exit, possibly while another call still runs."""

"""The services over HTTP: every method looks who asks, whether they may, and answers with what they may see.

The owner of the data folder, at the machine itself, is asked nothing. Tools, prompts, resources and completions all go
through here, so that none of them can be forgotten.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Unpack

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
from session_mgmt_mcp.core.access import PRINCIPAL, refusal
from session_mgmt_mcp.tools.mcp_services import McpServices

if TYPE_CHECKING:
    from session_mgmt_mcp.core.envelope import Event, Receipt
    from session_mgmt_mcp.projections.audit import AuditRow
    from session_mgmt_mcp.projections.permissions import Asked, Decision, Grant
    from session_mgmt_mcp.projections.results import Moments, SessionSummary, TimelinePage


class GuardedServices:
    """`adapters.mcp.services.Services`, for whoever PRINCIPAL says. Every method raises AccessError too."""

    def __init__(self, inner: McpServices) -> None:
        self._inner = inner

    def _for(self, *tools: str) -> McpServices:
        """What the principal gets, where its key covers one of these tools."""
        principal = PRINCIPAL.get()
        if principal is None:
            return self._inner
        if principal.tools.isdisjoint(tools):
            raise refusal(principal, tools[0])
        from session_mgmt_mcp.tools.principal_services import services_of

        return services_of(self._inner, principal)

    def search(self, query: str, *, limit: int, **filters: Unpack[Narrowing]) -> "Moments":
        return self._for("search").search(query, limit=limit, **filters)

    def timeline(
        self, *, session: str | None, around: int | None, cursor: str | None, limit: int
    ) -> "TimelinePage":
        return self._for("timeline").timeline(session=session, around=around, cursor=cursor, limit=limit)

    def sessions(self, *, project: str | None, limit: int) -> "list[SessionSummary]":
        return self._for("timeline").sessions(project=project, limit=limit)

    def read_event(self, position: int) -> "Event | None":
        return self._for("timeline").read_event(position)

    def audit(self, question: AuditQuestion, *, limit: int) -> "tuple[list[AuditRow], int | None]":
        return self._for("audit").audit(question, limit=limit)

    def start(self, caller: Caller, project: str | None, session: str | None, budget_tokens: int) -> Told:
        return self._for("start").start(caller, project, session, budget_tokens)

    def checkpoint(self, caller: Caller, session: str | None, note: str, key: str | None) -> Marked:
        return self._for("checkpoint").checkpoint(caller, session, note, key)

    def end(self, caller: Caller, session: str | None, note: str, key: str | None) -> Marked:
        return self._for("end").end(caller, session, note, key)

    def handoff(self, caller: Caller, session: str | None) -> Told:
        return self._for("start").handoff(caller, session)

    def status(self, caller: Caller) -> dict[str, Any]:
        return self._for("status").status(caller)

    def remember(
        self, text: str, tags: Sequence[str], project: str | None, session: str | None, key: str | None
    ) -> "Receipt":
        return self._for("remember").remember(text, tags, project, session, key)

    def preview_forgetting(self, choice: Choice) -> Preview:
        return self._for("forget").preview_forgetting(choice)

    def forget(self, choice: Choice, code: str, reason: str) -> Forgotten | Preview:
        return self._for("forget").forget(choice, code, reason)

    def grants(self) -> "list[Grant]":
        return self._for("permissions").grants()

    def grant(self, caller: Caller, wanted: "Grant", key: str | None) -> "tuple[Grant, bool]":
        return self._for("permissions").grant(caller, wanted, key)

    def revoke(self, caller: Caller, grant: str, reason: str, key: str | None) -> "tuple[Grant, bool]":
        return self._for("permissions").revoke(caller, grant, reason, key)

    def check(self, caller: Caller, asked: "Asked") -> "Decision":
        return self._for("permissions").check(caller, asked)

    def complete(self, caller: Caller, what: str, prefix: str) -> list[str]:
        return self._for("timeline", "search", "start").complete(caller, what, prefix)

    def close(self) -> None:
        self._inner.close()

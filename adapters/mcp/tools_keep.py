"""remember, forget, permissions: what is kept on request, and what is taken away."""

from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import Field

from session_mgmt_mcp.adapters.mcp.arguments import (
    NAME_CHARS_MAX,
    PATH_CHARS_MAX,
    WORD_CHARS_MAX,
    Key,
    Position,
    Project,
    Session,
)
from session_mgmt_mcp.adapters.mcp.caller import caller, request_key
from session_mgmt_mcp.adapters.mcp.lazy import LazyServices
from session_mgmt_mcp.adapters.mcp.services import Choice, Preview
from session_mgmt_mcp.core.errors import InputError

Tags = Annotated[list[Annotated[str, Field(min_length=1, max_length=64)]], Field(max_length=16)]
Text = Annotated[str, Field(max_length=300)]

REMEMBER = (
    "Store a lasting note that later sessions find with search: a decision and its reason, a preference of the user, "
    "a pitfall. Not for what the session records anyway."
)
FORGET = (
    "Take events out of the record for good, when the user asks for it. The first call changes nothing: it shows what "
    "would go and gives a code; show that to the user, then call again with it as confirm. Several selectors narrow down."
)
PERMISSIONS = (
    "What the user said may be done without asking. Use check before an operation that may have been granted, grant or "
    "revoke only when the user says so. A record to look up: it enforces nothing."
)


class KeepTools:
    """Plain functions, so the SDK runs them in worker threads."""

    def __init__(self, services: LazyServices) -> None:
        self._services = services

    def remember(
        self,
        text: Annotated[
            str, Field(description="self-contained: what and why", min_length=1, max_length=20_000)
        ],
        tags: Annotated[Tags | None, Field(description="decision, preference, pitfall or your own")] = None,
        project: Annotated[
            str | None,
            Field(description="default: the working folder", max_length=PATH_CHARS_MAX),
        ] = None,
        session: Session = None,
        key: Key = None,
    ) -> str:
        from session_mgmt_mcp.adapters.mcp import render_keep

        if not text.strip():
            raise InputError("text holds only white space; give what to remember")
        receipt = self._services.get().remember(
            text,
            tuple(tags or ()),
            project or caller().folder or None,
            session or None,
            key or request_key(),
        )
        return render_keep.remembered(receipt)

    def forget(
        self,
        positions: Annotated[list[Position] | None, Field(description="of events", max_length=1000)] = None,
        session: Session = None,
        project: Annotated[str | None, Field(description="project folder", max_length=PATH_CHARS_MAX)] = None,
        query: Annotated[
            str | None, Field(description="words an event must hold, all of them", max_length=NAME_CHARS_MAX)
        ] = None,
        reason: Annotated[str, Field(description="kept for ever", max_length=NAME_CHARS_MAX)] = "",
        confirm: Annotated[
            str | None,
            Field(description="the code of the first call, same selectors", max_length=WORD_CHARS_MAX),
        ] = None,
    ) -> str:
        from session_mgmt_mcp.adapters.mcp import render_keep

        choice = Choice(tuple(positions or ()), session or None, project or None, query or None)
        services = self._services.get()
        if not confirm:
            return render_keep.preview(services.preview_forgetting(choice))
        done = services.forget(choice, confirm, reason)
        if isinstance(done, Preview):
            return render_keep.not_confirmed(done)
        return render_keep.forgotten(done)

    def permissions(
        self,
        action: Annotated[
            Literal["list", "grant", "revoke", "check"], Field(description="what to do")
        ] = "list",
        operation: Annotated[
            Text | None, Field(description="git push: its words may go on, or have * and ?")
        ] = None,
        scope: Annotated[Text | None, Field(description="a folder or path pattern")] = None,
        project: Project = None,
        session: Session = None,
        expires: Annotated[
            str | None, Field(description="8h, 7d, or a time", max_length=WORD_CHARS_MAX)
        ] = None,
        id: Annotated[str | None, Field(description="revoke: which", max_length=WORD_CHARS_MAX)] = None,
        reason: Annotated[Text | None, Field(description="in the user's words")] = None,
    ) -> str:
        from session_mgmt_mcp.adapters.mcp import render_keep
        from session_mgmt_mcp.core.envelope import now_us
        from session_mgmt_mcp.projections.permissions import Asked, Grant, expiry

        services, here = self._services.get(), caller()
        if action == "list":
            return render_keep.grants(services.grants(), now_us())
        if action == "revoke":
            if not id:
                raise InputError("revoke needs id: the permission's, as list shows it")
            return render_keep.revoked(*services.revoke(here, id, reason or "", request_key()))
        if not operation or not operation.strip():
            raise InputError(f"{action} needs operation, such as 'git push'")
        if action == "check":
            asked = Asked(operation, scope or "", project or here.folder, session or "")
            return render_keep.decision(services.check(here, asked), asked, now_us())
        wanted = Grant(
            grant="",
            operation=operation,
            scope=scope or "",
            project=project or "",
            session=session or "",
            expires_at=expiry(expires or "", datetime.now(UTC)),
            reason=reason or "",
        )
        return render_keep.granted(*services.grant(here, wanted, request_key()), now_us())

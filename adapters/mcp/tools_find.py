"""search, timeline, audit: what was recorded, found and read."""

from typing import Annotated, Literal

from pydantic import Field

from session_mgmt_mcp.adapters.mcp.arguments import (
    NAME_CHARS_MAX,
    PATH_CHARS_MAX,
    POSITION_MAX,
    Before,
    Budget,
    Cursor,
    Format,
    Position,
    Project,
    Session,
    Time,
    time_us,
)
from session_mgmt_mcp.adapters.mcp.lazy import LazyServices
from session_mgmt_mcp.adapters.mcp.services import AuditQuestion, Narrowing
from session_mgmt_mcp.core.errors import InputError

File = Annotated[
    str | None, Field(description="name, end of a path, folder/ or glob", max_length=PATH_CHARS_MAX)
]

SEARCH = (
    "Find moments in all recorded sessions of coding assistants, this one included. Use it before redoing work, when the user refers to earlier work, when an error looks "
    "familiar, or to learn why something was decided. Answers with excerpts and positions; timeline goes on from them."
)
TIMELINE = (
    "Read what happened, in order. After search: around a position. Or a whole session, or cursor to page on. "
    "Without any: recent sessions. detailed gives whole texts; raw, with around, the event as recorded."
)
AUDIT = (
    "Who did what when to a file, in a session or in a project, newest first. Use it to "
    "learn which session changed a file, or what an assistant or a tool did."
)


class FindTools:
    """Plain functions, so the SDK runs them in worker threads."""

    def __init__(self, services: LazyServices) -> None:
        self._services = services

    def search(
        self,
        query: Annotated[
            str,
            Field(
                description='words, names, error texts; "exact phrase", -without, re:"regex", file:app.py',
                min_length=1,
                max_length=2000,
            ),
        ],
        limit: Annotated[int, Field(description="moments, to 50", ge=1, le=50)] = 8,
        session: Session = None,
        project: Project = None,
        assistant: Annotated[
            str | None, Field(description="such as claude-code", max_length=NAME_CHARS_MAX)
        ] = None,
        kind: Annotated[
            str | None,
            Field(
                description="prompt, reply, thinking, call, result, edit, title, compaction, reflection",
                max_length=NAME_CHARS_MAX,
            ),
        ] = None,
        tool: Annotated[str | None, Field(description="such as bash", max_length=NAME_CHARS_MAX)] = None,
        file: File = None,
        actor: Annotated[str | None, Field(description="who did it", max_length=NAME_CHARS_MAX)] = None,
        branch: Annotated[str | None, Field(description="git branch", max_length=NAME_CHARS_MAX)] = None,
        after: Time = None,
        before: Before = None,
        format: Annotated[Format, Field(description="detailed: longer excerpts")] = "concise",
        budget_tokens: Budget = 2000,
    ) -> str:
        from session_mgmt_mcp.adapters.mcp import render_find
        from session_mgmt_mcp.projections.kinds import kinds_of

        if not query.strip():
            raise InputError("query holds only white space; give the words to look for")
        if kind:
            kinds_of(kind)  # refuses what is none
        asked = Narrowing(
            session=session or None,
            project=project or None,
            assistant=assistant or None,
            kind=kind or None,
            tool=tool or None,
            file=file or None,
            actor=actor or None,
            branch=branch or None,
            after=time_us("after", after),
            before=time_us("before", before),
        )
        found = self._services.get().search(query, limit=limit, **asked)
        given = [name for name, value in asked.items() if value is not None]
        text = render_find.moments(found, query, given, budget_tokens, detailed=format == "detailed")
        return f"{text}\nNot all was searched: {found.note}." if found.note else text

    def timeline(
        self,
        session: Session = None,
        around: Annotated[Position | None, Field(description="a position: the turns around it")] = None,
        cursor: Cursor = None,
        project: Annotated[
            str | None, Field(description="list only its sessions", max_length=PATH_CHARS_MAX)
        ] = None,
        limit: Annotated[int, Field(description="turns or sessions, to 100", ge=1, le=100)] = 20,
        format: Literal["concise", "detailed", "raw"] = "concise",
        offset: Annotated[int, Field(description="raw: first character", ge=0, le=POSITION_MAX)] = 0,
        budget_tokens: Budget = 3000,
    ) -> str:
        from session_mgmt_mcp.adapters.mcp import render_find as render

        names = {"session": session, "around": around, "cursor": cursor, "project": project}
        given = [name for name, value in names.items() if value]
        if len(given) > 1:
            raise InputError(
                f"timeline takes one of session, around, cursor and project; {' and '.join(given)} given"
            )
        if format != "raw" and offset:
            raise InputError("offset goes with format=raw and around: it starts inside one recorded event")
        services = self._services.get()
        if format == "raw":
            if around is None:
                raise InputError("format=raw shows one event as recorded: give its position as around")
            event = services.read_event(around)
            if event is None:
                raise InputError(f"no event at position {around}; search and timeline show positions as [n]")
            return render.event(event, offset, budget_tokens)
        if not given or given == ["project"]:
            found = services.sessions(project=project or None, limit=limit)
            return render.sessions(found, project, limit, budget_tokens)
        page = services.timeline(session=session or None, around=around, cursor=cursor or None, limit=limit)
        if format == "detailed":
            return render.timeline_detail(page, budget_tokens)
        return render.timeline(page, budget_tokens, around)

    def audit(
        self,
        file: File = None,
        session: Session = None,
        project: Project = None,
        actor: Annotated[
            str | None, Field(description="user, assistant, tool, system", max_length=NAME_CHARS_MAX)
        ] = None,
        tool: Annotated[str | None, Field(description="such as Bash", max_length=NAME_CHARS_MAX)] = None,
        after: Time = None,
        before: Before = None,
        cursor: Cursor = None,
        limit: Annotated[int, Field(description="lines, to 200", ge=1, le=200)] = 30,
        format: Format = "concise",
        budget_tokens: Budget = 2000,
    ) -> str:
        from session_mgmt_mcp.adapters.mcp import render_find

        if cursor and not (cursor.isdecimal() and 0 < int(cursor) <= POSITION_MAX):
            raise InputError(f"cursor={cursor[:60]!r} is none of audit; ask for the first page again")
        question = AuditQuestion(
            file=file or None,
            session=session or None,
            project=project or None,
            actor=actor or None,
            tool=tool or None,
            after=time_us("after", after),
            before=time_us("before", before),
            below=int(cursor) if cursor else None,
        )
        rows, below = self._services.get().audit(question, limit=limit)
        given = [name for name in ("file", "session", "project", "actor", "tool") if getattr(question, name)]
        return render_find.audit(rows, below, given, budget_tokens, detailed=format == "detailed")

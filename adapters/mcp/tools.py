"""The four tools: typed arguments in, text for a model out."""

import os
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any

from mcp_types import ToolAnnotations
from pydantic import Field

from session_mgmt_mcp.adapters.mcp.services import Narrowing, Services
from session_mgmt_mcp.core.errors import InputError

Kind = Annotated[
    str | None,
    Field(description="prompt, reply, thinking, call, result, edit, title, compaction, reflection"),
]
Session = Annotated[str | None, Field(description="session id")]
Project = Annotated[str | None, Field(description="project folder or its name")]
Position = Annotated[int, Field(ge=1)]
Tags = Annotated[list[Annotated[str, Field(min_length=1, max_length=64)]], Field(max_length=16)]
Key = Annotated[str, Field(max_length=200)]
Time = Annotated[str | None, Field(description="ISO date or time (UTC), yesterday, last week")]

READS = ToolAnnotations(
    read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False
)
WRITES = ToolAnnotations(
    read_only_hint=False, destructive_hint=False, idempotent_hint=False, open_world_hint=False
)


class LazyServices:
    """Services made at the first call that needs them: their engines cost memory an idle server need not hold."""

    def __init__(self, factory: Callable[[], Services]) -> None:
        self._factory = factory
        self._lock = threading.Lock()
        self._made: Services | None = None

    def get(self) -> Services:
        """The services; a factory that failed is tried again at the next call."""
        with self._lock:
            if self._made is None:
                self._made = self._factory()
            return self._made

    def close(self) -> None:
        """Close them, if they were made. Does not wait for a factory at work: there is nothing to close yet."""
        if self._made is not None:
            self._made.close()


class Tools:
    """The tools' functions. They are plain functions, so the SDK runs them in worker threads."""

    def __init__(self, services: LazyServices) -> None:
        self._services = services

    def search(
        self,
        query: Annotated[
            str,
            Field(
                description='words, names, error texts; "exact phrase", -without, re:"regex" and filters such as '
                "file:app.py",
                min_length=1,
                max_length=2000,
            ),
        ],
        limit: Annotated[int, Field(ge=1, le=50)] = 8,
        session: Session = None,
        project: Project = None,
        assistant: Annotated[str | None, Field(description="such as claude-code")] = None,
        kind: Kind = None,
        tool: Annotated[str | None, Field(description="such as bash")] = None,
        file: Annotated[str | None, Field(description="name, end of a path, folder/ or glob")] = None,
        actor: str | None = None,
        branch: str | None = None,
        after: Time = None,
        before: Time = None,
    ) -> str:
        from session_mgmt_mcp.adapters.mcp import render
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
        text = render.moments(found, query, [name for name, value in asked.items() if value is not None])
        return f"{text}\nNot all was searched: {found.note}." if found.note else text

    def timeline(
        self,
        session: Session = None,
        around: Annotated[Position | None, Field(description="a position: the turns around it")] = None,
        cursor: Annotated[str | None, Field(description="from an earlier answer")] = None,
        limit: Annotated[int, Field(description="turns or sessions", ge=1, le=100)] = 20,
        detail: Annotated[
            bool, Field(description="whole texts; with around and limit=1 the event as recorded")
        ] = False,
        offset: Annotated[
            int, Field(description="of an event as recorded: start at this character", ge=0)
        ] = 0,
        project: Annotated[str | None, Field(description="lists only sessions of this folder")] = None,
    ) -> str:
        from session_mgmt_mcp.adapters.mcp import render

        given = [
            name
            for name, value in (
                ("session", session),
                ("around", around),
                ("cursor", cursor),
                ("project", project),
            )
            if value
        ]
        if len(given) > 1:
            raise InputError(
                f"timeline takes one of session, around, cursor and project; {' and '.join(given)} given"
            )
        recorded = detail and around is not None and limit == 1
        if offset and not recorded:
            raise InputError(
                "offset goes with around, detail=true and limit=1: it starts inside one recorded event"
            )
        services = self._services.get()
        if not given or given == ["project"]:
            return render.sessions(services.sessions(project=project or None, limit=limit), project, limit)
        if recorded and around is not None:
            event = services.read_event(around)
            if event is None:
                raise InputError(f"no event at position {around}; search and timeline show positions as [n]")
            return render.event(event, offset)
        page = services.timeline(session=session or None, around=around, cursor=cursor or None, limit=limit)
        return render.timeline_detail(page) if detail else render.timeline(page)

    def remember(
        self,
        text: Annotated[
            str, Field(description="self-contained: what and why", min_length=1, max_length=20_000)
        ],
        tags: Annotated[Tags | None, Field(description="decision, preference, pitfall or your own")] = None,
        project: Annotated[
            str | None, Field(description="project folder; default: the working folder")
        ] = None,
        session: Session = None,
        key: Annotated[Key | None, Field(description="makes a retry safe: the same key stores once")] = None,
    ) -> str:
        from session_mgmt_mcp.adapters.mcp import render

        if not text.strip():
            raise InputError("text holds only white space; give what to remember")
        receipt = self._services.get().remember(
            text, tuple(tags or ()), project or working_folder(), session or None, key or None
        )
        return render.remembered(receipt)

    def status(self) -> str:
        from session_mgmt_mcp.adapters.mcp import render

        return render.status(self._services.get().status())

    def table(self) -> list[tuple[Callable[..., str], str, ToolAnnotations]]:
        """Each tool's function, its description, its annotations."""
        return [
            (self.search, SEARCH, READS),
            (self.timeline, TIMELINE, READS),
            (self.remember, REMEMBER, WRITES),
            (self.status, STATUS, READS),
        ]


SEARCH = (
    "Find moments in all past sessions of coding assistants, this one included: prompts, replies, commands, edits, "
    "results, reflections. Use it before redoing work, when the user refers to earlier work, when an error looks "
    "familiar, or to learn why something was decided. Answers with excerpts and positions; timeline goes on from them."
)
TIMELINE = (
    "Read what happened, in order. After search: around=<position>. Or a whole session, or cursor to page on. "
    "Without any of them it lists recent sessions."
)
REMEMBER = (
    "Store a lasting note that later sessions find with search: a decision and its reason, a preference of the user, "
    "a pitfall. Not for what the session records anyway."
)
STATUS = "What is recorded and how far search is behind. Use it when search finds less than expected."


def time_us(name: str, value: str | None) -> int | None:
    """A date or time as µs since the epoch; UTC where it names no zone. Raises InputError."""
    from session_mgmt_mcp.projections.query_times import parse_time

    if not value:
        return None
    try:
        return parse_time(value, datetime.now(UTC))
    except InputError as error:
        raise InputError(f"{name}={error}") from None


def working_folder() -> str | None:
    """The folder the client started the server in, which assistants make the project's."""
    try:
        return os.getcwd()
    except OSError:
        return None


def slim(schema: dict[str, Any]) -> dict[str, Any]:
    """The same schema in fewer tokens: no titles, no null alternatives, closed to unknown arguments."""
    properties = {name: _slim_property(value) for name, value in schema.get("properties", {}).items()}
    required = {"required": schema["required"]} if schema.get("required") else {}
    return {"type": "object", "properties": properties, **required, "additionalProperties": False}


def _slim_property(schema: dict[str, Any]) -> dict[str, Any]:
    slimmed = {k: v for k, v in schema.items() if k not in ("title", "anyOf")}
    if "anyOf" in schema:
        (only,) = (option for option in schema["anyOf"] if option.get("type") != "null")
        slimmed = {**only, **slimmed}
    if slimmed.get("default", ...) in (None, False, 0):
        del slimmed["default"]
    return slimmed

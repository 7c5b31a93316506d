"""start, checkpoint, end, status: a session's life."""

from typing import Annotated

from pydantic import Field

from session_mgmt_mcp.adapters.mcp.arguments import ID_CHARS_MAX, Format, Note, Project
from session_mgmt_mcp.adapters.mcp.caller import caller, request_key
from session_mgmt_mcp.adapters.mcp.lazy import LazyServices

This = Annotated[
    str | None, Field(description="default: this session", min_length=1, max_length=ID_CHARS_MAX)
]

BUDGET_MIN, FENCE_TOKENS = 100, 40
START = (
    "What to know before working in a project: the last handoff, open items, decisions and pitfalls, other sessions at "
    "work in it. Use it at the start where no brief was given, or with session to take one up where it stopped."
)
CHECKPOINT = (
    "Mark where this session stands, with facts and a score of what the log shows (tests, linters, failures, commits). "
    "Use it before a risky change or a long pause. Compaction does it by itself."
)
END = (
    "Close this session with a handoff for the next one, composed from the record; returns it. Use it when the work is "
    "done or handed over."
)
STATUS = (
    "Whether everything is recorded, how far search is behind, what is to mend. Use it when search finds less than "
    "expected."
)


class LifeTools:
    """Plain functions, so the SDK runs them in worker threads."""

    def __init__(self, services: LazyServices) -> None:
        self._services = services

    def start(
        self,
        project: Project = None,
        session: Annotated[
            str | None, Field(description="a session to take up", min_length=1, max_length=ID_CHARS_MAX)
        ] = None,
        budget_tokens: Annotated[int, Field(description="answer length", ge=BUDGET_MIN, le=8000)] = 800,
    ) -> str:
        from session_mgmt_mcp.adapters.mcp import render_life

        budget = max(BUDGET_MIN, budget_tokens - FENCE_TOKENS)
        told = self._services.get().start(caller(), project or None, session or None, budget)
        return render_life.brief(told)

    def checkpoint(self, note: Note = "", session: This = None) -> str:
        from session_mgmt_mcp.adapters.mcp import render_life

        done = self._services.get().checkpoint(caller(), session or None, note, request_key())
        return render_life.checkpointed(done)

    def end(self, note: Note = "", session: This = None) -> str:
        from session_mgmt_mcp.adapters.mcp import render_life

        return render_life.ended(self._services.get().end(caller(), session or None, note, request_key()))

    def status(self, format: Format = "concise") -> str:
        from session_mgmt_mcp.adapters.mcp import render_life

        return render_life.status(self._services.get().status(caller()), detailed=format == "detailed")

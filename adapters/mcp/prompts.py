"""Prompts: what a user asks for by name (clients make slash commands of them).

Those that read carry what they found; those that store something only say which tool to call, so that looking at a
prompt never writes.
"""

from collections.abc import Callable
from typing import Annotated

from pydantic import Field

from session_mgmt_mcp.adapters.mcp.arguments import ID_CHARS_MAX, NOTE_CHARS_MAX, PATH_CHARS_MAX
from session_mgmt_mcp.adapters.mcp.caller import caller
from session_mgmt_mcp.adapters.mcp.lazy import LazyServices

BRIEF_TOKENS = 1200
SessionId = Annotated[str, Field(description="session id, or its beginning", max_length=ID_CHARS_MAX)]
NoteText = Annotated[str, Field(description="a note of yours", max_length=NOTE_CHARS_MAX)]

Row = tuple[Callable[..., str], str, str]


class Prompts:
    """Plain functions, so the SDK runs them in worker threads."""

    def __init__(self, services: LazyServices) -> None:
        self._services = services

    def start(
        self,
        project: Annotated[
            str, Field(description="project folder or its name", max_length=PATH_CHARS_MAX)
        ] = "",
    ) -> str:
        from session_mgmt_mcp.adapters.mcp import render_life

        told = self._services.get().start(caller(), project or None, None, BRIEF_TOKENS)
        return (
            f"{render_life.brief(told)}\n\nTell me in a few lines what the last session left open, which decisions and "
            "pitfalls matter here, and whether another session is at work in this project. Then wait for me."
        )

    def checkpoint(self, note: NoteText = "") -> str:
        return (
            f"Call the checkpoint tool{_with(note)}. Show me the facts and the score it answers with as they are; "
            "add no numbers of your own."
        )

    def end(self, note: NoteText = "") -> str:
        own = (
            ""
            if note.strip()
            else " With a note of at most three sentences: what is done, what is open, why."
        )
        return f"Call the end tool{_with(note)}.{own} Then show me the handoff it answers with."

    def status(self) -> str:
        from session_mgmt_mcp.adapters.mcp import render_life

        values = self._services.get().status(caller())
        return (
            f"{render_life.status(values, detailed=False)}\n\nTell me in two or three lines whether everything is recorded "
            "and whether anything is to be mended."
        )

    def resume(self, session: SessionId = "") -> str:
        from session_mgmt_mcp.adapters.mcp import render_life

        told = self._services.get().handoff(caller(), session or None)
        return (
            f"{render_life.handoff(told)}\n\nTake this work up. First check what may have changed since (git status, the "
            "files it names), then say in a few lines what is open and what you would do first, and wait for me."
        )

    def handoff(self, session: SessionId = "") -> str:
        from session_mgmt_mcp.adapters.mcp import render_life

        told = self._services.get().handoff(caller(), session or None)
        return f"{render_life.handoff(told)}\n\nShow me this handoff in full. Leave out nothing it lists, add nothing."

    def table(self) -> list[Row]:
        """Each prompt's function, its title, its description."""
        return [
            (self.start, "Start", "What the last session left open here, decisions and pitfalls"),
            (self.checkpoint, "Checkpoint", "Mark where this session stands, with what the log shows"),
            (self.end, "End", "Close this session with a handoff for the next one"),
            (self.status, "Status", "Whether everything is recorded"),
            (self.resume, "Resume", "Take up an earlier session; default: the last one of this project"),
            (self.handoff, "Handoff", "The handoff of a session; default: the last one of this project"),
        ]


def _with(note: str) -> str:
    return f" with this note of mine: {note.strip()!r}" if note.strip() else ""

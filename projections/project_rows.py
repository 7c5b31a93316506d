"""Where something was done, and which sessions are open, for those who keep briefs up to date and close sessions."""

from collections.abc import Iterable
from typing import NamedTuple

from session_mgmt_mcp.projections.projects import Projects
from session_mgmt_mcp.projections.query_files import QueryFiles
from session_mgmt_mcp.projections.rows import ORDINAL_BITS

WORK = ("PromptSubmitted", "AssistantReplied", "ToolCalled")  # what a session is worth telling of for
OPEN_MAX = 200  # closed a pass
# Only hooks report both: what other sources tell of starts says nothing of a missing end.
_STARTED = "coalesce(max(id) FILTER (kind = 'SessionStarted' AND source = 'hook'), 0)"
_ENDED = "coalesce(max(id) FILTER (kind = 'SessionEnded'), 0)"
_OWN = "session-mgmt"  # the assistant of events no session reported


def recent_roots(files: QueryFiles, projects: Projects, limit: int) -> list[str]:
    """The projects in which something was done last."""
    sql = (
        "SELECT project FROM shown WHERE project <> '' AND list_contains(?, kind) AND assistant <> ? "
        "GROUP BY project ORDER BY max(occurred_at) DESC, max(id) DESC"
    )
    found = files.fetch(sql, [list(WORK), _OWN])
    return list(dict.fromkeys(projects.root_of(folder) for (folder,) in found))[:limit]


def roots_of_sessions(files: QueryFiles, projects: Projects, sessions: Iterable[str]) -> list[str]:
    """The projects these sessions did something in."""
    sql = "SELECT DISTINCT project FROM shown WHERE list_contains(?, session) AND project <> '' AND list_contains(?, kind)"
    found = files.fetch(sql, [list(sessions), list(WORK)])
    return sorted({projects.root_of(folder) for (folder,) in found})


def open_sessions(files: QueryFiles, silent_since: int) -> list[str]:
    """Sessions whose last reported start no end followed, and that were last heard of before this moment (µs)."""
    sql = (
        "SELECT session FROM shown WHERE assistant <> ? GROUP BY session "
        f"HAVING {_STARTED} > {_ENDED} AND max(occurred_at) < ? ORDER BY session LIMIT {OPEN_MAX}"
    )
    return [r[0] for r in files.fetch(sql, [_OWN, silent_since])]


class Last(NamedTuple):
    """How a session stands at its end."""

    assistant: str
    project: str  # working folder of its last row
    position: int  # of its last row
    open_since: int  # id of its last reported start where no end followed, else 0


def last_of(files: QueryFiles, session: str) -> Last | None:
    """None where nothing of the session is shown."""
    sql = (
        "SELECT coalesce(arg_min(assistant, id), ''), coalesce(arg_max(project, id) FILTER (project <> ''), ''), max(id), "
        f"{_STARTED}, {_ENDED} FROM shown WHERE session = ?"
    )
    [(assistant, project, last, started, ended)] = files.fetch(sql, [session])
    if last is None:
        return None
    return Last(assistant, project, last >> ORDINAL_BITS, started if started > ended else 0)

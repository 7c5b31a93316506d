"""What briefs and checkpoints are made of beyond one story, read from the views."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from session_mgmt_mcp.core.events import SessionCheckpointed
from session_mgmt_mcp.projections.brief import BriefParts
from session_mgmt_mcp.projections.rows import ORDINAL_BITS
from session_mgmt_mcp.projections.story import Note, Story
from session_mgmt_mcp.projections.telling import reflection_note

if TYPE_CHECKING:
    from session_mgmt_mcp.projections.views import Views

STORIES_MAX = 3  # told; of more a brief has no room to say anything
SESSIONS_LOOKED_AT_MAX = 8
REFLECTIONS_MAX = 20
_OWN = "('SessionCheckpointed', 'SessionEnded')"


def brief_parts(views: "Views", root: str, *, leave_out: str = "", live: Sequence[str] = ()) -> BriefParts:
    """The latest stories and reflections of a project. `root`: its root, or any folder of it; `leave_out`: a session that
    is not to be told of, the asking one; `live`: see `BriefParts`.
    """
    root = views.projects().root_of(root)
    folders = project_folders(views, root)
    stories: list[Story] = []
    for session in _latest_sessions(views, folders):
        if session == leave_out:
            continue
        story = views.story(session, root=root)
        if (
            story.goal
        ):  # what nobody asked for (an agent's own session, one that only began) is no session to go on with
            stories.append(story)
        if len(stories) == STORIES_MAX:
            break
    return BriefParts(
        project=root,
        stories=tuple(stories),
        reflections=tuple(reflections(views, folders)),
        live=tuple(live),
    )


def project_folders(views: "Views", root: str) -> list[str]:
    """The working folders that are the project of this root, as rows name them."""
    return list(views.projects().folders(root))


def _latest_sessions(views: "Views", folders: Sequence[str]) -> list[str]:
    """Sessions with rows in these folders, the last active first."""
    with views.reading() as files:
        found = files.fetch(
            "SELECT session FROM shown WHERE project IN (SELECT unnest(?)) AND kind <> 'ReflectionRemembered' "
            "AND assistant <> 'session-mgmt' GROUP BY session "
            f"ORDER BY max(occurred_at) DESC, max(id) DESC LIMIT {SESSIONS_LOOKED_AT_MAX}",
            [list(folders)],
        )
    return [r[0] for r in found]


def reflections(views: "Views", folders: Sequence[str], limit: int = REFLECTIONS_MAX) -> list[Note]:
    """What was remembered in these folders, the newest first."""
    with views.reading() as files:
        ids = files.fetch(
            "SELECT id FROM shown WHERE kind = 'ReflectionRemembered' AND project IN (SELECT unnest(?)) "
            f"ORDER BY id DESC LIMIT {limit}",
            [list(folders)],
        )
        if not ids:
            return []
        marks = ",".join(str(r[0]) for r in ids)
        return [reflection_note(row) for row in files.shown_rows(f"id IN ({marks})")][::-1]


def earlier_score(views: "Views", session: str, upto: int | None = None) -> tuple[int, str] | None:
    """The score to compare a session's with, and of what it is: its checkpoint before what was done last; without one the
    last checkpoint of another session in its folder. None where none was scored.
    """
    end = (upto + 1) << ORDINAL_BITS if upto is not None else 1 << 62
    with views.reading() as files:
        last = files.fetch(
            f"SELECT max(id), any_value(project) FILTER (project <> '') FROM shown WHERE session = ? AND id < ? AND kind NOT IN {_OWN}",
            [session, end],
        )[0]
        own = files.fetch(
            "SELECT id FROM shown WHERE session = ? AND kind = 'SessionCheckpointed' AND id < ? ORDER BY id DESC LIMIT 4",
            [session, last[0] or 0],
        )
        others = files.fetch(
            "SELECT id FROM shown WHERE session <> ? AND kind = 'SessionCheckpointed' AND project = ? AND id < ? "
            "ORDER BY id DESC LIMIT 4",
            [session, last[1] or "", end],
        )
    for ids, words in ((own, "the checkpoint at"), (others, "the session before, checkpoint")):
        for (row_id,) in ids:
            position = row_id >> ORDINAL_BITS
            score = _score(views.payload(position))
            if score is not None:
                return score, f"{words} [{position}]"
    return None


def _score(payload: bytes | None) -> int | None:
    if payload is None:
        return None
    try:
        return msgspec.json.decode(payload, type=SessionCheckpointed).score
    except msgspec.MsgspecError:
        return None

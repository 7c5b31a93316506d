"""What maintenance does for sessions: checkpoints before a compaction, the end of those nobody ended, and briefs.

A brief is prepared for every project in which something happened since the last time; the hook that starts the next session
puts it out (`adapters.claude_code.brief_hook`). The caller holds the maintenance lock. State lies beside the briefs in
`views/briefs`: whatever removes them has them all made anew.
"""

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from session_mgmt_mcp.adapters.claude_code.fields import escaped, string_of
from session_mgmt_mcp.core import blobs, briefs, live
from session_mgmt_mcp.core.envelope import Event, EventType, Source, now_us
from session_mgmt_mcp.core.errors import SettingsError
from session_mgmt_mcp.core.events import SessionCheckpointed, SessionClosed
from session_mgmt_mcp.core.live import Live
from session_mgmt_mcp.core.log.log import FileLog
from session_mgmt_mcp.core.project import identify
from session_mgmt_mcp.core.settings import BRIEF_TOKENS_DEFAULT, brief_tokens
from session_mgmt_mcp.projections.files import make_folder, read_json, write_json
from session_mgmt_mcp.projections.views import Views
from session_mgmt_mcp.tools import lifecycle

if TYPE_CHECKING:
    from session_mgmt_mcp.projections.story import Story

logger = logging.getLogger(__name__)

SINCE_TOKENS = 200  # left to the hook for what happened after a brief was prepared
EVENTS_MAX = 20_000  # looked at one by one; after more the projects last active get their briefs
PROJECTS_MAX = 50  # a pass
SILENT_US = (
    86_400_000_000  # after so long nobody waits for a checkpoint, and a session without a process is over
)
SILENT_EVERY_US = 3_600_000_000  # sessions that fell silent are looked for so often
KEPT_DAYS = 30  # files of sessions and projects nobody came back to; a brief is made again when somebody does
_STATE_VERSION = 1
_MARKS = (EventType.SESSION_CHECKPOINTED, EventType.SESSION_CLOSED)

Say = Callable[[str, int, int], None]


class _State(msgspec.Struct):
    version: int = _STATE_VERSION
    log_id: str = ""
    position: int = -1  # looked at up to here; -1: never
    silent_at: int = 0  # when silent sessions were last looked for


class _Changes(NamedTuple):
    """What happened since the last time."""

    sessions: set[str]
    folders: set[str]  # of reflections, and where there is no brief
    started: set[str]  # working folders sessions began in
    compacted: dict[str, bytes]  # session -> id of the last event that announced it
    everything: bool  # too much to look at it one by one


class Done(NamedTuple):
    """What was done for sessions."""

    checkpoints: int = 0
    closed: int = 0
    briefs: int = 0


def update(log: FileLog, say: Say) -> Done:
    """Bring checkpoints, ends and briefs up to date; nothing is opened where nothing happened. Raises AppendError."""
    folder = Path(log.folder)
    state, head = _load(folder, log), log.head().position
    changes = _changes(log, state.position, head)
    state.position = head
    changes.folders.update(at for at in changes.started if at and not _has_brief(log.folder, at))
    dead = [one for one in live.read_all(log.folder) if live.is_alive(one.process) is False]
    look_for_silent = now_us() - state.silent_at > SILENT_EVERY_US
    if not (changes.everything or changes.sessions or changes.folders or dead or look_for_silent):
        _save(folder, log, state)
        return Done()
    views = Views(log, folder)
    try:
        checkpoints = sum(_checkpoint(log, views, *compacted) for compacted in changes.compacted.items())
        closed = _close(log, views, dead, silent=look_for_silent) if dead or look_for_silent else set()
        made = (
            _briefs(log, views, changes._replace(sessions=changes.sessions | closed), say) if _is_on() else 0
        )
    finally:
        views.close()
    if look_for_silent:
        state.silent_at = now_us()
        _tidy(log.folder)
    _save(folder, log, state)
    return Done(checkpoints, len(closed), made)


def _changes(log: FileLog, after: int, upto: int) -> _Changes:
    changes = _Changes(set(), set(), set(), {}, after < 0 or upto - after > EVENTS_MAX)
    for batch in log.read(max(0, after, upto - EVENTS_MAX), upto):
        for event in batch:
            _take_in(changes, event)
            if event.envelope.event_type in (EventType.PROJECT_JOINED, EventType.PAYLOAD_FORGOTTEN):
                changes = changes._replace(everything=True)
    return changes


def _take_in(changes: _Changes, event: Event) -> None:
    envelope, payload = event.envelope, event.payload or b""
    if envelope.event_type == EventType.REFLECTION_STORED:
        with contextlib.suppress(msgspec.MsgspecError):  # none of ours: it names no project
            changes.folders.add(msgspec.json.decode(payload, type=_Reflection).project)
    elif envelope.event_type in _MARKS and envelope.actor == "system":
        pass  # made below, and the briefs after it
    elif envelope.stream != blobs.STREAM and envelope.assistant != "session-mgmt":
        hook = string_of(payload, b"hook_event_name", 64) if envelope.source == Source.HOOK else ""
        if hook == "PreCompact" and now_us() - envelope.recorded_at < SILENT_US:
            changes.compacted[envelope.session] = event.event_id
        if hook == "SessionStart":  # that a session began changes no brief; there may be none yet
            changes.started.add(string_of(payload, b"cwd"))
        else:
            changes.sessions.add(envelope.session)


class _Reflection(msgspec.Struct):
    project: str = ""


def _checkpoint(log: FileLog, views: Views, session: str, event_id: bytes) -> bool:
    """Take a session's checkpoint before its context is compacted, and prepare what it is told afterwards."""
    from session_mgmt_mcp.projections.brief import checkpoint_text

    upto = log.head().position  # at least so far the views are when they are asked
    story, quality = lifecycle.told(views, session)
    if story.is_empty:
        return False
    stored = SessionCheckpointed(
        session, story.project, lifecycle.COMPACT, story.last_position, "", quality.facts, quality.score
    )
    lifecycle.append_own(
        log, EventType.SESSION_CHECKPOINTED, stored, story.assistant, f"compact/{event_id.hex()}", "system"
    )
    if _is_on():
        with_decisions = _with_reflections(views, story)
        texts = [escaped(checkpoint_text(with_decisions, quality, budget)) for budget in _budgets()]
        briefs.write(briefs.session_path(log.folder, session), briefs.Prepared(upto, *texts))
    return True


def _with_reflections(views: Views, story: "Story") -> "Story":
    """The story with what was remembered in its project among its decisions: both are needed to go on."""
    from session_mgmt_mcp.projections.briefing import project_folders, reflections

    known = {note.position for note in story.decisions}
    root = views.projects().root_of(story.project)
    others = reflections(views, project_folders(views, root)) if root else []
    added = [note for note in reversed(others) if note.position not in known]
    return msgspec.structs.replace(story, decisions=(*added, *story.decisions))


def _close(log: FileLog, views: Views, dead: Iterable[Live], *, silent: bool) -> set[str]:
    """Close sessions whose process is gone, or that fell silent without one; those that are closed now."""
    from session_mgmt_mcp.projections.project_rows import last_of, open_sessions

    gone = {one.session for one in dead}
    with views.reading() as files:
        if silent:
            alive = {o.session for o in live.read_all(log.folder) if live.is_alive(o.process)}
            gone.update(set(open_sessions(files, now_us() - SILENT_US)) - alive)
        ends = {session: last_of(files, session) for session in sorted(gone)}
    closed = set()
    for session, last in ends.items():
        if last is not None and last.open_since:
            stored = SessionClosed(session, last.project, lifecycle.ORPHANED, last.position)
            key = f"orphaned/{session}/{last.open_since}"
            lifecycle.append_own(log, EventType.SESSION_CLOSED, stored, last.assistant, key, "system")
            closed.add(session)
    for one in dead:
        now = live.read(log.folder, one.session)  # it may have been picked up by another process meanwhile
        if now is not None and (now.process.pid, now.process.born) == (one.process.pid, one.process.born):
            live.remove(log.folder, one.session)
    return closed


def _briefs(log: FileLog, views: Views, changes: _Changes, say: Say) -> int:
    from session_mgmt_mcp.projections.brief import project_brief
    from session_mgmt_mcp.projections.briefing import brief_parts
    from session_mgmt_mcp.projections.project_rows import recent_roots, roots_of_sessions

    position = log.head().position  # at least so far the views are when they are asked below
    projects = views.projects()
    with views.reading() as files:
        if changes.everything or "" in changes.folders:  # what was remembered of no project is told in all
            roots = recent_roots(files, projects, PROJECTS_MAX)
        else:
            roots = roots_of_sessions(files, projects, changes.sessions)[:PROJECTS_MAX]
    roots += [projects.root_of(folder) for folder in sorted(changes.folders) if folder]
    whole, short = _budgets()
    roots = list(dict.fromkeys(roots))
    for number, root in enumerate(roots):
        say("preparing briefs", number, len(roots))
        parts = brief_parts(views, root)
        lasting = msgspec.structs.replace(parts, stories=())
        texts = (project_brief(parts, whole), project_brief(parts, short), project_brief(lasting, short // 2))
        prepared = briefs.Prepared(position, *map(escaped, texts))
        for name in projects.roots(root):  # a hook knows no joins
            briefs.write(briefs.project_path(log.folder, name), prepared)
    return len(roots)


def _has_brief(folder: str, at: str) -> bool:
    return os.path.exists(briefs.project_path(folder, identify(at).root))


def _is_on() -> bool:
    return os.environ.get("SESSION_MGMT_BRIEF", "").strip().lower() not in ("off", "0", "no", "false")


def _budgets() -> tuple[int, int]:
    """Tokens of a whole text, and of the shorter one that leaves the hook something."""
    try:
        budget = brief_tokens()
    except SettingsError as error:
        logger.warning("%s", error)
        budget = BRIEF_TOKENS_DEFAULT
    return budget, budget - SINCE_TOKENS


def _tidy(folder: str) -> None:
    """Remove what interrupted writers left, and files nobody came back to."""
    for name in ("live", "briefs"):
        base = f"{folder}/views/{name}"
        for entry in os.scandir(base) if os.path.isdir(base) else ():
            age_s = time.time() - entry.stat(follow_symlinks=False).st_mtime
            if age_s > KEPT_DAYS * 86_400 or (entry.name.endswith(".tmp") and age_s > 3600):
                os.unlink(entry.path)


def _load(folder: Path, log: FileLog) -> _State:
    try:
        state = msgspec.convert(read_json(folder / "views" / "briefs" / "state.json") or {}, _State)
    except msgspec.ValidationError:
        state = _State()
    known = (state.version, state.log_id) == (_STATE_VERSION, log.log_id)
    return state if known and state.position <= log.head().position else _State()


def _save(folder: Path, log: FileLog, state: _State) -> None:
    state.log_id = log.log_id
    write_json(make_folder(folder / "views" / "briefs") / "state.json", msgspec.to_builtins(state))

"""A session's life as tools and commands ask for it: its brief at the start, a checkpoint, its end with a handoff.

The same happens without asking, through hooks and maintenance (`tools.brief_files`). All texts are composed from the log
anew each time; what is stored is a mark with numbers and a note.
"""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from session_mgmt_mcp.core import live
from session_mgmt_mcp.core.entropy import redact_text, redact_thorough
from session_mgmt_mcp.core.envelope import (
    Envelope,
    EventType,
    NewEvent,
    Receipt,
    Source,
    capture_id,
    now_us,
    uuid7,
)
from session_mgmt_mcp.core.errors import IdempotencyConflictError, InputError
from session_mgmt_mcp.core.events import SessionCheckpointed, SessionClosed
from session_mgmt_mcp.core.project import identify
from session_mgmt_mcp.projections.tokens import estimate

if TYPE_CHECKING:
    from session_mgmt_mcp.core.log.log import FileLog
    from session_mgmt_mcp.projections.quality import Quality
    from session_mgmt_mcp.projections.results import SessionSummary
    from session_mgmt_mcp.projections.story import Story
    from session_mgmt_mcp.projections.views import Views
    from session_mgmt_mcp.tools.app import App

NOTE_BYTES_MAX = 16 << 10
BUDGET_DEFAULT, BUDGET_MIN, BUDGET_MAX = 800, 100, 20_000  # tokens of a brief
LIVE_SHOWN_MAX = 5
NOTE_CHARS_SHOWN = 600
LISTED_MAX = 200
COMPACT, ASKED, END = "compact", "asked", "end"  # why a checkpoint was taken
ENDED, ORPHANED = "ended", "orphaned"  # why a session was closed


class Brief(msgspec.Struct, frozen=True):
    """What a session should know at its start. `text` "" where nothing is worth saying."""

    text: str
    project: str  # its root
    session: str  # whose brief it is, "" where not known
    tokens: int  # of the text, estimated


class Checkpoint(msgspec.Struct, frozen=True):
    """A checkpoint that was taken; `appended` False where the same key had taken it before."""

    session: str
    position: int  # of the event
    upto: int  # the last position it covers
    appended: bool
    text: str  # how the session stands
    facts: dict[str, int]
    score: int | None


class Handoff(msgspec.Struct, frozen=True):
    """A session that was ended; `text`: Markdown for whoever goes on."""

    session: str
    project: str  # the working folder paths in it are relative to
    position: int
    appended: bool
    text: str


def start(
    app: "App",
    project: str | None,
    session: str | None = None,
    budget: int = BUDGET_DEFAULT,
    *,
    own: str | None = None,
) -> Brief:
    """The brief of the project a folder belongs to (default: the session's). `session`: the one that is starting, which is
    not told of itself, but for what it knew before its context was compacted; `own`: the same where it was only guessed,
    so that nothing may be known of it.

    Raises InputError: neither folder nor session, an unknown session, a budget out of bounds.
    """
    if not BUDGET_MIN <= budget <= BUDGET_MAX:
        raise InputError(f"a brief of {budget} tokens: ask for {BUDGET_MIN} to {BUDGET_MAX}")
    summary = _summary(app, session or own or "", strict=bool(session))
    mine = summary.session if summary is not None else own or ""
    folder = project or (summary.project if summary is not None else "")
    if not folder:
        raise InputError("of which project? Give its folder, or a session of it")
    root = app.views.projects().root_of(folder)
    before = _own_part(app.views, summary.session, budget // 2) if summary is not None else ""
    left = budget - (estimate(before) + 2 if before else 0)
    text = f"{before}\n\n{project_text(app.views, root, left, mine, _live_lines(app, root, mine))}".strip()
    return Brief(text, root, mine, estimate(text))


def checkpoint(
    app: "App", session: str, note: str = "", key: str | None = None, actor: str = "user"
) -> Checkpoint:
    """Mark how a session stands now. The same key with the same note is stored once.

    Raises InputError (an unknown session, a note too long), IdempotencyConflictError, AppendError.
    """
    made, _ = _mark(app, session, note, key, actor, ASKED)
    return made


def end(app: "App", session: str, note: str = "", key: str | None = None, actor: str = "user") -> Handoff:
    """Take a last checkpoint, close the session and hand it over. Whatever its assistant reports afterwards is kept, and a
    session that is picked up again is open again. Raises as `checkpoint`.
    """
    from session_mgmt_mcp.projections.handoff import handoff_markdown

    made, story = _mark(app, session, note, key, actor, END)
    closed = SessionClosed(made.session, story.project, ENDED, made.upto, note)
    receipt = append_own(
        app.log, EventType.SESSION_CLOSED, closed, story.assistant, f"close/{key}" if key else None, actor
    )
    story, quality = told(app.views, made.session)
    text = handoff_markdown(_at_rest(story), quality)
    return Handoff(made.session, story.project, receipt.position, made.appended, text)


def handoff(app: "App", session: str) -> Handoff:
    """The handoff of a session as it stands, without storing anything. Raises InputError for an unknown one."""
    from session_mgmt_mcp.projections.handoff import handoff_markdown

    full = app.views.session(session).session
    story, quality = told(app.views, full)
    return Handoff(full, story.project, story.last_position, False, handoff_markdown(story, quality))


def current_session(app: "App", pid: int, folder: str | None = None) -> str | None:
    """The session a process belongs to: the assistant's whose child it is; else, of a working folder, the only one at work
    in its project. None where that is not clear.
    """
    data = app.log.folder
    found = live.session_of_process(data, pid)
    if found is not None or not folder:
        return found
    root = identify(folder).root
    there = [one.session for one in live.read_all(data) if one.root == root and live.is_alive(one.process)]
    return there[0] if len(there) == 1 else None


def last_session(app: "App", folder: str) -> str:
    """The session last active in the project of a folder. Raises InputError where there is none."""
    root = app.views.projects().root_of(folder)
    for found in app.views.sessions(project=root, limit=LISTED_MAX):
        if found.project == root:  # not of a project in a folder below
            return found.session
    raise InputError(f"no session is recorded of {folder}; `session-mgmt-mcp sessions` lists those there are")


# -- what maintenance shares -----------------------------------------------------------------------------------------


def told(views: "Views", session: str, upto: int | None = None) -> "tuple[Story, Quality]":
    """A session's story up to a position, and how it stands beside what was known before."""
    from session_mgmt_mcp.projections.briefing import earlier_score
    from session_mgmt_mcp.projections.quality import assess

    story = views.story(session, upto)
    return story, assess(story.facts, earlier_score(views, session, upto))


def project_text(
    views: "Views", root: str, budget: int, leave_out: str = "", live_lines: Sequence[str] = ()
) -> str:
    """What a session in this project should know, "" where there is nothing. `leave_out`: the session itself."""
    from session_mgmt_mcp.projections.brief import project_brief
    from session_mgmt_mcp.projections.briefing import brief_parts

    return project_brief(brief_parts(views, root, leave_out=leave_out, live=live_lines), budget)


def append_own(
    log: "FileLog",
    event_type: EventType,
    payload: SessionCheckpointed | SessionClosed,
    assistant: str,
    key: str | None,
    actor: str,
) -> Receipt:
    """Append an event of a session's life to its stream, redacted; under the same key only once. Raises AppendError."""
    now = now_us()
    event_id = capture_id("session-mgmt", "life", key) if key else uuid7(now)
    stream = f"{assistant or 'session-mgmt'}/{payload.session}"
    envelope = Envelope(stream, event_type, 1, now, now, actor, Source.COMMAND)
    return log.append(
        [NewEvent(event_id, envelope, redact_thorough(msgspec.json.encode(payload)))], dedupe=bool(key)
    )[0]


# -- parts -----------------------------------------------------------------------------------------------------------


def _mark(
    app: "App", session: str, note: str, key: str | None, actor: str, reason: str
) -> "tuple[Checkpoint, Story]":
    from session_mgmt_mcp.projections.brief import checkpoint_text
    from session_mgmt_mcp.projections.plain_text import one_line
    from session_mgmt_mcp.projections.story import Note

    if len(note.encode()) > NOTE_BYTES_MAX:
        raise InputError(
            f"a note holds at most {NOTE_BYTES_MAX} bytes; shorten it, or `remember` what is to stay"
        )
    full = app.views.session(session).session
    story, quality = told(app.views, full)
    upto = story.last_position
    stored = SessionCheckpointed(full, story.project, reason, upto, note, quality.facts, quality.score)
    receipt = append_own(
        app.log, EventType.SESSION_CHECKPOINTED, stored, story.assistant, key and f"{reason}/{key}", actor
    )
    if not receipt.appended:
        upto = _same(app, receipt, stored, key or "")
    noted = (
        (Note(one_line(redact_text(note), NOTE_CHARS_SHOWN), receipt.position),)
        if note and receipt.appended
        else ()
    )
    noticed = msgspec.structs.replace(_at_rest(story), notes=(*story.notes, *noted))
    text = checkpoint_text(noticed, quality)
    made = Checkpoint(full, receipt.position, upto, receipt.appended, text, quality.facts, quality.score)
    return made, story


def _at_rest(story: "Story") -> "Story":
    """Without what is only open because the asking itself is a call in the middle of a turn."""
    left = tuple(item for item in story.open_items if item.kind not in ("unanswered", "running"))
    return msgspec.structs.replace(story, open_items=left)


def _same(app: "App", receipt: Receipt, asked: SessionCheckpointed, key: str) -> int:
    """How far the checkpoint stored under a key goes. Raises IdempotencyConflictError where it is of something else: the
    counts in it may differ, since time went on; whose it is and what was said may not.
    """
    event = app.log.get([receipt.position]).get(receipt.position)
    if event is None or event.payload is None:
        return receipt.position  # it was forgotten since
    was = msgspec.json.decode(event.payload, type=SessionCheckpointed)
    said = msgspec.json.decode(redact_thorough(msgspec.json.encode(asked)), type=SessionCheckpointed)
    if (was.session, was.note) != (said.session, said.note):
        raise IdempotencyConflictError(
            f"the key {key!r} was used at position {receipt.position} for another checkpoint; use a new key"
        )
    return was.upto


def _summary(app: "App", session: str, *, strict: bool) -> "SessionSummary | None":
    """None where nothing is recorded of it yet. Raises InputError, if `strict` and it is not at work now either."""
    if not session:
        return None
    try:
        return app.views.session(session)
    except InputError:
        if strict and not any(one.session == session for one in live.read_all(app.log.folder)):
            raise
        return None


def _own_part(views: "Views", session: str, budget: int) -> str:
    """What the session knew before its context was compacted; "" where it was not."""
    from session_mgmt_mcp.projections.brief import checkpoint_text

    story, quality = told(views, session)
    return checkpoint_text(story, quality, budget) if story.compactions else ""


def _live_lines(app: "App", root: str, own: str) -> list[str]:
    """What the other sessions at work in the project were asked last, a line each."""
    lines = []
    projects = app.views.projects()
    for one in live.read_all(app.log.folder):
        if (
            one.session != own
            and one.prompt
            and projects.root_of(one.root) == root
            and live.is_alive(one.process)
        ):
            where = "" if one.folder == root else f" in {one.folder}"
            lines.append(f'session {one.session[:8]} is at work now{where}; it was asked: "{one.prompt}"')
    return lines[:LIVE_SHOWN_MAX]


def here() -> str | None:
    """The working folder; None where it was removed under the shell."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        return None

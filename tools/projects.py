"""Projects as commands and maintenance see them: what is recorded of working folders, listed, joined, separated."""

import os
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from session_mgmt_mcp.core.envelope import Envelope, EventType, NewEvent, Source, capture_id, now_us, uuid7
from session_mgmt_mcp.core.errors import InputError
from session_mgmt_mcp.core.events import SEEN_WORDS, ProjectJoined, ProjectSeen
from session_mgmt_mcp.core.log.log import FileLog
from session_mgmt_mcp.core.project import identify
from session_mgmt_mcp.core.redact import redact
from session_mgmt_mcp.projections.files import make_folder, write_json
from session_mgmt_mcp.projections.protocol import views_folder
from session_mgmt_mcp.projections.rows import ORDINAL_BITS, interpret_event

if TYPE_CHECKING:
    from session_mgmt_mcp.projections.projects import Projects
    from session_mgmt_mcp.tools.app import App

EVENTS_MAX = 10_000  # interpreted a pass; of more the query view tells the folders
FOLDERS_MAX = 2_000  # looked up a pass
NAMED_MAX = 8
_STATE = "projects.json"
_STATE_VERSION = 1


class ProjectEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A project as it is listed."""

    root: str
    roots: tuple[str, ...]  # that were joined to it
    folders: tuple[str, ...]  # worktrees, subfolders, folders of before
    sessions: int
    last_at: int  # µs since the epoch, 0 where unknown


class Joining(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a join or a separation."""

    old: str
    new: str
    position: int  # of the event; 0 where it was so already


class _State(msgspec.Struct):
    version: int
    log_id: str
    position: int
    roots: dict[str, str]


# -- recording -------------------------------------------------------------------------------------------------------


def note_new(log: FileLog) -> bool:
    """Record of every new working folder that is no project's root which project it is of; False where there is more to
    look at after the next publishing.

    A worktree that is removed later is known by this alone. What was looked at is kept in `views/projects.json`. The caller holds the maintenance lock. Raises AppendError.
    """
    folder = Path(log.folder)
    looked = _Looked.load(folder, log)
    head = log.head().position
    if looked.position >= head:
        return True
    found = dict.fromkeys(_published_folders(log, folder, looked))
    upto = min(head, looked.position + EVENTS_MAX)
    for batch in log.read(looked.position, upto):
        for event in batch:
            for row in interpret_event(event).rows if event.payload is not None else ():
                if row.origin == EventType.PROJECT_SEEN:
                    looked.know(row.project, row.text.removeprefix(row.project + SEEN_WORDS))
                elif row.project:
                    found[row.project] = None
    if _record(log, looked, list(found)):
        looked.position = upto
    looked.save(folder)
    return looked.position == head


def _record(log: FileLog, looked: "_Looked", folders: Sequence[str]) -> bool:
    """False where there were more than one pass looks up."""
    new = [folder for folder in folders if looked.root(folder) is None]
    known = [folder for folder in folders if looked.root(folder) is not None]
    now = now_us()
    envelope = Envelope("session-mgmt/log", EventType.PROJECT_SEEN, 1, now, now, "system", Source.COMMAND)
    events = []
    for folder in (*new[:FOLDERS_MAX], *known[:FOLDERS_MAX]):
        project, before = identify(folder), looked.root(folder)
        # What is gone by now, or has lost its git, is of the project it was seen in.
        counts = before is None or (bool(project.common_dir) and os.path.isdir(folder))
        if not counts or before == _digest(project.root):
            continue
        looked.know(folder, project.root)
        if before is None and project.root == folder:
            continue  # as everybody takes it to be who knows nothing of it
        payload = msgspec.json.encode(ProjectSeen(folder, project.root, project.common_dir))
        event_id = capture_id("session-mgmt", "project", folder, project.root, before or "")
        events.append(NewEvent(event_id, envelope, redact(payload)))
    if events:
        log.append(events)
    return len(new) <= FOLDERS_MAX


def _published_folders(log: FileLog, folder: Path, looked: "_Looked") -> Sequence[str]:
    """Folders of published rows nobody looked at, where they are too many to interpret their events once more."""
    from session_mgmt_mcp.projections.query_files import QueryFiles, load_state

    views = views_folder(folder)
    state = load_state(views, log)
    if state is None or state.position <= looked.position + EVENTS_MAX * (looked.position > 0):
        return ()
    from session_mgmt_mcp.projections.projects import SEEN, noted_rows

    files = QueryFiles(views, state)
    try:
        after = (looked.position + 1) << ORDINAL_BITS
        for row in noted_rows(files):
            if row.origin == SEEN:
                looked.know(row.project, row.text.removeprefix(row.project + SEEN_WORDS))
        looked.position = state.position
        sql = "SELECT DISTINCT project FROM shown WHERE id >= ? AND project <> '' ORDER BY project"
        return [r[0] for r in files.fetch(sql, [after])]
    finally:
        files.close()


class _Looked:
    """Up to which position working folders were looked at, and the root each had: as digests, so that the file holds
    nothing that could have to be forgotten.
    """

    def __init__(self, log_id: str, position: int = 0, roots: dict[str, str] | None = None) -> None:
        self.log_id = log_id
        self.position = position
        self._roots = roots or {}

    @classmethod
    def load(cls, folder: Path, log: FileLog) -> "_Looked":
        """From nothing where the file is missing, damaged, or of another log."""
        try:
            said = msgspec.json.decode((views_folder(folder) / _STATE).read_bytes(), type=_State)
        except (OSError, msgspec.MsgspecError):
            return cls(log.log_id)
        if (said.version, said.log_id) != (_STATE_VERSION, log.log_id):
            return cls(log.log_id)
        return cls(log.log_id, said.position, said.roots)

    def save(self, folder: Path) -> None:
        said = _State(_STATE_VERSION, self.log_id, self.position, self._roots)
        write_json(make_folder(views_folder(folder)) / _STATE, msgspec.to_builtins(said))

    def root(self, folder: str) -> str | None:
        """The digest of the root it had when last looked at; None where it never was."""
        return self._roots.get(_digest(folder))

    def know(self, folder: str, root: str) -> None:
        self._roots[_digest(folder)] = _digest(root)


def _digest(folder: str) -> str:
    return blake2b(folder.encode("utf-8", "replace"), digest_size=8).hexdigest()


# -- asking ----------------------------------------------------------------------------------------------------------

_FOLDERS = "SELECT DISTINCT project FROM shown WHERE project <> '' AND assistant <> 'session-mgmt'"
_LISTED = """
SELECT root, count(DISTINCT session), coalesce(max(occurred_at), 0)
FROM (SELECT project, session, occurred_at FROM shown WHERE assistant <> 'session-mgmt')
JOIN (SELECT unnest(?) AS project, unnest(?) AS root) USING (project)
GROUP BY root
"""


def listed(app: "App") -> list[ProjectEntry]:
    """All projects with sessions, the last active first."""
    projects = app.views.projects()
    with app.views.reading() as files:
        folders = [r[0] for r in files.fetch(_FOLDERS)]
        roots = [projects.root_of(folder) for folder in folders]
        counted = files.fetch(_LISTED, [folders, roots])
    of_root: dict[str, list[str]] = {}
    for folder, root in sorted(zip(folders, roots, strict=True)):
        of_root.setdefault(root, []).append(folder)
    entries = [
        ProjectEntry(
            root=root,
            roots=projects.roots(root)[1:],
            folders=tuple(of_root[root]),
            sessions=sessions,
            last_at=last_at,
        )
        for root, sessions, last_at in counted
    ]
    return sorted(entries, key=lambda entry: (-entry.last_at, entry.root))


def all_roots(app: "App") -> list[str]:
    """The roots of all projects with sessions, in order."""
    projects = app.views.projects()
    with app.views.reading() as files:
        return sorted({projects.root_of(r[0]) for r in files.fetch(_FOLDERS)})


def _projects(app: "App") -> "Projects":
    """With every folder of a session: those that are roots are not recorded."""
    projects = app.views.projects()
    with app.views.reading() as files:
        return projects.including(r[0] for r in files.fetch(_FOLDERS))


def join(app: "App", old: str, new: str) -> Joining:
    """Let the project `old` go on under `new`: a folder that was moved or renamed. Raises InputError."""
    projects = _projects(app)
    old_root, new_root = _known_root(projects, old), _root_to_be(projects, new)
    together = projects.canonical(old_root)
    if together == projects.canonical(new_root):
        if together == old_root != new_root:
            raise InputError(
                f"{new_root} goes on under {old_root} already; "
                f"`session-mgmt-mcp projects separate {new_root}` first, to turn it round"
            )
        return Joining(old=old_root, new=new_root, position=0)
    return _append(app, old_root, new_root)


def separate(app: "App", root: str) -> Joining:
    """Let a joined project be one of its own again. Raises InputError."""
    projects = _projects(app)
    own = _known_root(projects, root)
    if projects.joined(own):
        return _append(app, own, own)
    others = projects.roots(own)[1:]
    if others:
        named = ", ".join(others[:NAMED_MAX]) + (" …" if len(others) > NAMED_MAX else "")
        raise InputError(f"{own} itself was joined to nothing; name what was joined to it: {named}")
    raise InputError(f"{own} was joined to nothing; `session-mgmt-mcp projects` lists what is")


def _append(app: "App", old: str, new: str) -> Joining:
    now = now_us()
    envelope = Envelope("session-mgmt/log", EventType.PROJECT_JOINED, 1, now, now, "user", Source.COMMAND)
    payload = redact(msgspec.json.encode(ProjectJoined(old, new)))
    receipt = app.log.append([NewEvent(uuid7(now), envelope, payload)], dedupe=False)[0]
    return Joining(old=old, new=new, position=receipt.position)


def _known_root(projects: "Projects", named: str) -> str:
    """The root, joined or not, that a folder or a name means. Raises InputError that names candidates."""
    roots = projects.own_roots(named)
    if len(roots) == 1:
        return roots[0]
    if roots:
        some = ", ".join(roots[:NAMED_MAX]) + (" …" if len(roots) > NAMED_MAX else "")
        raise InputError(f"{named!r} means {len(roots)} projects: {some}; give the folder")
    raise InputError(f"nothing is recorded of {named!r}; `session-mgmt-mcp projects` lists what is")


def _root_to_be(projects: "Projects", named: str) -> str:
    """The same of a folder that may have seen no session yet."""
    if os.path.isabs(named) and os.path.isdir(named):
        return projects.own_root(named)
    return _known_root(projects, named)

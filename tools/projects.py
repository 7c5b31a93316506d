"""Projects as commands and maintenance see them: what is recorded of working folders, listed, joined, separated."""

import os
from collections.abc import Iterable, Sequence
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
from session_mgmt_mcp.projections.files import make_folder, read_json, write_json
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


# -- recording -------------------------------------------------------------------------------------------------------


def note_new(log: FileLog) -> bool:
    """Record of every new working folder which project it is of, once; False where there is more to look at after the
    next publishing.

    A worktree that is removed later is known by this alone. What was looked at is kept in `views/projects.json`: a
    position, and digests of folders. The caller holds the maintenance lock. Raises AppendError.
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
    unknown = [folder for folder in folders if not looked.knows(folder)]
    known = [folder for folder in folders if looked.knows(folder)]
    now = now_us()
    envelope = Envelope("session-mgmt/log", EventType.PROJECT_SEEN, 1, now, now, "system", Source.COMMAND)
    new = []
    for folder in (*unknown[:FOLDERS_MAX], *known[:FOLDERS_MAX]):
        project = identify(folder)
        # What is gone by now, or has lost its git, is of the project it was seen in.
        moved = bool(project.common_dir) and os.path.isdir(folder)
        if looked.knows(folder, project.root) or (looked.knows(folder) and not moved):
            continue
        looked.know(folder, project.root)
        payload = msgspec.json.encode(ProjectSeen(folder, project.root, project.common_dir))
        event_id = capture_id("session-mgmt", "project", folder, project.root)
        new.append(NewEvent(event_id, envelope, redact(payload)))
    if new:
        log.append(new)
    return len(unknown) <= FOLDERS_MAX


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
    """Up to which position working folders were looked at, and which are known: by digests, so that the file holds
    nothing that could have to be forgotten.
    """

    def __init__(self, log_id: str, position: int, known: Iterable[str]) -> None:
        self.log_id = log_id
        self.position = position
        self._known = set(known)

    @classmethod
    def load(cls, folder: Path, log: FileLog) -> "_Looked":
        """From nothing where the file is missing, damaged, or of another log."""
        said = read_json(views_folder(folder) / _STATE) or {}
        position, known = said.get("position"), said.get("known")
        fits = said.get("version") == _STATE_VERSION and said.get("log_id") == log.log_id
        if fits and isinstance(position, int) and isinstance(known, list):
            return cls(log.log_id, position, filter(lambda k: isinstance(k, str), known))
        return cls(log.log_id, 0, ())

    def save(self, folder: Path) -> None:
        said = {
            "version": _STATE_VERSION,
            "log_id": self.log_id,
            "position": self.position,
            "known": sorted(self._known),
        }
        write_json(make_folder(views_folder(folder)) / _STATE, said)

    def knows(self, folder: str, root: str = "") -> bool:
        """Whether it was seen at all, or under this root."""
        return _digest(folder, root) in self._known

    def know(self, folder: str, root: str) -> None:
        self._known |= {_digest(folder, ""), _digest(folder, root)}


def _digest(folder: str, root: str) -> str:
    return blake2b(f"{folder}\0{root}".encode("utf-8", "replace"), digest_size=8).hexdigest()


# -- asking ----------------------------------------------------------------------------------------------------------

_LISTED = """
SELECT root, count(DISTINCT session), coalesce(max(occurred_at), 0)
FROM (SELECT project, session, occurred_at FROM shown WHERE project <> '' AND assistant <> 'session-mgmt')
JOIN (SELECT unnest(?) AS project, unnest(?) AS root) USING (project)
GROUP BY root
"""


def listed(app: "App") -> list[ProjectEntry]:
    """All projects with sessions, and those that were joined; the last active first."""
    projects = app.views.projects()
    with app.views.reading() as files:
        folders = [
            r[0]
            for r in files.fetch(
                "SELECT DISTINCT project FROM shown WHERE project <> '' AND assistant <> 'session-mgmt'"
            )
        ]
        of_root: dict[str, set[str]] = {}
        for folder in folders:
            of_root.setdefault(projects.root_of(folder), set()).add(folder)
        counted = files.fetch(_LISTED, [folders, [projects.root_of(folder) for folder in folders]])
    entries = [
        ProjectEntry(
            root=root,
            roots=projects.roots(root)[1:],
            folders=tuple(sorted(of_root[root])),
            sessions=sessions,
            last_at=last_at,
        )
        for root, sessions, last_at in counted
    ]
    return sorted(entries, key=lambda entry: (-entry.last_at, entry.root))


def join(app: "App", old: str, new: str) -> Joining:
    """Let the project `old` go on under `new`: a folder that was moved or renamed. Raises InputError."""
    projects = app.views.projects()
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
    projects = app.views.projects()
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

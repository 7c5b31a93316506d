"""Which project a working folder belongs to: git's worktrees and subfolders are one. Imported by hooks: kept light.

Git is not run; its files are read as gitrepository-layout(5) and git-worktree(1) describe them.
"""

import os
from stat import S_ISDIR, S_ISREG

PATH_BYTES_MAX = 4096  # no working folder is longer (PATH_MAX)
_FILE_BYTES_MAX = 8192  # of a .git file, a commondir file, a config


class Project:
    """`root`: the folder that stands for the project. `common_dir`: git's folder, shared by all worktrees; "" without git."""

    __slots__ = ("common_dir", "root")

    def __init__(self, root: str, common_dir: str = "") -> None:
        self.root = root
        self.common_dir = common_dir

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Project) and (self.root, self.common_dir) == (other.root, other.common_dir)

    def __hash__(self) -> int:
        return hash((self.root, self.common_dir))

    def __repr__(self) -> str:
        return f"Project({self.root!r}, {self.common_dir!r})"


def identify(folder: str) -> Project:
    """The project of a working folder, as the disk has it now; of a folder that is gone, by the folders above it.

    A repository is its main folder (a bare one itself), a submodule its own working folder, and a folder without git
    itself. A repository in the home folder or in `/` is the project of that very folder only: it would swallow all
    others. Never raises.
    """
    trimmed = folder.rstrip("/") or folder[:1]
    try:
        if not folder.startswith("/") or len(os.fsencode(folder)) > PATH_BYTES_MAX:
            return Project(folder.rstrip("/\\") or folder)
        start = os.path.realpath(trimmed)
        found = _repository(start)
    except (OSError, ValueError):  # ValueError: no path at all, such as one with a NUL
        return Project(trimmed)
    return found or Project(start)


def _repository(start: str) -> "Project | None":
    home = os.environ.get("HOME") or "/"
    too_wide = ("/", os.path.realpath(home))
    at = start
    while at == start or at not in too_wide:
        git = os.path.join(at, ".git")
        mode = _mode(git)
        if S_ISDIR(mode):
            return Project(at, os.path.realpath(git))
        if S_ISREG(mode) and (found := _linked(at, git)):
            return found
        if at == "/":
            break
        at = os.path.dirname(at)
    return None


def _linked(at: str, git: str) -> "Project | None":
    """What a `.git` file says: a worktree, a submodule, or a repository kept elsewhere; None where it says nothing."""
    said = _first_line(git)
    if not said.startswith("gitdir:"):
        return None
    private = os.path.normpath(os.path.join(at, said[len("gitdir:") :].strip()))
    shared = _first_line(private + "/commondir").strip()
    if shared:
        return _of_worktrees(os.path.realpath(os.path.join(private, shared)))
    worktrees, name = os.path.split(private)
    repository, kind = os.path.split(worktrees)
    if (
        name and kind == "worktrees" and not os.path.isdir(private)
    ):  # the repository was moved, or this was pruned
        return _of_worktrees(os.path.realpath(repository))
    return Project(at, os.path.realpath(private))


def _of_worktrees(common_dir: str) -> Project:
    parent, name = os.path.split(common_dir)
    if name == ".git":
        return Project(parent, common_dir)
    main = _main_folder(common_dir)
    if main:
        return Project(main, common_dir)
    bare = _linked_to(parent, common_dir)  # the layout `project/.bare` with `project/.git` that names it
    return Project(parent if bare else common_dir, common_dir)


def _main_folder(common_dir: str) -> str:
    """The working folder of a submodule, whose repository lies in that of the project above."""
    for line in _head(common_dir + "/config").splitlines():
        name, _, value = line.partition("=")
        if name.strip().lower() == "worktree" and value.strip():
            return os.path.realpath(os.path.join(common_dir, value.strip()))
    return ""


def _linked_to(folder: str, common_dir: str) -> bool:
    said = _first_line(folder + "/.git")
    named = said[len("gitdir:") :].strip() if said.startswith("gitdir:") else ""
    return bool(named) and os.path.realpath(os.path.join(folder, named)) == common_dir


def _mode(path: str) -> int:
    """0 where there is nothing that can be looked at."""
    try:
        return os.stat(path).st_mode
    except OSError:
        return 0


def _first_line(path: str) -> str:
    return _head(path).partition("\n")[0]


def _head(path: str) -> str:
    """The beginning of a small file; "" where there is no such file."""
    if not S_ISREG(_mode(path)):  # opening a pipe would wait for its writer
        return ""
    try:
        fd = os.open(path, os.O_RDONLY)
        try:
            return os.fsdecode(os.read(fd, _FILE_BYTES_MAX))
        finally:
            os.close(fd)
    except OSError:
        return ""

"""Which project a working folder belongs to: git's worktrees and subfolders are one. Imported by hooks: kept light.

Git is not run; its files are read as gitrepository-layout(5) and git-worktree(1) describe them.
"""

from _stat import S_ISDIR, S_ISLNK, S_ISREG

from session_mgmt_mcp.core.log.durable import environb, os

PATH_BYTES_MAX = 4096  # no working folder is longer (PATH_MAX)


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
        if not folder.startswith("/") or len(folder.encode("utf-8", "surrogateescape")) > PATH_BYTES_MAX:
            return Project(folder.rstrip("/\\") or folder)
        start = _real(trimmed)
        found = _repository(start)
    except (OSError, ValueError):  # ValueError: no path at all, such as one with a NUL
        return Project(trimmed)
    return found or Project(start)


def _real(path: str) -> str:
    """`os.path.realpath` of an absolute path, without importing it where no link is on the way. Raises ValueError."""
    at = ""
    for part in path.removeprefix("/").split("/"):
        at += "/" + part
        if path[:1] != "/" or part in ("", ".", "..") or S_ISLNK(_mode(at, follow=False)):
            from os.path import realpath

            return realpath(path)
    return path


def _repository(start: str) -> "Project | None":
    home = str(environb.get(b"HOME") or b"/", "utf-8", "surrogateescape")
    too_wide: tuple[str, ...] = ()
    at = start
    while at == start or at not in (too_wide := too_wide or ("/", _real(home))):
        git = f"{at.rstrip('/')}/.git"
        mode = _mode(git)
        if S_ISDIR(mode):
            return Project(at, _real(git))
        if S_ISREG(mode):
            from session_mgmt_mcp.core.project_links import linked

            if found := linked(at, git):
                return Project(*found)
        if at == "/":
            break
        at = at.rpartition("/")[0] or "/"
    return None


def _mode(path: str, *, follow: bool = True) -> int:
    """0 where there is nothing that can be looked at."""
    try:
        return os.stat(path, follow_symlinks=follow).st_mode
    except OSError:
        return 0

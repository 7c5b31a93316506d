"""`.git` files: what a worktree, a submodule, or a repository kept elsewhere has in place of git's folder.

Of `core.project`, for the hooks that meet one.
"""

import os
from stat import S_ISREG

_FILE_BYTES_MAX = 8192  # of a .git file, a commondir file, a config
Linked = tuple[str, str]  # the folder that stands for the project, and git's folder


def linked(at: str, git: str) -> Linked | None:
    """What the file `git` in the folder `at` says; None where it says nothing."""
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
    return at, os.path.realpath(private)


def _of_worktrees(common_dir: str) -> Linked:
    parent, name = os.path.split(common_dir)
    if name == ".git":
        return parent, common_dir
    main = _main_folder(common_dir)
    if main:
        return main, common_dir
    bare = _linked_to(parent, common_dir)  # the layout `project/.bare` with `project/.git` that names it
    return (parent if bare else common_dir), common_dir


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


def _first_line(path: str) -> str:
    return _head(path).partition("\n")[0]


def _head(path: str) -> str:
    """The beginning of a small file; "" where there is no such file."""
    try:
        if not S_ISREG(os.stat(path).st_mode):  # opening a pipe would wait for its writer
            return ""
        fd = os.open(path, os.O_RDONLY)
        try:
            return os.fsdecode(os.read(fd, _FILE_BYTES_MAX))
        finally:
            os.close(fd)
    except OSError:
        return ""

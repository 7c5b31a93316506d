"""What a session did to files, from its tool calls."""

import posixpath

from session_mgmt_mcp.projections.plain_text import one_line
from session_mgmt_mcp.projections.rows import Row
from session_mgmt_mcp.projections.story import FileWork

FILES_MAX = 5000
CHANGES_MAX = 20_000
PATH_CHARS_MAX = 200
EDIT_CHARS_KEPT_MAX = 4000  # of an edit that may be undone by a later one
EDITS_KEPT_MAX = 8  # of one file
_WRITERS = frozenset(("write", "write_file", "create_file", "write_to_file", "create"))
_EDITORS = frozenset(
    ("edit", "multiedit", "notebookedit", "str_replace_based_edit_tool", "apply_patch", "replace", "edit_file", "patch",
     "str_replace_editor", "insert_edit_into_file", "replace_in_file", "search_replace", "str_replace", "insert")
)  # fmt: skip
_READERS = frozenset(("read", "read_file", "view", "view_file", "open_file"))


class _Worked:
    def __init__(self) -> None:
        self.edits = self.writes = self.reads = self.moment = self.position = 0
        self.latest: list[str] = []  # edits as text, to see which are undone


class FilesWorked:
    """Takes the calls of file tools that succeeded, in order."""

    def __init__(self) -> None:
        self._files: dict[str, _Worked] = {}
        self._changes: list[tuple[int, str]] = []  # moment, path
        self.undone = 0  # edits that took back an earlier one

    def take(self, row: Row, moment: int) -> None:
        """A call. Nothing is made of tools that are not known to read or change files."""
        name = row.tool.rpartition("__")[2].lower()
        changes = bool(row.edit) or name in _WRITERS or name in _EDITORS
        if not row.files or not (changes or name in _READERS):
            return
        for path in row.files:
            worked = self._files.get(path)
            if worked is None:
                if len(self._files) >= FILES_MAX:
                    continue
                worked = self._files[path] = _Worked()
            if not changes:
                worked.reads += 1
                continue
            if name in _WRITERS:
                worked.writes += 1
            else:
                worked.edits += 1
            worked.moment, worked.position = moment, row.position
            if len(self._changes) < CHANGES_MAX:
                self._changes.append((moment, path))
            self._see_undone(worked, row.edit)

    def _see_undone(self, worked: _Worked, edit: str) -> None:
        """An edit's text is its old text and its new one: swapped, it takes an earlier edit back."""
        if not edit or len(edit) > EDIT_CHARS_KEPT_MAX or "\n" not in edit:
            return
        for earlier in worked.latest:
            if len(earlier) == len(edit) and earlier != edit and f"\n{edit}\n" in f"\n{earlier}\n{earlier}\n":
                worked.latest.remove(earlier)
                self.undone += 1
                return
        worked.latest.append(edit)
        del worked.latest[:-EDITS_KEPT_MAX]

    def changed_between(self, start: int, end: int) -> tuple[str, ...]:
        """Names of the files changed between two moments, each once, without their folders."""
        paths = dict.fromkeys(path for moment, path in self._changes if start < moment < end)
        return tuple(dict.fromkeys(one_line(posixpath.basename(path), 80) for path in paths))

    def work(self, root: str, last_commit: int | None, last_test: int | None) -> tuple[FileWork, ...]:
        """Every changed file in the order of its last change, then those only read, the most read first."""
        changed = sorted((w.moment, path) for path, w in self._files.items() if w.moment)
        read = sorted((-w.reads, path) for path, w in self._files.items() if not w.moment)
        out = []
        for path in [path for _, path in changed] + [path for _, path in read]:
            worked = self._files[path]
            shown, outside = _relative(path, root)
            out.append(
                FileWork(
                    one_line(shown, PATH_CHARS_MAX),
                    worked.edits,
                    worked.writes,
                    worked.position,
                    worked.reads,
                    outside,
                    last_commit is not None and 0 < worked.moment < last_commit,
                    last_test is not None and 0 < worked.moment < last_test,
                )
            )
        return tuple(out)


def _relative(path: str, root: str) -> tuple[str, bool]:
    """The path within the root, and whether it lies outside."""
    if not path.startswith("/"):
        return path, False
    if root and path.startswith(root.rstrip("/") + "/"):
        return path[len(root.rstrip("/")) + 1 :], False
    return path, bool(root)

r"""What the user wants left out: whole projects, and what stands in files of some paths. Imported by hooks: kept light.

The rules lie in the file `ignore` of the data folder, a line each, UTF-8; only lines with a tab are rules:

    project<TAB>/home/mira/diary        nothing of sessions in it, below, or in its worktrees is stored
    path<TAB>**/secrets/*.yaml          what stands in such files is replaced, the event is kept
    keep<TAB>**/.env                    one of DEFAULT_PATHS that does not hold

A pattern is matched against whole absolute paths: `*` and `?` within a name, `**` across folders. Files of which little
but secrets is known are left out without a rule (DEFAULT_PATHS). The user's own data folder decides, never a file in a
project: or a cloned repository could switch off the log of what is done in it.

What a rule of a path reaches: tool calls and results that name such a file (read, written, edited, attached). What a shell
command prints of it cannot be told from other output.
"""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

FILE = "/ignore"
COUNT_FILE = "/ignored"  # a byte for each event of a hook that was left out
# contents of these are credentials; examples and templates of them (`.env.example`) are not
DEFAULT_PATHS = (
    "**/.env",
    "**/.env.local",
    "**/.env.production",
    "**/.envrc",
    "**/.netrc",
    "**/.pgpass",
    "**/.git-credentials",
    "**/.aws/credentials",
    "**/.docker/config.json",
    "**/.kube/config",
    "**/.ssh/id_*",
    "**/*.pem",
    "**/*.key",
    "**/*.p12",
    "**/*.keystore",
)
RULES_MAX = 1000
PATTERN_LENGTH_MAX = 1024
PATH_KEYS = ("file_path", "filePath", "notebook_path", "filename", "path", "files")
_MARKERS = tuple(b'"' + name.encode() + b'"' for name in PATH_KEYS)
_NAMES_KEPT_MAX = 4096
_PATHS_MAX = 4096  # looked at in one payload; beyond, it is taken apart as if one were ignored


class Rules:
    """The rules of one data folder; `projects` are absolute folders without a slash at the end."""

    __slots__ = ("_by_name", "_known", "paths", "projects")

    def __init__(self, projects: "tuple[str, ...]" = (), paths: "tuple[str, ...]" = DEFAULT_PATHS) -> None:
        self.projects, self.paths = projects, paths
        self._known: dict[str, str] = {}  # working folder -> the ignored project it is in, or ""
        self._by_name: dict[str, list[str]] = {}  # name of a file -> the patterns whose last part fits it

    def project(self, *folders: str) -> str:
        """The ignored project that one of these folders is in, also as another worktree of it; "" if there is none."""
        for folder in folders if self.projects else ():
            if folder not in self._known:
                found = self._holding(folder)
                if not found and folder.startswith("/"):
                    from session_mgmt_mcp.core.project import identify

                    found = self._holding(identify(folder).root)
                self._known[folder] = found
            if self._known[folder]:
                return self._known[folder]
        return ""

    def _holding(self, folder: str) -> str:
        inside = (root for root in self.projects if folder == root or folder.startswith(root + "/"))
        return next(inside, "")

    def path(self, path: str, folder: str = "") -> str:
        """The first pattern that a path matches, "" if there is none. A relative path is taken as of `folder`."""
        if not path or not self.paths:
            return ""
        name = path.rsplit("/", 1)[-1]
        if name not in ("", ".", "..") and not self._of_name(path):
            return ""  # most of them
        path = os.path.normpath(os.path.join(folder or "/", path))
        return next((pattern for pattern in self._of_name(path) if matches(pattern, path)), "")

    def _of_name(self, path: str) -> "list[str]":
        # A history names few files and each of them often, most of them by no rule's name.
        name = path.rsplit("/", 1)[-1]
        found = self._by_name.get(name)
        if found is None:
            if len(self._by_name) >= _NAMES_KEPT_MAX:
                self._by_name.clear()
            lasts = ((pattern, pattern.rsplit("/", 1)[-1]) for pattern in self.paths)
            found = [pattern for pattern, last in lasts if last == "**" or _name_fits(last, name)]
            self._by_name[name] = found
        return found

    def named_in(self, payload: bytes) -> bool:
        """Whether a payload of JSON names an ignored file, as far as can be told without parsing it. Misses none."""
        seen = 0
        folder: str | None = None
        for marker in _MARKERS:
            at = payload.find(marker)
            while at >= 0:
                for path in _paths_after(payload, at + len(marker)):
                    seen += 1
                    if folder is None:
                        folder = os.fsdecode(string_after(payload, b'"cwd"'))
                    if seen > _PATHS_MAX or self.path(path, folder):
                        return True
                at = payload.find(marker, at + 1)
        return False


def read_rules(folder: str) -> Rules:
    """The rules of a data folder; the default ones where it has no file, or one that cannot be read."""
    try:
        with open(folder + FILE, "rb") as file:
            raw = file.read()
    except OSError:
        return Rules()
    projects: list[str] = []
    paths: list[str] = []
    kept: set[str] = set()
    for line in raw.decode("utf-8", "surrogateescape").split("\n")[: 2 * RULES_MAX]:
        kind, tab, value = line.rstrip("\r").partition("\t")
        if not tab or not value:
            continue
        if kind == "project":
            projects.append(value)
        elif kind == "path":
            paths.append(value)
        elif kind == "keep":
            kept.add(value)
    return Rules(tuple(projects), (*paths, *(path for path in DEFAULT_PATHS if path not in kept)))


def string_after(payload: bytes, name: bytes) -> bytes:
    """The JSON string that follows the first `name` and a colon, unescaped; b"" if there is none."""
    at = payload.find(name)
    return next(_strings(payload, at + len(name)), b"") if at >= 0 else b""


def _paths_after(payload: bytes, at: int) -> "Iterator[str]":
    for raw in _strings(payload, at):
        yield os.fsdecode(raw)


def _strings(payload: bytes, at: int) -> "Iterator[bytes]":
    """The string, or the strings of the list, that follow a key's name which ends at `at`."""
    rest = payload[at : at + 16].lstrip()
    if not rest.startswith(b":"):
        return
    at = payload.find(b":", at) + 1
    several = payload[at : at + 16].lstrip()[:1] == b"["
    if several:
        at = payload.find(b"[", at) + 1
    while True:
        head = payload[at : at + 64].lstrip(b" \t\r\n,")
        if not head.startswith(b'"'):
            return
        start = payload.find(b'"', at) + 1
        end = payload.find(b'"', start)
        while end > 0 and (end - start - len(payload[start:end].rstrip(b"\\"))) % 2:
            end = payload.find(b'"', end + 1)
        if end < 0:
            return
        raw = payload[start:end]
        if b"\\" in raw:
            import json  # rare: a path with a quote, a backslash, or written in escapes

            try:
                raw = os.fsencode(json.loads(payload[start - 1 : end + 1]))
            except (ValueError, UnicodeError):
                return
        yield raw
        if not several:
            return
        at = end + 1


def matches(pattern: str, path: str) -> bool:
    """Whether a whole path matches: `**` stands for any number of folders, `*` and `?` for parts of a name."""
    return _fits(pattern.split("/"), path.split("/"), "**", _name_fits)


def _name_fits(pattern: str, name: str) -> bool:
    return _fits(pattern, name, "*", _sign_fits)


def _sign_fits(pattern: str, sign: str) -> bool:
    return pattern in ("?", sign)


def _fits(
    patterns: "Sequence[str]", parts: "Sequence[str]", any_number: str, fits: "Callable[[str, str], bool]"
) -> bool:
    # Only the last `any_number` is ever gone back to, so that work is at most the product of the lengths.
    p = n = 0
    star = mark = -1
    while n < len(parts):
        if p < len(patterns) and patterns[p] == any_number:
            star, mark = p, n
            p += 1
        elif p < len(patterns) and fits(patterns[p], parts[n]):
            p += 1
            n += 1
        elif star >= 0:
            mark += 1
            p, n = star + 1, mark
        else:
            return False
    return all(rest == any_number for rest in patterns[p:])


def count_left_out(folder: str) -> None:
    """Count an event that was left out. Nothing of it is kept but that; raises nothing."""
    try:
        fd = os.open(folder + COUNT_FILE, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            os.write(fd, b".")
        finally:
            os.close(fd)
    except OSError:
        pass


def left_out(folder: str) -> int:
    """How many events of hooks were left out so far."""
    try:
        return os.stat(folder + COUNT_FILE).st_size
    except OSError:
        return 0

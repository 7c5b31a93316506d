"""Prepared briefs: what a session is told at its start, written beforehand by maintenance, put out by a hook.

`views/briefs/<project key>` is of a project, `views/briefs/session-<hash>` of a session whose context was compacted. The
first line says how far the log was looked at; then come a text, a shorter one for when something is to be added, and what
of it holds whatever happened since; each escaped as the inside of a JSON string, so that the hook only joins bytes.
Derived: removed by any forgetting, made again by maintenance. Imported by hooks: kept light.
"""

import os

from session_mgmt_mcp.core.log.durable import sha256

FILE_BYTES_MAX = 256 << 10
_FOLDER = "/views/briefs"
_MARK = b"brief 1 "


class Prepared:
    """A brief as it lies on disk."""

    __slots__ = ("escaped", "lasting", "position", "short")

    def __init__(self, position: int, escaped: bytes, short: bytes, lasting: bytes = b"") -> None:
        self.position = position  # the log's last event it knows of
        self.escaped = escaped  # JSON string without its quotes; empty where there is nothing to say
        self.short = short  # the same in fewer words
        self.lasting = lasting  # decisions and the like, without how any session stands


def project_path(folder: str, root: str) -> str:
    """The brief of a project; `folder`: the data folder, `root`: as core.project names it."""
    return f"{folder}{_FOLDER}/{_name(root)}"


def session_path(folder: str, session: str) -> str:
    """What a session is told once its context was compacted."""
    return f"{folder}{_FOLDER}/session-{_name(session)}"


def read(path: str) -> "Prepared | None":
    """A prepared brief; None where there is none, or it is not whole."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        raw = os.read(fd, FILE_BYTES_MAX)
    except OSError:
        return None
    finally:
        os.close(fd)
    lines = raw.split(b"\n")
    position = lines[0][len(_MARK) :]
    if len(lines) != 5 or lines[4] or not lines[0].startswith(_MARK):
        return None
    if not position.isdigit() or len(position) > 20:
        return None
    return Prepared(int(position), *lines[1:4])


def write(path: str, prepared: Prepared) -> None:
    """Publish a brief. Raises OSError."""
    temporary = f"{path}.{os.getpid()}.tmp"
    os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
    fd = os.open(temporary, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with open(fd, "wb") as file:
        texts = (prepared.escaped, prepared.short, prepared.lasting)
        file.write(b"%s%d\n%s\n%s\n%s\n" % (_MARK, prepared.position, *texts))
    os.rename(temporary, path)


def clear(folder: str) -> "list[str]":
    """Remove all briefs; their names, relative to the data folder."""
    base, removed = folder + _FOLDER, []
    try:
        names = os.listdir(base)
    except OSError:
        return []
    for name in names:
        try:
            os.unlink(f"{base}/{name}")
        except OSError:
            continue
        removed.append(f"{_FOLDER[1:]}/{name}")
    return removed


def _name(text: str) -> str:
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]

"""Processes that still have deleted files of a data folder open: the bytes live on until they let go."""

import contextlib
import os
import time
from typing import NamedTuple

WAIT_S = 10.0
_PAUSE_S = 0.2
_DELETED = " (deleted)"


class Holder(NamedTuple):
    """A process and how many deleted files it holds."""

    pid: int
    command: str
    files: int


def wait_for_holders(folder: str, wait_s: float = WAIT_S) -> list[Holder]:
    """Those that are left after `wait_s` seconds, without this process; empty where the system does not tell."""
    deadline = time.monotonic() + wait_s
    while (found := holders(folder)) and time.monotonic() < deadline:
        time.sleep(_PAUSE_S)
    return found


def holders(folder: str) -> list[Holder]:
    """Processes of this user that hold deleted files of `folder` open or mapped (Linux)."""
    base = os.path.realpath(folder) + "/"
    out = []
    for name in os.listdir("/proc") if os.path.isdir("/proc/self/fd") else []:
        if name.isdigit() and int(name) != os.getpid():
            files = _deleted_files(name, base)
            if files:
                out.append(Holder(int(name), _command(name), len(files)))
    return sorted(out)


def _deleted_files(pid: str, base: str) -> set[str]:
    found = set()
    with contextlib.suppress(OSError):  # it ended, or is another user's
        for fd in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                found.add(os.readlink(f"/proc/{pid}/fd/{fd}"))
        with open(f"/proc/{pid}/maps", encoding="utf-8", errors="surrogateescape") as file:
            found.update(line.split(maxsplit=5)[5].rstrip("\n") for line in file if base in line)
    return {path for path in found if path.startswith(base) and path.endswith(_DELETED) and _has_text(path)}


def _has_text(path: str) -> bool:
    """Ids and hints say nothing of an event's content."""
    return not path.removesuffix(_DELETED).endswith((".ids", ".lock", "tail.shm"))


def _command(pid: str) -> str:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
        words = file.read().split(b"\0")
        return b" ".join(words).decode("utf-8", "replace").strip()[:200]
    return "unknown"

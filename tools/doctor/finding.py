"""What the doctor says."""

import os
import time
from enum import StrEnum
from typing import NamedTuple

import msgspec

from session_mgmt_mcp.core.log.folder import Format


class Severity(StrEnum):
    """Only errors and warnings count as something to mend."""

    ERROR = "error"  # something is lost, refused or about to be
    WARNING = "warning"  # works, but not as it should
    NOTE = "note"  # good to know


class Fix(StrEnum):
    """What `--fix` can do, in the order it does it. None of it deletes data."""

    PRIVATE = "private"
    FOLDERS = "folders"
    REGISTER = "register"
    TAIL = "tail"
    LEFTOVERS = "leftovers"
    MAINTAIN = "maintain"
    REPLAY = "replay"


class Finding(msgspec.Struct, frozen=True):
    """One thing. `exit_code`: 3 data folder unusable, 4 log corrupt, else 1."""

    check: str
    severity: Severity
    what: str
    where: str
    mend: str
    fix: Fix | None = None
    exit_code: int = 1


class Patient(NamedTuple):
    """The data folder that is looked at, and the moment."""

    folder: str
    form: Format
    now_us: int

    def path(self, *parts: str) -> str:
        return os.path.join(self.folder, *parts)


def age_text(us: int) -> str:
    """A duration for people."""
    seconds = max(0, us) // 1_000_000
    for unit, size in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def age_of(path: str) -> float:
    """Seconds since the file was last written; 0 where it is gone."""
    try:
        return max(0.0, time.time() - os.lstat(path).st_mtime)
    except OSError:
        return 0.0


def names_in(path: str) -> list[str]:
    """What a folder holds, in order; nothing where there is no such folder."""
    return sorted(os.listdir(path)) if os.path.isdir(path) else []

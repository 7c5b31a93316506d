"""The data folder itself: there, ours, private, on a disk with room, and holding what it should."""

import os
import re
import stat
from collections.abc import Iterator

from session_mgmt_mcp.core.errors import SessionMgmtError
from session_mgmt_mcp.core.log.folder import FOLDERS, refuse_network
from session_mgmt_mcp.tools.doctor.finding import Finding, Fix, Patient, Severity, age_of, age_text, names_in
from session_mgmt_mcp.tools.folder_files import FILES

CHECK = "folder"
FREE_LOW_BYTES = 512 << 20
FREE_GONE_BYTES = 64 << 20
LEFTOVER_AGE_S = 86_400
_LEFTOVER = re.compile(r".*\.tmp")
_INSIDE = {
    "journal": re.compile(r"\d{20}\.journal|.*\.tmp"),
    "segments": re.compile(r"\d{20}-\d{20}-[0-9a-f]{8}\.(parquet|ids)|.*\.tmp"),
    "manifest": re.compile(r"\d{20}\.json|.*\.tmp"),
    "spool": re.compile(r".*\.(event|bad|tmp)"),
    "quarantine": re.compile(r".*\.torn|.*\.tmp"),
}


def access(folder: str) -> Iterator[Finding]:
    """Whether there is a folder that can be worked in at all."""
    if not os.path.isdir(folder):
        what = "is no folder" if os.path.lexists(folder) else "there is no data folder yet"
        mend = "`session-mgmt-mcp setup` makes one, or `import` where there is no assistant; or set SESSION_MGMT_DATA_DIR"
        yield _unusable(what, folder, mend)
        return
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        yield _unusable(
            "it cannot be read and written", folder, "mend its permissions, or set SESSION_MGMT_DATA_DIR"
        )
    try:
        refuse_network(folder)
    except SessionMgmtError as error:
        yield _unusable(
            str(error), folder, "move the data folder to a local disk and set SESSION_MGMT_DATA_DIR"
        )


def _unusable(what: str, where: str, mend: str) -> Finding:
    return Finding(CHECK, Severity.ERROR, what, where, mend, exit_code=3)


def owner_and_mode(folder: str) -> Iterator[Finding]:
    """Whether it is the user's own, and nobody else's to read."""
    found = os.stat(folder)
    if found.st_uid != os.geteuid():
        yield Finding(
            CHECK,
            Severity.WARNING,
            f"it belongs to user {found.st_uid}, you are {os.geteuid()}",
            folder,
            "run as its owner, or `chown -R` it",
        )
    elif stat.S_IMODE(found.st_mode) & 0o077:
        mode = f"{stat.S_IMODE(found.st_mode):04o}"
        yield Finding(
            CHECK,
            Severity.WARNING,
            f"others may look into it (mode {mode})",
            folder,
            "`chmod 700` it",
            Fix.PRIVATE,
        )


def room(folder: str) -> Iterator[Finding]:
    """Whether the disk has space for what comes."""
    disk = os.statvfs(folder)
    free = disk.f_bavail * disk.f_frsize
    if free < FREE_LOW_BYTES:
        severity = Severity.ERROR if free < FREE_GONE_BYTES else Severity.WARNING
        what = f"only {free >> 20} MiB are free on the disk"
        yield Finding(
            "disk", severity, what, folder, "free some before appends fail; `retention` may shrink the log"
        )
    if disk.f_files and not disk.f_favail:
        yield Finding(
            "disk", Severity.ERROR, "the disk has no inodes left", folder, "remove files you do not need"
        )


def contents(patient: Patient) -> Iterator[Finding]:
    """Missing folders, files of other programs, what interrupted writers left."""
    sealed = any(names_in(patient.path(name)) for name in ("manifest", "segments"))
    for name in FOLDERS:
        path = patient.path(name)
        if os.path.isdir(path):
            continue
        harmless = name in ("quarantine", "spool", "views") or (
            name in ("manifest", "segments") and not sealed
        )
        if harmless and not (name == "manifest" and _begins_late(patient)):
            what, mend = f"the folder {name}/ is missing", "make it; it was empty or can be made anew"
            yield Finding(CHECK, Severity.WARNING, what, path, mend, Fix.FOLDERS)
        else:
            what = f"the folder {name}/ is missing, and with it a part of the log"
            mend = "restore the data folder from a backup"
            yield Finding(CHECK, Severity.ERROR, what, path, mend, exit_code=4)
    yield from _strangers(patient)


def _begins_late(patient: Patient) -> bool:
    """Whether the journals begin after position 1: then there was something sealed before."""
    journals = [n for n in names_in(patient.path("journal")) if n.endswith(".journal")]
    return bool(journals) and not journals[0].startswith(f"{1:020d}")


def _strangers(patient: Patient) -> Iterator[Finding]:
    strangers, leftovers = [], []
    for name in names_in(patient.folder):
        if _LEFTOVER.fullmatch(name):
            if age_of(patient.path(name)) > LEFTOVER_AGE_S:
                leftovers.append(patient.path(name))
        elif name not in FILES and name not in FOLDERS:
            strangers.append(patient.path(name))
    for inside, known in _INSIDE.items():
        strangers += [
            patient.path(inside, name) for name in names_in(patient.path(inside)) if not known.fullmatch(name)
        ]
    for path in strangers[:20]:
        yield Finding(
            CHECK,
            Severity.WARNING,
            "it is none of this program's files",
            path,
            "move it out of the data folder",
        )
    if len(strangers) > 20:
        yield Finding(
            CHECK,
            Severity.WARNING,
            f"and {len(strangers) - 20} more such files",
            patient.folder,
            "move them out",
        )
    for path in leftovers:
        age = age_text(int(age_of(path) * 1e6))
        what = f"an interrupted writer left it {age} ago"
        yield Finding(CHECK, Severity.WARNING, what, path, "remove it; nothing reads it", Fix.LEFTOVERS)

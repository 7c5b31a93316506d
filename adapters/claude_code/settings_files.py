"""Changes of settings files: shown first, made all or none, with a copy of what was there."""

import contextlib
import difflib
import errno
import json
import os
import re
import stat
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from session_mgmt_mcp.core.errors import SettingsFileError

BACKUP_SUFFIX = ".session-mgmt-backup-"
_LINE_MAX = 300
_SECRET = re.compile(
    r'("[^"]*(?:key|token|secret|password|authorization|credential)[^"]*"\s*:\s*)"[^"]+"', re.IGNORECASE
)


class ChangedMeanwhileError(SettingsFileError):
    """The file is not what it was when the change was planned. Plan anew."""


class FileChange(NamedTuple):
    """One file before and after. None: it does not exist."""

    path: Path
    before: bytes | None
    after: bytes | None
    copy: bool = True  # False: what `before` has beyond `after` is ours alone

    @property
    def action(self) -> str:
        if self.before is None:
            return "create"
        return "remove" if self.after is None else "edit"

    def diff(self) -> str:
        """A unified diff for reading. Secrets in neighbouring lines are masked, long lines cut; a file that is one
        long line is shown re-indented."""
        before, after = _shown(self.before), _shown(self.after)
        if max(map(len, before + after), default=0) > _LINE_MAX:
            before, after = _reindented(self.before), _reindented(self.after)
        lines = difflib.unified_diff(
            before,
            after,
            str(self.path) if self.before is not None else os.devnull,
            str(self.path) if self.after is not None else os.devnull,
            n=1,
            lineterm="",
        )
        return "\n".join(_clipped(_SECRET.sub(r'\1"…"', line)) for line in lines)


class AppliedChange(NamedTuple):
    """A change that was made, and where the copy of the file before it lies (None: there was none to keep)."""

    path: Path
    action: str
    backup: Path | None


def read(path: Path) -> bytes | None:
    """A settings file's bytes, None where there is none. Raises SettingsFileError if it cannot be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SettingsFileError(f"{path} cannot be read: {error.strerror}. Nothing was changed.") from None


def backups(path: Path) -> list[Path]:
    """The kept copies of a file, newest first."""
    try:
        names = [p for p in path.parent.iterdir() if p.name.startswith(path.name + BACKUP_SUFFIX)]
    except OSError:
        return []
    return sorted(names, key=lambda p: p.name, reverse=True)


def make(changes: Sequence[FileChange]) -> list[AppliedChange]:
    """Make all changes or, if one cannot be made, none.

    Raises ChangedMeanwhileError if a file is not as it was when the change was planned, SettingsFileError if one cannot
    be written.
    """
    for change in changes:
        if read(change.path) != change.before:
            raise ChangedMeanwhileError(
                f"{change.path} was changed by another program in the meantime. Nothing was changed; run this again."
            )
    prepared: list[_Prepared] = []
    try:
        for change in changes:
            prepared.append(_prepared(change))
    except OSError as error:
        for step in prepared:
            step.undo()
        raise SettingsFileError(
            f"{change.path} cannot be changed: {error.strerror}. Nothing was changed; make the file and its folder "
            "writable, or free some space."
        ) from None
    return [step.finish() for step in prepared]


class _Prepared(NamedTuple):
    """A change that only needs its rename: new content and copy are durable beside the file."""

    change: FileChange
    target: Path
    temporary: Path | None
    backup: Path | None
    backup_is_new: bool

    def undo(self) -> None:
        if self.temporary is not None:
            self.temporary.unlink(missing_ok=True)
        if self.backup is not None and self.backup_is_new:
            self.backup.unlink(missing_ok=True)

    def finish(self) -> AppliedChange:
        if self.temporary is None:
            self.target.unlink(missing_ok=True)
        else:
            os.replace(self.temporary, self.target)
        _sync_folder(self.target.parent)
        return AppliedChange(self.change.path, self.change.action, self.backup)


def _prepared(change: FileChange) -> _Prepared:
    target = Path(os.path.realpath(change.path))  # a linked settings file stays a link
    if change.before is None:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    elif not os.access(target, os.W_OK):  # a rename would get past it
        raise PermissionError(errno.EACCES, "it is read-only")
    if not os.access(target.parent, os.W_OK):
        raise PermissionError(errno.EACCES, "its folder is read-only")
    if change.after is None:  # it held only what was ours: no copy
        return _Prepared(change, target, None, None, False)
    temporary = target.with_name(f".{target.name}.session-mgmt-{os.urandom(4).hex()}.tmp")
    _write_new(temporary, change.after, target if change.before is not None else None)
    try:
        backup, is_new = _keep_copy(change, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return _Prepared(change, target, temporary, backup, is_new)


def _keep_copy(change: FileChange, target: Path) -> tuple[Path | None, bool]:
    """The copy of the file before, once a content; whether it was made now."""
    if change.before is None or not change.copy:
        return None, False
    for backup in backups(change.path):
        if read(backup) == change.before:
            return backup, False
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    number = 0
    while True:
        suffix = f"{BACKUP_SUFFIX}{stamp}" + (f"-{number:03d}" if number else "")
        backup = change.path.with_name(change.path.name + suffix)
        try:
            _write_new(backup, change.before, target)
        except FileExistsError:
            number += 1
            continue
        _sync_folder(backup.parent)
        return backup, True


def _write_new(path: Path, content: bytes, like: Path | None) -> None:
    """A new durable file with the mode and owner of `like`, else private."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(descriptor, "wb") as file:
            if like is not None:
                old, new = like.stat(), os.fstat(descriptor)
                if old.st_uid != new.st_uid:
                    os.fchown(descriptor, old.st_uid, -1)
                if old.st_gid != new.st_gid:
                    with contextlib.suppress(PermissionError):  # a group the user has left
                        os.fchown(descriptor, -1, old.st_gid)
                os.fchmod(descriptor, stat.S_IMODE(old.st_mode))
            file.write(content)
            file.flush()
            os.fsync(descriptor)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _shown(content: bytes | None) -> list[str]:
    return (content or b"").decode("utf-8", "replace").splitlines()


def _clipped(line: str) -> str:
    return line if len(line) <= _LINE_MAX else line[:_LINE_MAX] + "…"


def _reindented(content: bytes | None) -> list[str]:
    try:
        return json.dumps(json.loads(content or b"null"), indent=2, ensure_ascii=False).splitlines()
    except ValueError:
        return _shown(content)

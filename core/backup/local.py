"""A backup in a local folder: temporary file, sync, link, and the folders' sync before anything counts on them."""

import contextlib
import errno
import os
from collections.abc import Iterable, Iterator

from session_mgmt_mcp.core.backup.store import BLOCK, Stored
from session_mgmt_mcp.core.errors import DestinationError
from session_mgmt_mcp.core.log.durable import sync_file, sync_folder
from session_mgmt_mcp.core.log.folder import sync_names

_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)  # FAT and some network file systems


class LocalStore:
    """`ObjectStore` in a folder; made at the first put, private (0700)."""

    def __init__(self, folder: str) -> None:
        self.folder = os.path.abspath(folder)

    @property
    def url(self) -> str:
        return self.folder

    def put(self, name: str, blocks: Iterable[bytes]) -> bool:
        path = f"{self.folder}/{name}"
        if os.path.lexists(path):
            return False
        with self._telling("write to"):
            os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
            temporary = f"{path}.{os.urandom(6).hex()}.tmp"
            fd = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            self._fill(fd, blocks)
            with self._telling("write to"):
                return _name(temporary, path)
        finally:
            with contextlib.suppress(OSError):
                os.unlink(temporary)

    def _fill(self, fd: int, blocks: Iterable[bytes]) -> None:
        try:
            for block in blocks:  # what reading them raises is not this store's doing
                view = memoryview(block)
                with self._telling("write to"):
                    while view:
                        view = view[os.write(fd, view) :]
            with self._telling("write to"):
                sync_file(fd)
        finally:
            os.close(fd)

    def sync(self, names: Iterable[str]) -> None:
        folders: set[str] = set()
        for name in names:
            at = os.path.dirname(f"{self.folder}/{name}")
            while len(at) > len(self.folder) and at not in folders:
                folders.add(at)
                at = os.path.dirname(at)
        with self._telling("write to"):
            for folder in sorted(folders, reverse=True):
                sync_folder(folder)
            sync_names(self.folder)

    def blocks(self, name: str) -> Iterator[bytes]:
        with self._telling("read"):
            file = open(f"{self.folder}/{name}", "rb")  # noqa: SIM115 - closed below, errors told apart
        with file:
            while True:
                with self._telling("read"):
                    block = file.read(BLOCK)
                if not block:
                    return
                yield block

    def list(self, prefix: str = "") -> Iterator[Stored]:
        def refuse(error: OSError) -> None:
            if not isinstance(error, FileNotFoundError):
                raise error

        with self._telling("list"):
            for parent, folders, names in os.walk(f"{self.folder}/{prefix}", onerror=refuse):
                folders.sort()
                for name in sorted(names):
                    path = os.path.join(parent, name)
                    with contextlib.suppress(FileNotFoundError):
                        yield Stored(os.path.relpath(path, self.folder), os.lstat(path).st_size)

    def delete(self, name: str) -> None:
        path = f"{self.folder}/{name}"
        with self._telling("remove files from"), contextlib.suppress(FileNotFoundError):
            os.unlink(path)
            sync_folder(os.path.dirname(path))

    @contextlib.contextmanager
    def _telling(self, action: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise
        except OSError as error:
            mend = "free some space there" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "mend it"
            raise DestinationError(
                f"cannot {action} the backup {self.folder}: {error.strerror or error}; {mend} and run it again"
            ) from error


def _name(temporary: str, path: str) -> bool:
    """Give a synced file its name; False where that is taken."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if os.path.lexists(path):
            return False
        os.rename(temporary, path)
    return True

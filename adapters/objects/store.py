"""`core.backup.store.ObjectStore` over fsspec. What a file system's library raises becomes DestinationError."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from session_mgmt_mcp.core.backup.store import BLOCK, Stored
from session_mgmt_mcp.core.errors import DestinationError, InputError

# Where a file is not seen before it was written and closed. Elsewhere it is written aside and renamed.
_WHOLE_PUTS = {"memory", "s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss", "oci"}


class FsspecStore:
    """A folder or prefix on one of fsspec's file systems, by its URL."""

    def __init__(self, url: str) -> None:
        """Raises InputError for a URL no installed library can open, DestinationError where it cannot be reached."""
        import fsspec

        self._url = without_password(url)
        try:
            fs, path = fsspec.core.url_to_fs(url)
        except (ValueError, ImportError) as error:
            raise InputError(f"cannot open {self._url}: {error}") from None
        except Exception as error:
            raise DestinationError(f"cannot reach {self._url}: {error}") from error
        self._fs: Any = fs
        self._base = str(path).rstrip("/")
        protocol = fs.protocol if isinstance(fs.protocol, str) else fs.protocol[0]
        self._puts_whole = protocol in _WHOLE_PUTS

    @property
    def url(self) -> str:
        return self._url

    def put(self, name: str, blocks: Iterable[bytes]) -> bool:
        path = self._path(name)
        with self._telling("look into"):
            if self._fs.exists(path):
                return False
            self._fs.makedirs(self._fs._parent(path), exist_ok=True)
        target = path if self._puts_whole else f"{path}.{os.urandom(6).hex()}.tmp"
        try:
            self._write(target, blocks)
            if target != path:
                with self._telling("write to"):
                    self._fs.mv(target, path)
        except BaseException:
            with contextlib.suppress(Exception):
                self._fs.rm_file(target)
            raise
        return True

    def _write(self, path: str, blocks: Iterable[bytes]) -> None:
        with self._telling("write to"):
            file = self._fs.open(path, "wb")
        try:
            for block in blocks:  # what reading them raises is not this store's doing
                with self._telling("write to"):
                    file.write(block)
        finally:
            with self._telling("write to"):
                file.close()

    def sync(self, names: Iterable[str]) -> None:
        """Nothing to do: a closed file is what these systems promise to keep."""

    def blocks(self, name: str) -> Iterator[bytes]:
        with self._telling("read"):
            file = self._fs.open(self._path(name), "rb", cache_type="readahead", block_size=BLOCK)
        with file:
            while True:
                with self._telling("read"):
                    block = file.read(BLOCK)
                if not block:
                    return
                yield bytes(block)

    def list(self, prefix: str = "") -> Iterator[Stored]:
        path = self._path(prefix).rstrip("/")
        with self._telling("list"):
            self._fs.invalidate_cache()
            try:
                found = self._fs.find(path, detail=True)
            except FileNotFoundError:
                found = {}
        cut = len(self._base.lstrip("/")) + 1
        for name in sorted(found):
            yield Stored(name.lstrip("/")[cut:], int(found[name].get("size") or 0))

    def delete(self, name: str) -> None:
        with self._telling("remove files from"), contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(self._path(name))
            self._fs.invalidate_cache()

    def _path(self, name: str) -> str:
        return f"{self._base}/{name}"

    @contextlib.contextmanager
    def _telling(self, action: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise
        except Exception as error:  # each library has its own
            raise DestinationError(
                f"cannot {action} the backup {self._url}: {type(error).__name__}: {error}; mend it and run it again"
            ) from error


def without_password(url: str) -> str:
    """The URL as it may be shown and kept."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{parts.username}@{host}"))

"""How far live transcripts were read, so that a growing file is read once."""

import contextlib
import hashlib
import os
from pathlib import Path
from typing import BinaryIO

import msgspec

from session_mgmt_mcp.core.errors import DataFolderError

_HEAD_BYTES = 256


class Bookmark(msgspec.Struct, frozen=True):
    """Everything before `offset` was appended, for the file that still looks like this."""

    device: int
    inode: int
    offset: int  # bytes, after a newline
    lines: int  # before the offset
    head: str  # SHA-256 of the first bytes, at most 256 and none beyond the offset


_START = Bookmark(0, 0, 0, 0, "")
_decoder = msgspec.json.Decoder(dict[str, Bookmark])


class Bookmarks:
    """Bookmarks of transcripts by their path, kept in one small JSON file.

    Losing the file, or a part of what it says, costs reading again and nothing else: what is in the log
    already is left out by its id. So a file that cannot be read counts as empty.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._marks: dict[str, Bookmark] = {}
        with contextlib.suppress(OSError, ValueError, msgspec.MsgspecError):
            self._marks = _decoder.decode(path.read_bytes())

    def position(self, path: Path, file: BinaryIO) -> tuple[int, int]:
        """(offset, lines before it) to go on from; (0, 0) for a file that is new or was rewritten."""
        mark = self._marks.get(str(path), _START)
        status = os.fstat(file.fileno())
        same = (mark.device, mark.inode) == (status.st_dev, status.st_ino) and mark.offset <= status.st_size
        return (mark.offset, mark.lines) if same and mark.head == _head(file, mark.offset) else (0, 0)

    def at(self, file: BinaryIO, offset: int, lines: int) -> Bookmark:
        """The bookmark of an open file at an offset."""
        status = os.fstat(file.fileno())
        return Bookmark(status.st_dev, status.st_ino, offset, lines, _head(file, offset))

    def advance(self, marks: dict[Path, Bookmark]) -> None:
        """Take over bookmarks of lines whose append was acknowledged."""
        self._marks.update((str(path), mark) for path, mark in marks.items())

    def save(self) -> None:
        """Write the file anew; transcripts that are gone are dropped. Raises DataFolderError."""
        self._marks = {path: mark for path, mark in self._marks.items() if os.path.exists(path)}
        temporary = self._path.with_name(f"{self._path.name}.{os.getpid()}.tmp")
        try:
            temporary.write_bytes(msgspec.json.encode(self._marks))
            temporary.chmod(0o600)
            temporary.replace(self._path)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise DataFolderError(
                f"{self._path}: cannot be written ({error.strerror or error}); what was read is in the log, "
                "make the folder writable to go on from there"
            ) from error


def _head(file: BinaryIO, offset: int) -> str:
    """Digest of the first bytes; leaves the file where it was."""
    before = file.tell()
    file.seek(0)
    head = file.read(min(_HEAD_BYTES, offset))
    file.seek(before)
    return hashlib.sha256(head).hexdigest()

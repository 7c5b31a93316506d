"""Which files are transcripts, in which order they are read, and whose session a file is."""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from session_mgmt_mcp.core.errors import InputError

_TAIL_BYTES = 64 * 1024
_HEAD_LINES = 50
_TIMESTAMP = re.compile(rb'"timestamp":\s*"([0-9T:.+Z-]{10,40})"')
_UUID = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_SESSION_ID = re.compile(_UUID)
_DATED = re.compile(rf"\d{{4}}-\d{{2}}-\d{{2}}-({_UUID})")


class _WithSession(msgspec.Struct):
    sessionId: Any = None


_with_session = msgspec.json.Decoder(_WithSession)


def find_transcripts(paths: Sequence[Path]) -> list[Path]:
    """Transcript files among `paths`: files as they are, folders with all their `*.jsonl`, each file once.

    Whatever is read first keeps copied history, so files are ordered by the time of the last record in their
    last 64 KiB, then by size, then by path: a resumed session ends after the one it resumes, and holds more.
    Where both were continued, nothing in the files says which is the original. Raises InputError where a path
    is missing or a folder cannot be read.
    """
    found: dict[Path, None] = {}
    for path in paths:
        if path.is_dir():
            found.update(dict.fromkeys(_in_folder(path)))
        elif path.exists():
            found[path.resolve()] = None
        else:
            raise InputError(
                f"{path}: no such file or folder; give the path of a transcript or a folder of them"
            )
    return sorted(found, key=_order)


def _in_folder(folder: Path) -> Iterable[Path]:
    def refuse(error: OSError) -> None:
        raise InputError(f"{error.filename}: cannot be read ({error.strerror}); allow it or leave it out")

    for parent, _, names in os.walk(folder.resolve(), onerror=refuse):
        yield from (Path(parent, name) for name in names if name.endswith(".jsonl"))


def _order(path: Path) -> tuple[bytes, int, str]:
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL_BYTES))
            return max(_TIMESTAMP.findall(file.read(_TAIL_BYTES)), default=b""), size, str(path)
    except OSError:  # reported when the file is read
        return b"", 0, str(path)


def plain_session_id(session: str) -> str:
    """A session id without the date some tools put in front of it."""
    match = _DATED.fullmatch(session)
    return match[1] if match else session


def session_of_file(path: Path) -> str:
    """The session of records that name none.

    The file's name where it is a session id; else the first session id a record of the file names; else, for
    a subagent's file, the folder above `subagents`; else the file's name.
    """
    named = plain_session_id(path.stem)
    if _SESSION_ID.fullmatch(named):
        return named
    parents = path.parts
    above = parents[parents.index("subagents") - 1] if "subagents" in parents[1:] else ""
    return _first_session(path) or above or named


def _first_session(path: Path) -> str:
    with path.open("rb") as file:
        for _ in range(_HEAD_LINES):
            line = file.readline(1 << 20)
            if not line:
                break
            try:
                session = _with_session.decode(line).sessionId
            except (msgspec.MsgspecError, ValueError, RecursionError):
                continue
            if isinstance(session, str) and session:
                return plain_session_id(session)
    return ""

"""Appending what hooks could not (FORMAT.md section 1, `spool/`). Caller holds maintenance.lock."""

import contextlib
import os
import time
from pathlib import Path

import msgspec

from session_mgmt_mcp.core.envelope import Envelope, NewEvent, decode_envelope
from session_mgmt_mcp.core.errors import InputError
from session_mgmt_mcp.core.log.log import FileLog

UNFINISHED_AGE_S = 3_600


def spooled(folder: str) -> list[str]:
    """Paths of the events that wait, oldest first (their names begin with their time)."""
    base = folder + "/spool"
    names = os.listdir(base) if os.path.isdir(base) else []
    return sorted(f"{base}/{name}" for name in names if name.endswith(".event"))


def drain(log: FileLog) -> tuple[int, int]:
    """Append each spooled event under its own id, so that doing it twice stores it once.

    Returns (appended, unreadable); a file that holds no event, or one too large for the log, is kept as `.bad` for
    `status` to show. Raises AppendError, LogCorruptError; what is left is drained the next time.
    """
    _drop_unfinished(log.folder)
    appended = bad = 0
    for path in spooled(log.folder):
        event = _event_of(path)
        try:
            if event is None:
                raise InputError(f"{path} holds no event")
            [receipt] = log.append([event])
        except InputError:
            os.rename(path, path.removesuffix(".event") + ".bad")
            bad += 1
            continue
        os.unlink(path)
        appended += receipt.appended
    return appended, bad


def _drop_unfinished(folder: str) -> None:
    """Remove what hooks were killed over: a file without its final name was reported to nobody as kept."""
    base = folder + "/spool"
    for name in os.listdir(base) if os.path.isdir(base) else []:
        path = f"{base}/{name}"
        with contextlib.suppress(FileNotFoundError):
            if name.endswith(".tmp") and time.time() - os.path.getmtime(path) > UNFINISHED_AGE_S:
                os.unlink(path)


def _event_of(path: str) -> NewEvent | None:
    raw = Path(path).read_bytes()
    size = int.from_bytes(raw[:4], "little")
    envelope = _decode(raw[4 : 4 + size]) if len(raw) >= 4 + size else None
    event_id = _id_of(path)
    if envelope is None or event_id is None:
        return None
    return NewEvent(event_id, envelope, raw[4 + size :])


def _id_of(path: str) -> bytes | None:
    name = os.path.basename(path).removesuffix(".event")
    try:
        return bytes.fromhex(name) if len(name) == 32 else None
    except ValueError:
        return None


def _decode(raw: bytes) -> Envelope | None:
    try:
        return decode_envelope(raw)
    except msgspec.MsgspecError:
        return None

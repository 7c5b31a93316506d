"""Appending what hooks could not (FORMAT.md section 1, `spool/`). Caller holds maintenance.lock."""

import os
from pathlib import Path

import msgspec

from session_mgmt_mcp.core.envelope import Envelope, NewEvent, decode_envelope
from session_mgmt_mcp.core.log.log import FileLog


def spooled(folder: str) -> list[str]:
    """Paths of the events that wait, oldest first (their names begin with their time)."""
    base = folder + "/spool"
    return sorted(f"{base}/{name}" for name in os.listdir(base) if name.endswith(".event"))


def drain(log: FileLog) -> tuple[int, int]:
    """Append each spooled event under its own id, so that doing it twice stores it once.

    Returns (appended, unreadable); an unreadable file is kept as `.bad` for `status` to show.
    """
    appended = bad = 0
    for path in spooled(log.folder):
        raw = Path(path).read_bytes()
        size = int.from_bytes(raw[:4], "little")
        envelope = _decode(raw[4 : 4 + size]) if len(raw) >= 4 + size else None
        event_id = _id_of(path)
        if envelope is None or event_id is None:
            os.rename(path, path.removesuffix(".event") + ".bad")
            bad += 1
            continue
        log.append([NewEvent(event_id, envelope, raw[4 + size :])])
        os.unlink(path)
        appended += 1
    return appended, bad


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

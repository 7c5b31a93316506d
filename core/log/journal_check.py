"""Checking journals by themselves, as of one moment between two appends (FORMAT.md sections 3 and 4, Verify)."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from session_mgmt_mcp.core.errors import LockTimeoutError, LogCorruptError
from session_mgmt_mcp.core.log.columns import journal_table
from session_mgmt_mcp.core.log.frame import HEADER, Frame, JournalHeader, decode_header, says_damaged, scan
from session_mgmt_mcp.core.log.journals import list_journals

LOCK_TIMEOUT_S = 30.0
_MEND = "restore it from a backup"


class Span(NamedTuple):
    """A journal that checks in itself."""

    path: str
    first: int
    last: int  # position; first - 1 where it holds nothing
    before: bytes  # chain
    after: bytes


def check_journal(
    first: int, path: str, raw: bytes, log_id: str, newest: bool
) -> tuple[Span, pa.Table | None]:
    """Every byte of a journal (`raw`, the whole file): header, frames, leaves, chain and the zeros after the end.

    Where it lies, and its events, None where it holds none. Raises LogCorruptError.
    """
    header = decode_header(raw[: HEADER.size], path)
    if header.first != first or header.log_id.hex() != log_id:
        raise LogCorruptError(f"{path}: its header is of another position or log; {_MEND}")
    data = memoryview(raw)
    frames = scan(data[HEADER.size :], HEADER.size, header, first)
    _check_end(path, raw, header, frames, newest)
    held = [frame for frame in frames if frame.count]
    table, after = journal_table(path, header, data, held) if held else (None, header.chain)
    if frames and frames[-1].chain != after:
        raise LogCorruptError(f"{path}: the chain breaks at its closing frame; {_MEND}")
    last = sum(frame.count for frame in held) + first - 1
    return Span(path, first, last, header.chain, after), table


def _check_end(path: str, raw: bytes, header: JournalHeader, frames: list[Frame], newest: bool) -> None:
    """Raise where anything but zeros follows the last frame, or a closed journal has no closing frame."""
    end = frames[-1].end if frames else HEADER.size
    position = frames[-1].first + frames[-1].count if frames else header.first
    closed = bool(frames) and frames[-1].count == 0
    used = len(raw.rstrip(b"\0"))
    if used > end:
        if closed or not newest or says_damaged(raw[end:], end, header):
            raise LogCorruptError(f"{path} is damaged at byte {end} (position {position}); {_MEND}")
        raise LogCorruptError(
            f"{path}: {used - end} bytes after the last whole frame, at byte {end} (position {position}), are no frame: "
            "an append that broke off and was never acknowledged, or damage to the newest events; the next append "
            "moves them to quarantine/"
        )
    if not newest and not closed:
        raise LogCorruptError(
            f"{path} is damaged at byte {end} (position {position}): it breaks off before its closing frame; {_MEND}"
        )


def tail(folder: str) -> tuple[list[tuple[int, str]], bytes]:
    """The journals, and the whole of the newest one, as of one moment between two appends."""
    with _append_lock(folder):
        journals = list_journals(folder)
        return journals, Path(journals[-1][1]).read_bytes() if journals else b""


@contextlib.contextmanager
def _append_lock(folder: str) -> Iterator[None]:
    """Hold append.lock; nothing where there is none, since then nobody has appended here."""
    path = f"{folder}/append.lock"
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield
        return
    try:
        deadline, pause = time.monotonic() + LOCK_TIMEOUT_S, 0.0002
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise LockTimeoutError(
                        f"{path} was held by another process for {LOCK_TIMEOUT_S:g} s; "
                        "end that process or let it go on, then verify again"
                    ) from None
            time.sleep(pause)
            pause = min(pause * 1.5, 0.005)
        yield
    finally:
        os.close(fd)

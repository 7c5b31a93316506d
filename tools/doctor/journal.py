"""The hot tail: its open journal, the hint beside it, closed journals that wait, how old what is not sealed is."""

import contextlib
import fcntl
import os
import struct
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple
from zlib import crc32

from session_mgmt_mcp.core.envelope import Envelope, Source, decode_envelope
from session_mgmt_mcp.core.log.durable import boot_id
from session_mgmt_mcp.core.log.frame import (
    HEADER,
    Frame,
    JournalHeader,
    decode_header,
    entries_of,
    says_damaged,
    scan,
)
from session_mgmt_mcp.core.log.journals import list_journals
from session_mgmt_mcp.tools.doctor.finding import Finding, Fix, Patient, Severity, age_of, age_text, names_in

CHECK = "journal"
LOCK_WAIT_S = 0.25
WAITING_MAX = 2
UNSEALED_LONG_US = 7 * 86_400_000_000
_PAUSE_S = 0.005
_HINT = struct.Struct(
    "<8s16sQ16sQQ32s"
)  # magic, boot, inode, salt, end, next position, chain; then its crc32
_SALT_BYTES = 16


class Tail(NamedTuple):
    """The open journal as it was for one moment under the append lock (`locked`), or without where it was busy."""

    path: str
    raw: bytes
    inode: int
    hint: bytes
    poison: bytes  # salt of the last journal whose sync failed
    locked: bool


def check_journal(patient: Patient, sealed_last: int) -> Iterator[Finding]:
    """What is wrong with the journals; `sealed_last`: the last position in a segment. Raises LogCorruptError."""
    journals = list_journals(patient.folder)
    for name in names_in(patient.path("journal")):
        if name.endswith(".tmp") and age_of(patient.path("journal", name)) > LOCK_WAIT_S:
            what = "an interrupted roll left it"
            path = patient.path("journal", name)
            yield Finding(
                CHECK, Severity.WARNING, what, path, "the next append that looks removes it", Fix.TAIL
            )
    if not journals:
        if sealed_last:
            what = f"there is no journal after position {sealed_last}: what was not sealed is gone"
            mend = "restore from a backup, if more was appended; the next append starts a new one"
            yield Finding(CHECK, Severity.WARNING, what, patient.path("journal"), mend, Fix.TAIL)
        return
    tail = read_tail(patient.folder, journals[-1][1])
    if _is_blank(tail.raw):
        what = "its header never reached the disk; nothing in it was acknowledged"
        yield Finding(CHECK, Severity.WARNING, what, tail.path, "the next append makes it anew", Fix.TAIL)
        journals = journals[:-1]
    else:
        yield from _check_open(patient, tail)
    yield from _check_closed(patient, journals, sealed_last)


def read_tail(folder: str, path: str) -> Tail:
    """The open journal and what belongs to it, read while no append is going on."""
    with _append_lock(folder) as locked:
        with open(path, "rb") as file:
            raw, inode = file.read(), os.fstat(file.fileno()).st_ino
        return Tail(
            path, raw, inode, _bytes_of(f"{folder}/tail.shm"), _bytes_of(f"{folder}/append.lock"), locked
        )


@contextlib.contextmanager
def _append_lock(folder: str) -> Iterator[bool]:
    """Hold the append lock for a moment, if it can be had; it is not made and nothing is recovered."""
    try:
        fd = os.open(f"{folder}/append.lock", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield True  # nobody ever appended, or somebody is about to make it
        return
    try:
        deadline, locked = time.monotonic() + LOCK_WAIT_S, False
        while not locked:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                locked = True
            except BlockingIOError:
                if time.monotonic() > deadline:
                    break
                time.sleep(_PAUSE_S)
        yield locked
    finally:
        os.close(fd)


def _bytes_of(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(_HINT.size + 4)
    except OSError:
        return b""


def _is_blank(raw: bytes) -> bool:
    """Whether the header does not check and nothing follows it."""
    checks = crc32(raw[: HEADER.size - 4]) == int.from_bytes(raw[HEADER.size - 4 : HEADER.size], "little")
    return not checks and not raw[HEADER.size :].strip(b"\0")


def _check_open(patient: Patient, tail: Tail) -> Iterator[Finding]:
    header = decode_header(tail.raw[: HEADER.size], tail.path)
    if header.log_id.hex() != patient.form.log_id:
        what = f"it is of log {header.log_id.hex()}, the folder of log {patient.form.log_id}"
        yield Finding(CHECK, Severity.ERROR, what, tail.path, "move it out of the data folder", exit_code=4)
        return
    frames = scan(memoryview(tail.raw)[HEADER.size :], HEADER.size, header, header.first)
    end = frames[-1].end if frames else HEADER.size
    closed = bool(frames) and frames[-1].count == 0
    position = header.first + sum(frame.count for frame in frames)
    if tail.poison[:_SALT_BYTES] == header.salt:
        what = "a sync of it failed: the disk may have lost what was not acknowledged"
        mend = "the next append goes on in a new file; see the system's log for the disk's state"
        yield Finding(CHECK, Severity.WARNING, what, tail.path, mend, Fix.TAIL)
    if closed:
        what = "it is closed and no other follows: a roll was interrupted"
        yield Finding(CHECK, Severity.WARNING, what, tail.path, "the next append goes on", Fix.TAIL)
    elif tail.raw[end:].strip(b"\0"):
        yield _broken_off(tail, header, end, position)
        return
    yield from _check_hint(tail, header, end, position)


def _broken_off(tail: Tail, header: JournalHeader, end: int, position: int) -> Finding:
    if not tail.locked:
        what = f"bytes follow the last whole event at byte {end}: somebody is writing now"
        return Finding(CHECK, Severity.NOTE, what, tail.path, "run doctor again")
    if says_damaged(tail.raw[end:], end, header):
        what = f"it is damaged at byte {end} (position {position}), and that was on disk once"
        return Finding(CHECK, Severity.ERROR, what, tail.path, "restore it from a backup", exit_code=4)
    what = f"a write was torn at byte {end} (position {position}): it was never acknowledged"
    return Finding(
        CHECK, Severity.WARNING, what, tail.path, "the next append moves it to quarantine/", Fix.TAIL
    )


def _check_hint(tail: Tail, header: JournalHeader, end: int, position: int) -> Iterator[Finding]:
    """tail.shm may be missing, old or wrong at any time; the next append sees that and scans."""
    where = os.path.join(os.path.dirname(os.path.dirname(tail.path)), "tail.shm")
    mend = "nothing: the next append reads the journal instead"
    if len(tail.hint) < _HINT.size + 4 or not tail.hint.strip(b"\0"):
        if position > header.first:
            yield Finding(CHECK, Severity.NOTE, "the hint where the journal ends is missing", where, mend)
        return
    _, boot, inode, salt, hinted_end, hinted_next, _ = _HINT.unpack_from(tail.hint)
    if crc32(tail.hint[: _HINT.size]) != int.from_bytes(tail.hint[_HINT.size :], "little"):
        yield Finding(CHECK, Severity.NOTE, "the hint where the journal ends does not check", where, mend)
    elif boot != boot_id():
        yield Finding(CHECK, Severity.NOTE, "nothing was appended since the machine started", where, mend)
    elif (inode, salt) != (tail.inode, header.salt):
        yield Finding(CHECK, Severity.NOTE, "the hint is of another journal", where, mend)
    elif tail.locked and (hinted_end, hinted_next) != (end, position):
        what = f"the hint says byte {hinted_end}, the journal ends at {end}"
        yield Finding(CHECK, Severity.WARNING, what, where, "the next append mends it", Fix.TAIL)


def _check_closed(patient: Patient, journals: list[tuple[int, str]], sealed_last: int) -> Iterator[Finding]:
    where = patient.path("journal")
    waiting = [path for (_, path), (following, _) in pairwise(journals) if following - 1 > sealed_last]
    if journals and len(journals) - 1 > len(waiting):
        what = "journals that are sealed already are still there: a seal was interrupted"
        yield Finding(CHECK, Severity.WARNING, what, where, "`maintain` finishes it", Fix.MAINTAIN)
    if len(waiting) >= WAITING_MAX:
        what = f"{len(waiting)} closed journals wait to be sealed: maintenance does not run"
        yield Finding(CHECK, Severity.WARNING, what, where, "`maintain` seals them", Fix.MAINTAIN)
    oldest = oldest_unsealed(journals, sealed_last)
    if oldest is not None and patient.now_us - oldest > UNSEALED_LONG_US:
        what = f"the oldest event that is not sealed is {age_text(patient.now_us - oldest)} old"
        yield Finding(CHECK, Severity.WARNING, what, where, "`maintain` seals it", Fix.MAINTAIN)


def oldest_unsealed(journals: list[tuple[int, str]], sealed_last: int) -> int | None:
    """When the first event beyond the segments was recorded (µs), None where all is sealed."""
    for (_, path), (following, _) in pairwise([*journals, (1 << 62, "")]):
        if following - 1 > sealed_last:
            for envelope in envelopes_of(path):
                return envelope.recorded_at
    return None


def envelopes_of(path: str) -> Iterator[Envelope]:
    """The envelopes of a journal, in order, as far as it checks; nothing of one that is gone."""
    try:
        with open(path, "rb") as file:
            raw = file.read()
    except FileNotFoundError:
        return
    header = decode_header(raw[: HEADER.size], path)
    data = memoryview(raw)
    for frame in scan(data[HEADER.size :], HEADER.size, header, header.first):
        yield from _envelopes(frame, data)


def _envelopes(frame: Frame, data: memoryview) -> Iterator[Envelope]:
    for _, _, envelope, _ in entries_of(frame, data, 0) if frame.count else ():
        yield decode_envelope(envelope)


class Latest(NamedTuple):
    """When the last event, and the last of a hook, was recorded (µs); 0 where there is none."""

    event_us: int = 0
    hook_us: int = 0


def latest_in_journals(folder: str) -> Latest:
    """Of what the journals hold; the newest journal first."""
    event_us = hook_us = 0
    for _, path in reversed(list_journals(folder)):
        for envelope in envelopes_of(path):
            event_us = max(event_us, envelope.recorded_at)
            if envelope.source == Source.HOOK:
                hook_us = max(hook_us, envelope.recorded_at)
        if hook_us:
            break
    return Latest(event_us, hook_us)

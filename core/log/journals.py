"""The seldom parts of the journal protocol, all under the append lock: locate, recover, roll, leave a poisoned file
(FORMAT.md section 3). Loaded by an appender when it needs them, so nothing heavy is imported here either.
"""

import fcntl
import os

from session_mgmt_mcp.core.errors import LogCorruptError
from session_mgmt_mcp.core.log.durable import (
    preallocate,
    sha256,
    sync_file,
    sync_folder,
    write_at,
    write_new,
)
from session_mgmt_mcp.core.log.frame import (
    FRAME,
    HEADER,
    JOURNAL_MIB,
    MIB,
    Frame,
    JournalHeader,
    decode_header,
    encode_frame,
    entries_of,
    says_damaged,
    scan,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from session_mgmt_mcp.core.log.appender import Appender

SUFFIX = ".journal"


def journal_name(first: int) -> str:
    return f"{first:020d}{SUFFIX}"


def list_journals(folder: str) -> "list[tuple[int, str]]":
    """(first position, path) of each journal, in order."""
    base = folder + "/journal"
    names = sorted(n for n in os.listdir(base) if n.endswith(SUFFIX) and len(n) == 28 and n[:20].isdecimal())
    return [(int(n[: -len(SUFFIX)]), f"{base}/{n}") for n in names]


def first_chain(origin: str) -> bytes:
    """The chain before position 1, by the log's origin (of FORMAT.json)."""
    return sha256(b"session-mgmt-mcp" + bytes.fromhex(origin)).digest()


def locate(app: "Appender") -> None:
    """Find the log's true end when tail.shm could not be believed; mends what a crash or a failed sync left."""
    app.open_shm()
    _open_highest(app)
    if app.poisoned():
        _leave_poisoned(app)
        return
    state = app.load_state()
    if state is not None and state[0] == app.header.salt and HEADER.size <= state[1] <= app.header.capacity:
        app.end, app.next, app.chain = state[1:4]
        if os.pread(app.fd, 8, app.end) == bytes(8):
            return
    else:
        app.end, app.next, app.chain = HEADER.size, app.header.first, app.header.chain
    recover(app)


def recover(app: "Appender") -> None:
    """Scan from the trusted end to the true one; quarantine a torn tail; go on in a new journal if this one is closed."""
    rest = os.pread(app.fd, app.header.capacity - app.end, app.end)
    base = app.end
    frames = scan(memoryview(rest), base, app.header, app.next)
    closed = bool(frames) and frames[-1].count == 0
    for frame in frames:
        app.end, app.next, app.chain = frame.end, frame.first + frame.count, frame.chain
    if not closed and rest[app.end - base :].strip(b"\0"):
        _cut_torn_tail(app, rest[app.end - base :])
    app.sync_or_poison()  # frames of dead writers become durable before anything is stacked on them
    app.store_durable(app.header.salt, app.end)  # what stood there may be of another boot, and claim too much
    sync_folder(app.folder + "/journal")
    app.scanned = True
    if closed:
        _start_journal(app, JOURNAL_MIB * MIB)
    else:
        app.store_state()


def roll(app: "Appender", frame_bytes: int = 0) -> None:
    """Close the open journal and start the next, large enough for a frame of that size."""
    app.sync_or_poison()
    write_at(app.fd, encode_frame(app.header, app.end, app.next, app.end, app.chain, []), app.end)
    app.sync_or_poison()
    needed = HEADER.size + frame_bytes + FRAME.size
    _start_journal(app, max(JOURNAL_MIB * MIB, -(-needed // MIB) * MIB))


def _open_highest(app: "Appender") -> None:
    """Open the journal with the highest position; make the first one of a new log."""
    base = app.folder + "/journal"
    for name in os.listdir(base):
        if name.endswith(".tmp"):
            os.unlink(f"{base}/{name}")
    for tried, (first, path) in enumerate(reversed(list_journals(app.folder))):
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            header = decode_header(os.pread(fd, HEADER.size, 0), path)
        except LogCorruptError:
            empty = not _has_bytes(fd, HEADER.size)
            os.close(fd)
            if tried or not empty:
                raise
            os.unlink(path)  # its header never reached the disk whole: nothing in it was acknowledged
            continue
        except BaseException:
            os.close(fd)
            raise
        if header.first != first:
            os.close(fd)
            raise LogCorruptError(f"{path}: its header says position {header.first}; rename it back")
        _take(app, fd, header)
        return
    from session_mgmt_mcp.core.log.folder import read_format, sync_names  # only for a log without a journal

    log = read_format(app.folder)
    sync_names(app.folder)  # who made the data folder may have died before its name was durable
    first, chain = _after_manifest(app.folder, log.origin)
    app.next, app.chain = first, chain
    app.header = JournalHeader(0, bytes.fromhex(log.log_id), bytes(16), first, chain)
    _start_journal(app, JOURNAL_MIB * MIB)


def _has_bytes(fd: int, offset: int) -> bool:
    """Whether anything but zeros stands from `offset` on."""
    while block := os.pread(fd, MIB, offset):
        if block.strip(b"\0"):
            return True
        offset += len(block)
    return False


def _after_manifest(folder: str, origin: str) -> "tuple[int, bytes]":
    """Where a log without a journal goes on: after its sealed segments."""
    if not os.listdir(folder + "/manifest"):
        return 1, first_chain(origin)
    from session_mgmt_mcp.core.log.manifest import load_manifest  # needs json; only where journals were lost

    manifest = load_manifest(folder)
    return manifest.last + 1, manifest.chain or first_chain(origin)


def _take(app: "Appender", fd: int, header: JournalHeader) -> None:
    if app.fd >= 0:
        os.close(app.fd)
    app.fd, app.header, app.inode = fd, header, os.fstat(fd).st_ino


def _start_journal(app: "Appender", capacity: int) -> None:
    """Make the journal that begins at `app.next`, durably, and take it."""
    header = JournalHeader(capacity, app.header.log_id, _new_salt(), app.next, app.chain)
    path = f"{app.folder}/journal/{journal_name(app.next)}"
    _publish(app, path, header, [])
    app.end = HEADER.size
    app.store_state()


def _new_salt() -> bytes:
    salt = bytearray(os.urandom(16))
    salt[0] |= 1
    return bytes(salt)


def _publish(app: "Appender", path: str, header: JournalHeader, frames: "list[bytes]") -> None:
    """Put a new journal under its name, durably, and take it."""
    fd = _write_journal(path, header, frames)
    try:
        os.rename(path + ".tmp", path)
        sync_folder(app.folder + "/journal")
    except BaseException:
        os.close(fd)
        raise
    _take(app, fd, header)


def _write_journal(path: str, header: JournalHeader, frames: "list[bytes]") -> int:
    """Write `path`.tmp with these frames and sync it; the open file."""
    fd = os.open(path + ".tmp", os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        preallocate(fd, header.capacity)
        write_at(fd, header.encode() + b"".join(frames), 0)
        sync_file(fd)
    except BaseException:
        os.close(fd)
        os.unlink(path + ".tmp")
        raise
    return fd


def _cut_torn_tail(app: "Appender", rest: bytes) -> None:
    """Quarantine and zero what lies after the last good frame; refuse where bytes that were on disk are damaged."""
    _refuse_damage(app, rest)
    torn = rest.rstrip(b"\0")
    name = f"{app.header.first:020d}-{app.end}-{os.urandom(4).hex()}.torn"
    write_new(f"{app.folder}/quarantine/{name}", torn)
    sync_folder(app.folder + "/quarantine")
    write_at(app.fd, bytes(len(torn)), app.end)


def _refuse_damage(app: "Appender", rest: bytes) -> None:
    """Raise LogCorruptError where what begins at `app.end` was on disk once and no longer checks."""
    if says_damaged(rest, app.end, app.header):
        path = f"{app.folder}/journal/{journal_name(app.header.first)}"
        raise LogCorruptError(
            f"{path} is damaged at byte {app.end} (position {app.next}), but a later frame says this was on disk; "
            "nothing was changed: restore it from a backup"
        )


def _leave_poisoned(app: "Appender") -> None:
    """Copy the valid frames of a journal whose sync failed into a new file under the same name."""
    old_fd, old = app.fd, app.header
    data = memoryview(os.pread(old_fd, old.capacity, 0))
    frames = scan(data[HEADER.size :], HEADER.size, old, old.first)
    kept = [f for f in frames if f.count]
    last = kept[-1] if kept else None
    app.end = last.end if last else HEADER.size
    app.next, app.chain = (last.first + last.count, last.chain) if last else (old.first, old.chain)
    if len(kept) == len(frames):
        _refuse_damage(app, bytes(data[app.end :]))
    header = JournalHeader(old.capacity, old.log_id, _new_salt(), old.first, old.chain)
    raw, end = _recode(kept, data, header)
    closing = encode_frame(old, app.end, app.next, 0, app.chain, [])
    others = os.dup(old_fd)
    try:
        _publish(app, f"{app.folder}/journal/{journal_name(old.first)}", header, raw)
        write_at(others, closing, app.end)  # those that still have the old file open must notice
    finally:
        os.close(others)
    app.end = end
    app.store_state()


def _recode(frames: "list[Frame]", data: memoryview, header: JournalHeader) -> "tuple[list[bytes], int]":
    """The same frames for another journal: new crcs, same content and chain; and the offset after the last."""
    out, at = [], HEADER.size
    for frame in frames:
        out.append(
            encode_frame(header, at, frame.first, HEADER.size, frame.chain, entries_of(frame, data, 0))
        )
        at += len(out[-1])
    return out, at


def try_lock(path: str) -> "int | None":
    """An exclusive lock on a file, or None where somebody holds it. Closing the descriptor releases it."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd

"""The seldom parts of the journal protocol, all under the append lock: locate, recover, roll, leave a poisoned file
(FORMAT.md section 3). Loaded by an appender when it needs them, so nothing heavy is imported here either.
"""

import fcntl
import time

from session_mgmt_mcp.core.log.durable import (
    os,
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
    ZEROS_BYTES,
    Frame,
    JournalHeader,
    decode_header,
    encode_frame,
    entries_of,
    frame_at,
    says_damaged,
    scan,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from session_mgmt_mcp.core.log.appender import Appender

SUFFIX = ".journal"
LOCK_PAUSES_S = (20e-6, 0.005)  # the shortest and the longest


def journal_name(first: int) -> str:
    return f"{first:020d}{SUFFIX}"


def list_journals(folder: str) -> "list[tuple[int, str]]":
    """(first position, path) of each journal, in order. Raises LogCorruptError where their folder is gone."""
    base = folder + "/journal"
    try:
        found = os.listdir(base)
    except FileNotFoundError:
        if not os.access(folder, os.F_OK):
            raise
        from session_mgmt_mcp.core.errors import LogCorruptError  # here and below: 1 ms, where all is well

        raise LogCorruptError(
            f"{base} is missing, and with it what was not sealed yet: restore it from a backup, "
            "or make that folder, empty, to go on with what is sealed"
        ) from None
    names = sorted(n for n in found if n.endswith(SUFFIX) and len(n) == 28 and n[:20].isdecimal())
    return [(int(n[: -len(SUFFIX)]), f"{base}/{n}") for n in names]


def first_chain(origin: str) -> bytes:
    """The chain before position 1, by the log's origin (of FORMAT.json)."""
    return sha256(b"session-mgmt-mcp" + bytes.fromhex(origin)).digest()


def poisoned_salt(folder: str) -> bytes:
    """The salt of the last journal of which a sync failed: the first bytes of append.lock; empty where it is not there."""
    try:
        fd = os.open(folder + "/append.lock", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return b""
    try:
        return os.pread(fd, 16, 0)
    finally:
        os.close(fd)


def wait_for_lock(app: "Appender", timeout_s: float) -> None:
    """Take the append lock. Raises LockTimeoutError.

    Asked for again after an eighth of the time waited so far: most holders are done within 50 µs, a roll takes ms.
    """
    began = time.monotonic()
    waited = 0.0
    while True:
        time.sleep(min(max(waited / 8, LOCK_PAUSES_S[0]), LOCK_PAUSES_S[1]))
        try:
            fcntl.flock(app.lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            waited = time.monotonic() - began
            if waited > timeout_s:
                from session_mgmt_mcp.core.errors import LockTimeoutError

                raise LockTimeoutError(
                    f"{app.folder}/append.lock was held by another process for {timeout_s:g} s"
                ) from None


def locate(app: "Appender") -> None:
    """Find the log's true end when tail.shm could not be believed; mends what a crash or a failed sync left."""
    app.open_shm()
    _open_highest(app)
    if app.poisoned():
        _leave_poisoned(app)
        return
    state = app.load_state()
    if state is not None and HEADER.size <= state[0] <= app.header.capacity:
        app.end, app.next, app.chain = state
        if os.pread(app.fd, 8, app.end) == bytes(8) and _reads_back(app):
            return
    recover(app)


def _reads_back(app: "Appender") -> bool:
    """Whether what others wrote and may not have synced is there; it is written again, see `_write_again`."""
    base = app.durable_upto()
    if base == app.end:
        return True
    data = memoryview(os.pread(app.fd, app.end - base, base))
    begin = frame_at(data, 0, base, app.header)
    frames = scan(data, base, app.header, begin.first) if begin is not None else []
    last = frames[-1] if frames else None
    if last is None or (last.end, last.first + last.count, last.chain) != (app.end, app.next, app.chain):
        return False
    _write_again(app, base, frames)
    return True


def _write_again(app: "Appender", base: int, frames: "list[Frame]") -> None:
    """Hand what is not known to be on disk to the system once more; `base`: an offset that is.

    After a failed sync its pages count as written, though they are not. Only files that were open then are told, and who
    was told may have died before it could poison the journal: so the next sync has to write these pages itself.
    """
    known = max([base, *(f.durable_upto for f in frames)])
    if known < app.end:
        write_at(app.fd, os.pread(app.fd, app.end - known, known), known)


def recover(app: "Appender") -> None:
    """Scan the open journal to its true end; quarantine a torn tail; go on in a new journal if this one is closed."""
    base, state = HEADER.size, app.load_state()
    known = app.durable_upto() if state is not None else base
    app.end, app.next, app.chain = base, app.header.first, app.header.chain
    rest = os.pread(app.fd, app.header.capacity - base, base)
    frames = scan(memoryview(rest), base, app.header, app.next)
    closed = bool(frames) and frames[-1].count == 0
    for frame in frames[-1:]:
        app.end, app.next, app.chain = frame.end, frame.first + frame.count, frame.chain
    if state is not None and app.end < state[0]:
        app.poison()  # what was written since the last boot does not read back: its sync failed
        _leave_poisoned(app)
        return
    if not closed and not _is_zero(rest, app.end - base):
        _cut_torn_tail(app, rest[app.end - base :])
    _write_again(app, known, frames)
    app.sync_or_poison()  # frames of dead writers become durable before anything is stacked on them
    app.scanned = True
    sync_folder(app.folder + "/journal")
    if closed:
        _start_journal(app, JOURNAL_MIB * MIB)
        return
    app.store_durable()  # what stood there may be of another boot, and claim too much
    app.store_state()


def _is_zero(data: bytes, at: int) -> bool:
    """Whether nothing but zeros stands in `data` from `at` on."""
    zeros = bytes(MIB)
    return all(data[k : k + MIB] == zeros[: len(data) - k] for k in range(at, len(data), MIB))


def roll(app: "Appender", frame_bytes: int = 0) -> None:
    """Close the open journal and start the next, large enough for a frame of that size."""
    app.sync_or_poison()
    write_at(app.fd, encode_frame(app.header, app.end, app.next, app.end, app.chain, []), app.end)
    app.sync_or_poison()
    needed = HEADER.size + frame_bytes + FRAME.size
    _start_journal(app, max(JOURNAL_MIB * MIB, -(-needed // MIB) * MIB))


def _open_highest(app: "Appender") -> None:
    """Open the journal with the highest position; make the first one of a new log."""
    journals = list_journals(app.folder)
    base = app.folder + "/journal"
    for name in os.listdir(base):
        if name.endswith(".tmp"):
            os.unlink(f"{base}/{name}")
    for tried, (first, path) in enumerate(reversed(journals)):
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            header = decode_header(os.pread(fd, HEADER.size, 0), path)
        except BaseException as error:
            unfinished = not tried and _is_unfinished(fd, error)
            os.close(fd)
            if not unfinished:
                raise
            os.unlink(path)  # its header never reached the disk whole: nothing in it was acknowledged
            continue
        if header.first != first:
            os.close(fd)
            from session_mgmt_mcp.core.errors import LogCorruptError

            raise LogCorruptError(f"{path}: its header says position {header.first}; rename it back")
        app.take(fd, header)
        return
    from session_mgmt_mcp.core.log.folder import read_format, sync_names  # only for a log without a journal

    log = read_format(app.folder)
    sync_names(app.folder)  # who made the data folder may have died before its name was durable
    first, chain = _after_manifest(app.folder, log.origin)
    app.next, app.chain = first, chain
    app.header = JournalHeader(0, bytes.fromhex(log.log_id), bytes(16), first, chain)
    _start_journal(app, JOURNAL_MIB * MIB)


def _is_unfinished(fd: int, error: BaseException) -> bool:
    """Whether a journal whose header fails to check so holds nothing behind it."""
    from session_mgmt_mcp.core.errors import LogCorruptError

    return isinstance(error, LogCorruptError) and _is_zero(os.pread(fd, os.fstat(fd).st_size, 0), HEADER.size)


def _after_manifest(folder: str, origin: str) -> "tuple[int, bytes]":
    """Where a log without a journal goes on: after its sealed segments."""
    if not os.listdir(folder + "/manifest"):
        return 1, first_chain(origin)
    from session_mgmt_mcp.core.log.manifest import load_manifest  # needs json; only where journals were lost

    manifest = load_manifest(folder)
    return manifest.last + 1, manifest.chain or first_chain(origin)


def _start_journal(app: "Appender", capacity: int) -> None:
    """Make the journal that begins at `app.next`, durably, and take it."""
    header = JournalHeader(capacity, app.header.log_id, _new_salt(), app.next, app.chain)
    path = f"{app.folder}/journal/{journal_name(app.next)}"
    _publish(app, path, header, [])
    app.end = HEADER.size
    app.store_durable()
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
    app.take(fd, header)


def _write_journal(path: str, header: JournalHeader, frames: "list[bytes]") -> int:
    """Write `path`.tmp with these frames and sync it; the open file."""
    fd = os.open(path + ".tmp", os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        preallocate(fd, header.capacity)
        raw = header.encode() + b"".join(frames)
        zeros = bytes(max(min(ZEROS_BYTES, header.capacity) - len(raw), 0))  # see `zeros_ahead`
        write_at(fd, raw + zeros, 0)
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
        from session_mgmt_mcp.core.errors import LogCorruptError

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
    app.store_durable()
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

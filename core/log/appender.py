"""Appending to the journal: the one writer that hooks and servers share (FORMAT.md section 3).

Imports only what a bare interpreter has at hand; what is seldom needed (recovery, roll) is in `journals` and loaded then.
"""

import errno
import fcntl
import mmap
import struct
from _thread import allocate_lock
from zlib import crc32

from session_mgmt_mcp.core.log.durable import boot_id, os, sha256, sync_file
from session_mgmt_mcp.core.log.frame import (
    FORMAT_PREFIX,
    FRAME,
    FRAME_BYTES_MAX,
    HEADER,
    ZERO8,
    JournalHeader,
    encode_body,
    frame_of,
    zeros_ahead,
)

TYPE_CHECKING = False  # a hook does not pay for typing
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeVar

    from session_mgmt_mcp.core.errors import AppendError

    T = TypeVar("T")
    Entry = tuple[bytes, bytes, bytes]  # event id, envelope, payload
    Hashed = tuple[bytes, bytes, bytes, bytes, bytes]  # and the salted hash of the payload
    Find = Callable[["Appender", list[bytes]], dict[bytes, int]]

SHM_BYTES = 4096
FLAG_BYTES = 32  # of append.lock: the salt of a journal whose sync failed; the rest is free
_JOURNAL = struct.Struct("<8s16sQ16s")  # of which journal tail.shm speaks: magic, boot, inode, salt
_END = struct.Struct("<QQ32s")  # end, next position, chain
_STATE_BYTES = _JOURNAL.size + _END.size  # and a crc
_STATE_MAGIC = b"SMTAIL01"
_NO_BOOT = bytes(16)
_LEAF = struct.Struct("<BQ16s32s")  # how a leaf's bytes begin: 0, position, event id, payload hash
_DURABLE = 576  # salt, offset, crc
_DURABLE_STATE = struct.Struct("<16sQI")
_DURABLE_END = _DURABLE + _DURABLE_STATE.size
LOCK_TIMEOUT_S = 30.0


class Appender:
    """Appends frames to the journal of one data folder; safe with other processes, threads and forks.

    Raises from every method: AppendError where nothing was acknowledged, LogCorruptError, DataFolderError.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.rolled = False  # set when an append started a new journal: maintenance is due
        self.header: JournalHeader  # of the open journal
        self.end = 0  # file offset of the logical end
        self.next = 0  # position of the next event
        self.chain = b""
        self.scanned = False  # whether this process has read the tail itself
        self.boot = boot_id()
        self._journal = b""  # how tail.shm begins where it speaks of the open journal
        self._thread_lock = allocate_lock()
        self._sync_lock = allocate_lock()
        self._count_lock = allocate_lock()
        self._syncing = 0  # appends of this process that are past the append lock and use its files
        self._unused: list[int] = []  # files to close when none of them is left
        self._owner = os.getpid()
        self._opened = False
        self.lock_fd = self.fd = -1
        self.shm: mmap.mmap  # tail.shm
        self.flag: mmap.mmap  # append.lock, which nobody ever replaces

    def append(
        self, entries: "Sequence[Entry]", find: "Find | None" = None, timeout_s: float = LOCK_TIMEOUT_S
    ) -> "list[tuple[int, bool]]":
        """Append (event id, envelope bytes, payload bytes) entries as one durable frame.

        `find(appender, ids)`, called under the lock, returns {id: position} of those in the log already; without it
        nothing is looked up. Returns [(position, appended)] in order, once durable.
        """
        hashed = _hashed(entries)  # what takes time and needs no place in the log is done before the lock
        body = encode_body(hashed) if find is None else b""
        if self._owner != os.getpid():
            self._forget_parent()
        with self._thread_lock:
            self._lock(timeout_s)
            try:
                self._locate()
                out, new = self._place(hashed, find)
                if new:
                    self._write(new, body or encode_body(new))
                with self._count_lock:
                    self._syncing += 1
                files = (self.fd, self.flag, self.shm, self.header.salt, self.end)
            except OSError as error:
                raise self._failed("append to", error) from error
            finally:
                fcntl.flock(self.lock_fd, fcntl.LOCK_UN)
        try:
            self._make_durable(*files)
        finally:
            self._leave()
        return out

    def locked(self, action: "Callable[[Appender], T]", timeout_s: float = LOCK_TIMEOUT_S) -> "T":
        """Run `action(self)` under the append lock with the tail located; for roll and the like."""
        if self._owner != os.getpid():
            self._forget_parent()
        with self._thread_lock:
            self._lock(timeout_s)
            try:
                self._locate()
                return action(self)
            except OSError as error:
                raise self._failed("write to", error) from error
            finally:
                fcntl.flock(self.lock_fd, fcntl.LOCK_UN)

    def close(self) -> None:
        """Let go of the files, once no append of another thread is using them."""
        if self._owner != os.getpid():
            self._forget_parent()
        with self._thread_lock:
            if self._opened:
                self.let_go(self.fd, self.lock_fd)
                del self.shm, self.flag
            self._opened = False
            self.lock_fd = self.fd = -1

    def let_go(self, *fds: int) -> None:
        """Close these files as soon as no append of another thread is using them."""
        with self._count_lock:
            self._unused += [fd for fd in fds if fd >= 0]
        self._close_unused()

    def _leave(self) -> None:
        with self._count_lock:
            self._syncing -= 1
        if self._unused:
            self._close_unused()

    def _close_unused(self) -> None:
        with self._count_lock:
            if self._syncing:
                return
            unused, self._unused = self._unused, []
        for fd in unused:
            os.close(fd)

    # -- under the lock ------------------------------------------------------------------------------------------

    def _place(
        self, entries: "list[Hashed]", find: "Find | None"
    ) -> "tuple[list[tuple[int, bool]], list[Hashed]]":
        position = self.next
        if find is None:
            return [(p, True) for p in range(position, position + len(entries))], entries
        known = dict(find(self, [e[0] for e in entries]))
        out: list[tuple[int, bool]] = []
        new: list[Hashed] = []
        for entry in entries:
            if entry[0] in known:
                out.append((known[entry[0]], False))
                continue
            known[entry[0]] = position
            new.append(entry)
            out.append((position, True))
            position += 1
        return out, new

    def _write(self, new: "list[Hashed]", body: bytes) -> None:
        size = FRAME.size + len(body)
        if size > FRAME_BYTES_MAX:
            from session_mgmt_mcp.core.errors import InputError

            raise InputError(
                f"{size} bytes in one append; the limit is {FRAME_BYTES_MAX}: append it in parts"
            )
        if self.end + size + FRAME.size > self.header.capacity:
            from session_mgmt_mcp.core.log import journals

            journals.roll(self, size)
            self.rolled = True
        at, parts = self.next, [self.chain]
        for event_id, _, envelope, _, hashed in new:
            parts.append(sha256(_LEAF.pack(0, at, event_id, hashed) + envelope).digest())
            at += 1
        chain = sha256(b"".join(parts)).digest()
        frame = frame_of(self.header, self.end, self.next, self.durable_upto(), chain, len(new), body)
        ahead = zeros_ahead(self.end, len(frame), self.header.capacity)
        written = os.pwrite(self.fd, frame + bytes(ahead) if ahead else frame, self.end)
        if written < len(frame):
            os.pwrite(self.fd, bytes(written), self.end)
            raise _append_error(
                f"cannot append to {self.folder}: {written} of {len(frame)} bytes were written"
            )
        self.end += len(frame)
        self.next += len(new)
        self.chain = chain
        self.store_state()

    def _locate(self) -> None:
        """Make end, next and chain those of the log's true end."""
        if self._trusted():
            return
        from session_mgmt_mcp.core.log import journals

        journals.locate(self)

    def _trusted(self) -> bool:
        """Whether tail.shm can be believed for the journal this process has open (and if so, take it over)."""
        state = self.load_state()
        if state is None or self.flag[:16] == self.header.salt or os.pread(self.fd, 8, state[0]) != ZERO8:
            return False
        self.end, self.next, self.chain = state
        return os.fstat(self.fd).st_nlink > 0

    # -- what processes tell each other --------------------------------------------------------------------------

    def take(self, fd: int, header: JournalHeader) -> None:
        """Go on in this journal."""
        self.let_go(self.fd)
        self.fd, self.header = fd, header
        self._journal = _JOURNAL.pack(_STATE_MAGIC, self.boot, os.fstat(fd).st_ino, header.salt)

    def load_state(self) -> "tuple[int, int, bytes] | None":
        """(end, next position, chain) of the open journal from tail.shm, or None if it cannot be believed.

        It is stored only after the journal's name was made durable, so whoever believes it need not sync the folder.
        """
        if self.fd < 0 or (self.boot == _NO_BOOT and not self.scanned):
            return None
        raw = self.shm[: _STATE_BYTES + 4]
        if not raw.startswith(self._journal) or crc32(raw[:-4]) != int.from_bytes(raw[-4:], "little"):
            return None
        return _END.unpack_from(raw, _JOURNAL.size)

    def store_state(self) -> None:
        raw = self._journal + _END.pack(self.end, self.next, self.chain)
        self.shm[: _STATE_BYTES + 4] = raw + crc32(raw).to_bytes(4, "little")

    def durable_upto(self) -> int:
        """An offset of the open journal known to be on disk; its header at least."""
        salt, offset = _load_durable(self.shm)
        return min(offset, self.end) if salt == self.header.salt else HEADER.size

    def store_durable(self) -> None:
        """Note, under the lock, that the open journal is on disk up to its end."""
        self.shm[_DURABLE:_DURABLE_END] = _durable(self.header.salt, self.end)

    def poisoned(self) -> bool:
        """Whether a sync of the open journal failed."""
        return self.flag[:16] == self.header.salt

    def poison(self) -> None:
        self.flag[:16] = self.header.salt

    def sync_or_poison(self) -> None:
        """Sync the open journal; where that fails it is not trusted again (FORMAT.md, A failed sync)."""
        with self._sync_lock:
            try:
                sync_file(self.fd)
            except OSError:
                self.poison()
                raise
            if self.poisoned():
                raise OSError(errno.EIO, "an earlier write to the journal failed")

    # -- outside the lock ----------------------------------------------------------------------------------------

    def _make_durable(self, fd: int, flag: mmap.mmap, shm: mmap.mmap, salt: bytes, end: int) -> None:
        """Sync what was written up to `end`, unless somebody did; nothing is acknowledged before this returns."""
        # One thread at a time: they share the descriptor, and the kernel reports a failed write on it only once.
        with self._sync_lock:
            stored, offset = _load_durable(shm)  # of this boot: recovery writes it anew
            if stored == salt and offset >= end:
                return
            durable = _durable(salt, end)
            try:
                sync_file(fd)
            except OSError as error:
                flag[:16] = salt
                raise _append_error(
                    f"cannot make the append to {self.folder} durable: {error.strerror}"
                ) from error
            if flag[:16] == salt:
                raise _append_error(f"an earlier write to the journal in {self.folder} failed; append again")
            shm[_DURABLE:_DURABLE_END] = durable  # true, though another may have stored more

    # -- opening -------------------------------------------------------------------------------------------------

    def _forget_parent(self) -> None:
        """After a fork: threads that held locks do not exist in the child, and it must not share the parent's files."""
        self._thread_lock, self._sync_lock, self._count_lock = (allocate_lock() for _ in range(3))
        self._syncing = 0
        self._opened = False
        self._owner = os.getpid()

    def _lock(self, timeout_s: float) -> None:
        if not self._opened:
            self._open()
        try:
            fcntl.flock(self.lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            from session_mgmt_mcp.core.log import journals

            journals.wait_for_lock(self, timeout_s)
        if not os.fstat(self.lock_fd).st_nlink:  # others would lock its successor, or write another log
            raise _append_error(
                f"{self.folder}/append.lock was removed while this process had it open; start the program again"
            )

    def _open(self) -> None:
        """Open lock and hint. The journal is located later."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        try:
            if not self._known_format():
                from session_mgmt_mcp.core.log import folder

                folder.create_or_refuse(self.folder)
            lock_fd = os.open(self.folder + "/append.lock", flags, 0o600)
            self.let_go(self.fd, self.lock_fd)  # inherited, if any
            self.lock_fd, self.fd = lock_fd, -1
            self.flag = self._map("append.lock", FLAG_BYTES)
            self.open_shm()
        except OSError as error:
            raise self._failed("open the log in", error) from error
        self._opened = True

    def _failed(self, action: str, error: OSError) -> "AppendError":
        """What failed, where, and the mend."""
        mend = "see the system's log for the disk's state"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            mend = "free some space; what was acknowledged is safe"
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            mend = "make the folder writable, or set SESSION_MGMT_DATA_DIR to one that is"
        return _append_error(f"cannot {action} {self.folder}: {error.strerror or error}; {mend}")

    def _known_format(self) -> bool:
        try:
            fd = os.open(self.folder + "/FORMAT.json", os.O_RDONLY)
        except (FileNotFoundError, NotADirectoryError):
            return False
        try:
            return os.read(fd, len(FORMAT_PREFIX)) == FORMAT_PREFIX
        finally:
            os.close(fd)

    def open_shm(self) -> None:
        """Map tail.shm anew: it may have been deleted and made again."""
        self.shm = self._map("tail.shm", SHM_BYTES)

    def _map(self, name: str, size: int) -> mmap.mmap:
        fd = os.open(f"{self.folder}/{name}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(fd).st_size < size:
                # a byte written, not a hole: storing into a hole on a full disk would kill the process (SIGBUS)
                os.pwrite(fd, b"\0", size - 1)
            return mmap.mmap(fd, size)
        finally:
            os.close(fd)


def _hashed(entries: "Sequence[Entry]") -> "list[Hashed]":
    """With a salt and the salted hash of the payload for each."""
    salts = os.urandom(16 * len(entries))
    out = []
    for k, (event_id, envelope, payload) in enumerate(entries):
        if len(event_id) != 16:
            from session_mgmt_mcp.core.errors import InputError

            raise InputError(f"an event id has 16 bytes, not {len(event_id)}: {event_id.hex()}")
        salt = salts[16 * k : 16 * k + 16]
        out.append((event_id, salt, envelope, payload, sha256(salt + payload).digest()))
    return out


def _load_durable(shm: mmap.mmap) -> "tuple[bytes, int]":
    """The salt of a journal and the offset it is on disk up to; an empty salt where that is not known."""
    raw = shm[_DURABLE:_DURABLE_END]
    salt, offset, crc = _DURABLE_STATE.unpack(raw)
    return (salt, offset) if crc == crc32(raw[:24]) else (b"", 0)


def _durable(salt: bytes, end: int) -> bytes:
    head = salt + end.to_bytes(8, "little")
    return head + crc32(head).to_bytes(4, "little")


def _append_error(message: str) -> "AppendError":
    from session_mgmt_mcp.core.errors import AppendError  # 1 ms, where all is well

    return AppendError(message)

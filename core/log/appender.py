"""Appending to the journal: the one writer that hooks and servers share (FORMAT.md section 3).

Imports only what a bare interpreter has at hand; what is seldom needed (recovery, roll) is in `journals` and loaded then.
"""

import errno
import fcntl
import mmap
import os
import struct
import time
from _thread import allocate_lock
from zlib import crc32

from session_mgmt_mcp.core.errors import AppendError, InputError, LockTimeoutError
from session_mgmt_mcp.core.log.durable import boot_id, sha256, sync_file
from session_mgmt_mcp.core.log.frame import (
    FORMAT_PREFIX,
    FRAME,
    FRAME_BYTES_MAX,
    HEADER,
    ZERO8,
    JournalHeader,
    encode_frame,
)

TYPE_CHECKING = False  # a hook does not pay for typing
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeVar

    T = TypeVar("T")
    Entry = tuple[bytes, bytes, bytes]  # event id, envelope, payload
    Salted = tuple[bytes, bytes, bytes, bytes]  # event id, salt, envelope, payload
    Find = Callable[["Appender", list[bytes]], dict[bytes, int]]

SHM_BYTES = 4096
_STATE = struct.Struct("<8s16sQ16sQQ32s")  # magic, boot, inode, salt, end, next position, chain
_STATE_MAGIC = b"SMTAIL01"
_POISON = 512  # salt of a journal whose sync failed
_DURABLE = 576  # salt, offset, crc
_DURABLE_STATE = struct.Struct("<16sQI")
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
        self._thread_lock = allocate_lock()
        self._sync_lock = allocate_lock()
        self._pid = 0
        self.lock_fd = self.fd = self.inode = -1
        self.shm: mmap.mmap

    def append(
        self, entries: "Sequence[Entry]", find: "Find | None" = None, timeout_s: float = LOCK_TIMEOUT_S
    ) -> "list[tuple[int, bool]]":
        """Append (event id, envelope bytes, payload bytes) entries as one durable frame.

        `find(appender, ids)`, called under the lock, returns {id: position} of those in the log already; without it
        nothing is looked up. Returns [(position, appended)] in order, once durable.
        """
        self._forget_parents_threads()
        with self._thread_lock:
            self._lock(timeout_s)
            try:
                self._locate()
                out, new = self._place(entries, find)
                if new:
                    self._write(new)
                fd, salt, end = os.dup(self.fd), self.header.salt, self.end
            except OSError as error:
                raise self._failed("append to", error) from error
            finally:
                fcntl.flock(self.lock_fd, fcntl.LOCK_UN)
        try:
            self._make_durable(fd, salt, end)
        finally:
            os.close(fd)
        return out

    def locked(self, action: "Callable[[Appender], T]", timeout_s: float = LOCK_TIMEOUT_S) -> "T":
        """Run `action(self)` under the append lock with the tail located; for roll and the like."""
        self._forget_parents_threads()
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
        self._forget_parents_threads()
        with self._thread_lock:
            if self._pid == os.getpid():
                for fd in (self.fd, self.lock_fd):
                    if fd >= 0:
                        os.close(fd)
                self.shm.close()
            self._pid = 0
            self.lock_fd = self.fd = -1

    # -- under the lock ------------------------------------------------------------------------------------------

    def _place(
        self, entries: "Sequence[Entry]", find: "Find | None"
    ) -> "tuple[list[tuple[int, bool]], list[Salted]]":
        known = dict(find(self, [e[0] for e in entries])) if find is not None else {}
        out: list[tuple[int, bool]] = []
        new: list[Salted] = []
        position = self.next
        for event_id, envelope, payload in entries:
            if len(event_id) != 16:
                raise InputError(f"an event id has 16 bytes, not {len(event_id)}: {event_id.hex()}")
            if find is not None and event_id in known:
                out.append((known[event_id], False))
                continue
            known[event_id] = position
            new.append((event_id, os.urandom(16), envelope, payload))
            out.append((position, True))
            position += 1
        return out, new

    def _write(self, new: "list[Salted]") -> None:
        size = FRAME.size + sum(40 + len(e[2]) + len(e[3]) for e in new)
        if size > FRAME_BYTES_MAX:
            raise InputError(
                f"{size} bytes in one append; the limit is {FRAME_BYTES_MAX}: append it in parts"
            )
        if self.end + size + FRAME.size > self.header.capacity:
            from session_mgmt_mcp.core.log import journals

            journals.roll(self, size)
            self.rolled = True
        chain = sha256(self.chain + b"".join(leaves(self.next, new))).digest()
        frame = encode_frame(self.header, self.end, self.next, self.durable_upto(), chain, new)
        written = os.pwrite(self.fd, frame, self.end)
        if written != len(frame):
            os.pwrite(self.fd, bytes(written), self.end)
            raise AppendError(f"cannot append to {self.folder}: {written} of {len(frame)} bytes were written")
        self.end += written
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
        if state is None or self.fd < 0 or state[0] != self.header.salt or self.poisoned():
            return False
        if os.pread(self.fd, 8, state[1]) != ZERO8 or not os.fstat(self.fd).st_nlink:
            return False
        self.end, self.next, self.chain = state[1:4]
        return True

    # -- tail.shm ------------------------------------------------------------------------------------------------

    def load_state(self) -> "tuple[bytes, int, int, bytes] | None":
        """(salt, end, next position, chain) from tail.shm, or None if it cannot be believed.

        It is stored only after the journal's name was made durable, so whoever believes it need not sync the folder.
        """
        raw = self.shm[: _STATE.size]
        if crc32(raw) != int.from_bytes(self.shm[_STATE.size : _STATE.size + 4], "little"):
            return None
        magic, boot, inode, salt, end, position, chain = _STATE.unpack(raw)
        if magic != _STATE_MAGIC or boot != self.boot or (self.fd >= 0 and inode != self.inode):
            return None
        if boot == bytes(16) and not self.scanned:
            return None
        return salt, end, position, chain

    def store_state(self) -> None:
        raw = _STATE.pack(
            _STATE_MAGIC, self.boot, self.inode, self.header.salt, self.end, self.next, self.chain
        )
        self.shm[: _STATE.size + 4] = raw + crc32(raw).to_bytes(4, "little")

    def durable_upto(self) -> int:
        """An offset of the open journal known to be on disk; its header at least."""
        offset = self._load_durable(self.header.salt)
        return min(offset, self.end) if offset and self.load_state() is not None else HEADER.size

    def _load_durable(self, salt: bytes) -> int:
        raw = self.shm[_DURABLE : _DURABLE + _DURABLE_STATE.size]
        stored, offset, crc = _DURABLE_STATE.unpack(raw)
        return offset if stored == salt and crc == crc32(raw[:24]) else 0

    def store_durable(self, salt: bytes, end: int) -> None:
        """Note that the journal of this salt is on disk up to `end`."""
        head = salt + end.to_bytes(8, "little")
        self.shm[_DURABLE : _DURABLE + _DURABLE_STATE.size] = head + crc32(head).to_bytes(4, "little")

    def poisoned(self) -> bool:
        return self.shm[_POISON : _POISON + 16] == self.header.salt

    def sync_or_poison(self) -> None:
        """Sync the open journal; where that fails it is not trusted again (FORMAT.md, A failed sync)."""
        with self._sync_lock:
            try:
                sync_file(self.fd)
            except OSError:
                self.shm[_POISON : _POISON + 16] = self.header.salt
                raise
            if self.poisoned():
                raise OSError(errno.EIO, "an earlier write to the journal failed")

    # -- outside the lock ----------------------------------------------------------------------------------------

    def _make_durable(self, fd: int, salt: bytes, end: int) -> None:
        """Sync what was written up to `end`, unless somebody did; nothing is acknowledged before this returns."""
        # One thread at a time: they share the descriptor, and the kernel reports a failed write on it only once.
        with self._sync_lock:
            if self._load_durable(salt) >= end:  # of this boot: recovery writes it anew
                return
            try:
                sync_file(fd)
            except OSError as error:
                self.shm[_POISON : _POISON + 16] = salt
                raise AppendError(
                    f"cannot make the append to {self.folder} durable: {error.strerror}"
                ) from error
            if self.shm[_POISON : _POISON + 16] == salt:
                raise AppendError(f"an earlier write to the journal in {self.folder} failed; append again")
            self.store_durable(salt, end)

    # -- opening -------------------------------------------------------------------------------------------------

    def _forget_parents_threads(self) -> None:
        """A thread that held a lock when the process was forked does not exist in the child."""
        if self._pid and self._pid != os.getpid():
            self._thread_lock, self._sync_lock = allocate_lock(), allocate_lock()

    def _lock(self, timeout_s: float) -> None:
        if self._pid != os.getpid():
            self._open()
        self._flock(timeout_s)
        if not os.fstat(self.lock_fd).st_nlink:  # others would lock its successor, or write another log
            raise AppendError(
                f"{self.folder}/append.lock was removed while this process had it open; start the program again"
            )

    def _flock(self, timeout_s: float) -> None:
        try:
            fcntl.flock(self.lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            pass
        deadline, pause = time.monotonic() + timeout_s, 0.0002
        while True:
            time.sleep(pause)
            try:
                fcntl.flock(self.lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise LockTimeoutError(
                        f"{self.folder}/append.lock was held by another process for {timeout_s:g} s"
                    ) from None
            pause = min(pause * 1.5, 0.005)

    def _open(self) -> None:
        """Open lock and hint; a forked child must not share its parent's lock. The journal is located later."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        try:
            if not self._known_format():
                from session_mgmt_mcp.core.log import folder

                folder.create_or_refuse(self.folder)
            lock_fd = os.open(self.folder + "/append.lock", flags, 0o600)
            for inherited in (self.fd, self.lock_fd):
                if inherited >= 0:
                    os.close(inherited)
            self.lock_fd, self.fd = lock_fd, -1
            self.open_shm()
        except OSError as error:
            raise self._failed("open the log in", error) from error
        self._pid = os.getpid()

    def _failed(self, action: str, error: OSError) -> AppendError:
        """What failed, where, and the mend."""
        mend = "see the system's log for the disk's state"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            mend = "free some space; what was acknowledged is safe"
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            mend = "make the folder writable, or set SESSION_MGMT_DATA_DIR to one that is"
        return AppendError(f"cannot {action} {self.folder}: {error.strerror or error}; {mend}")

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
        """Map tail.shm anew: it may have been deleted, and then another process works with its successor."""
        fd = os.open(self.folder + "/tail.shm", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(fd).st_size < SHM_BYTES:
                # a byte written, not a hole: storing into a hole on a full disk would kill the process (SIGBUS)
                os.pwrite(fd, b"\0", SHM_BYTES - 1)
            self.shm = mmap.mmap(fd, SHM_BYTES)
        finally:
            os.close(fd)


def leaves(first: int, entries: "Sequence[Salted]") -> "list[bytes]":
    """The chain's leaf of each (event id, salt, envelope, payload), positions counting from `first`."""
    return [
        sha256(
            b"\0" + (first + k).to_bytes(8, "little") + event_id + sha256(salt + payload).digest() + envelope
        ).digest()
        for k, (event_id, salt, envelope, payload) in enumerate(entries)
    ]

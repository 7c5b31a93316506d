"""What the operating system must do for the log, and how each system is asked. Imported by hooks: kept light."""

import errno
import fcntl
import sys

TYPE_CHECKING = False
# A hook has no time for `os`: 3 ms. `posix` has the calls of the system by the same names, and no `path`.
if TYPE_CHECKING or "os" in sys.modules or not sys.flags.no_site:
    import os
    from os import environb
else:
    import posix as os
    from posix import environ as environb

# OpenSSL's SHA-256 is several times as fast; a hook (python -S) hashes little and does without its import time.
if not sys.flags.no_site or "hashlib" in sys.modules:
    from hashlib import sha256
else:
    try:
        from _sha256 import sha256  # type: ignore[import-not-found, no-redef, unused-ignore]  # CPython <= 3.11
    except ImportError:
        try:
            from _sha2 import sha256  # type: ignore[import-not-found, no-redef, unused-ignore]  # CPython >= 3.12
        except ImportError:
            from hashlib import sha256

__all__ = [
    "boot_id",
    "environb",
    "os",
    "preallocate",
    "sha256",
    "sync_file",
    "sync_folder",
    "write_at",
    "write_new",
]

_ZEROS = bytes(1 << 20)


# macOS: fsync does not reach the medium, F_FULLFSYNC does; and it has no fdatasync.
FULL_SYNC: "int | None" = getattr(fcntl, "F_FULLFSYNC", None)


def sync_file(fd: int) -> None:
    """Return once the file's data (and its size) are on the medium. Raises OSError."""
    if FULL_SYNC is not None:
        fcntl.fcntl(fd, FULL_SYNC)
    else:
        getattr(os, "fdatasync", os.fsync)(fd)


def sync_folder(path: str) -> None:
    """Make the names in a folder durable. Raises OSError."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd) if FULL_SYNC is None else fcntl.fcntl(fd, FULL_SYNC)
    finally:
        os.close(fd)


def preallocate(fd: int, size: int) -> None:
    """Give an empty file its blocks, so that a full disk shows now and not at an append. Raises OSError."""
    allocate = getattr(os, "posix_fallocate", None)
    if allocate is not None:
        try:
            allocate(fd, 0, size)
            return
        except OSError as error:  # some file systems and C libraries leave it to the caller
            if error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
                raise
    for at in range(0, size, len(_ZEROS)):
        write_at(fd, _ZEROS[: size - at], at)


def write_at(fd: int, data: bytes, offset: int) -> None:
    """Write all of `data` at `offset`. Raises OSError, also where the system takes only a part and gives no reason."""
    done = 0
    while done < len(data):
        written = os.pwrite(fd, data[done:], offset + done)
        if written == 0:
            raise OSError(errno.EIO, "a write took no bytes")
        done += written


def boot_id() -> bytes:
    """16 bytes that differ after every boot; 16 zero bytes where the system has no such thing."""
    try:
        fd = os.open("/proc/sys/kernel/random/boot_id", os.O_RDONLY)
    except OSError:
        return bytes(16)
    try:
        return bytes.fromhex(os.read(fd, 64).decode().strip().replace("-", ""))
    except ValueError:
        return bytes(16)
    finally:
        os.close(fd)


def write_new(path: str, data: bytes, mode: int = 0o600) -> None:
    """Write and sync a file that must not exist yet. The caller renames or links it and syncs the folder."""
    fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, mode)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        sync_file(fd)
    finally:
        os.close(fd)

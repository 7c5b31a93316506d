"""Waiting for a lock of the data folder, for those who may: hooks and appends have their own, shorter ways."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from session_mgmt_mcp.core.errors import DataFolderError, LockTimeoutError
from session_mgmt_mcp.core.log.journals import try_lock

_POLL_S = 0.02


@contextmanager
def lock_held(path: str, wait_s: float, busy: str) -> Iterator[None]:
    """Hold a lock file, made where it is missing.

    Raises LockTimeoutError, with `busy` as its message, where another process holds it for longer than `wait_s`, and
    DataFolderError where it cannot be opened.
    """
    deadline = time.monotonic() + wait_s
    try:
        while (fd := try_lock(path)) is None:
            if time.monotonic() >= deadline:
                raise LockTimeoutError(busy)
            time.sleep(_POLL_S)
    except OSError as error:
        raise DataFolderError(f"cannot open {path}: {error.strerror}; mend its permissions") from error
    try:
        yield
    finally:
        os.close(fd)

"""A process that backs up or restores and dies at its nth system call: python backup_victim.py WHAT DATA PLACE TO STEP."""

import os
import sys
from typing import Any

from session_mgmt_mcp.core.backup.create import create
from session_mgmt_mcp.core.backup.local import LocalStore
from session_mgmt_mcp.core.backup.restore import restore
from session_mgmt_mcp.core.log.log import FileLog

CALLS = ("link", "rename", "unlink", "fsync", "fdatasync", "write", "pwrite", "mkdir")
DIED = 77


def die_at(step: int) -> None:
    """End the process at the nth of these calls: before it for an odd step, after it for an even one."""
    calls = 0

    def wrap(original: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == step and step % 2:
                os._exit(DIED)
            result = original(*args, **kwargs)
            if calls == step:
                os._exit(DIED)
            return result

        return call

    for name in CALLS:
        setattr(os, name, wrap(getattr(os, name)))


def main(what: str, data: str, place: str, to: str, step: str) -> None:
    store = LocalStore(place)
    die_at(int(step))
    if what == "backup":
        with FileLog(data) as log:
            create(log, store)
    else:
        restore(store, to)


if __name__ == "__main__":
    main(*sys.argv[1:])

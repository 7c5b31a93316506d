"""Reading a mapped file here and there when memory is too small to keep all of it.

Around each page that is missing the system reads its neighbours too. That fills the page cache quickly where there is
room. Where there is not, every search reads most of the file again: in a group limited to 600 MB, half a gigabyte a
search over a million vectors, against 20 MB without those neighbours.
"""

import contextlib
import mmap
import os
from pathlib import Path

import numpy as np

from session_mgmt_mcp.projections.vector_blocks import Halves

CACHED_SHARE = 0.25  # of the memory: more rows than that will not stay in the page cache


def memory_bytes() -> int:
    """What this process and the pages it reads may use: the machine's memory, or less where its control group says so."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            for limit in _limits(controllers, path.lstrip("/")):
                with contextlib.suppress(OSError, ValueError):  # "max" is no number
                    total = min(total, int(limit.read_text()))
    return total


def _limits(controllers: str, path: str) -> list[Path]:
    """Where the limit of a group is; within a container the group may look like the topmost one."""
    if not controllers:
        top, name = Path("/sys/fs/cgroup"), "memory.max"
    elif "memory" in controllers.split(","):
        top, name = Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"
    else:
        return []
    return [top / path / name, top / name]


def read_sparingly(rows: Halves) -> None:
    """Have the system read just the pages that are asked for, of rows that end a mapped file; in memory, nothing."""
    base: object = rows
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_RANDOM"):
        start = (len(base) - rows.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
        with contextlib.suppress(OSError):
            base.madvise(mmap.MADV_RANDOM, start, len(base) - start)

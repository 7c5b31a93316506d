"""Search in a process that may use 1 GB: open, search, append an event and find it in the next search.

    SESSION_MGMT_BENCH_DATA=<folder> python benchmarks/limited_memory.py [--size 1M] [--limit-mb 1000] [--json]

Where this user may make a control group below its own (cgroup v1 or v2), the kernel holds the process to the limit, the
page cache of the files it reads included, and kills it beyond. Elsewhere RLIMIT_DATA limits what the process allocates
itself, mapped files not counted, and the highest resident size is measured beside it; the answer says which. The first
run begins with the data's files put out of the page cache (`cold disk`) and pays for every page it reads; the second finds
there what that left, which counts against nobody any more: its group's peak is what it had to add.
"""

import argparse
import contextlib
import json
import os
import resource
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import prepared
from report import show

from session_mgmt_mcp.tools import bench
from session_mgmt_mcp.tools.app import App

CGROUPS = Path("/sys/fs/cgroup")
WARM_S = 20.0
FRESH = 5


class Group:
    """A control group of its own with a limit, below the one this process is in."""

    def __init__(self, limit: int) -> None:
        """Raises OSError where that may not be."""
        lines = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
        v1 = next((path for _, controllers, path in lines if "memory" in controllers.split(",")), None)
        v2 = next((path for number, _, path in lines if number == "0"), "/")
        base = CGROUPS / "memory" / v1.lstrip("/") if v1 is not None else CGROUPS / v2.lstrip("/")
        self.kind = "cgroup v1" if v1 is not None else "cgroup v2"
        self._peak = "memory.max_usage_in_bytes" if v1 is not None else "memory.peak"
        self.path = base / f"session-mgmt-bench-{os.getpid()}"
        self.path.mkdir()
        try:
            if v1 is not None:
                (self.path / "memory.limit_in_bytes").write_text(str(limit))
                with contextlib.suppress(OSError):  # swap is not accounted for everywhere
                    (self.path / "memory.memsw.limit_in_bytes").write_text(str(limit))
            else:
                (self.path / "memory.max").write_text(str(limit))
                with contextlib.suppress(OSError):
                    (self.path / "memory.swap.max").write_text("0")
        except OSError:
            self.remove()
            raise

    def enter(self) -> None:
        """Put this process into the group."""
        (self.path / "cgroup.procs").write_text(str(os.getpid()))

    def peak_mb(self) -> float | None:
        """The most the group has used, page cache included; since its beginning."""
        try:
            return int((self.path / self._peak).read_text()) / 1e6
        except OSError:
            return None

    def remove(self) -> None:
        self.path.rmdir()


@contextlib.contextmanager
def limit(size: int) -> Iterator[tuple[Any, str, Group | None]]:
    """What a child calls to be limited, its name, and the group where there is one."""
    try:
        group = Group(size)
    except OSError:
        yield lambda: resource.setrlimit(resource.RLIMIT_DATA, (size, size)), "RLIMIT_DATA", None
        return
    try:
        yield group.enter, group.kind, group
    finally:
        group.remove()


def forget_pages(folder: Path) -> None:
    """Put the files' pages out of the page cache, as far as nobody has them mapped."""
    os.sync()
    for parent, _, names in os.walk(folder):
        for name in names:
            fd = os.open(os.path.join(parent, name), os.O_RDONLY)
            try:
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(fd)


def child() -> None:
    """The limited process: search as `bench` does, then append and find."""
    asked = json.load(sys.stdin)
    folder = Path(asked["folder"])
    found = bench.measure(folder, asked["queries"], WARM_S, asked["at"])
    taken = []
    with App.open(folder) as app:
        app.views.search("warm up")
        for _ in range(FRESH):
            word = f"fresh{uuid.uuid4().hex[:12]}"
            app.remember(f"{word} was decided just now")
            began = time.perf_counter()
            first = app.views.search(word)[0]
            taken.append((time.perf_counter() - began) * 1e3)
            assert word in first.excerpt
    held = {**found["memory_mb"], "peak": bench.memory()["peak"]}
    json.dump({**found, "fresh_ms": taken, "memory_mb": held}, sys.stdout)


def run(folder: Path, queries: list[str], limit_mb: int) -> dict[str, Any]:
    """One limited process; its figures. Raises SystemExit where it was killed."""
    with limit(limit_mb * 1_000_000) as (enter, kind, group):
        asked = json.dumps({"folder": str(folder), "queries": queries, "at": time.monotonic()})
        command = [sys.executable, __file__, "--child"]
        done = subprocess.run(
            command, input=asked, capture_output=True, text=True, preexec_fn=enter, check=False
        )
        peak = group.peak_mb() if group else None
    if done.returncode:
        raise SystemExit(
            f"limited to {limit_mb} MB by {kind}, the process ended with {done.returncode}: {done.stderr[-1500:]}"
        )
    found = json.loads(done.stdout)
    return {
        "limited_by": kind,
        "cold_ms": found["cold_ms"],
        "cold_cpu_ms": found["cold_cpu_ms"],
        "search_ms": bench.percentiles(found["warm_ms"]),
        "search_cpu_ms": found["warm_cpu_ms"],
        "searches": len(found["warm_ms"]),
        "appended_and_found_ms": bench.percentiles(found["fresh_ms"]),
        "memory_mb": found["memory_mb"],
        "group_peak_mb": peak,
    }


def measure(size: str, limit_mb: int) -> dict[str, Any]:
    folder = prepared.folder_of(size)
    queries = prepared.queries(folder)
    with prepared.working_copy(folder) as copy:
        forget_pages(folder)
        cold = run(copy, queries[: len(queries) // 2], limit_mb)
        warm = run(copy, queries[len(queries) // 2 :], limit_mb)
    return {"size": size, "limit_mb": limit_mb, "cold disk": cold, "warm disk": warm}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", default="1M")
    parser.add_argument("--limit-mb", type=int, default=1000)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child()
        return
    show("limited memory", measure(args.size, args.limit_mb), as_json=args.json)


if __name__ == "__main__":
    main()

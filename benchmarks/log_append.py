"""How fast the log takes events, against the floor of the disk and against SQLite, in one run on one machine.

    python benchmarks/log_append.py [--json] [--seconds 2] [--folder DIR]

Workloads, each for `--seconds`: one and four processes, 1 and 100 events an append, payloads of 1,500 bytes, every append
durable before it returns. The floor is one pwrite of the same bytes at the end of a preallocated file and fdatasync;
SQLite is one insert transaction in WAL mode with synchronous=FULL. Latencies depend on the disk and on what else runs, so
ratios to the floor of the same run are what to compare.
"""

import argparse
import json
import os
import shutil
import sqlite3
import struct
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from report import machine

from session_mgmt_mcp.core.envelope import Envelope, NewEvent, uuid7
from session_mgmt_mcp.core.log.durable import preallocate, sync_file
from session_mgmt_mcp.core.log.log import FileLog

PAYLOAD_BYTES = 1500
FLOOR_BYTES = 256 << 20
ENVELOPE = Envelope("claude-code/bench", "HookReported", 1, 1, 1, "tool", "hook")

Append = Callable[[], object]


def log_append(folder: Path, index: int, batch: int) -> Append:
    log = FileLog(folder, create=True)

    def append() -> None:
        log.append(
            [NewEvent(uuid7(), ENVELOPE, os.urandom(PAYLOAD_BYTES)) for _ in range(batch)], dedupe=False
        )

    return append


def floor_append(folder: Path, index: int, batch: int) -> Append:
    folder.mkdir(exist_ok=True)
    fd = os.open(folder / f"floor-{index}", os.O_RDWR | os.O_CREAT, 0o600)
    preallocate(fd, FLOOR_BYTES)
    sync_file(fd)
    size, at = batch * (PAYLOAD_BYTES + 100) + 64, 0

    def append() -> None:
        nonlocal at
        os.pwrite(fd, os.urandom(size), at)
        at = (at + size) % (FLOOR_BYTES - size)
        sync_file(fd)

    return append


def sqlite_append(folder: Path, index: int, batch: int) -> Append:
    folder.mkdir(exist_ok=True)
    db = sqlite3.connect(folder / "events.db", timeout=30, isolation_level=None)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    db.execute("CREATE TABLE IF NOT EXISTS event (position INTEGER PRIMARY KEY, id BLOB, payload BLOB)")

    def append() -> None:
        rows = [(uuid7(), os.urandom(PAYLOAD_BYTES)) for _ in range(batch)]
        db.execute("BEGIN IMMEDIATE")
        db.executemany("INSERT INTO event (id, payload) VALUES (?, ?)", rows)
        db.execute("COMMIT")

    return append


KINDS: dict[str, Callable[[Path, int, int], Append]] = {
    "floor": floor_append,
    "log": log_append,
    "sqlite": sqlite_append,
}


def measure(kind: str, folder: Path, processes: int, batch: int, seconds: float) -> dict[str, float]:
    """Latencies in µs and the rate of events over all processes."""
    start = time.monotonic() + 0.5
    pipes = []
    for index in range(processes):
        end, write_end = os.pipe()
        if os.fork() == 0:
            os.close(end)
            taken = _timed(KINDS[kind](folder, index, batch), start, seconds)
            with os.fdopen(write_end, "wb") as file:
                file.write(struct.pack(f"<{len(taken)}d", *taken))
            os._exit(0)
        os.close(write_end)
        pipes.append(end)
    taken = []
    for end in pipes:
        with os.fdopen(end, "rb") as file:
            raw = file.read()
        taken += struct.unpack(f"<{len(raw) // 8}d", raw)
        os.wait()
    taken.sort()
    at = [taken[min(len(taken) - 1, int(len(taken) * q))] * 1e6 for q in (0.5, 0.95, 0.99)]
    return {"p50_us": at[0], "p95_us": at[1], "p99_us": at[2], "events_s": len(taken) * batch / seconds}


def _timed(append: Append, start: float, seconds: float) -> list[float]:
    for _ in range(3):
        append()
    while time.monotonic() < start:
        time.sleep(0.001)
    taken = []
    begun = time.perf_counter()
    while (before := time.perf_counter()) - begun < seconds:
        append()
        taken.append(time.perf_counter() - before)
    return taken


def run(base: Path, seconds: float) -> list[dict[str, Any]]:
    """One row a workload and kind, with ratios to the floor of that workload."""
    rows: list[dict[str, Any]] = []
    for processes in (1, 4):
        for batch in (1, 100):
            floor: dict[str, float] = {}
            for kind in KINDS:
                folder = base / f"{kind}-{processes}-{batch}"
                figures = measure(kind, folder, processes, batch, seconds)
                shutil.rmtree(folder)
                floor = floor or figures
                rows.append(
                    {
                        "kind": kind,
                        "processes": processes,
                        "batch": batch,
                        **{name: round(value) for name, value in figures.items()},
                        "p50_to_floor": round(figures["p50_us"] / floor["p50_us"], 2),
                        "p99_to_floor": round(figures["p99_us"] / floor["p99_us"], 2),
                        "rate_to_floor": round(figures["events_s"] / floor["events_s"], 2),
                    }
                )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each of the 12 measurements")
    parser.add_argument("--folder", type=Path, help="on the disk to measure; default: the temporary folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as base:
        rows = run(Path(base), arguments.seconds)
    data = f"events with {PAYLOAD_BYTES} random bytes, an envelope of one session"
    if arguments.json:
        print(json.dumps({"machine": machine(), "data": data, "rows": rows}))
        return
    print(f"{machine()}\ndata: {data}")
    print(
        f"{'':8}{'proc':>5}{'batch':>6}{'p50 µs':>9}{'p95 µs':>9}{'p99 µs':>9}{'events/s':>10}  p50, p99, rate to floor"
    )
    for r in rows:
        ratios = f"{r['p50_to_floor']:>5} {r['p99_to_floor']:>5} {r['rate_to_floor']:>5}"
        print(
            f"{r['kind']:8}{r['processes']:>5}{r['batch']:>6}{r['p50_us']:>9}{r['p95_us']:>9}{r['p99_us']:>9}"
            f"{r['events_s']:>10}  {ratios}"
        )


if __name__ == "__main__":
    main()

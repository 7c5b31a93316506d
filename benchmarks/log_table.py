"""The log's target table in one run: appends against floors and rivals, then what is done with many events.

    python benchmarks/log_table.py [--json] [--seconds 2] [--rounds 3] [--events 100000] [--folder DIR]

Appends: one and four processes, 1 and 100 events an append, every append durable before it returns, rounds interleaved;
what is handed over is made before the clock starts. Rates are of the time spent in appends.
The floors write the same payloads and sync: `growing` at the end of a file that grows (what an append to a plain file
costs), `preallocated` into a file whose blocks are allocated. `sqlite` is one insert transaction in WAL mode with
synchronous=FULL; `eventsourcing` the SQLite recorder of that library (`pip install session-mgmt-mcp[bench]`).
Then, with `--events`: append, seal, verify, rebuild of the query view; recovery of a full journal; freshness of readers.
Latencies depend on the disk and on what else runs: compare ratios of one run.
"""

import argparse
import itertools
import json
import os
import shutil
import sqlite3
import struct
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import log_data
from report import machine, percentiles

from session_mgmt_mcp.core.envelope import NewEvent, uuid7
from session_mgmt_mcp.core.log import appender as appending
from session_mgmt_mcp.core.log.appender import Appender
from session_mgmt_mcp.core.log.durable import preallocate, sync_file
from session_mgmt_mcp.core.log.log import FileLog
from session_mgmt_mcp.core.log.seal import seal
from session_mgmt_mcp.core.log.verify import verify
from session_mgmt_mcp.projections import publish
from session_mgmt_mcp.projections.protocol import views_folder
from session_mgmt_mcp.projections.tail import QueryReader

try:
    from eventsourcing.persistence import StoredEvent
    from eventsourcing.sqlite import SQLiteApplicationRecorder, SQLiteDatastore
except ImportError:
    RIVAL = False
else:
    RIVAL = True

FLOOR_BYTES = 256 << 20
RECOVERIES = 7
FRESH = 300
_BOOT = slice(8, 24)  # where tail.shm names the boot

Batch = list[NewEvent]
Writer = tuple[Callable[[Batch], Any], Callable[[Any], object]]  # prepare what is handed over; append it


# -- what is compared; each is durable when its append returns ---------------------------------------------------


def _payloads(batch: Batch) -> bytes:
    return b"".join([e.payload for e in batch])


def growing(folder: Path, index: int) -> Writer:
    fd = os.open(folder / f"growing-{index}", os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)

    def append(raw: bytes) -> None:
        os.write(fd, raw)
        sync_file(fd)

    return _payloads, append


def preallocated(folder: Path, index: int) -> Writer:
    fd = os.open(folder / f"preallocated-{index}", os.O_RDWR | os.O_CREAT, 0o600)
    preallocate(fd, FLOOR_BYTES)
    sync_file(fd)
    at = 0

    def append(raw: bytes) -> None:
        nonlocal at
        at = at if at + len(raw) <= FLOOR_BYTES else 0
        at += os.pwrite(fd, raw, at)
        sync_file(fd)

    return _payloads, append


def ours(folder: Path, index: int) -> Writer:
    log = FileLog(folder / "log", create=True)

    def prepare(batch: Batch) -> Batch:
        return [NewEvent(uuid7(), e.envelope, e.payload) for e in batch]

    return prepare, lambda batch: log.append(batch, dedupe=False)


def sqlite(folder: Path, index: int) -> Writer:
    db = sqlite3.connect(folder / "events.db", timeout=30, isolation_level=None)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    db.execute("CREATE TABLE IF NOT EXISTS event (position INTEGER PRIMARY KEY, id BLOB, payload BLOB)")

    def append(rows: list[tuple[bytes, bytes]]) -> None:
        db.execute("BEGIN IMMEDIATE")
        db.executemany("INSERT INTO event (id, payload) VALUES (?, ?)", rows)
        db.execute("COMMIT")

    return lambda batch: [(uuid7(), e.payload) for e in batch], append


def eventsourcing(folder: Path, index: int) -> Writer:
    recorder = SQLiteApplicationRecorder(SQLiteDatastore(str(folder / "es.db"), lock_timeout=30))
    recorder.create_table()
    originator, versions = uuid.uuid4(), itertools.count(1)

    def prepare(batch: Batch) -> list[Any]:
        return [StoredEvent(originator, next(versions), "bench:Event", e.payload) for e in batch]

    return prepare, recorder.insert_events


KINDS: dict[str, Callable[[Path, int], Writer]] = {
    "growing": growing,
    "preallocated": preallocated,
    "log": ours,
    "sqlite": sqlite,
    **({"eventsourcing": eventsourcing} if RIVAL else {}),
}


# -- appends -----------------------------------------------------------------------------------------------------


def measure(kind: str, folder: Path, processes: int, batch: int, seconds: float) -> list[float]:
    """Seconds each append took, of all processes."""
    folder.mkdir(exist_ok=True)
    events = log_data.pool()
    prepare, append = KINDS[kind](folder, processes)  # makes the files
    append(prepare(events[:1]))
    start = time.monotonic() + 0.5
    pipes = []
    for index in range(processes):
        end, write_end = os.pipe()
        if os.fork() == 0:
            taken = _timed(KINDS[kind](folder, index), itertools.cycle(events), batch, start, seconds)
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
    return taken


def _timed(
    writer: Writer, events: Iterator[NewEvent], batch: int, start: float, seconds: float
) -> list[float]:
    prepare, append = writer
    append(prepare([next(events)]))
    while time.monotonic() < start:
        time.sleep(0.001)
    taken = []
    begun = time.perf_counter()
    while time.perf_counter() - begun < seconds:
        prepared = prepare(list(itertools.islice(events, batch)))
        before = time.perf_counter()
        append(prepared)
        taken.append(time.perf_counter() - before)
    return taken


def compare_appends(base: Path, seconds: float, rounds: int) -> list[dict[str, Any]]:
    """One row a workload and kind: latencies in µs, events a second, ratios to the others of the same workload."""
    rows: list[dict[str, Any]] = []
    for processes, batch in itertools.product((1, 4), (1, 100)):
        taken: dict[str, list[float]] = {kind: [] for kind in KINDS}
        for round_ in range(rounds):
            for kind in KINDS:
                tell(f"{processes} process(es), {batch} events an append, round {round_ + 1}: {kind}")
                folder = base / f"{kind}-{processes}-{batch}-{round_}"
                taken[kind] += measure(kind, folder, processes, batch, seconds)
                shutil.rmtree(folder)
        found = {kind: percentiles([s * 1e6 for s in values]) for kind, values in taken.items()}
        rate = {kind: len(values) * batch * processes / sum(values) for kind, values in taken.items()}
        for kind in KINDS:
            rows.append(
                {
                    "kind": kind,
                    "processes": processes,
                    "batch": batch,
                    **{f"{name}_us": round(value) for name, value in found[kind].items()},
                    "events_s": round(rate[kind]),
                    "p50_to": {other: round(found[kind]["p50"] / found[other]["p50"], 2) for other in KINDS},
                    "rate_to": {other: round(rate[kind] / rate[other], 2) for other in KINDS},
                }
            )
    return rows


# -- what is done with many events -------------------------------------------------------------------------------


def work_on(folder: Path, count: int) -> list[dict[str, Any]]:
    """Append, seal, verify and rebuild so many events; seconds and events a second of each."""
    rows = []
    with FileLog(folder, create=True) as log:
        steps: tuple[tuple[str, Callable[[], object]], ...] = (
            ("append, 1,000 a time", lambda: _fill(log, count)),
            ("roll", log.roll),
            ("seal", lambda: seal(log.folder, log.log_id)),
            ("verify", lambda: verify(log.folder, log.log_id)),
            ("rebuild the query view", lambda: publish.replay(log, folder, ["query"])),
        )
        for name, step in steps:
            tell(f"{count:,} events: {name}")
            before = time.perf_counter()
            step()
            seconds = time.perf_counter() - before
            if name != "roll":
                rows.append({"what": name, "seconds": round(seconds, 2), "events_s": round(count / seconds)})
        rows += freshness(log, folder)
    return rows


def _fill(log: FileLog, count: int) -> None:
    source = log_data.events(count)
    while batch := list(itertools.islice(source, 1000)):
        log.append(batch, dedupe=False)


def freshness(log: FileLog, folder: Path) -> list[dict[str, Any]]:
    """How long after an acknowledgement another reader has the event, in its hands and in the query view."""
    tell("freshness")
    reader, view = FileLog(folder), QueryReader(log, views_folder(folder))
    taken: dict[str, list[float]] = {"read by another reader": [], "in the query view": []}
    view.refresh()
    last = reader.head().position
    for event in log_data.events(FRESH, seed=log_data.SEED + 1):
        [receipt] = log.append([event], dedupe=False)
        before = time.perf_counter()
        last = [e.position for batch in reader.read(last) for e in batch][-1]
        middle = time.perf_counter()
        view.refresh()
        after = time.perf_counter()
        if last != receipt.position or view.position != last:
            raise SystemExit(f"position {receipt.position} was not seen")
        for name, seconds in zip(taken, (middle - before, after - middle), strict=True):
            taken[name].append(seconds * 1e3)
    view.close()
    reader.close()
    return [
        {"what": f"one event, {name}", **{f"{k}_ms": round(v, 2) for k, v in percentiles(found).items()}}
        for name, found in taken.items()
    ]


def recovery(folder: Path) -> list[dict[str, Any]]:
    """How long the first append after a boot takes on a full journal of single events, its sync included."""
    tell("recovery of a full journal")
    with FileLog(folder, create=True) as log, mock.patch.object(appending, "sync_file", lambda fd: None):
        app = log.appender
        for event in itertools.cycle(log_data.pool()):
            log.append([NewEvent(uuid7(), event.envelope, event.payload)], dedupe=False)
            if app.end > app.header.capacity - (128 << 10):
                break
        frames, size, capacity = app.next - 1, app.end, app.header.capacity
    taken: dict[str, list[float]] = {"tail.shm of another boot": [], "no tail.shm": []}
    hint = folder / "tail.shm"
    for name in [*taken] * RECOVERIES:
        raw = bytearray(hint.read_bytes())
        raw[_BOOT] = os.urandom(16)
        hint.write_bytes(raw) if name.startswith("tail") else hint.unlink()
        fresh = Appender(str(folder))
        before = time.perf_counter()
        fresh.append([])
        taken[name].append((time.perf_counter() - before) * 1e3)
        fresh.close()
    what = f"recovery, {frames:,} frames, {size / (1 << 20):.1f} of {capacity >> 20} MiB"
    return [
        {"what": f"{what}, {name}", **{f"{k}_ms": round(v, 2) for k, v in percentiles(found).items()}}
        for name, found in taken.items()
    ]


# -- the program -------------------------------------------------------------------------------------------------


def tell(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def show(result: dict[str, Any]) -> None:
    print(f"{result['machine']}\ndata: {result['data']}")
    if not RIVAL:
        print("eventsourcing is not installed: left out (the extra `bench` brings it)")
    print(
        f"\n{'':14}{'proc':>5}{'batch':>6}{'p50 µs':>9}{'p95 µs':>9}{'p99 µs':>9}{'max µs':>9}{'events/s':>10}"
        "  log: p50 to growing, preallocated; rate to sqlite, eventsourcing"
    )
    for row in result["appends"]:
        latencies = "".join(f"{row[f'{name}_us']:>9,}" for name in ("p50", "p95", "p99", "max"))
        line = f"{row['kind']:14}{row['processes']:>5}{row['batch']:>6}{latencies}{row['events_s']:>10,}"
        if row["kind"] == "log":
            p50, rate = row["p50_to"], row["rate_to"]
            line += (
                f"  {p50['growing']} {p50['preallocated']}; {rate['sqlite']} {rate.get('eventsourcing', '-')}"
            )
        print(line)
    print()
    for row in result["work"]:
        figures = ", ".join(f"{name} {value:,}" for name, value in row.items() if name != "what")
        print(f"{row['what']}: {figures}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument(
        "--seconds", type=float, default=2.0, help="for each kind of append in each round; 0: none"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--events", type=int, default=100_000, help="to seal, verify and rebuild; 0: none")
    parser.add_argument("--folder", type=Path, help="on the disk to measure; default: the temporary folder")
    given = parser.parse_args()
    result: dict[str, Any] = {"machine": machine(), "data": log_data.describe(), "appends": [], "work": []}
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        base = Path(name)
        if given.seconds > 0:
            result["appends"] = compare_appends(base, given.seconds, given.rounds)
        if given.events > 0:
            result["work"] = work_on(base / "many", given.events) + recovery(base / "full")
    if given.json:
        print(json.dumps({"benchmark": "log_table", **result}))
    else:
        show(result)


if __name__ == "__main__":
    main()

"""Many histories, in several processes, with what was found kept in a file so that a run can be interrupted and go on."""

import gc
import hashlib
import itertools
import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from typing import Any

from sim_bugs import BACKUP_BUGS, BUGS
from sim_history import Report, run_history
from sim_world import SCRATCH, scratch_base

from session_mgmt_mcp.core.backup.running import is_alive

ROOT = Path(__file__).parents[2]
PROVED = ("core", "adapters/claude_code/capture.py", "tests/support")  # what a result depends on


def history(seed: int, rule: str | None = None) -> Report:
    """One history, in a worker; `rule` names the one that is taken out."""
    return run_history(seed, {**BUGS, **BACKUP_BUGS}[rule] if rule is not None else None)


@contextmanager
def workers(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that run histories; they end with this one, however it ends."""
    pool = ProcessPoolExecutor(jobs, get_context("spawn"), _prepare)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _prepare() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the one that started us says when to stop
    threading.Thread(target=_end_with_parent, daemon=True).start()
    lighten()


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)


def lighten() -> None:
    """Collect garbage seldom: what the modules hold is there to stay."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def reports(seeds: Iterable[int], jobs: int, rule: str | None = None) -> Iterator[Report]:
    """The histories of these seeds as they are finished; no more are begun once the caller stops asking."""
    ahead = iter(seeds)
    with workers(jobs) as pool:
        running: set[Future[Report]] = set()
        while True:
            for seed in itertools.islice(ahead, 2 * jobs - len(running)):
                running.add(pool.submit(history, seed, rule))
            if not running:
                return
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                yield future.result()


def remove_leftovers() -> None:
    """Remove the scratch folders of processes that were killed."""
    for path in Path(scratch_base()).glob(f"{SCRATCH}*"):
        pid = path.name.removeprefix(SCRATCH).partition("-")[0]
        if pid.isdecimal() and not is_alive(int(pid)):
            shutil.rmtree(path, ignore_errors=True)


def code_digest() -> str:
    """Changes with the code that is proved and with the simulator."""
    total = hashlib.sha256()
    for name in PROVED:
        for path in sorted(ROOT.joinpath(name).rglob("*.py")) or [ROOT / name]:
            total.update(path.read_bytes())
    return total.hexdigest()[:16]


class Results:
    """Finished histories, in memory and as lines of JSON in a file."""

    def __init__(self, path: Path | None) -> None:
        """Take up what the file holds; ValueError where that is of other code."""
        self.seeds: set[int] = set()
        self.states = self.calls = self.acknowledged = 0
        self.seconds = 0.0
        self.distinct: set[str] = set()
        self.wrong: dict[int, list[str]] = {}
        self._path: Path | None = None
        if path is not None:
            self._take_up(path)

    def _take_up(self, path: Path) -> None:
        code = code_digest()
        raw = path.read_bytes() if path.exists() else b""
        for line in raw[: raw.rfind(b"\n") + 1].splitlines():  # the last may be torn by a kill
            found = json.loads(line)
            if found["code"] != code:
                raise ValueError(f"{path} holds results of other code ({found['code']}, now {code})")
            self._count(found)
        path.touch()
        os.truncate(path, raw.rfind(b"\n") + 1)
        self._path, self._code = path, code

    def add(self, report: Report, seconds: float) -> None:
        found = {
            "seed": report.seed,
            "states": report.states,
            "calls": report.calls,
            "acknowledged": report.acknowledged,
            "wrong": report.wrong,
            "seconds": round(seconds, 2),
            "distinct": sorted(digest.hex() for digest in report.distinct),
        }
        self._count(found)
        if self._path is not None:
            with open(self._path, "ab") as file:
                file.write(json.dumps({**found, "code": self._code}).encode() + b"\n")

    def _count(self, found: dict[str, Any]) -> None:
        if found["seed"] in self.seeds:
            return
        self.seeds.add(found["seed"])
        self.states += found["states"]
        self.calls += found["calls"]
        self.acknowledged += found["acknowledged"]
        self.seconds += found["seconds"]
        self.distinct.update(found["distinct"])
        if found["wrong"]:
            self.wrong[found["seed"]] = found["wrong"]

    def summary(self) -> str:
        failed = ", ".join(map(str, sorted(self.wrong))) or "none"
        return (
            f"{self.states:,} states ({len(self.distinct):,} distinct) of {len(self.seeds):,} histories: "
            f"{self.calls:,} calls, {self.acknowledged:,} events acknowledged, {self.seconds:.0f} s; "
            f"seeds with something wrong: {failed}"
        )


def run(results: Results, states: int, first_seed: int, jobs: int, say: Callable[[str], None]) -> None:
    """Go on until `results` holds so many states; KeyboardInterrupt leaves it as far as it got."""
    remove_leftovers()
    seeds = (seed for seed in itertools.count(first_seed) if seed not in results.seeds)
    at_first, began, shown = results.states, time.monotonic(), 0.0
    last = began
    if results.states >= states:
        return
    for report in reports(seeds, jobs):
        now = time.monotonic()
        results.add(report, now - last)
        last = now
        for what in report.wrong:
            say(what)
        if results.states >= states:
            return
        if now - shown > 5:
            shown = now
            rate = (results.states - at_first) / (now - began)
            left = (states - results.states) / rate
            say(
                f"{results.states:,} of {states:,} states, {rate:.0f}/s, {left / 60:.0f} min left, "
                f"{len(results.wrong)} histories with something wrong"
            )

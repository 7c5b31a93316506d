"""The HTTP service under load: throughput and tails, bare HTTP, memory over time, kills, restarts.

    python benchmarks/service.py [load health memory kill restart] [--size 100k] [--seconds 15] [--memory-seconds 60]

The clients are those of `session-mgmt-mcp load-test`, in this process: they share the machine with the service. What is
stored goes into a copy of a generated folder (prepared.py). `health` compares with a bare Starlette app on uvicorn in turns of
the same run; processor time a request is of the server alone. `kill` and `restart` are under load: everything acknowledged
is looked up at the end.
"""

import argparse
import asyncio
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prepared import folder_of, queries, working_copy
from report import show

from session_mgmt_mcp.tools.load.own_service import OwnService
from session_mgmt_mcp.tools.load.report import svg
from session_mgmt_mcp.tools.load.run import LoadReport, LoadTest, Plan
from session_mgmt_mcp.tools.progress import quiet

CLIENTS = (1, 10, 100)
HEALTH_CLIENTS, HEALTH_ROUNDS = 100, 3
KILLS, RESTARTS = 3, 3
BETWEEN_S = 4.0  # of load before each kill or restart
RETRY_S = 120.0
Found = dict[str, Any]

_BARE = """
import sys, uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

async def health(request):
    return JSONResponse({"status": "alive"})

app = Starlette(routes=[Route("/health", health)])
uvicorn.run(app, port=int(sys.argv[1]), access_log=False, log_level="error", lifespan="off", ws="none")
"""


def load(copy: Path, args: argparse.Namespace) -> Found:
    """Each tool alone, at 1, 10 and 100 clients."""
    words = tuple(queries(copy))
    rows = []
    with OwnService(copy) as own:
        for tool in ("search", "remember"):
            for clients in CLIENTS:
                plan = Plan(url=own.url, clients=clients, seconds=args.seconds, mix={tool: 1}, queries=words)
                report, cpu = _loaded(plan, own.pid)
                rows.append(_row(report, tool, cpu / max(1, report.answers)))
                print(rows[-1], file=sys.stderr, flush=True)
        return {"tools": rows, "memory_mb": memory_mb(own.pid)}


def _loaded(plan: Plan, pid: int) -> tuple[LoadReport, float]:
    """The report, and the processor time that the load took of the service, without looking up."""
    before, after = cpu_s(pid), list[float]()

    def see(stage: str, _at: int, _end: int) -> None:
        if stage == "looking up" and not after:
            after.append(cpu_s(pid))

    report = asyncio.run(LoadTest(plan, see).run())
    return report, (after or [cpu_s(pid)])[0] - before


def _row(report: LoadReport, tool: str, cpu: float) -> Found:
    found = report.tools.get(tool)
    ms = found.ms if found else {}
    return {
        "tool": tool,
        "clients": report.clients,
        "per_s": found.per_s if found else 0.0,
        **{name: ms.get(name) for name in ("p50", "p99", "max")},
        "cpu_ms": round(cpu * 1000, 2),  # of the service, a call
        "errors": sum(report.errors.values()),
        "unanswered": report.unanswered,
        "wrong": report.wrong,
        "acknowledged": report.acknowledged,
    }


def health(copy: Path, args: argparse.Namespace) -> Found:
    """GET /health on 100 connections, in turns with a bare Starlette app."""
    sides: dict[str, list[Found]] = {"ours": [], "bare": []}
    with OwnService(copy) as own, _bare() as (bare_pid, bare_url):
        for _ in range(HEALTH_ROUNDS):
            for side, pid, url in (("bare", bare_pid, bare_url), ("ours", own.pid, own.url)):
                plan = Plan(
                    url=url, clients=HEALTH_CLIENTS, seconds=args.seconds / HEALTH_ROUNDS, health=True
                )
                before = cpu_s(pid)
                report = asyncio.run(LoadTest(plan, quiet).run())
                cpu_us = (cpu_s(pid) - before) / max(1, report.answers) * 1e6
                ms = report.tools["health"].ms
                errors = sum(report.errors.values())
                sides[side].append(
                    {
                        "per_s": report.per_s,
                        "p50": ms["p50"],
                        "p99": ms["p99"],
                        "cpu_us": cpu_us,
                        "errors": errors,
                    }
                )
    found = {
        side: {name: statistics.median(run[name] for run in runs) for name in runs[0]}
        for side, runs in sides.items()
    }
    ratios = {
        f"{name}_ratio": round(found["ours"][name] / found["bare"][name], 2)
        for name in ("per_s", "p99", "cpu_us")
    }
    return {**found, **ratios}


class _bare:
    """A bare Starlette app on a free port: (pid, URL)."""

    def __enter__(self) -> tuple[int, str]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self._process = subprocess.Popen([sys.executable, "-c", _BARE, str(port)])
        _wait_for(port)
        return self._process.pid, f"http://127.0.0.1:{port}/mcp"

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()


def _wait_for(port: int) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"nothing came up at port {port}")


def memory(copy: Path, args: argparse.Namespace) -> Found:
    """10 clients of the usual mix; memory of the service over time."""
    with OwnService(copy) as own:
        plan = Plan(
            url=own.url,
            clients=10,
            seconds=args.memory_seconds,
            queries=tuple(queries(copy)),
            metrics=f"{own.base}/metrics",
        )
        test = LoadTest(plan, quiet)
        report = asyncio.run(test.run())
        if args.plot:
            args.plot.write_text(svg(report, test.over_time(report.seconds, 60)))
        sizes = [size for _, size in report.memory_mb]
        tenth = max(1, len(sizes) // 10)
        return {
            "seconds": report.seconds,
            "per_s": report.per_s,
            "tools": {
                tool: {"per_s": f.per_s, "p50": f.ms["p50"], "p99": f.ms["p99"]}
                for tool, f in report.tools.items()
            },
            "own_mb": {
                "first": sizes[0],
                "after_a_tenth": statistics.median(sizes[tenth : 2 * tenth] or sizes),
                "last_tenth": statistics.median(sizes[-tenth:]),
                "most": max(sizes),
            },
            **_judged(report),
            "over_time": report.memory_mb[:: max(1, len(sizes) // 60)],
        }


def kill(copy: Path, args: argparse.Namespace) -> Found:
    """kill -9 under load, again and again; seconds from each start until /ready says yes."""
    with OwnService(copy) as own:
        ready = _under_load(own, copy, KILLS, lambda: _killed(own))
    wall, processor = zip(*ready["seconds"], strict=True)
    return {**ready["report"], "ready_s": wall, "ready_cpu_s": processor}


def _killed(own: OwnService) -> tuple[float, float]:
    """Seconds until it is ready again, by the clock and of processor time."""
    own.kill()
    wall = own.start()
    return round(wall, 2), round(cpu_s(own.pid), 2)


def restart(copy: Path, args: argparse.Namespace) -> Found:
    """SIGTERM and a new process under load, behind a socket that stays open as systemd's does."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(2048)
        with OwnService(copy, port=listening.getsockname()[1], listening=listening) as own:
            found = _under_load(own, copy, RESTARTS, lambda: _restarted(own))
    codes = [code for code, _ in found["seconds"]]
    return {**found["report"], "exit_codes": codes, "seconds_away": [away for _, away in found["seconds"]]}


def _restarted(own: OwnService) -> tuple[int, float]:
    began = time.monotonic()
    code = own.stop()
    own.start()
    return code, round(time.monotonic() - began, 2)


def _under_load(own: OwnService, copy: Path, times: int, disturb: Callable[[], Any]) -> Found:
    plan = Plan(url=own.url, clients=10, seconds=3600, retry_s=RETRY_S, queries=tuple(queries(copy)))
    test = LoadTest(plan, quiet)

    async def loaded() -> tuple[LoadReport, list[Any]]:
        running = asyncio.create_task(test.run())
        found = []
        for _ in range(times):
            await asyncio.sleep(BETWEEN_S)
            found.append(await asyncio.to_thread(disturb))
        await asyncio.sleep(BETWEEN_S)
        test.stop()
        return await running, found

    report, found = asyncio.run(loaded())
    return {"report": _judged(report), "seconds": found}


def _judged(report: LoadReport) -> Found:
    return {
        "answers": report.answers,
        "errors": report.errors,
        "retried": report.retried,
        "unanswered": report.unanswered,
        "longest_wait_s": report.longest_wait_s,
        "acknowledged": report.acknowledged,
        "looked_up": report.looked_up,
        "wrong": report.wrong,
        "findings": report.findings,
    }


def cpu_s(pid: int) -> float:
    """Processor time of a process and its threads so far, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mb(pid: int) -> Found:
    """Resident memory of a process in MB: its own, and mapped files."""
    sizes = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line
    )
    return {
        name: round(int(sizes[key].split()[0]) / 1e3, 1)
        for name, key in (("own", "RssAnon"), ("files", "RssFile"))
    }


PARTS: dict[str, Callable[[Path, argparse.Namespace], Found]] = {
    "load": load,
    "health": health,
    "memory": memory,
    "kill": kill,
    "restart": restart,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (default: all)")
    parser.add_argument(
        "--size", default="100k", help="of the generated log: 1k, 10k, 100k, 1M (default: %(default)s)"
    )
    parser.add_argument(
        "--seconds", type=float, default=15.0, help="of each measurement (default: %(default)s)"
    )
    parser.add_argument(
        "--memory-seconds", type=float, default=60.0, help="600 for a figure (default: %(default)s)"
    )
    parser.add_argument("--plot", type=Path, help="an SVG of the memory part")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if unknown := set(args.parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}")
    folder, found = folder_of(args.size), {}
    for name in args.parts or PARTS:
        print(f"== {name}", file=sys.stderr, flush=True)
        with working_copy(folder) as copy:
            found[name] = PARTS[name](copy, args)
    show("service", {"size": args.size, **found}, as_json=args.json)


if __name__ == "__main__":
    main()

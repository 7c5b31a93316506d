"""`bench`: how fast search is on this log."""

import argparse
from typing import Any

from session_mgmt_mcp.tools import bench
from session_mgmt_mcp.tools.app import App
from session_mgmt_mcp.tools.cli import emit_json
from session_mgmt_mcp.tools.progress import stages

EXAMPLE = "session-mgmt-mcp bench --json"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--seconds",
        type=float,
        default=bench.WARM_S,
        help="how long to search in one process (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """0; reads only."""
    with App.open() as app, stages() as show:
        found = bench.run(app, show, warm_s=args.seconds)
    if args.json:
        emit_json(found)
    else:
        _print(found)
    return 0


def _print(found: dict[str, Any]) -> None:
    print(
        f"log        {found['events']:,} events, {found['actions']:,} actions, {found['sessions']:,} sessions"
    )
    sizes = " · ".join(f"{name} {size / (1 << 20):.1f}" for name, size in found["bytes"].items())
    print(f"MiB        {sizes}")
    if found["search_ms"]:
        print(
            f"search ms  {_times(found['search_ms'])} · CPU {found['search_cpu_ms']:.1f} · {found['queries']} queries"
        )
    print(
        f"cold ms    {_times(found['cold_ms'])} · CPU {found['cold_cpu_ms']['p50']:.0f} (a new process, one search)"
    )
    print("memory MB  " + " · ".join(f"{name} {value:.0f}" for name, value in found["memory_mb"].items()))
    rates = {
        "events read/s": found["rates"]["log_events_s"],
        "passages embedded/s": found["rates"]["passages_embedded_s"],
    }
    known = [f"{name} {rate:,.0f}" for name, rate in rates.items() if rate]
    print("rates      " + " · ".join(known))


def _times(found: dict[str, float]) -> str:
    return " · ".join(f"{name} {value:.1f}" for name, value in found.items())

"""What one hook costs: the whole process, from start to exit, against bare interpreters, interleaved.

    python benchmarks/hook_process.py [--json] [--rounds 60]

Every round runs each command once, in another order: `pass`, `import re`, `import json` (for scale), and the hook with a
PostToolUse payload of 2 kB, durable in a log of its own. Median and 95th percentile of wall and CPU time in ms, and ratios
to `pass` in the same rounds.
"""

import argparse
import importlib.util
import json
import os
import random
import statistics
import sys
import tempfile
import time
from typing import Any

from report import machine

from session_mgmt_mcp.core.log.log import FileLog


def hook_script() -> str:
    spec = importlib.util.find_spec("session_mgmt_mcp.adapters.claude_code.hook")
    if spec is None or spec.origin is None:
        raise SystemExit("session_mgmt_mcp is not installed in this environment")
    return spec.origin


def payload(number: int) -> bytes:
    return json.dumps(
        {
            "session_id": "bench",
            "cwd": "/home/ada/mill",
            "hook_event_name": "PostToolUse",
            "tool_name": "Bash",
            "tool_input": {"command": "grep -rn wheel ."},
            "tool_response": {"stdout": "wheel.py:1: speed = 3\n" * 80},
            "tool_use_id": f"toolu_{number}",
        }
    ).encode()


def run_once(command: list[str], stdin: bytes) -> tuple[float, float]:
    """(wall, CPU) in ms of one process."""
    read_end, write_end = os.pipe()
    os.write(write_end, stdin)
    os.close(write_end)
    start = time.perf_counter()
    pid = os.posix_spawn(command[0], command, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, read_end, 0)])
    _, status, usage = os.wait4(pid, 0)
    wall = time.perf_counter() - start
    os.close(read_end)
    if status:
        raise SystemExit(f"{command} ended with {os.waitstatus_to_exitcode(status)}")
    return wall * 1e3, (usage.ru_utime + usage.ru_stime) * 1e3


def run(folder: str, rounds: int) -> list[dict[str, Any]]:
    """A row each command."""
    log = FileLog(folder, create=True)
    bare = [sys.executable, "-I", "-S", "-c"]
    commands = {
        "pass": [*bare, "pass"],
        "import re": [*bare, "import re"],
        "import json": [*bare, "import json"],
        "hook": [sys.executable, "-I", "-S", hook_script(), "--data-dir", folder],
    }
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    order = list(commands)
    for number in range(-3, rounds):
        random.shuffle(order)
        for name in order:
            figures = run_once(commands[name], payload(number))
            if number >= 0:  # the first rounds warm the caches
                taken[name].append(figures)
    if log.head().position != rounds + 3:
        raise SystemExit(f"{log.head().position} events in the log after {rounds + 3} hooks")
    rows = []
    base = statistics.median(wall for wall, _ in taken["pass"])
    for name, figures in taken.items():
        wall, cpu = sorted(w for w, _ in figures), sorted(c for _, c in figures)
        rows.append(
            {
                "command": name,
                "wall_p50_ms": round(statistics.median(wall), 1),
                "wall_p95_ms": round(wall[int(len(wall) * 0.95)], 1),
                "cpu_p50_ms": round(statistics.median(cpu), 1),
                "cpu_p95_ms": round(cpu[int(len(cpu) * 0.95)], 1),
                "wall_p50_to_pass": round(statistics.median(wall) / base, 2),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=60)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as base:
        rows = run(base + "/data", arguments.rounds)
    if arguments.json:
        print(json.dumps({"machine": machine(), "rounds": arguments.rounds, "rows": rows}))
        return
    print(f"{machine()}\n{arguments.rounds} rounds, interleaved; ms")
    for r in rows:
        print(
            f"{r['command']:12} wall p50 {r['wall_p50_ms']:>6} p95 {r['wall_p95_ms']:>6}   cpu p50 {r['cpu_p50_ms']:>6} "
            f"p95 {r['cpu_p95_ms']:>6}   {r['wall_p50_to_pass']}× pass"
        )


if __name__ == "__main__":
    main()

"""Cold start of the MCP server: process → initialize → tools/list, against bare Python and a bare SDK server.

    python benchmarks/mcp_start.py [RUNS]

The three are run in turn, so that load on the machine falls on all of them. Wall time is what a client waits; CPU time
(user + system, of the process, up to the answer) is the steadier figure on a busy machine.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

RUNS = 20
NAIVE = """
from mcp.server.mcpserver import MCPServer
server = MCPServer("naive")
@server.tool()
def echo(text: str) -> str:
    "Echo."
    return text
server.run()
"""
HELLO = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}}
MESSAGES = [
    {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": HELLO},
    {"jsonrpc": "2.0", "method": "notifications/initialized"},
    {"jsonrpc": "2.0", "id": 2, "method": "tools/list"},
]


class Start(NamedTuple):
    """One start. Times in ms; memory in MB, resident once idle; `end` from closing stdin to the exit."""

    initialize: float
    listed: float
    cpu: float
    rss: float
    end: float


def start(command: list[str], folder: str) -> Start:
    began = time.perf_counter()
    server = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "SESSION_MGMT_DATA_DIR": folder},
    )
    assert server.stdin is not None and server.stdout is not None
    with server.stdin, server.stdout:
        answered = []
        for message in MESSAGES:
            server.stdin.write(json.dumps(message).encode() + b"\n")
            server.stdin.flush()
            if "id" in message:
                answer = json.loads(server.stdout.readline())
                assert answer["id"] == message["id"] and "result" in answer
                answered.append((time.perf_counter() - began) * 1000)
        cpu, rss = usage(server.pid)
        closing = time.perf_counter()
        server.stdin.close()
        server.wait()
        return Start(answered[0], answered[1], cpu, rss, (time.perf_counter() - closing) * 1000)


def usage(pid: int) -> tuple[float, float]:
    """CPU in ms and resident memory in MB of a process; 0 where there is no /proc."""
    try:
        cpu_ms = 0.0
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/schedstat") as f:
                cpu_ms += int(f.read().split()[0]) / 1e6  # ns
        with open(f"/proc/{pid}/status") as f:
            rss_kb = next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))
    except FileNotFoundError:
        return 0.0, 0.0
    return cpu_ms, rss_kb / 1024


def bare() -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return (time.perf_counter() - began) * 1000


def spread(values: list[float]) -> str:
    ordered = sorted(values)
    p95 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))]
    return f"{statistics.median(ordered):7.0f} {p95:7.0f}"


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else RUNS
    ours = [sys.executable, "-m", "session_mgmt_mcp.server"]
    naive = [sys.executable, "-c", NAIVE]
    with tempfile.TemporaryDirectory() as folder:
        start(ours, folder), start(naive, folder)  # compiles what is not compiled, fills the page cache
        pairs = [(bare(), start(naive, folder), start(ours, folder)) for _ in range(runs)]
    print(f"{runs} runs in turn{'':22} median     p95")
    print(f"python -c pass, ms             {spread([p[0] for p in pairs])}")
    for field, unit in (("initialize", "ms"), ("listed", "ms"), ("cpu", "ms"), ("rss", "MB"), ("end", "ms")):
        for name, index in (("bare SDK server", 1), ("session-mgmt", 2)):
            label = f"{name}: {field}, {unit}"
            print(f"{label:31}{spread([getattr(p[index], field) for p in pairs])}")


if __name__ == "__main__":
    main()

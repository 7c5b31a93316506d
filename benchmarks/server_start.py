"""What starting the MCP server costs: process → initialize → tools/list → a first tool call.

    python benchmarks/server_start.py [RUNS]

Five servers in turn, so that load on the machine falls on all of them: a bare one on the SDK, ours with everything left to
the SDK, ours as it is, ours when its client calls only once a model has thought (the server was quiet for a second), and
ours as a bridge to a host that runs already. `first_call` is from the request to its answer, all else from the start. Wall
time is what a client waits; CPU time (user and system, of the threads that still run) is the steadier figure on a busy
machine. The first call searches a small log.
"""

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any, NamedTuple, Self

RUNS = 10
NAIVE = """
from mcp.server.mcpserver import MCPServer
server = MCPServer("naive")
@server.tool()
def search(query: str) -> str:
    "Echo."
    return query
server.run()
"""
WITHOUT_SURFACE = """
from session_mgmt_mcp.adapters.mcp.surface import Surface
Surface.load = classmethod(lambda cls: None)
from session_mgmt_mcp.server import serve
serve()
"""
HELLO = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}}
SEARCH = {"name": "search", "arguments": {"query": "bench"}}
OURS = [sys.executable, "-P", "-m", "session_mgmt_mcp.server"]
SERVERS = {
    "bare SDK server": [sys.executable, "-c", NAIVE],
    "ours, all by the SDK": [sys.executable, "-P", "-c", WITHOUT_SURFACE],
    "ours": OURS,
    "ours, called after a while": OURS,
    "ours, as a bridge": OURS,
}


class Start(NamedTuple):
    """One start, in ms from its beginning but for `end`, which is from closing stdin; memory in MB, resident."""

    initialize: float
    listed: float
    listed_cpu: float
    listed_rss: float
    called: float
    called_cpu: float
    called_rss: float
    first_call: float
    first_call_cpu: float
    end: float


class Client:
    """A server process that was just started."""

    def __init__(self, command: list[str], folder: str) -> None:
        self.began = time.perf_counter()
        self._number = 0
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "SESSION_MGMT_DATA_DIR": folder, "SESSION_MGMT_EMBED": "off"},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    def ask(self, method: str, params: dict[str, Any] | None = None) -> float:
        """Ask and wait for the answer; ms since the process was started."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self._number += 1
        request = {"jsonrpc": "2.0", "id": self._number, "method": method, "params": params or {}}
        self.process.stdin.write(json.dumps(request).encode() + b"\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        assert answer["id"] == self._number and not answer["result"].get("isError"), answer
        return (time.perf_counter() - self.began) * 1000

    def usage(self) -> tuple[float, float]:
        """CPU in ms and resident memory in MB; 0 where there is no /proc."""
        return usage(self.process.pid)

    def settle(self) -> None:
        """Wait until it used next to no CPU for a second."""
        before = -1000.0
        while (now := self.usage()[0]) - before > 5:
            before = now
            time.sleep(1)

    def leave(self) -> float:
        """Close stdin and wait for its end; ms."""
        assert self.process.stdin is not None
        began = time.perf_counter()
        self.process.stdin.close()
        self.process.wait()
        return (time.perf_counter() - began) * 1000


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


def start(command: list[str], folder: str, *, thinks: bool = False) -> Start:
    with Client(command, folder) as client:
        initialize = client.ask("initialize", HELLO)
        listed = client.ask("tools/list")
        listed_cpu, listed_rss = client.usage()
        if thinks:
            client.settle()
        asked, asked_cpu = (time.perf_counter() - client.began) * 1000, client.usage()[0]
        called = client.ask("tools/call", SEARCH)
        called_cpu, called_rss = client.usage()
        return Start(
            initialize,
            listed,
            listed_cpu,
            listed_rss,
            called,
            called_cpu,
            called_rss,
            called - asked,
            called_cpu - asked_cpu,
            client.leave(),
        )


def bare() -> float:
    began = os.times()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    ended = os.times()
    return 1000 * (ended.children_user + ended.children_system - began.children_user - began.children_system)


def spread(values: list[float]) -> str:
    ordered = sorted(values)
    p95 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))]
    return f"{statistics.median(ordered):8.0f} {p95:8.0f}"


def measure(runs: int, folder: str) -> tuple[list[float], dict[str, list[Start]]]:
    """Each server `runs` times, in turn, after one round that compiles what is not compiled."""
    remember = [sys.executable, "-m", "session_mgmt_mcp", "remember", "a note for the bench"]
    subprocess.run(
        remember, check=True, capture_output=True, env={**os.environ, "SESSION_MGMT_DATA_DIR": folder}
    )
    starts: dict[str, list[Start]] = {name: [] for name in SERVERS}
    bares = []
    for round_number in range(runs + 1):
        bares.append(bare())
        for name, command in SERVERS.items():
            if name == "ours, as a bridge":
                with Client(OURS, folder) as host:
                    host.ask("initialize", HELLO)
                    host.ask("tools/call", SEARCH)
                    one = start(command, folder)
            else:
                one = start(command, folder, thinks=name == "ours, called after a while")
            if round_number:
                starts[name].append(one)
    return bares[1:], starts


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else RUNS
    with tempfile.TemporaryDirectory() as folder:
        bares, starts = measure(runs, folder)
    print(f"{runs} runs in turn{'':30}  median      p95")
    print(f"{'python -c pass: CPU, ms':44}{spread(bares)}")
    for field in Start._fields:
        unit = "MB" if field.endswith("rss") else "ms"
        for name in SERVERS:
            print(f"{f'{field}, {unit}: {name}':44}{spread([getattr(one, field) for one in starts[name]])}")


if __name__ == "__main__":
    main()

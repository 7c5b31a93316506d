"""Memory of 1, 5 and 20 MCP servers on one data folder, after each has searched.

    python benchmarks/server_memory.py [SERVERS...]

RSS counts pages that processes share once for each of them, PSS divides them among those that share them, so the sum of
PSS is what the servers cost together. For comparison the same number of servers that do not share their work.
Needs /proc of Linux.
"""

import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack

from server_start import HELLO, OURS, SEARCH, Client

COUNTS = (1, 5, 20)
UNSHARED = """
from session_mgmt_mcp.server import serve
serve()
"""


def memory_mb(pid: int) -> tuple[float, float]:
    """RSS and PSS."""
    with open(f"/proc/{pid}/smaps_rollup") as f:
        found = {line.split()[0]: int(line.split()[1]) for line in f if line.startswith(("Rss", "Pss:"))}
    return found["Rss:"] / 1024, found["Pss:"] / 1024


def measure(
    count: int, command: list[str], folder: str
) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """Every server's memory, idle after the handshake and after a search each."""
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(command, folder)) for _ in range(count)]
        for client in clients:
            client.ask("initialize", HELLO)
            client.ask("tools/list")
        idle = [memory_mb(client.process.pid) for client in clients]
        for _ in range(2):
            for client in clients:
                client.ask("tools/call", SEARCH)
        return idle, [memory_mb(client.process.pid) for client in clients]


def report(name: str, count: int, measured: list[tuple[float, float]]) -> None:
    rss, pss = [m[0] for m in measured], [m[1] for m in measured]
    others = sorted(rss)[:-1] or rss
    print(
        f"{count:3} {name:28} RSS: largest {max(rss):6.1f}, largest of the others {max(others):6.1f}, "
        f"together {sum(rss):7.1f}; PSS together {sum(pss):7.1f}"
    )


def main() -> None:
    counts = [int(word) for word in sys.argv[1:]] or COUNTS
    with tempfile.TemporaryDirectory() as folder:
        remember = [sys.executable, "-m", "session_mgmt_mcp", "remember", "a note for the bench"]
        environment = {**os.environ, "SESSION_MGMT_DATA_DIR": folder}
        subprocess.run(remember, check=True, capture_output=True, env=environment)
        print("MB")
        for count in counts:
            idle, used = measure(count, OURS, folder)
            report("idle after the handshake", count, idle)
            report("each has searched", count, used)
            if count <= 5:
                _, used = measure(count, [sys.executable, "-P", "-c", UNSHARED], folder)
                report("each has searched, unshared", count, used)


if __name__ == "__main__":
    main()

"""What one hook costs: the whole process, from start to exit, against bare interpreters, interleaved.

    python benchmarks/hook_process.py [--json] [--rounds 60]

Every round runs each command once, in another order: `pass`, `import re`, `import json` (for scale), and the hook with each
kind of payload (a tool's result of 2 kB), durable in a log of its own, in a repository with a prepared brief of 800 tokens
and three other sessions at work. Median and 95th percentile of wall and CPU time in ms, and ratios to `pass` in the same
rounds. The hooks after which maintenance is due start `/bin/true` in its place: what it does is not the assistant's time.
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

from session_mgmt_mcp.core import briefs, live
from session_mgmt_mcp.core.log.log import FileLog
from session_mgmt_mcp.core.project import identify

KINDS: dict[str, dict[str, Any]] = {
    "PostToolUse": {
        "tool_name": "Bash",
        "tool_input": {"command": "grep -rn wheel ."},
        "tool_response": {"stdout": "wheel.py:1: speed = 3\n" * 80},
    },
    "UserPromptSubmit": {"prompt": "mend the wheel, it squeaks. " * 20},
    "Stop": {"last_assistant_message": "The wheel is mended. " * 20},
    "PreCompact": {"trigger": "auto", "custom_instructions": ""},
    "SessionEnd": {"reason": "exit"},
    "SessionStart": {"source": "startup", "model": "none"},
}
# As hook.py does it, but for what it starts: `capture` is imported from its cache all the same.
HOOK = """
import posix, sys
sys.path.append({root!r})
from session_mgmt_mcp.adapters.claude_code import capture
capture.spawn_maintenance = lambda folder: posix.posix_spawn(
    "/bin/true", ["true"], posix.environ, setsid=True, file_actions=[(posix.POSIX_SPAWN_OPEN, n, "/dev/null", 2, 0) for n in range(3)]
)
capture.main(sys.argv[1:])
"""


def package_root() -> str:
    spec = importlib.util.find_spec("session_mgmt_mcp")
    if spec is None or spec.origin is None:
        raise SystemExit("session_mgmt_mcp is not installed in this environment")
    return os.path.dirname(os.path.dirname(spec.origin))


def payload(kind: str, number: int, where: str) -> bytes:
    about = {"session_id": "bench", "transcript_path": f"{where}/none.jsonl", "cwd": f"{where}/src"}
    return json.dumps(
        {**about, "hook_event_name": kind, **KINDS[kind], "tool_use_id": f"toolu_{number}"}
    ).encode()


def prepare(folder: str, where: str) -> None:
    """A repository with a brief, and others at work in it: this process stands for their assistants."""
    os.makedirs(f"{where}/src")
    os.mkdir(f"{where}/.git")
    root = identify(f"{where}/src").root
    text = b"- decided: dates in tests are always UTC, see [1042]\\n" * 60
    briefs.write(briefs.project_path(folder, root), briefs.Prepared(0, text, text))
    for number in range(3):
        other = live.Live(f"other-{number}")
        other.folder = other.root = root
        other.process = live.assistant_process(os.getpid())
        other.prompt, other.prompted_at = "oil the hinges " * 10, time.time_ns() // 1000
        live.write(folder, other)


def run_once(command: list[str], stdin: bytes) -> tuple[float, float]:
    """(wall, CPU) in ms of one process."""
    read_end, write_end = os.pipe()
    os.write(write_end, stdin)
    os.close(write_end)
    start = time.perf_counter()
    actions = [(os.POSIX_SPAWN_DUP2, read_end, 0), (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0)]
    pid = os.posix_spawn(command[0], command, os.environ, file_actions=actions)
    _, status, usage = os.wait4(pid, 0)
    wall = time.perf_counter() - start
    os.close(read_end)
    if status:
        raise SystemExit(f"{command} ended with {os.waitstatus_to_exitcode(status)}")
    return wall * 1e3, (usage.ru_utime + usage.ru_stime) * 1e3


def run(folder: str, rounds: int) -> list[dict[str, Any]]:
    """A row each command."""
    log = FileLog(folder, create=True)
    where = os.path.dirname(folder) + "/mill"
    prepare(folder, where)
    bare = [sys.executable, "-I", "-S", "-c"]
    commands = {name: [*bare, name] for name in ("pass", "import re", "import json")}
    hook = [*bare, HOOK.format(root=package_root()), "--data-dir", folder]
    commands |= {f"hook {kind}": hook for kind in KINDS}
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    order = list(commands)
    for number in range(-3, rounds):
        random.shuffle(order)
        for name in order:
            kind = name.removeprefix("hook ")
            stdin = payload(kind, number, where) if kind in KINDS else b""
            figures = run_once(commands[name], stdin)
            if number >= 0:  # the first rounds warm the caches
                taken[name].append(figures)
    hooks = len(KINDS) * (rounds + 3)
    if log.head().position != hooks:
        raise SystemExit(f"{log.head().position} events in the log after {hooks} hooks")
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
            f"{r['command']:22} wall p50 {r['wall_p50_ms']:>6} p95 {r['wall_p95_ms']:>6}   cpu p50 {r['cpu_p50_ms']:>6} "
            f"p95 {r['cpu_p95_ms']:>6}   {r['wall_p50_to_pass']}× pass"
        )


if __name__ == "__main__":
    main()

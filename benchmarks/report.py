"""What every benchmark prints beside its figures: machine, commit, data set; and how figures are summed up."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

REAL_DATA_VARIABLE = "SESSION_MGMT_REAL_DATA"


def machine() -> dict[str, Any]:
    """The machine, the commit and how busy the machine is."""
    root = Path(__file__).parent
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=root, capture_output=True, text=True, check=False
    ).stdout.strip()
    return {
        "system": f"{platform.system()} {platform.release()}",
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "commit": commit or "unknown",
        "load": round(os.getloadavg()[0], 2),
    }


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """Median, p95, p99 and maximum of at least one value."""
    ordered = sorted(values)

    def at(share: float) -> float:
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    return {"p50": at(0.5), "p95": at(0.95), "p99": at(0.99), "max": ordered[-1]}


def real_transcripts() -> Path:
    """The folder of real Claude Code sessions; ends the program with a reason where none is named."""
    named = os.environ.get(REAL_DATA_VARIABLE)
    if not named:
        sys.exit(f"set {REAL_DATA_VARIABLE} to a folder with sessions/claude-code/**/*.jsonl")
    folder = Path(named) / "sessions" / "claude-code"
    return folder if folder.is_dir() else Path(named)


def show(name: str, figures: dict[str, Any], *, as_json: bool) -> None:
    """Print a benchmark's result."""
    found = {"benchmark": name, "machine": machine(), **figures}
    if as_json:
        print(json.dumps(found))
        return
    print(name)
    for key, value in found.items():
        if key != "benchmark":
            print(f"  {key}: {_readable(value)}")


def _readable(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {_readable(v)}" for k, v in value.items())
    return f"{value:.3g}" if isinstance(value, float) else str(value)

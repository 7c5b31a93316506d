"""kill -9 of whatever uses the log: every acknowledged event is there once, in a gapless order, and nobody saw else.

By command, a thousand kills: python tests/support/crash_harness.py FOLDER --kills 1000 --seconds 600 --progress
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HARNESS = Path(__file__).parents[1] / "support" / "crash_harness.py"


def crash(folder: Path, seconds: float, seed: int, kills: int = 1 << 60) -> dict[str, Any]:
    # the harness forks beside Arrow's idle threads, of which 3.12 and later warn
    command = [sys.executable, "-W", "ignore:This process:DeprecationWarning", str(HARNESS), str(folder)]
    options = ["--seconds", str(seconds), "--kills", str(kills), "--seed", str(seed)]
    done = subprocess.run(
        [*command, *options], capture_output=True, text=True, check=False, timeout=seconds * 5 + 120
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    found: dict[str, Any] = json.loads(done.stdout)
    print(json.dumps(found))
    return found


def test_kills_for_a_few_seconds_lose_nothing_acknowledged_also_in_a_second_run(tmp_path: Path) -> None:
    first = crash(tmp_path / "data", 20, 1, kills=10)
    again = crash(tmp_path / "data", 20, 1, kills=10)
    for found in (first, again):
        assert found["wrong"] == []
        assert found["kills"] > 0
        assert 0 < found["acknowledged"] <= found["events"]
    assert again["acknowledged"] > first["acknowledged"]  # what the first run was told counts in the second


@pytest.mark.slow
def test_kills_for_a_minute_lose_nothing_acknowledged(tmp_path: Path) -> None:
    seconds = float(os.environ.get("SESSION_MGMT_CRASH_SECONDS", "45"))
    found = crash(tmp_path / "data", seconds, int(os.environ.get("SESSION_MGMT_CRASH_SEED", "2")))
    assert found["wrong"] == []
    assert found["sealed"] > 0
    assert found["seen_by_readers"] > 0
    assert found["acknowledged_by_hooks"] > 0
    assert found["forgotten"] > 0
    assert 0 < found["acknowledged"] <= found["events"]

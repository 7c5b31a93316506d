"""The service on a machine with systemd: installed, restarted and upgraded under load, rolled back, restored, removed."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docker_kit import ROOT, run
from host_kit import Host, host, other_wheel

TOP = "/opt/session-mgmt"
SCRIPTS = f"{TOP}/current/deploy/scripts"
INSTALL = "/source/deploy/systemd/install.sh"
SERVICE = "session-mgmt-mcp.service"
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
BROKEN = '"""A release that does not start."""\nraise SystemExit("this release is broken")\n'
EMBED = "from session_mgmt_mcp.projections.embedding import Embedder; print(Embedder.open().embed_query('a text').size)"


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    """The package and what it needs, for the machine's Python, which has no network."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    pip = [sys.executable, "-m", "pip"]
    run(*pip, "wheel", "-q", "--no-deps", "-w", folder, ROOT)
    (wheel,) = folder.glob("session_mgmt_mcp-*.whl")
    platforms = [f"--platform={name}" for name in PLATFORMS]
    run(
        *pip, "download", "-q", "--only-binary=:all:", "--python-version=3.13", *platforms,
        "-c", ROOT / "constraints.txt", "-d", folder, wheel,
    )  # fmt: skip
    return folder


@pytest.fixture
def machine(tmp_path: Path, wheels: Path) -> Iterator[Host]:
    with host(tmp_path / "machine", {"/source": ROOT, "/wheels": wheels}) as booted:
        yield booted


def install(machine: Host, wheel: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return machine.run(
        INSTALL, "--source", f"/wheels/{wheel.name}", "--wheels", "/wheels", *options, check=False
    )


def pid(machine: Host) -> str:
    return machine.output("systemctl", "show", "--property=MainPID", "--value", SERVICE)


def current(machine: Host) -> str:
    return machine.output("readlink", f"{TOP}/current").removeprefix("releases/")


class Load:
    """Clients at work on the machine while something is done to the service."""

    def __init__(self, machine: Host, seconds: int) -> None:
        words = (
            "load-test", "--json", "--clients", "6", "--seconds", str(seconds),
            "--url", "http://127.0.0.1:8000/mcp", "--retry-s", "60",
        )  # fmt: skip
        self._command = machine.command(f"{TOP}/current/venv/bin/session-mgmt-mcp", *words)
        self.code = -1
        self.report: dict[str, Any] = {}
        asked = self._requests(machine)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        machine.until(lambda: self._requests(machine) > asked + 20, "the load to begin")

    @property
    def goes_on(self) -> bool:
        return self._thread.is_alive()

    def _requests(self, machine: Host) -> int:
        return int(machine.output("grep", "--count", "", f"{TOP}/logs/session-mgmt-mcp.log"))

    def _run(self) -> None:
        done = subprocess.run(self._command, capture_output=True, text=True, timeout=600, check=False)
        self.code = done.returncode
        self.report = json.loads(done.stdout) if done.stdout.startswith("{") else {"stderr": done.stderr}

    def end(self) -> dict[str, Any]:
        self._thread.join()
        assert self.code == 0, self.report
        return self.report


@pytest.mark.slow
def test_a_host_installs_upgrades_and_restores_without_losing_an_event(
    machine: Host, wheels: Path, tmp_path: Path
) -> None:
    (wheel,) = wheels.glob("session_mgmt_mcp-*.whl")
    newer = other_wheel(wheel, wheels, "9.0.0")
    broken = other_wheel(wheel, wheels, "9.0.1", {"session_mgmt_mcp/tools/commands/serve.py": BROKEN})

    # a release that does not start is refused where there is none before, and leaves nothing running
    failed = install(machine, broken)
    assert failed.returncode == 1
    assert "this release is broken" in failed.stderr
    assert machine.run("test", "-e", f"{TOP}/current", check=False).returncode == 1
    assert machine.run("systemctl", "is-active", SERVICE, check=False).stdout.strip() != "active"

    done = install(machine, wheel)
    assert done.returncode == 0, done.stderr
    first = current(machine)
    assert "FAILED" not in machine.output(f"{SCRIPTS}/health-check.sh")
    check_sandbox(machine)

    # the same thing again builds nothing
    assert f"{first} is there already" in install(machine, wheel).stdout
    assert current(machine) == first

    check_restarts(machine)
    check_upgrade(machine, newer, first)

    # a broken one is rolled back by itself, and the service goes on
    after = current(machine)
    rolled = install(machine, broken)
    assert rolled.returncode == 1
    assert f"went back to {after}" in rolled.stderr
    assert current(machine) == after
    assert "FAILED" not in machine.output(f"{SCRIPTS}/health-check.sh")

    check_backup_and_restore(machine)
    check_reboot(machine)

    machine.run(INSTALL, "--uninstall")
    assert machine.run("systemctl", "cat", SERVICE, check=False).returncode != 0
    assert machine.run("test", "-e", f"{TOP}/releases", check=False).returncode == 1
    machine.run("test", "-e", f"{TOP}/data/FORMAT.json")
    machine.run("test", "-e", "/etc/session-mgmt-mcp/service.env")


def check_sandbox(machine: Host) -> None:
    """In its sandbox it embeds, maintains and logs; its files are its own alone."""
    machine.run(f"{SCRIPTS}/run.sh", "remember", "the gate opens at dawn")
    python = f"{TOP}/current/venv/bin/python"
    within = ["systemd-run", "--wait", "--quiet", "--collect", "--pipe", *sandbox()]
    machine.run(*within, python, "-m", "session_mgmt_mcp", "maintain", "--once")
    assert machine.output(*within, python, "-c", EMBED) == "384"
    log = machine.output("cat", f"{TOP}/logs/session-mgmt-mcp.log")
    levels = [json.loads(line)["level"] for line in log.splitlines()]
    assert levels, "nothing was logged"
    assert {"WARNING", "ERROR", "CRITICAL"}.isdisjoint(levels), log
    assert (
        machine.output("stat", "-c", "%U %a", f"{TOP}/data", f"{TOP}/logs").split("\n")
        == ["session-mgmt 700"] * 2
    )
    assert machine.output("find", f"{TOP}/releases", "-user", "session-mgmt") == ""


def sandbox() -> list[str]:
    """The unit's own limits, for another command."""
    unit = (ROOT / "deploy/systemd" / SERVICE).read_text()
    lines = unit.split("[Service]")[1].split("[Install]")[0].splitlines()
    apart = ("Exec", "Type", "Restart", "Notify", "Timeout", "Watchdog", "WatchdogSec", "OOM", "Kill")
    return [
        f"--property={line}"
        for line in lines
        if "=" in line and line[0] != "#" and not line.startswith(apart)
    ]


def check_restarts(machine: Host) -> None:
    """Restarts, a kill -9 and a reload under load: every call is answered, everything acknowledged is found."""
    load = Load(machine, 30)
    machine.run("systemctl", "restart", SERVICE)
    before = pid(machine)
    machine.run("systemctl", "kill", "--signal=KILL", SERVICE)
    machine.until(lambda: pid(machine) not in ("0", before), "the service to come back")
    machine.until(
        lambda: machine.run("systemctl", "is-active", SERVICE, check=False).stdout.strip() == "active",
        "ready",
    )
    before = pid(machine)
    machine.run("systemctl", "reload", SERVICE)
    assert load.goes_on, "the load has to outlast what is done to the service"
    load.end()
    assert pid(machine) == before


def check_upgrade(machine: Host, newer: Path, first: str) -> None:
    """Switched forth, back and forth again, once under load; what was built before is switched to at once."""
    assert install(machine, newer).returncode == 0
    machine.run(INSTALL, "--rollback")
    assert current(machine) == first
    load = Load(machine, 30)
    done = install(machine, newer)
    assert done.returncode == 0, done.stderr
    assert load.goes_on, "the load has to outlast the switch"
    load.end()
    assert current(machine).startswith("9.0.0-")
    assert first in machine.output(INSTALL, "--list")


def check_backup_and_restore(machine: Host) -> None:
    machine.run("systemctl", "start", "session-mgmt-mcp-backup", "session-mgmt-mcp-verify")
    assert "ok      backup" in machine.output(f"{SCRIPTS}/health-check.sh", "--backup-age-max", "2")
    machine.run(f"{SCRIPTS}/run.sh", "remember", "written after the backup")
    done = machine.run(f"{SCRIPTS}/restore.sh", "--yes")
    assert "the state before is in" in done.stdout
    assert "FAILED" not in machine.output(f"{SCRIPTS}/health-check.sh")
    assert "opens at dawn" in machine.output(f"{SCRIPTS}/run.sh", "search", "gate dawn")
    assert "written after" not in machine.output(f"{SCRIPTS}/run.sh", "search", "written after the backup")
    assert machine.output("find", f"{TOP}/data", "!", "-user", "session-mgmt") == ""
    # what the backup did not have is still beside it
    machine.run("sh", "-c", f"test -e {TOP}/data.before-*/FORMAT.json")


def check_reboot(machine: Host) -> None:
    machine.stop()
    machine.boot()
    machine.until(
        lambda: machine.run(f"{SCRIPTS}/health-check.sh", check=False).returncode == 0,
        "the service after a reboot",
    )
    assert "opens at dawn" in machine.output(f"{SCRIPTS}/run.sh", "search", "gate dawn")

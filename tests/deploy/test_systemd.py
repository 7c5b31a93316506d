"""deploy/systemd without booting: systemd's own checks, and that units, settings and installer fit each other."""

import os
import re
import shutil
from pathlib import Path

import pytest
from docker_kit import DEPLOY, program, run

from session_mgmt_mcp.core.config import TABLE, load
from session_mgmt_mcp.core.errors import LogCorruptError, SettingsError
from session_mgmt_mcp.tools.cli import COMMANDS

FOLDER = DEPLOY / "systemd"
TOP = "/opt/session-mgmt"
SERVICE = "session-mgmt-mcp.service"
SERVICES = sorted(FOLDER.glob("*.service"))
UNITS = sorted(p for p in FOLDER.iterdir() if p.suffix in (".service", ".socket", ".timer"))
EXPOSURE_MAX = 2.0


def settings_of(unit: Path) -> dict[str, list[str]]:
    """What a unit says: setting -> its values in order."""
    found: dict[str, list[str]] = {}
    for line in unit.read_text().splitlines():
        if "=" in line and line[0] not in "#[":
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def variables(file: str) -> dict[str, str]:
    lines = (FOLDER / file).read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and line[0] != "#")


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units with programs that are there: the installer brings theirs."""
    folder = tmp_path / "units"
    folder.mkdir()
    for unit in UNITS:
        (folder / unit.name).write_text(
            re.sub(rf"^ExecStart={TOP}\S+", "ExecStart=/bin/true", unit.read_text(), flags=re.MULTILINE)
        )
    return folder


def test_systemd_understands_every_line(units: Path) -> None:
    analyze = program("systemd-analyze")
    done = run(analyze, "verify", *units.iterdir(), env={"SYSTEMD_UNIT_PATH": f"{units}:"}, check=False)
    assert (done.returncode, done.stderr) == (0, "")  # a misspelt setting is a warning only


@pytest.mark.parametrize("unit", SERVICES, ids=lambda path: path.name)
def test_a_service_is_exposed_to_little(unit: Path) -> None:
    analyze = program("systemd-analyze")
    done = run(
        analyze, "security", "--offline=true", "--no-pager", f"--threshold={EXPOSURE_MAX * 10:.0f}", unit
    )
    found = re.search(r"exposure level for \S+: ([\d.]+)", done.stdout)
    assert found is not None
    assert float(found[1]) <= EXPOSURE_MAX


def test_what_the_units_start_is_what_the_installer_brings() -> None:
    installer = (FOLDER / "install.sh").read_text()
    for unit in SERVICES:
        (command,) = settings_of(unit)["ExecStart"]
        path, *words = command.split()
        inside = path.removeprefix(f"{TOP}/current/")
        if inside == "venv/bin/session-mgmt-mcp":
            assert words[0] in COMMANDS
        else:
            assert os.access(DEPLOY / inside.removeprefix("deploy/"), os.X_OK)
        for line in settings_of(unit)["ReadWritePaths"]:
            for folder in line.split():
                made = folder.removeprefix("-").removeprefix(f"{TOP}/")
                assert re.search(rf"for folder in [^;]*\b{made}\b", installer), f"{folder} is made by nobody"
        for file in settings_of(unit)["EnvironmentFile"]:
            assert (FOLDER / Path(file).name).exists()
        assert settings_of(unit)["User"] == ["session-mgmt"]
    assert "useradd --system --user-group" in installer


def test_timers_start_services_that_exist() -> None:
    timers = [unit for unit in UNITS if unit.suffix == ".timer"]
    assert len(timers) == 2
    for timer in timers:
        assert timer.with_suffix(".service").exists()
        assert settings_of(timer)["Persistent"] == ["yes"]


def test_a_backup_and_a_verification_started_together_come_one_after_the_other() -> None:
    lines = (DEPLOY / "README.md").read_text().splitlines()
    (command,) = [line for line in lines if line.startswith("systemctl start session-")]
    first, second = [word for word in command.split() if word.startswith("session-")]
    assert f"{first}.service" in settings_of(FOLDER / f"{second}.service")["After"][0].split()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze: it reads calendars")
def test_the_times_of_timers_are_calendar_times() -> None:
    for unit in UNITS:
        for calendar in settings_of(unit).get("OnCalendar", []):
            assert run("systemd-analyze", "calendar", calendar).returncode == 0


def test_the_settings_are_ones_the_service_takes_and_the_unit_leaves_room_for_them() -> None:
    given = variables("service.env")
    known = {name for row in TABLE.values() for name in row.variables} | {"SESSION_MGMT_DATA_DIR"}
    assert set(given) <= known
    settings = load(given, None)
    unit = settings_of(FOLDER / SERVICE)
    assert settings.auth == "none"  # on loopback
    assert int(unit["TimeoutStopSec"][0]) > settings.drain_s
    assert int(unit["LimitNOFILE"][0]) > 2 * settings.max_connections
    assert int(unit["MemoryMax"][0].removesuffix("G")) * 1024 > settings.max_memory_mb > 0
    socket = settings_of(FOLDER / "session-mgmt-mcp.socket")
    assert socket["ListenStream"] == [f"{settings.http_host}:{settings.http_port}"]
    for name in ("SESSION_MGMT_DATA_DIR", "SESSION_MGMT_LOG_DIR"):
        assert given[name] in unit["ReadWritePaths"][0].split()


def test_the_scripts_read_what_is_set_for_them() -> None:
    scripts = "".join(
        path.read_text() for path in [*(DEPLOY / "scripts").glob("*.sh"), FOLDER / "install.sh"]
    )
    for name in variables("deploy.env"):
        assert f"${{{name}:-" in scripts, f"nobody reads {name}"


def test_no_restart_is_tried_where_none_can_mend_it() -> None:
    unit = settings_of(FOLDER / SERVICE)
    codes = {LogCorruptError.exit_code, SettingsError.exit_code}
    assert {int(word) for word in unit["RestartPreventExitStatus"][0].split()} == codes
    assert unit["Restart"] == ["always"]

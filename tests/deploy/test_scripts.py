"""deploy/scripts, run on real data folders; the machine's own systemd is never asked."""

import fcntl
import json
import os
import pwd
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker_kit import DEPLOY, ROOT, program, run
from script_kit import INSTALL, SCRIPTS, Place, answering
from service_process import ServiceProcess


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def url() -> Iterator[str]:
    with answering() as address:
        yield address


def scripts() -> list[Path]:
    named = [*DEPLOY.rglob("*.sh"), *(ROOT / ".ci").glob("*"), DEPLOY / "docker" / "health"]
    return [
        path for path in named if path.is_file() and path.read_bytes().startswith((b"#!", b"# shellcheck"))
    ]


def test_shellcheck_finds_nothing() -> None:
    assert len(scripts()) > 6
    done = run(program("shellcheck"), "--external-sources", *scripts(), check=False)
    assert done.returncode == 0, done.stdout


def test_the_tools_of_these_tests_are_left_out_where_they_cannot_be_had(tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("python", "npm", "apt-get", "debootstrap"):
        (programs / name).write_text("#!/bin/sh\necho 'that fails'\nexit 1\n")
    (programs / "id").write_text("#!/bin/sh\necho 1000\n")
    for path in programs.iterdir():
        path.chmod(0o755)
    environ = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHON": "python",
        "SESSION_MGMT_DEPLOY_TOOLS": str(tmp_path / "tools"),
    }
    done = run(ROOT / ".ci" / "deploy_tools", env=environ)
    assert done.stdout == f"{tmp_path / 'tools'}\n"  # the gate takes all of it for the folder
    assert done.stderr.count("deploy_tools: ") == 3


@pytest.mark.parametrize("path", [*sorted(SCRIPTS.glob("*.sh")), INSTALL], ids=lambda path: path.name)
def test_a_script_explains_itself_and_refuses_what_it_does_not_know(place: Place, path: Path) -> None:
    if path.name == "common.sh":
        assert not os.access(path, os.X_OK), "it is sourced, not run"
        return
    assert os.access(path, os.X_OK)
    shown = place.script(str(path), "--help")
    assert shown.returncode == 0
    assert path.name in shown.stdout.splitlines()[0]
    if path.name != "run.sh":
        refused = place.script(str(path), "--no-such-option")
        assert refused.returncode == 2
        assert "--help" in refused.stderr


@pytest.mark.parametrize(("path", "code"), [("/fine", 0), ("/busy", 1)])
def test_the_probe_says_what_was_answered_and_whether_it_is_well(url: str, path: str, code: int) -> None:
    done = run(sys.executable, "-I", "-S", SCRIPTS / "probe.py", url + path, check=False)
    assert done.returncode == code
    assert json.loads(done.stdout) == {"status": "told"}


def test_the_probe_fails_where_nobody_answers() -> None:
    probe = [sys.executable, "-I", "-S", SCRIPTS / "probe.py"]
    done = run(*probe, "http://127.0.0.1:1/ready", check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "refused" in done.stderr
    assert run(*probe, "ftp://127.0.0.1/", check=False).returncode == 2


def test_settings_files_are_read_and_never_executed(place: Place, tmp_path: Path) -> None:
    trap = tmp_path / "executed"
    place.write(
        f'SESSION_MGMT_DATA_DIR="{place.data}"\nA=$(touch {trap})\nB=`touch {trap}`\ntouch {trap}\n',
        f"BACKUP_DESTINATION={place.backups}",  # no newline at its end
    )
    place.remember("one")
    assert place.script("backup.sh").returncode == 0
    assert (place.backups / "BACKUP.json").exists()
    assert not trap.exists()


def test_a_backup_without_a_place_says_where_to_name_one(place: Place) -> None:
    place.write(f"SESSION_MGMT_DATA_DIR={place.data}\n", "")
    done = place.script("backup.sh")
    assert done.returncode == 2
    assert str(place.etc / "deploy.env") in done.stderr


@pytest.mark.slow
def test_verification_fails_where_a_byte_of_the_backup_changed(place: Place) -> None:
    place.remember("one")
    assert place.script("backup.sh").returncode == 0
    assert place.script("backup.sh", "--verify").returncode == 0
    (copied,) = (place.backups / "objects").rglob("*/*")
    copied.chmod(0o600)
    raw = bytearray(copied.read_bytes())
    raw[len(raw) // 2] ^= 1
    copied.write_bytes(raw)
    assert place.script("backup.sh", "--verify").returncode == 4


@pytest.mark.slow
def test_a_restore_keeps_the_state_before_and_what_no_backup_holds(place: Place) -> None:
    place.remember("one")
    assert place.script("backup.sh").returncode == 0
    place.remember("two")
    (place.data / "access.json").write_text("{}")
    done = place.script("restore.sh", "--yes")
    assert done.returncode == 0, done.stderr
    assert place.events() == 1
    assert (place.data / "access.json").read_text() == "{}"
    (before,) = place.data.parent.glob("data.before-*")
    place.data = before
    assert place.events() == 2


@pytest.mark.slow
def test_a_restore_that_is_not_confirmed_changes_nothing(place: Place) -> None:
    place.remember("one")
    assert place.script("backup.sh").returncode == 0
    place.remember("two")
    assert place.script("restore.sh").returncode == 2
    assert place.events() == 2


@pytest.mark.slow
def test_a_damaged_backup_is_not_switched_in(place: Place) -> None:
    place.remember("one")
    assert place.script("backup.sh").returncode == 0
    (copied,) = (place.backups / "objects").rglob("*/*")
    copied.chmod(0o600)
    copied.write_bytes(copied.read_bytes()[:-1])
    place.remember("two")
    assert place.script("restore.sh", "--yes").returncode == 4
    assert place.events() == 2


@pytest.mark.slow
def test_a_restore_after_which_the_service_is_not_ready_is_taken_back(place: Place) -> None:
    place.remember("one")
    assert place.script("backup.sh").returncode == 0
    place.remember("two")
    place.fake_systemctl.write_text(f'#!/bin/sh\necho "$*" >>{place.etc}/told\n')
    place.fake_systemctl.chmod(0o755)
    away = {"SYSTEMCTL": str(place.fake_systemctl), "HEALTH_URL": "http://127.0.0.1:1", "READY_WITHIN_S": "1"}
    done = place.script("restore.sh", "--yes", env=away)
    assert done.returncode == 1
    assert place.events() == 2
    told = [
        line.split()[0]
        for line in (place.etc / "told").read_text().splitlines()
        if not line.startswith("cat")
    ]
    assert told == ["stop", "start", "stop", "start"]


@pytest.mark.slow
@pytest.mark.parametrize("state", ["another log", "damaged", "gone"])
def test_what_is_restored_takes_the_place_of_a_log_that_cannot_be_asked(place: Place, state: str) -> None:
    place.remember("one")
    assert place.script("backup.sh").returncode == 0
    lost = place.data.with_name("lost")
    place.data.rename(lost)
    if state != "gone":  # a new machine's installation has made a log of its own
        place.remember("two")
        place.remember("three")
    if state == "damaged":
        (place.data / "FORMAT.json").write_text("{")
    done = place.script("restore.sh", "--yes")
    assert done.returncode == 0, done.stderr
    assert place.events() == 1
    assert len(list(place.data.parent.glob("data.before-*"))) == (state != "gone")


@pytest.mark.slow
def test_a_restore_that_fails_half_way_leaves_the_state_before_and_a_started_service(
    place: Place, tmp_path: Path
) -> None:
    place.remember("one")
    assert place.script("backup.sh").returncode == 0
    place.remember("two")
    (place.data / "access.json").write_text("{}")
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, does in {"cp": "exit 1", "systemctl": f'echo "$1" >>{place.etc}/told'}.items():
        (programs / name).write_text(f"#!/bin/sh\n{does}\n")
        (programs / name).chmod(0o755)
    path = f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    away = {"SYSTEMCTL": str(programs / "systemctl"), "PATH": path, "HEALTH_URL": "http://127.0.0.1:1"}
    done = place.script("restore.sh", "--yes", env=away)
    assert done.returncode == 1
    assert "the state before is back" in done.stderr
    assert place.events() == 2
    assert (place.etc / "told").read_text().split()[-1] == "start"


def test_two_restores_do_not_meet(place: Place) -> None:
    place.remember("one")
    folder = os.open(place.data.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        done = place.script("restore.sh", "--yes")
    finally:
        os.close(folder)
    assert done.returncode == 2
    assert "at work" in done.stderr
    assert place.events() == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone can go on as another user")
def test_a_backup_started_by_root_goes_on_as_the_owner_of_the_data(place: Place, tmp_path: Path) -> None:
    place.data.mkdir()
    os.chown(place.data, 65534, 65534)
    runuser = tmp_path / "runuser"
    runuser.write_text('#!/bin/sh\necho "$@"\n')
    runuser.chmod(0o755)
    path = f"{tmp_path}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = place.script("backup.sh", "--verify", env={"PATH": path})
    owner = pwd.getpwuid(65534)
    assert done.stdout.startswith(f"-u {owner.pw_name} -- "), done.stderr
    assert done.stdout.endswith(f"HOME={owner.pw_dir} {SCRIPTS / 'backup.sh'} --verify\n")


@pytest.mark.slow
def test_the_health_check_tells_a_ready_service_from_one_that_is_gone(place: Place) -> None:
    place.remember("one")
    assert place.script("backup.sh").returncode == 0
    with ServiceProcess(place.data) as service:
        url = service.addresses["mcp"].removesuffix("/mcp")
        place.remember("two")  # beside the service
        well = place.script(
            "health-check.sh", "--url", f"{url}/", "--disk-max", "100", "--backup-age-max", "1"
        )
        assert well.returncode == 0, well.stdout
        assert [line.split()[:2] for line in well.stdout.splitlines()] == [
            ["ok", "/health:"], ["ok", "/ready:"], ["ok", "disk:"], ["ok", "backup:"],
        ]  # fmt: skip
    gone = place.script("health-check.sh", "--url", url, "--disk-max", "0", "--backup-age-max", "0")
    assert gone.returncode == 1
    assert [line.split()[0] for line in gone.stdout.splitlines()] == ["FAILED"] * 4

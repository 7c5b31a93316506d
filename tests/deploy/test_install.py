"""The installer below another root, with packages that are quickly installed; the machine's own systemd is never asked."""

import re
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker_kit import DEPLOY, ROOT, run
from script_kit import INSTALL, Place, answering

FAKE_PROGRAM = "import sys\n\ndef main():\n    print('{version}')\n"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def url() -> Iterator[str]:
    with answering() as address:
        yield address


def fake_wheel(folder: Path, version: str) -> Path:
    """A package that is quickly installed and says its version."""
    path = folder / f"session_mgmt_mcp-{version}-py3-none-any.whl"
    info = f"session_mgmt_mcp-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("session_mgmt_fake.py", FAKE_PROGRAM.format(version=version))
        wheel.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: session-mgmt-mcp\nVersion: {version}\n"
        )
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(
            f"{info}/entry_points.txt", "[console_scripts]\nsession-mgmt-mcp = session_mgmt_fake:main\n"
        )
        wheel.writestr(f"{info}/RECORD", "")
    return path


def test_what_is_neither_wheel_nor_clone_is_not_installed(place: Place, tmp_path: Path) -> None:
    done = place.script(str(INSTALL), "--root", str(tmp_path / "root"), "--source", str(place.etc))
    assert done.returncode == 2
    assert str(place.etc) in done.stderr
    assert not (tmp_path / "root/opt/session-mgmt/current").exists()


@pytest.mark.slow
def test_a_wheel_that_cannot_be_built_ends_the_installation(place: Place, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    clone.mkdir()
    (clone / "broken.py").write_text("raise SystemExit('no wheel today')\n")
    (clone / "pyproject.toml").write_text(
        "[build-system]\nrequires = []\nbuild-backend = 'broken'\nbackend-path = ['.']\n"
    )
    done = place.script(str(INSTALL), "--root", str(tmp_path / "root"), "--source", str(clone))
    assert done.returncode == 1
    assert "no wheel today" in done.stderr and "session_mgmt_mcp-*" not in done.stderr
    assert list((tmp_path / "root/opt/session-mgmt/releases").iterdir()) == []


@pytest.mark.slow
def test_an_upgrade_that_is_interrupted_can_be_rolled_back_and_one_that_fails_is(
    place: Place, tmp_path: Path, url: str
) -> None:
    root = tmp_path / "root"
    killing, failing = tmp_path / "killing", tmp_path / "failing"
    place.fake_systemctl.write_text(  # its parent is timeout, whose parent is the installer
        f'#!/bin/sh\n[ "$1" = daemon-reload ] && rm {failing} 2>/dev/null && exit 1\n'
        f'[ "$1" = restart ] && [ -e {killing} ] || exit 0\n'
        "kill -9 $(awk '/^PPid/ { print $2 }' /proc/$PPID/status)\n"
    )
    place.fake_systemctl.chmod(0o755)

    def install(*options: str) -> int:
        env = {"SYSTEMCTL": str(place.fake_systemctl), "HEALTH_URL": f"{url}/"}
        return place.script(str(INSTALL), "--root", str(root), *options, env=env).returncode

    def version() -> str:
        return run(root / "opt/session-mgmt/current/venv/bin/session-mgmt-mcp").stdout.strip()

    assert install("--source", str(fake_wheel(tmp_path, "1.0.0")), "--wheels", str(tmp_path)) == 0
    killing.touch()
    newer = ["--source", str(fake_wheel(tmp_path, "1.1.0")), "--wheels", str(tmp_path)]
    assert install(*newer) == -9
    killing.unlink()
    assert version() == "1.1.0"
    assert install("--rollback") == 0
    assert version() == "1.0.0"
    failing.touch()
    assert install(*newer) == 1
    assert not failing.exists() and version() == "1.0.0"
    assert install("--rollback") == 0
    assert version() == "1.1.0"


@pytest.mark.slow
def test_releases_are_kept_switched_and_dropped_and_data_stay(place: Place, tmp_path: Path) -> None:
    root = tmp_path / "root"
    top = root / "opt/session-mgmt"
    clone = tmp_path / "clone"  # of a root that keeps everything to itself
    shutil.copytree(DEPLOY, clone / "deploy", ignore=shutil.ignore_patterns("secrets"))
    shutil.copy(ROOT / "constraints.txt", clone)
    run("chmod", "-R", "go=", clone)

    def install(*options: str, script: Path = clone / "deploy/systemd/install.sh") -> str:
        done = place.script(str(script), "--root", str(root), *options, umask=0o077)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def version() -> str:
        return run(top / "current/venv/bin/session-mgmt-mcp").stdout.strip()

    wheels = ["--wheels", str(tmp_path), "--keep", "2"]
    first = fake_wheel(tmp_path, "1.0.0")
    assert "built 1.0.0-" in install("--source", str(first), *wheels)
    assert "is there already" in install("--source", str(first), *wheels)
    own = top / "current/deploy/systemd/install.sh"
    assert "is there already" in install("--source", str(first), *wheels, script=own)
    for path in [top, *(top / "releases").rglob("*")]:
        assert path.stat().st_mode & (0o555 if path.is_dir() else 0o444) in (0o555, 0o444), path
    assert (top / "current/deploy/scripts/backup.sh").stat().st_mode & 0o777 == 0o755
    assert (top / "data").stat().st_mode & 0o777 == 0o700
    (top / "releases/0.9.0-interrupted").mkdir()
    assert not (top / "previous").exists()
    (top / "data/mine").write_text("kept")
    settings = root / "etc/session-mgmt-mcp/service.env"
    settings.write_text("MAX_WORKERS=2\n")
    for release in ("1.1.0", "1.2.0"):
        install("--source", str(fake_wheel(tmp_path, release)), *wheels)
        assert version() == release
    listed = install("--list").split("\n")
    assert re.fullmatch(r"1\.2\.0-\w{8} current", listed[0])
    assert re.fullmatch(r"1\.1\.0-\w{8} previous", listed[1])
    assert len(list((top / "releases").iterdir())) == 2
    install("--rollback")
    assert version() == "1.1.0"
    assert (root / "etc/systemd/system/session-mgmt-mcp.service").exists()
    install("--uninstall")
    assert not (top / "releases").exists()
    assert list((root / "etc/systemd/system").iterdir()) == []
    assert (top / "data/mine").read_text() == "kept"
    assert settings.read_text() == "MAX_WORKERS=2\n"

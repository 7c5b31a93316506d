"""What is installed from a wheel is the whole tree, and a folder with modules of the same names does not disturb it."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("core", "projections", "adapters", "tools")
POISON = "raise RuntimeError('imported from the working folder: ' + __file__)\n"

pytestmark = pytest.mark.slow


def _expected() -> set[str]:
    """The files of the tree under their names in the installed package."""
    names = {f"session_mgmt_mcp/{name}" for name in ("__init__.py", "__main__.py", "server.py", "py.typed")}
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith("."):
                names.add(f"session_mgmt_mcp/{path.relative_to(ROOT).as_posix()}")
    return names


def _run(
    *command: str | Path, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "SESSION_MGMT_"))
    }
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=clean | {"SESSION_MGMT_EMBED": "off"} | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist and the wheel that was built from it; in its `tree`, the wheel built from the tree."""
    folder = tmp_path_factory.mktemp("dist")
    _run(sys.executable, "-m", "build", "--outdir", folder, ROOT)  # the sdist, and the wheel from the sdist
    _run(sys.executable, "-m", "build", "--wheel", "--outdir", folder / "tree", ROOT)
    return folder


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with the wheel installed; dependencies come from the one that runs the tests."""
    folder = tmp_path_factory.mktemp("installed")
    _run(sys.executable, "-m", "venv", folder)
    python = folder / "bin" / "python"
    _run(python, "-m", "pip", "install", "-q", "--no-deps", "--no-index", next(built.glob("*.whl")))
    site = Path(_run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").stdout.strip())
    outer = _run(
        sys.executable, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"
    ).stdout.strip()
    (site / "dependencies.pth").write_text(outer + "\n")
    return python


@pytest.fixture
def poisoned(tmp_path: Path) -> Path:
    """A project folder with modules of our folders' names, each of which raises when imported."""
    (tmp_path / "core.py").write_text(POISON)
    for folder in FOLDERS[1:]:
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "__init__.py").write_text(POISON)
    return tmp_path


@pytest.mark.parametrize("source", ["sdist", "tree"])
def test_the_wheel_holds_the_whole_tree_and_nothing_else(built: Path, source: str) -> None:
    with zipfile.ZipFile(next((built if source == "sdist" else built / "tree").glob("*.whl"))) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert names == _expected()


def test_the_sdist_holds_the_tests_and_what_they_read(built: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert {"README.md", "CHANGELOG.md", "LICENSE", "constraints.txt", "pyproject.toml"} <= names
    assert "tests/packaging/test_wheel.py" in names
    assert ".claude-plugin/marketplace.json" in names


def test_the_installed_package_is_the_wheels(installed: Path, poisoned: Path) -> None:
    where = _run(
        installed, "-c", "import session_mgmt_mcp; print(session_mgmt_mcp.__file__)", cwd=poisoned
    ).stdout
    assert Path(where.strip()).is_relative_to(installed.parents[1])


def test_the_command_line_works_in_a_folder_with_modules_of_the_same_names(
    installed: Path, poisoned: Path
) -> None:
    done = _run(installed, "-m", "session_mgmt_mcp", "--help", cwd=poisoned, HOME=str(poisoned))
    assert "example:" in done.stdout
    done = _run(installed.with_name("session-mgmt-mcp"), "--version", cwd=poisoned, HOME=str(poisoned))
    assert done.stdout.strip()


def test_the_server_works_in_a_folder_with_modules_of_the_same_names(installed: Path, poisoned: Path) -> None:
    for flags in ([], ["-P"]):
        done = _run(installed, *flags, "-m", "session_mgmt_mcp.server", cwd=poisoned, HOME=str(poisoned))
        assert done.stdout == ""
        assert "Traceback" not in done.stderr

"""What the tracked files must not contain, and how long they may be."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINES_MAX = 400
# put together here, so that this file does not hold what it looks for
BANNED = [
    re.compile(pattern)
    for pattern in (
        r"/wo"
        + r"rk/(?<![\w./~}-]......)",  # behind the word: looking at every place before it takes seconds
        r"/ro" + r"ot/(?<![\w./~}-]......)",
        r"files\.python" + r"hosted\.org",
        r"py" + r"pi\.org/simple",
        r"index-ur" + r"l\s*=",
    )
]


def _tracked() -> list[Path]:
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git clone: no list of tracked files")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    paths = [ROOT / name for name in listed.decode().split("\0") if name]
    return [path for path in paths if path.is_file() and not path.is_symlink()]


def test_no_file_names_a_workplace_or_a_registry() -> None:
    found = []
    for path in _tracked():
        if path.suffix == ".onnx":  # the shipped model is no text
            continue
        raw = path.read_bytes()
        if b"\0" in raw[:8192]:
            continue
        text = raw.decode("utf-8", "replace")
        if not any(banned.search(text) for banned in BANNED):
            continue
        for number, line in enumerate(text.splitlines(), 1):
            found += [
                f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
                for banned in BANNED
                if banned.search(line)
            ]
    assert found == []


def test_no_lock_file_is_tracked() -> None:
    assert [path.name for path in _tracked() if path.name in ("uv.lock", "poetry.lock", "Pipfile.lock")] == []


def test_source_files_are_short() -> None:
    sources = [
        path for path in _tracked() if path.suffix in (".py", ".md", ".toml", "") and path.name != "LICENSE"
    ]
    assert sources
    too_long = {str(path.relative_to(ROOT)): lines for path in sources if (lines := len(path.read_text("utf-8").splitlines())) > LINES_MAX}  # fmt: skip
    assert too_long == {}


def test_every_dependency_says_why() -> None:
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    project = tomllib.loads(text)["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    wanted = [
        dependency
        for group in groups
        for dependency in group
        if not dependency.startswith("session-mgmt-mcp")
    ]
    assert wanted
    silent = [
        dependency
        for dependency in wanted
        if not re.search(re.escape(f'"{dependency}",') + r"\s+# \w{2,}", text)
    ]
    assert silent == []


def test_every_dependency_has_a_tested_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    names = {re.split(r"[<>=!~\[; ]", dependency)[0].lower() for group in groups for dependency in group} - {
        "session-mgmt-mcp"
    }
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    tested = {line.partition("==")[0].lower() for line in lines if "==" in line}
    assert names <= tested
    assert [
        line
        for line in lines
        if line and not line.startswith("#") and not re.fullmatch(r"[\w.-]+==[\w.]+", line)
    ] == []

"""deploy/README.md says what is there, and nothing that is not."""

import contextlib
import functools
import io
import re
import subprocess
from pathlib import Path

import pytest
from docker_kit import DEPLOY, ROOT, run

from session_mgmt_mcp.core.config import OTHER_VARIABLES, TABLE
from session_mgmt_mcp.tools.cli import COMMANDS, main

README = DEPLOY / "README.md"
TEXT = README.read_text("utf-8")
GUIDES_DEFECTS = 32
BLOCKS = re.findall(r"^```bash\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
LINES = [line for block in BLOCKS for line in block.splitlines()]


@functools.cache
def options_of(command: str) -> str:
    """The help of one of our commands, and of its parts where it has some."""
    shown = io.StringIO()
    for words in ([command], *([command, part] for part in ("create", "list") if command == "keys")):
        with contextlib.redirect_stdout(shown), pytest.raises(SystemExit):
            main([*words, "--help"])
    return shown.getvalue()


def anchor(title: str) -> str:
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def test_every_link_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)]+)\)", TEXT)
    assert len(links) > 8
    for link in links:
        path, _, place = link.partition("#")
        target = (DEPLOY / path).resolve() if path else README
        assert target.exists(), link
        if place:
            titles = re.findall(r"^#+ (.+)$", target.read_text("utf-8"), re.MULTILINE)
            assert place in {anchor(title) for title in titles}, link


def test_every_command_it_shows_exists_with_its_options() -> None:
    shown = 0
    for line in LINES:
        for command, rest in re.findall(r"(?:session-mgmt-mcp|run\.sh) ([a-z][a-z-]+)\b([^&|;]*)", line):
            assert command in COMMANDS, line
            shown += 1
            for option in re.findall(r"\s(--[a-z-]+)", rest):
                assert option in options_of(command), line
    assert shown >= 5


def test_every_script_it_shows_exists_and_knows_the_options() -> None:
    prose = re.findall(r"`([^`\n]*)`", TEXT)
    shown = 0
    for line in [*LINES, *prose]:
        for name, rest in re.findall(r"(\b[\w/.-]+\.sh)((?: --?[\w-]+(?: [^\s`-]\S*)?)*)", line):
            (script,) = [path for path in DEPLOY.rglob(Path(name).name)]
            shown += 1
            for option in re.findall(r"--[a-z-]+", rest):
                assert option in script.read_text(), line
    assert shown >= 10


def test_every_file_and_test_it_names_exists() -> None:
    quoted = {word for text in re.findall(r"`([^`\n]*)`", TEXT) for word in text.split()}
    tests = {word for word in quoted if re.fullmatch(r"(tests/\w+/)?test_[\w*]+\.py", word)}
    assert len(tests) >= 8
    for name in tests:
        found = list(ROOT.glob(name)) if "/" in name else list((ROOT / "tests/deploy").glob(name))
        assert found, name
    folders = "|".join(sorted(path.name for path in DEPLOY.iterdir() if path.is_dir()))
    files = {word for word in quoted if re.match(rf"(?:deploy/)?(?:{folders})/", word)}
    assert len(files) >= 8
    for name in files:
        assert (DEPLOY / name.removeprefix("deploy/")).exists(), name


def test_every_setting_it_names_exists() -> None:
    known = {name for row in TABLE.values() for name in row.variables} | OTHER_VARIABLES
    used = set(re.findall(r"\bSESSION_MGMT_[A-Z_]+\b", TEXT))
    assert used
    assert used <= known


def test_every_folder_and_every_unit_is_told_of() -> None:
    for folder in DEPLOY.iterdir():
        if folder.is_dir():
            assert f"{folder.name}/" in TEXT or f"({folder.name}" in TEXT
    for unit in (DEPLOY / "systemd").glob("*.service"):
        assert unit.stem in TEXT


def test_each_of_the_guides_defects_is_answered() -> None:
    answered: list[int] = []
    for numbers in re.findall(r"^\| ([\d–, ]+) \|", TEXT, re.MULTILINE):
        for part in numbers.split(", "):
            first, _, last = part.partition("–")
            answered += range(int(first), int(last or first) + 1)
    assert sorted(answered) == list(range(1, GUIDES_DEFECTS + 1))


def test_it_claims_nothing_that_was_not_run() -> None:
    rows = [line for line in TEXT.splitlines() if line.startswith("| ")]
    for what, words in {
        "Grafana": "never rendered",
        "Kubernetes": "not run on a cluster",
        "ECS": "not yet",
    }.items():
        assert any(row.startswith(f"| {what}") and words in row for row in rows), what
    assert "@" not in re.sub(r"`[^`]*`", "", TEXT), "a result that nobody filled in"


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_a_block_is_a_script_that_bash_understands(block: str) -> None:
    done = subprocess.run(["bash", "-n"], input=block, text=True, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_key_made_as_it_says_is_one_the_service_takes(tmp_path: Path) -> None:
    (line,) = [line for line in LINES if "secrets/admin-key" in line]
    run("bash", "-c", line, cwd=tmp_path)
    key = (tmp_path / "secrets/admin-key").read_text()
    assert re.fullmatch(r"smk_[0-9a-f]{12}_[0-9a-f]{64}", key)
    assert (tmp_path / "secrets/admin-key").stat().st_mode & 0o077 == 0

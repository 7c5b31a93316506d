"""Completion: the scripts of real shells offer what the parsers take."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from session_mgmt_mcp.tools import completions
from session_mgmt_mcp.tools.cli import COMMANDS, main

BASH = shutil.which("bash")
ASK = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
$(complete -p session-mgmt-mcp | sed 's/.*-F \\([^ ]*\\).*/\\1/')
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("completion") / "script.bash"
    path.write_text(completions.script("bash"))
    return path


def ask(script: Path, *words: str, **options: str) -> list[str]:
    """What bash offers for the last of these words."""
    if BASH is None:
        pytest.skip("bash is not installed")
    done = subprocess.run(
        [BASH, "--norc", "-c", ASK, "bash", str(script), "session-mgmt-mcp", *words],
        capture_output=True,
        text=True,
        check=True,
        **options,  # type: ignore[call-overload]
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_bash_offers_every_command_and_what_begins_as_typed(script: Path) -> None:
    assert set(ask(script, "")) == {*COMMANDS, "--help", "--version"}
    assert ask(script, "sta") == ["stats", "status"]


def test_bash_offers_a_commands_options_and_those_of_its_parts(script: Path) -> None:
    assert ask(script, "import", "--f") == ["--format"]
    assert {"--json", "--no-pager", "--project"} <= set(ask(script, "search", "--"))
    assert set(ask(script, "audit", "")) == {"verify", "log", "sign", "check"}
    assert ask(script, "audit", "log", "--form") == ["--format"]


def test_bash_offers_the_values_of_an_option_however_it_is_written(script: Path) -> None:
    assert ask(script, "import", "--format", "g") == ["generic"]
    assert ask(script, "import", "--format", "=", "c") == ["claude-code"]
    assert set(ask(script, "import", "--format", "=")) == {"auto", "claude-code", "generic"}
    assert "prompt" in ask(script, "search", "--kind", "")
    assert ask(script, "completion", "f") == ["fish"]


def test_bash_offers_nothing_for_a_value_nobody_can_guess(script: Path) -> None:
    assert ask(script, "search", "--limit", "") == []
    assert ask(script, "search", "--limit", "-") == []


def test_bash_offers_files_where_paths_are_wanted(script: Path, tmp_path: Path) -> None:
    for name in ("history.jsonl", "hist two.jsonl"):
        (tmp_path / name).touch()
    assert ask(script, "import", f"{tmp_path}/history") == [f"{tmp_path}/history.jsonl"]
    assert len(ask(script, "import", f"{tmp_path}/hist")) == 3  # two names, one of them of two words


def test_bash_offers_ids_of_sessions_and_obeys_none(script: Path, tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    program = tmp_path / "session-mgmt-mcp"
    ids = ("till/1", "tool-2", f"t$(touch {touched})", "t`touch x`", "with space")
    listed = ", ".join(f'{{"session": "{name}", "title": "t"}}' for name in ids)
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{{\"sessions\": [{listed}]}}\nEND\n")
    program.chmod(0o700)
    path = {"env": {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}}
    assert ask(script, "show", "t", **path) == ["till/1", "tool-2"]  # type: ignore[arg-type]
    assert ask(script, "search", "--session", "ti", **path) == ["till/1"]  # type: ignore[arg-type]
    assert not touched.exists()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_takes_its_script(shell: str, tmp_path: Path) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    path = tmp_path / "script"
    path.write_text(completions.script(shell))
    done = subprocess.run([program, "-n", str(path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_names_every_option_of_every_command(shell: str) -> None:
    made = completions.script(shell)
    found = re.findall(r"-[ls] ([a-z-]+)" if shell == "fish" else r"(?<![\w-])--?[a-z][a-z-]*", made)
    for node in completions.nodes():
        for option in node.options:
            assert {name.lstrip("-") if shell == "fish" else name for name in option.names} <= set(found)
    assert [command for command in COMMANDS if not re.search(rf"\b{command}\b", made)] == []


def test_the_command_prints_the_script(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "zsh"]) == 0
    assert capsys.readouterr().out == completions.script("zsh")


def test_an_unknown_shell_is_refused() -> None:
    with pytest.raises(SystemExit) as ended:
        main(["completion", "cmd"])
    assert ended.value.code == 2


@pytest.mark.slow
def test_the_installed_program_prints_what_bash_can_source() -> None:
    if BASH is None:
        pytest.skip("bash is not installed")
    made = f'"{sys.executable}" -m session_mgmt_mcp completion bash'
    done = subprocess.run(
        [BASH, "--norc", "-c", f"source <({made}); complete -p session-mgmt-mcp"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.startswith("complete -F")

"""The documents and the command line agree."""

import contextlib
import functools
import io
import re
from pathlib import Path

import pytest

from session_mgmt_mcp.tools.cli import COMMANDS, main
from session_mgmt_mcp.tools.completions import nodes
from session_mgmt_mcp.tools.folder_files import FILES

ROOT = Path(__file__).resolve().parents[2]
_FENCE = re.compile(r"^```(?:console|bash|sh)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(r"\bsession-mgmt-mcp ([a-z][a-z-]*)")


def _shell_lines(text: str) -> list[str]:
    """The commands in a document's shell blocks, without prompts, comments and output."""
    lines = []
    for block in _FENCE.findall(text):
        prompted = [line[2:] for line in block.splitlines() if line.startswith("$ ")]
        lines += prompted or [line for line in block.splitlines() if line and not line.startswith("#")]
    return lines


@functools.cache
def _help(*arguments: str) -> str:
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), pytest.raises(SystemExit) as ended:
        main([*arguments, "--help"])
    assert ended.value.code in (None, 0)
    return shown.getvalue()


@pytest.mark.parametrize("document", ["README.md"])
def test_every_command_a_document_names_exists(document: str) -> None:
    text = (ROOT / document).read_text("utf-8")
    in_blocks = {name for line in _shell_lines(text) for name in _COMMAND.findall(line)}
    in_prose = set(re.findall(r"`session-mgmt-mcp ([a-z][a-z-]*)", text))
    assert in_blocks, "the document shows no command"
    assert in_blocks | in_prose <= set(COMMANDS)


@functools.cache
def _options() -> dict[str, set[str]]:
    """Command, or command and part -> its options."""
    return {
        node.name: {name for option in node.options for name in option.names}
        for command in nodes()
        for node in (command, *command.parts)
    }


def test_the_options_a_document_shows_exist() -> None:
    shown = 0
    for line in _shell_lines((ROOT / "README.md").read_text("utf-8")):
        for part in re.split(r"&&|\||;", line):
            if named := re.search(r"\bsession-mgmt-mcp ([a-z-]+)( [a-z]+)?", part):
                known = _options().get(named[0].partition(" ")[2], _options()[named[1]])
                found = re.findall(r"\s(--[a-z-]+)", part)
                assert [option for option in found if option not in known] == [], line
                shown += len(found)
    assert shown > 10


def test_the_table_of_commands_has_a_row_for_each_and_no_other_options() -> None:
    text = (ROOT / "README.md").read_text("utf-8").partition("## Commands")[2].partition("\n## ")[0]
    rows = [
        re.split(r"(?<!\\) \| ", row, maxsplit=1) for row in re.findall(r"^\| (`.*) \|$", text, re.MULTILINE)
    ]
    told = set()
    for first, does in rows:
        named = {name for name in re.findall(r"`([a-z-]+)", first) if name in COMMANDS}
        parts = [options for name, options in _options().items() if name.partition(" ")[0] in named]
        known = set().union(*parts)
        assert [o for o in re.findall(r"(?<![\w-])--[a-z][a-z-]*", first + does) if o not in known] == [], (
            first
        )
        told |= named
    assert told == set(COMMANDS)


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_a_command_explains_itself_with_an_example(command: str) -> None:
    text = _help(command)
    assert "example:\n  session-mgmt-mcp " + command in text
    assert "--json" in text
    assert "exit codes:" in text


def test_the_top_level_help_lists_every_command_and_exit_code() -> None:
    text = _help()
    assert [name for name in COMMANDS if not re.search(rf"^  {name} ", text, re.MULTILINE)] == []
    assert "example:" in text
    assert "exit codes:" in text


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    said = capsys.readouterr()
    assert (said.out, "commands:\n  setup" in said.err) == ("", True)


def test_the_format_lists_every_file_of_the_data_folder() -> None:
    text = (ROOT / "core" / "log" / "FORMAT.md").read_text("utf-8")
    listed = {
        name
        for row in re.findall(r"^\| (`[^|]*) \|", text, re.MULTILINE)
        for name in re.findall(r"`([^`]*)`", row)
    }
    assert listed >= FILES


def test_the_changelog_has_an_unreleased_section_that_starts_with_the_format() -> None:
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert re.findall(r"^##+ .*", text, re.MULTILINE)[:2] == ["## [Unreleased]", "### On disk"]

"""The real Claude Code with our registration: it works on as before, and everything it did is found."""

import fcntl
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from claude_client import client_environment
from claude_machine import DIRECT_TOOLS, EVENTS, PLUGIN_TOOLS, WORK, Machine, failed_hooks, outcome

ROOT = Path(__file__).resolve().parents[2]


def tool_results(requests: list[dict[str, Any]]) -> str:
    return json.dumps(
        [
            block["content"]
            for request in requests
            for message in request["messages"]
            for block in (message["content"] if isinstance(message["content"], list) else ())
            if block.get("type") == "tool_result"
        ]
    )


@pytest.mark.parametrize("folder", [".", "adapters/claude_code/plugin"])
def test_plugin_and_marketplace_are_valid_in_the_strict_sense(machine: Machine, folder: str) -> None:
    assert "Validation passed" in machine.claude("plugin", "validate", "--strict", str(ROOT / folder))


@pytest.mark.parametrize("how", ["plugin", "settings"])
def test_everything_a_session_did_is_captured_once_before_the_client_exits(
    machine: Machine, how: str
) -> None:
    machine.run("setup", "--yes", *(["--no-plugin"] if how == "settings" else []))
    stream, _ = machine.session("write the note", *WORK)
    assert outcome(stream) == ("success", False)
    assert (machine.work / "note.txt").read_text() == "hello\n"
    assert machine.own_hook.read_text() == "ü\n", "the user's own hook still runs"
    assert [payload["hook_event_name"] for payload in machine.reported()] == EVENTS
    assert failed_hooks(stream) == []


def test_moving_from_the_settings_to_the_plugin_captures_nothing_twice(machine: Machine) -> None:
    machine.run("setup", "--yes", "--no-plugin")
    machine.run("setup", "--yes")
    machine.session("write the note", *WORK)
    assert [payload["hook_event_name"] for payload in machine.reported()] == EVENTS


@pytest.mark.parametrize("how", ["plugin", "settings"])
def test_the_next_session_finds_it_through_the_server(machine: Machine, how: str) -> None:
    machine.run("setup", "--yes", *(["--no-plugin"] if how == "settings" else []))
    search = (PLUGIN_TOOLS if how == "plugin" else DIRECT_TOOLS) + "search"
    first, _ = machine.session("write the note", *WORK)
    _, shown = machine.session(
        "what did we write", (search, {"query": "marzipan note"}), "that", tools=search
    )
    answer = tool_results(shown)
    assert first[-1]["session_id"][:8] in answer
    assert "write the marzipan note" in answer
    assert str(machine.work) in answer


def test_the_plugin_brings_commands_and_the_skill(machine: Machine) -> None:
    machine.run("setup", "--yes")
    stream, _ = machine.session("hello", "hello")
    started = next(event for event in stream if event.get("subtype") == "init")
    offered = {name for name in started["slash_commands"] if name.startswith("session-mgmt:")}
    commands = ("start", "checkpoint", "end", "status", "resume", "handoff", "search", "recall")
    assert offered == {f"session-mgmt:{name}" for name in commands}
    assert {"name": "plugin:session-mgmt:session-mgmt", "status": "connected"} in started["mcp_servers"]


def test_a_command_calls_its_tool_without_being_asked(machine: Machine) -> None:
    machine.run("setup", "--yes")
    stream, shown = machine.session(
        "/session-mgmt:search marzipan", (PLUGIN_TOOLS + "search", {"query": "marzipan"}), "nothing"
    )
    assert outcome(stream) == ("success", False)
    assert "Search the recorded history for: marzipan" in json.dumps(shown)
    assert stream[-1]["permission_denials"] == []


def test_undo_after_sessions_gives_back_the_settings_byte_for_byte(machine: Machine) -> None:
    machine.run("setup", "--yes")
    machine.session("write the note", *WORK)
    machine.run("setup", "--undo", "--yes")
    assert machine.settings.read_bytes() == machine.before
    assert "mcpServers" not in json.loads((machine.home / ".claude.json").read_bytes())
    assert json.loads(machine.claude("plugin", "list", "--json")) == []


@pytest.mark.parametrize(
    ("how", "broken"),
    [("plugin", "python"), ("plugin", "script"), ("plugin", "data folder"), ("settings", "script")],
)
def test_a_broken_installation_does_not_disturb_the_client(machine: Machine, how: str, broken: str) -> None:
    machine.run("setup", "--yes", *(["--no-plugin"] if how == "settings" else []))
    record = machine.home / ".claude/plugins/data/session-mgmt-session-mgmt/installation"
    registered = record if how == "plugin" else machine.settings
    if broken == "python":
        registered.write_text(registered.read_text().replace(sys.executable, "/gone/python"))
    elif broken == "script" and how == "plugin":
        registered.write_text(f"{sys.executable}\n/gone/session_mgmt_mcp\n\n")
    elif broken == "script":
        registered.write_text(registered.read_text().replace("/hook.py", "/gone.py"))
    else:
        shutil.rmtree(machine.data)
        machine.data.write_text("not a folder")
    stream, _ = machine.session("write the note", *WORK)
    assert outcome(stream) == ("success", False)
    assert (machine.work / "note.txt").read_text() == "hello\n"
    assert failed_hooks(stream) == []


def test_a_log_locked_for_half_a_minute_delays_the_client_a_little_and_loses_nothing(
    machine: Machine,
) -> None:
    machine.run("setup", "--yes")
    long = {"command": "sleep 30; echo hello > note.txt", "description": "write the note in the end"}
    with (machine.data / "append.lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # for as long as the session lasts
        stream, _ = machine.session("write the note", ("Bash", long), *WORK[1:])
    assert outcome(stream) == ("success", False)
    assert (machine.work / "note.txt").read_text() == "hello\n"
    assert failed_hooks(stream) == []
    machine.run("maintain", "--once")
    assert sorted(payload["hook_event_name"] for payload in machine.reported()) == sorted(EVENTS)


def test_an_uninstalled_package_leaves_the_client_as_it_was(machine: Machine) -> None:
    machine.run("setup", "--yes")
    settings = machine.settings.read_text()
    package = str(Path(json.loads(settings)["extraKnownMarketplaces"]["session-mgmt"]["source"]["path"]))
    for path in (machine.settings, *machine.settings.parent.glob("plugins/*.json")):
        path.write_text(path.read_text().replace(package, "/gone/session_mgmt_mcp/adapters/claude_code"))
    (machine.home / ".claude/plugins/data/session-mgmt-session-mgmt/installation").write_text(
        "/gone\n/gone\n\n"
    )
    stream, _ = machine.session("write the note", *WORK)
    assert outcome(stream) == ("success", False)
    assert (machine.work / "note.txt").read_text() == "hello\n"


def test_the_repository_is_a_marketplace_without_setup(machine: Machine) -> None:
    """From a git repository, with the program only on PATH."""
    origin = machine.folder / "origin"
    for name in (".claude-plugin", "adapters/claude_code/plugin"):
        shutil.copytree(ROOT / name, origin / name)
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "x"]):
        environment = client_environment(machine.clients, machine.home, "")
        subprocess.run(["git", "-C", str(origin), *command], check=True, env=environment)
    address = "https://git.example/session-mgmt.git"
    (machine.home / ".gitconfig").write_text(f'[url "{origin}"]\n\tinsteadOf = {address}\n')
    machine.claude("plugin", "marketplace", "add", address)
    machine.claude("plugin", "install", "session-mgmt@session-mgmt")
    shutil.rmtree(origin)
    (machine.home / "bin").mkdir()
    program = machine.home / "bin" / "session-mgmt-mcp"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P -m session_mgmt_mcp "$@"\n')
    program.chmod(0o755)
    with_program = json.loads(machine.settings.read_bytes())
    with_program["env"] = {"PATH": f"{program.parent}:{machine.clients}:/usr/local/bin:/usr/bin:/bin"}
    machine.settings.write_text(json.dumps(with_program))
    stream, _ = machine.session("write the note", *WORK)
    assert outcome(stream) == ("success", False)
    assert [payload["hook_event_name"] for payload in machine.reported()] == EVENTS
    assert failed_hooks(stream) == []

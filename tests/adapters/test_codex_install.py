"""What Codex is asked to do follows from its settings: all of it, a part, or nothing."""

from pathlib import Path

import pytest

from session_mgmt_mcp.adapters.codex import install
from session_mgmt_mcp.adapters.codex.install import Codex, Server
from session_mgmt_mcp.core.errors import SettingsFileError

FOLDER = Path("/opt/session_mgmt_mcp/adapters/claude_code")
SERVER = Server(("/opt/python", "-P", "-m", "x.server"), {"DATA": "/d"}, FOLDER, "1.2.0")
REGISTERED = f"""
[mcp_servers.session-mgmt]
command = "/opt/python"
args = ["-P", "-m", "x.server"]
[mcp_servers.session-mgmt.env]
DATA = "/d"
[marketplaces.session-mgmt]
source_type = "local"
source = "{FOLDER}"
[plugins."session-mgmt@session-mgmt"]
enabled = true
"""
ADD_SERVER = "codex mcp add session-mgmt --env DATA=/d -- /opt/python -P -m x.server"
ADD_MARKETPLACE = f"codex plugin marketplace add {FOLDER}"
ADD_PLUGIN = "codex plugin add session-mgmt@session-mgmt"


@pytest.fixture
def codex(tmp_path: Path) -> Codex:
    program = tmp_path / "bin" / "codex"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\necho "$*" >> {tmp_path}/asked\ncase $1 in plugin) echo no plugins >&2; exit 2;; esac\n'
    )
    program.chmod(0o755)
    found = install.find_codex({"PATH": str(program.parent), "HOME": str(tmp_path)})
    assert found is not None and found.home == tmp_path / ".codex"
    found.home.mkdir()
    (found.home / "plugins" / "cache" / "session-mgmt" / "session-mgmt" / "1.2.0").mkdir(parents=True)
    return found


def planned(codex: Codex, config: str) -> list[str]:
    codex.config.write_text(config)
    return [command.text() for command in install.plan_install(codex, SERVER)]


def test_without_a_program_there_is_no_codex(tmp_path: Path) -> None:
    assert install.find_codex({"PATH": str(tmp_path), "HOME": str(tmp_path)}) is None


def test_a_fresh_codex_gets_server_marketplace_and_plugin(codex: Codex) -> None:
    expected = [ADD_SERVER, ADD_MARKETPLACE, ADD_PLUGIN]
    assert [command.text() for command in install.plan_install(codex, SERVER)] == expected
    assert planned(codex, "") == expected


def test_what_is_registered_is_left(codex: Codex) -> None:
    assert planned(codex, REGISTERED) == []


def test_a_moved_environment_is_registered_anew(codex: Codex) -> None:
    moved = REGISTERED.replace("/opt/python", "/gone/python").replace(str(FOLDER), "/gone" + str(FOLDER))
    remove = ["codex plugin remove session-mgmt@session-mgmt", "codex plugin marketplace remove session-mgmt"]
    assert planned(codex, moved) == [ADD_SERVER, *remove, ADD_MARKETPLACE, ADD_PLUGIN]


def test_a_copy_of_an_older_version_is_made_anew(codex: Codex) -> None:
    codex.config.write_text(REGISTERED)
    newer = SERVER._replace(version="1.3.0")
    expected = ["codex plugin remove session-mgmt@session-mgmt", ADD_PLUGIN]
    assert [command.text() for command in install.plan_install(codex, newer)] == expected


def test_a_marketplace_of_the_users_own_stays(codex: Codex, tmp_path: Path) -> None:
    assert planned(codex, REGISTERED.replace(str(FOLDER), str(tmp_path))) == []
    assert planned(codex, REGISTERED.replace(str(FOLDER), "https://git.example/x.git")) == []


def test_undo_names_what_is_there_and_nothing_else(codex: Codex) -> None:
    assert install.plan_undo(codex) == []
    codex.config.write_text(REGISTERED + '[mcp_servers.other]\ncommand = "true"\n')
    assert [command.words[-1] for command in install.plan_undo(codex)] == [
        "session-mgmt",
        "session-mgmt@session-mgmt",
        "session-mgmt",
    ]


def test_a_codex_without_plugins_still_gets_the_server(codex: Codex, tmp_path: Path) -> None:
    complaints = install.run(codex, install.plan_install(codex, SERVER), {"PATH": "/usr/bin:/bin"})
    assert [complaint.partition(": ")[2] for complaint in complaints] == ["no plugins", "no plugins"]
    assert (tmp_path / "asked").read_text().splitlines()[0] == ADD_SERVER.removeprefix("codex ")


def test_a_server_that_cannot_be_registered_is_an_error(codex: Codex, tmp_path: Path) -> None:
    (tmp_path / "bin" / "codex").write_text("#!/bin/sh\necho broken >&2; exit 1\n")
    with pytest.raises(SettingsFileError, match=r"codex mcp add .* failed: broken"):
        install.run(codex, install.plan_install(codex, SERVER), {})


def test_malformed_settings_stop_it_before_anything_is_asked(codex: Codex) -> None:
    codex.config.write_text("[mcp_servers\n")
    with pytest.raises(SettingsFileError, match=r"config\.toml cannot be read"):
        install.plan_install(codex, SERVER)

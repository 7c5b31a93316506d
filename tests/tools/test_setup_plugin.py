"""`setup` where Claude Code takes the plugin: entries and a record instead of hooks, and all of it can be taken back."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from session_mgmt_mcp.adapters.claude_code import direct_install, install, plugin_install
from session_mgmt_mcp.adapters.claude_code.client import Client, find_client
from session_mgmt_mcp.tools.cli import main

SETTINGS = b'{\n\t"model" : "opus",\n\t"hooks": { "Stop": [ ] },  "enabledPlugins": {"other@place" :true}\n}'
SERVERS = b'{"numStartups":3}'
# Keeps its own list of plugins and rewrites the settings in its own style, as the real one does.
FAKE = """#!{python}
import json, os, sys
config = os.environ["HOME"] + "/.claude"
def load(path):
    try:
        return json.load(open(path))
    except FileNotFoundError:
        return {{}}
def save(path, value):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    json.dump(value, open(path, "w"), indent=2, sort_keys=True)
words = sys.argv[1:]
with open(os.environ["HOME"] + "/asked", "a") as asked:
    asked.write(" ".join(words) + "\\n")
if words == ["--version"]:
    print("2.1.197 (Claude Code)")
    sys.exit()
if os.path.exists(os.environ["HOME"] + "/refuses"):
    sys.exit("blocked by policy")
known, installed = config + "/plugins/known_marketplaces.json", config + "/plugins/installed_plugins.json"
settings = load(config + "/settings.json")
settings.setdefault("enabledPlugins", {{}}), settings.setdefault("extraKnownMarketplaces", {{}})
if words[:3] == ["plugin", "marketplace", "add"]:
    save(known, {{"session-mgmt": {{"installLocation": words[3]}}}})
elif words[:2] == ["plugin", "install"]:
    save(installed, {{"plugins": {{words[2]: []}}}})
elif words[:2] == ["plugin", "uninstall"]:
    save(installed, {{"plugins": {{}}}})
    settings["enabledPlugins"].pop(words[2], None)
elif words[:3] == ["plugin", "marketplace", "remove"]:
    save(known, {{}})
    settings["extraKnownMarketplaces"].pop(words[3], None)
save(config + "/settings.json", settings)
"""


class Home:
    """A user's home with a Claude Code that takes plugins."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.settings = folder / ".claude" / "settings.json"
        self.servers = folder / ".claude.json"
        self.record = folder / ".claude" / "plugins" / "data" / "session-mgmt-session-mgmt" / "installation"
        self.settings.parent.mkdir()
        self.settings.write_bytes(SETTINGS)
        self.servers.write_bytes(SERVERS)
        program = folder / "bin" / "claude"
        program.parent.mkdir()
        program.write_text(FAKE.format(python=sys.executable))
        program.chmod(0o755)

    @property
    def client(self) -> Client:
        found = find_client()
        assert found is not None
        return found

    def commands(self) -> list[str]:
        """What Claude Code was asked for, beside its version; forgotten then."""
        path = self.folder / "asked"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return [line for line in lines if line != "--version"]

    def load(self) -> Any:
        return json.loads(self.settings.read_bytes())


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    monkeypatch.setenv("SESSION_MGMT_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.delenv("CLAUDE_CONFIG_DIR", raising=False)
    return Home(tmp_path)


Run = Callable[..., str]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str, code: int = 0) -> str:
        capsys.readouterr()
        assert main(arguments) == code
        return capsys.readouterr().out

    return run


def here(home: Home) -> direct_install.Target:
    return install.this_installation(home.data)


def test_setup_enables_the_plugin_and_records_this_installation(home: Home, run: Run) -> None:
    run("setup")
    settings = home.load()
    assert settings["enabledPlugins"] == {"other@place": True, plugin_install.PLUGIN: True}
    folder = Path(direct_install.__file__).parent
    assert settings["extraKnownMarketplaces"]["session-mgmt"]["source"] == {
        "source": "directory",
        "path": str(folder),
    }
    assert (folder / ".claude-plugin" / "marketplace.json").is_file()
    assert settings["hooks"] == {"Stop": []}, "nothing of ours beside the plugin"
    assert home.servers.read_bytes() == SERVERS
    assert home.record.read_text().splitlines() == [sys.executable, str(folder.parents[1]), str(home.data)]
    assert home.commands() == [
        f"plugin marketplace add {folder}",
        f"plugin install {plugin_install.PLUGIN}",
    ]
    assert home.settings.read_bytes().startswith(SETTINGS[:40]), "in the user's style, not the client's"


def test_setup_again_changes_nothing(home: Home, run: Run) -> None:
    run("setup")
    before = home.settings.read_bytes()
    home.commands()
    assert "no file had to change" in run("setup")
    assert (home.settings.read_bytes(), home.commands()) == (before, [])


def test_undo_gives_back_the_very_settings(home: Home, run: Run) -> None:
    run("setup")
    run("setup", "--undo")
    assert home.settings.read_bytes() == SETTINGS
    assert home.servers.read_bytes() == SERVERS
    assert not home.record.exists()
    assert home.commands()[-2:] == [
        f"plugin uninstall {plugin_install.PLUGIN}",
        "plugin marketplace remove session-mgmt",
    ]


@pytest.mark.parametrize("settings", [None, b"{}", b'{"enabledPlugins":{}}'])
def test_undo_leaves_no_settings_that_were_not_there(home: Home, run: Run, settings: bytes | None) -> None:
    home.settings.unlink()
    if settings is not None:
        home.settings.write_bytes(settings)
    run("setup")
    run("setup", "--undo")
    assert (home.settings.read_bytes() if home.settings.exists() else None) == settings


def test_a_dry_run_shows_entries_and_record_and_asks_the_client_for_nothing(home: Home, run: Run) -> None:
    out = run("setup", "--dry-run")
    assert f"+++ {home.record}" in out
    assert plugin_install.PLUGIN in out
    assert (home.settings.read_bytes(), home.record.exists(), home.commands()) == (SETTINGS, False, [])


def test_hooks_of_before_give_way_to_the_plugin(home: Home, run: Run) -> None:
    run("setup", "--no-plugin")
    assert install.registered(home.client).hooks
    run("setup")
    found = install.registered(home.client)
    assert (found.plugin, found.hooks, found.server) == (True, {}, None)
    run("setup", "--undo")
    assert (home.settings.read_bytes(), home.servers.read_bytes()) == (SETTINGS, SERVERS)


def test_the_plugin_gives_way_to_hooks_where_asked(home: Home, run: Run) -> None:
    run("setup")
    run("setup", "--no-plugin")
    found = install.registered(home.client)
    assert (found.plugin, bool(found.hooks), found.recorded) == (False, True, None)
    assert plugin_install.PLUGIN not in home.settings.read_text()


def test_a_client_that_refuses_the_plugin_gets_hooks(home: Home, run: Run) -> None:
    (home.folder / "refuses").touch()
    out = run("setup")
    assert "did not take the plugin (blocked by policy)" in out
    found = install.registered(home.client)
    assert (found.plugin, bool(found.hooks), found.server is not None) == (False, True, True)
    assert json.loads(run("status", "--json"))["assistants"] == {"claude-code": "registered"}


def test_a_marketplace_of_the_users_own_stays(home: Home, run: Run, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    clone.mkdir()
    source = {"source": {"source": "directory", "path": str(clone)}}
    home.settings.write_text(json.dumps({"extraKnownMarketplaces": {"session-mgmt": source}}))
    run("setup")
    assert home.load()["extraKnownMarketplaces"] == {"session-mgmt": source}
    assert home.load()["enabledPlugins"] == {plugin_install.PLUGIN: True}


def test_an_environment_that_moved_is_registered_anew(home: Home, run: Run) -> None:
    run("setup")
    gone = '"path": "/gone/session_mgmt_mcp/adapters/claude_code"'
    settings = home.settings.read_text().replace(f'"path": "{Path(direct_install.__file__).parent}"', gone)
    home.settings.write_text(settings)
    known = home.folder / ".claude" / "plugins" / "known_marketplaces.json"
    known.write_text('{"session-mgmt": {"installLocation": "/gone/session_mgmt_mcp/adapters/claude_code"}}')
    home.record.write_text("/gone/python\n/gone/session_mgmt_mcp\n\n")
    home.commands()
    run("setup")
    assert plugin_install.recorded(home.client) == here(home)
    assert json.loads(known.read_bytes())["session-mgmt"]["installLocation"] == str(
        Path(direct_install.__file__).parent
    )
    assert "plugin marketplace remove session-mgmt" in home.commands()


def test_doctor_tries_what_the_plugin_starts(home: Home, run: Run) -> None:
    run("setup")
    hooks = [f for f in json.loads(run("doctor", "--json"))["findings"] if f["check"] == "hooks"]
    assert hooks == []
    home.record.write_text("/gone/python\n/gone/session_mgmt_mcp\n" + f"{home.data}\n")
    hooks = [f for f in json.loads(run("doctor", "--json", code=1))["findings"] if f["check"] == "hooks"]
    assert "/gone/python is gone" in hooks[0]["what"]
    run("doctor", "--fix", "--json")
    assert plugin_install.recorded(home.client) == here(home)


def test_doctor_says_when_everything_is_captured_twice(home: Home, run: Run) -> None:
    run("setup", "--no-plugin")
    settings = home.load()
    settings["enabledPlugins"][plugin_install.PLUGIN] = True
    home.settings.write_text(json.dumps(settings))
    home.record.parent.mkdir(parents=True)
    home.record.write_text(plugin_install.record_text(here(home)))
    found = json.loads(run("doctor", "--json", code=1))["findings"]
    assert any("captured twice" in f["what"] for f in found)
    run("doctor", "--fix", "--json")
    registered = install.registered(home.client)
    assert (registered.plugin, registered.hooks) == (True, {})


def test_status_knows_the_plugin(home: Home, run: Run) -> None:
    run("setup")
    assert json.loads(run("status", "--json"))["assistants"] == {"claude-code": "registered"}


def test_a_malformed_list_of_plugins_stops_setup_before_anything_changes(home: Home) -> None:
    home.settings.write_bytes(b'{"enabledPlugins": []}')
    done = subprocess.run(
        [sys.executable, "-P", "-m", "session_mgmt_mcp", "setup"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 6
    assert "enabledPlugins is not an object" in done.stderr
    assert home.settings.read_bytes() == b'{"enabledPlugins": []}'
    assert not home.record.exists()

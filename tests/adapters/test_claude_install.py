"""Installing into Claude Code changes what it says, keeps what the user wrote, and can be undone to the byte."""

import json
import os
import re
import stat
from pathlib import Path
from typing import Any

import pytest

from session_mgmt_mcp.adapters.claude_code import install, settings_files
from session_mgmt_mcp.adapters.claude_code.client import HOOK_EVENTS, Client
from session_mgmt_mcp.adapters.claude_code.direct_install import Target
from session_mgmt_mcp.core.errors import SettingsFileError

TARGET = Target("/opt/tools/bin/python", Path("/opt/lib/session_mgmt_mcp/adapters/claude_code/hook.py"), None)
MOVED = Target(
    "/new place/bin/python", Path("/new place/session_mgmt_mcp/adapters/claude_code/hook.py"), Path("/d")
)
COMMAND = "/opt/tools/bin/python -I -S /opt/lib/session_mgmt_mcp/adapters/claude_code/hook.py || :"

USERS_SETTINGS = b"""{
\t"model" : "opus",   "permissions": {"allow": ["Bash(git diff:*)"], "deny":[ ]},
\t"number": 1.50,
\t"hooks": {
\t\t"PreToolUse": [
\t\t\t{"matcher": "Bash", "hooks": [{"type": "command", "command": "echo \\u00fc && ~/check.sh"}]}
\t\t],
\t\t"Stop": [ ]
\t},
\t"model": "sonnet"
}"""
USERS_SERVERS = b'{"numStartups":12,"oauthAccount":{"x":"y"},"mcpServers":{"other":{"command":"x"}}}\r\n'


def client_in(home: Path, version: tuple[int, int, int] | None = (2, 1, 197)) -> Client:
    config = home / ".claude"
    return Client(config, config / "settings.json", home / ".claude.json", config / "projects", version)


@pytest.fixture
def client(tmp_path: Path) -> Client:
    client = client_in(tmp_path)
    client.config.mkdir()
    return client


def given_files(client: Client, settings: bytes | None, servers: bytes | None) -> None:
    for path, content in ((client.settings, settings), (client.servers, servers)):
        if content is not None:
            path.write_bytes(content)


def files_of(client: Client) -> dict[str, bytes]:
    home = client.config.parent
    return {str(p.relative_to(home)): p.read_bytes() for p in sorted(home.rglob("*")) if p.is_file()}


def loaded(path: Path) -> Any:
    return json.loads(path.read_bytes())


def test_an_installation_registers_every_hook_and_the_server(client: Client) -> None:
    install.apply(install.plan_install(client, TARGET))
    hooks = loaded(client.settings)["hooks"]
    assert list(hooks) == list(HOOK_EVENTS)
    entry = {"type": "command", "command": COMMAND, "timeout": 10}
    assert hooks["SessionStart"] == [{"hooks": [entry]}]
    assert hooks["PreToolUse"] == [{"matcher": "*", "hooks": [entry]}]
    assert loaded(client.servers)["mcpServers"] == {
        "session-mgmt": {
            "type": "stdio",
            "command": "/opt/tools/bin/python",
            "args": ["-P", "-m", "session_mgmt_mcp.server"],
            "env": {},
        }
    }


def test_a_data_folder_of_ones_own_reaches_hooks_and_server(client: Client) -> None:
    target = TARGET._replace(data_dir=Path("/my data/log"))
    install.apply(install.plan_install(client, target))
    command = loaded(client.settings)["hooks"]["Stop"][0]["hooks"][0]["command"]
    assert command.endswith("hook.py --data-dir '/my data/log' || :")
    server = loaded(client.servers)["mcpServers"]["session-mgmt"]
    assert server["env"] == {"SESSION_MGMT_DATA_DIR": "/my data/log"}


def test_a_second_installation_changes_nothing(client: Client) -> None:
    given_files(client, USERS_SETTINGS, USERS_SERVERS)
    install.apply(install.plan_install(client, TARGET))
    before = files_of(client)
    plan = install.plan_install(client, TARGET)
    assert plan.changes == ()
    assert install.apply(plan) == []
    assert files_of(client) == before


def test_what_the_user_wrote_stays_byte_for_byte_beside_what_is_added(client: Client) -> None:
    given_files(client, USERS_SETTINGS, USERS_SERVERS)
    install.apply(install.plan_install(client, TARGET))
    raw = client.settings.read_bytes()
    for line in USERS_SETTINGS.splitlines()[:3]:
        assert line in raw
    assert b'"command": "echo \\u00fc && ~/check.sh"' in raw
    hooks = loaded(client.settings)["hooks"]
    assert hooks["PreToolUse"][0]["matcher"] == "Bash"
    assert hooks["PreToolUse"][1]["hooks"][0]["command"] == COMMAND


@pytest.mark.parametrize(
    ("settings", "servers"),
    [
        (USERS_SETTINGS, USERS_SERVERS),
        (None, None),
        (b"{}", b"{}\n"),
        (b"", b"\n"),
        (b'{"hooks": {}}', b'{"mcpServers": {}}'),
        (b'{\n  "hooks": {\n    "Stop": []\n  }\n}\n', b'\xef\xbb\xbf{\r\n  "mcpServers": { }\r\n}'),
        (b'{"a": 1}', b'{ "a" : 1 }'),
    ],
)
def test_undo_gives_back_the_very_files(
    client: Client, settings: bytes | None, servers: bytes | None
) -> None:
    given_files(client, settings, servers)
    before = files_of(client)
    install.apply(install.plan_install(client, TARGET))
    assert files_of(client) != before
    install.undo(client)
    assert files_of(client) == before


@pytest.mark.parametrize(
    ("settings", "servers"), [(USERS_SETTINGS, USERS_SERVERS), (None, None), (b"{}", b"")]
)
def test_undo_after_a_move_gives_back_the_very_files(
    client: Client, settings: bytes | None, servers: bytes | None
) -> None:
    given_files(client, settings, servers)
    before = files_of(client)
    install.apply(install.plan_install(client, TARGET))
    install.apply(install.plan_install(client, MOVED))
    install.undo(client)
    assert files_of(client) == before


def test_undo_keeps_a_copy_that_holds_more_than_the_file_does_then(client: Client) -> None:
    given_files(client, USERS_SETTINGS, None)
    install.apply(install.plan_install(client, TARGET))
    client.settings.write_bytes(b"{}")
    install.apply(install.plan_install(client, TARGET))
    install.undo(client)
    assert client.settings.read_bytes() == b"{}"
    assert [copy.read_bytes() for copy in settings_files.backups(client.settings)] == [USERS_SETTINGS]


def test_undo_keeps_what_was_added_since(client: Client) -> None:
    given_files(client, USERS_SETTINGS, USERS_SERVERS)
    install.apply(install.plan_install(client, TARGET))
    settings = loaded(client.settings)
    settings["hooks"]["Stop"][0]["hooks"].append({"type": "command", "command": "mine"})
    settings["hooks"]["SessionEnd"].append({"hooks": [{"type": "command", "command": "also mine"}]})
    settings["added"] = True
    client.settings.write_text(json.dumps(settings))
    install.undo(client)
    after = loaded(client.settings)
    assert after["added"] is True
    assert after["hooks"]["Stop"] == [{"hooks": [{"type": "command", "command": "mine"}]}]
    assert after["hooks"]["SessionEnd"] == [{"hooks": [{"type": "command", "command": "also mine"}]}]
    assert set(after["hooks"]) == {"PreToolUse", "Stop", "SessionEnd"}
    assert settings_files.backups(client.settings), "a copy stays where the file is not what it was"


def test_undo_without_an_installation_changes_nothing(client: Client) -> None:
    given_files(client, USERS_SETTINGS, USERS_SERVERS)
    before = files_of(client)
    assert install.undo(client) == []
    assert files_of(client) == before


def test_a_moved_environment_updates_its_entries_in_place(client: Client) -> None:
    given_files(client, USERS_SETTINGS, USERS_SERVERS)
    install.apply(install.plan_install(client, TARGET))
    text = client.settings.read_text().replace('"timeout": 10', '"timeout": 7', 1)
    client.settings.write_text(text)
    servers = loaded(client.servers)
    servers["mcpServers"]["session-mgmt"]["env"] = {"MINE": "1"}
    client.servers.write_text(json.dumps(servers))
    install.apply(install.plan_install(client, MOVED))
    assert client.settings.read_text() == text.replace(
        COMMAND,
        "'/new place/bin/python' -I -S '/new place/session_mgmt_mcp/adapters/claude_code/hook.py' --data-dir /d || :",
    )
    entry = loaded(client.servers)["mcpServers"]["session-mgmt"]
    assert entry["command"] == "/new place/bin/python"
    assert entry["env"] == {"MINE": "1", "SESSION_MGMT_DATA_DIR": "/d"}


def test_entries_of_two_environments_become_one(client: Client) -> None:
    install.apply(install.plan_install(client, TARGET))
    settings = loaded(client.settings)
    settings["hooks"]["Stop"] *= 2
    settings["hooks"]["WorktreeCreate"] = settings["hooks"]["Stop"][:1]
    client.settings.write_text(json.dumps(settings))
    install.apply(install.plan_install(client, MOVED))
    hooks = loaded(client.settings)["hooks"]
    assert list(hooks) == list(HOOK_EVENTS)
    assert len(hooks["Stop"]) == 1


def test_a_hook_that_only_mentions_ours_is_left_alone(client: Client) -> None:
    foreign = f"time {COMMAND}"
    given_files(
        client,
        json.dumps({"hooks": {"Stop": [{"hooks": [{"type": "command", "command": foreign}]}]}}).encode(),
        None,
    )
    install.apply(install.plan_install(client, TARGET))
    commands = [g["hooks"][0]["command"] for g in loaded(client.settings)["hooks"]["Stop"]]
    assert commands == [foreign, COMMAND]
    install.undo(client)
    assert [g["hooks"][0]["command"] for g in loaded(client.settings)["hooks"]["Stop"]] == [foreign]


@pytest.mark.parametrize(
    ("settings", "servers", "says"),
    [
        (
            b'{"a": 1,}',
            b"{}",
            r"settings\.json is not valid JSON: a comma after the last entry at line 1, column 8",
        ),
        (b"{}", b'{"a": // x\n1}', r"\.claude\.json is not valid JSON: a comment at line 1, column 7"),
        (b"[]", b"{}", r"settings\.json holds no JSON object"),
        (b'{"hooks": []}', b"{}", r"hooks is not an object"),
        (b'{"hooks": {"Stop": {}}}', b"{}", r"hooks\.Stop is not an array"),
        (b"{}", b'{"mcpServers": []}', r"mcpServers is not an object"),
        (b"{}", b'{"mcpServers": {"session-mgmt": {"command": "x"}}}', r"names another server.*rename"),
    ],
)
def test_a_file_that_cannot_be_edited_stops_the_whole(
    client: Client, settings: bytes, servers: bytes, says: str
) -> None:
    given_files(client, settings, servers)
    before = files_of(client)
    with pytest.raises(SettingsFileError, match=says):
        install.apply(install.plan_install(client, TARGET))
    assert files_of(client) == before


def test_a_file_changed_since_the_plan_is_not_overwritten(client: Client) -> None:
    given_files(client, b"{}", b"{}")
    plan = install.plan_install(client, TARGET)
    client.servers.write_bytes(b'{"new": 1}')
    before = files_of(client)
    with pytest.raises(SettingsFileError, match="changed by another program"):
        install.apply(plan)
    assert files_of(client) == before


def test_a_read_only_file_stops_the_whole(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    given_files(client, b"{}", b"{}")
    before = files_of(client)
    real = os.access
    monkeypatch.setattr(os, "access", lambda p, mode: Path(p) != client.servers and real(p, mode))
    with pytest.raises(SettingsFileError, match=r"\.claude\.json cannot be changed: it is read-only"):
        install.apply(install.plan_install(client, TARGET))
    assert files_of(client) == before


def test_a_full_disk_at_the_second_file_leaves_the_first_as_it_was(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_files(client, b"{}", b"{}")
    before = files_of(client)
    synced: list[int] = []

    def failing(descriptor: int) -> None:
        synced.append(descriptor)
        if len(synced) == 4:  # settings, its copy, their folder, then the second file
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(SettingsFileError, match="No space left on device"):
        install.apply(install.plan_install(client, TARGET))
    assert len(synced) == 4
    assert files_of(client) == before


def test_copies_are_kept_once_a_content_and_with_the_mode(client: Client) -> None:
    given_files(client, USERS_SETTINGS, USERS_SERVERS)
    client.servers.chmod(0o640)
    done = install.apply(install.plan_install(client, TARGET))
    for change in done:
        assert change.backup is not None
        assert re.fullmatch(
            re.escape(change.path.name) + r"\.session-mgmt-backup-\d{8}T\d{6}Z", change.backup.name
        )
    assert stat.S_IMODE(client.servers.stat().st_mode) == 0o640
    assert done[1].backup is not None and stat.S_IMODE(done[1].backup.stat().st_mode) == 0o640
    client.settings.write_bytes(USERS_SETTINGS)
    again = install.apply(install.plan_install(client, TARGET))
    assert again[0].backup == done[0].backup
    assert len(settings_files.backups(client.settings)) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another group")
def test_a_group_that_cannot_be_kept_is_no_hindrance(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    given_files(client, b"{}", b"{}")
    os.chown(client.settings, -1, 54321)
    install.apply(install.plan_install(client, TARGET))
    assert client.settings.stat().st_gid == 54321
    install.undo(client)

    def refused(*_: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "fchown", refused)
    install.apply(install.plan_install(client, TARGET))
    assert COMMAND in client.settings.read_text()


def test_new_files_are_private(client: Client) -> None:
    install.apply(install.plan_install(client, TARGET))
    assert stat.S_IMODE(client.settings.stat().st_mode) == 0o600


def test_a_linked_settings_file_stays_a_link(client: Client, tmp_path: Path) -> None:
    kept = tmp_path / "dotfiles" / "claude.json"
    kept.parent.mkdir()
    kept.write_bytes(USERS_SETTINGS)
    client.settings.symlink_to(kept)
    install.apply(install.plan_install(client, TARGET))
    assert client.settings.is_symlink()
    assert COMMAND in kept.read_text()
    install.undo(client)
    assert kept.read_bytes() == USERS_SETTINGS


def test_the_plan_shows_a_diff_without_neighbouring_secrets(client: Client) -> None:
    given_files(client, b"{}", b'{\n  "primaryApiKey": "sk-very-secret"\n}')
    plan = install.plan_install(client, TARGET)
    shown = "\n".join(change.diff() for change in plan.changes)
    assert "very-secret" not in shown
    assert f'+            "command": "{COMMAND}",' in shown
    assert '+    "session-mgmt": {' in shown


def test_a_file_on_one_line_is_shown_reindented(client: Client) -> None:
    given_files(client, b"{}", json.dumps({"projects": "x" * 500, "a": 1}).encode())
    shown = install.plan_install(client, TARGET).changes[1].diff()
    assert '+    "session-mgmt": {' in shown
    assert max(map(len, shown.splitlines())) <= 301


def test_disabled_hooks_are_pointed_out(client: Client) -> None:
    given_files(client, b'{"disableAllHooks": true}', None)
    assert "disableAllHooks" in install.plan_install(client, TARGET).notes[0]

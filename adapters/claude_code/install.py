"""What makes Claude Code call us: the plugin where it can take it, else hooks and MCP server in its settings files.

Everything is planned before anything is written, so a damaged file stops the whole and changes nothing.
"""

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import session_mgmt_mcp
from session_mgmt_mcp.adapters.claude_code import direct_install, plugin_install, settings_files
from session_mgmt_mcp.adapters.claude_code.client import HOOK_EVENTS, Client, known_events
from session_mgmt_mcp.adapters.claude_code.direct_install import SERVER_NAME, Target
from session_mgmt_mcp.adapters.claude_code.json_edit import JsonText
from session_mgmt_mcp.adapters.claude_code.settings_files import AppliedChange, FileChange
from session_mgmt_mcp.core.errors import InputError, SettingsFileError


class Plan(NamedTuple):
    """File changes, none of them made yet, and what the user should know."""

    changes: tuple[FileChange, ...]
    notes: tuple[str, ...] = ()
    plugin: bool = False  # whether it registers the plugin


def this_installation(data_dir: Path, home: Path | None = None) -> Target:
    """The running Python and package. Raises InputError if they cannot be registered."""
    package = Path(session_mgmt_mcp.__file__).absolute().parent
    script = package / "adapters" / "claude_code" / "hook.py"
    if not sys.executable:
        raise InputError("the running Python does not know its own path; run setup with a Python that does.")
    if not script.is_file():
        raise InputError(f"the hook script {script} is missing; install session-mgmt-mcp again.")
    # An editor does not start Claude Code with the shell's XDG_DATA_HOME: only the plain default is left unsaid.
    default = (home or Path(os.path.expanduser("~"))) / ".local" / "share" / "session-mgmt-mcp"
    return Target(sys.executable, script, None if data_dir == default else data_dir)


class Registration(NamedTuple):
    """What of ours stands in Claude Code's files, whichever installation it points at."""

    hooks: dict[str, str]  # event -> command, in the settings themselves
    server: dict[str, Any] | None  # among the user's servers
    plugin: bool  # whether the plugin is enabled
    recorded: Target | None  # what the plugin starts

    @property
    def captures(self) -> bool:
        """Whether any event is reported."""
        return self.plugin or bool(self.hooks)


def registered(client: Client) -> Registration:
    """What is registered now. Raises SettingsFileError."""
    settings = _parsed(client.settings, settings_files.read(client.settings))
    servers = _parsed(client.servers, settings_files.read(client.servers))
    hooks = {hook.event: str(hook.entry["command"]) for hook in direct_install.own_hooks(settings)}
    server = servers.value["mcpServers"][SERVER_NAME] if direct_install.own_server(servers) else None
    return Registration(hooks, server, plugin_install.own_plugin(settings), plugin_install.recorded(client))


def plan_install(client: Client, target: Target, *, plugin: bool | None = None) -> Plan:
    """What has to change so that Claude Code calls `target`, once; nothing where it does already.

    `plugin`: through the plugin or not; None: where Claude Code can take it. Raises SettingsFileError for a file that cannot be
    read, is malformed, or holds another server of our name.
    """
    if plugin if plugin is not None else plugin_install.usable(client):
        return _plan_plugin(client, target)
    changes = [
        _change(client.settings, lambda document: _direct_hooks(document, client, target)),
        _change(client.servers, lambda document: direct_install.with_server(document, target)),
        plugin_install.record_change(client, None),
    ]
    return Plan(tuple(change for change in changes if change is not None), _notes(client, target))


def plan_keep(client: Client, target: Target) -> Plan:
    """What has to change so that the way it is registered now is complete and calls `target`. Raises SettingsFileError."""
    found = registered(client)
    if found.hooks and not found.plugin:
        return plan_install(client, target, plugin=False)
    return plan_install(client, target, plugin=found.plugin or None)


def plan_undo(client: Client) -> Plan:
    """What has to change so that nothing of ours is left in Claude Code's files. Raises SettingsFileError."""
    changes = [_undo(path, edit, _original(path)) for path, edit in _removals(client)]
    changes.append(plugin_install.record_change(client, None))
    return Plan(tuple(change for change in changes if change is not None))


def apply(plan: Plan) -> list[AppliedChange]:
    """Make the plan's changes, all or none. Raises SettingsFileError."""
    return settings_files.make(plan.changes)


def undo(client: Client) -> list[AppliedChange]:
    """Plan and apply the undoing. Copies that hold nothing beyond the file as it is then are removed.

    Raises SettingsFileError.
    """
    originals = {path: _original(path) for path, _ in _removals(client)}
    done = apply(plan_undo(client))
    changed = {change.path for change in done}
    for path, edit in _removals(client):
        if path in changed:
            _drop_redundant_copies(path, edit, originals[path])
    return done


# -- planning

Removal = Callable[
    [JsonText, dict[str, Any]], JsonText
]  # from a document, given what was in the file before us


def _removals(client: Client) -> list[tuple[Path, Removal]]:
    return [(client.settings, _without_entries), (client.servers, direct_install.without_server)]


def _without_entries(document: JsonText, kept: dict[str, Any]) -> JsonText:
    return plugin_install.without_plugin(direct_install.without_hooks(document, kept), kept)


def _direct_hooks(document: JsonText, client: Client, target: Target) -> JsonText:
    kept = _kept(client.settings)
    return direct_install.with_hooks(plugin_install.without_plugin(document, kept), client, target)


def _plan_plugin(client: Client, target: Target) -> Plan:
    def settings(document: JsonText) -> JsonText:
        return plugin_install.with_plugin(
            direct_install.without_hooks(document, _kept(client.settings)), target
        )

    changes = [
        plugin_install.record_change(client, target),  # first: no hook runs before there is what to start
        _change(client.settings, settings),
        _undo(client.servers, direct_install.without_server, _original(client.servers)),
    ]
    notes = _notes(client, target)
    return Plan(tuple(change for change in changes if change is not None), notes, plugin=True)


def _kept(path: Path) -> dict[str, Any]:
    """What was in the file before us."""
    original = _original(path)
    return original.value if original is not None else {}


def _change(path: Path, edit: Callable[[JsonText], JsonText]) -> FileChange | None:
    before = settings_files.read(path)
    document = _parsed(path, before)
    edited = edit(document)
    if edited.raw == document.raw:
        return None
    # A file that is not there, or blank, becomes one of our own writing.
    after = edited.raw if before and before.strip() else edited.raw + b"\n"
    return FileChange(path, before, after)


def _undo(path: Path, edit: Removal, original: JsonText | None) -> FileChange | None:
    before = settings_files.read(path)
    if before is None or not before.strip():
        return None
    after = _undone(path, before, edit, original)
    if after == before:
        return None
    known = any(settings_files.read(copy) == after for copy in settings_files.backups(path))
    return FileChange(path, before, after, copy=not known)


def _undone(path: Path, raw: bytes, edit: Removal, original: JsonText | None) -> bytes | None:
    """The bytes without what is ours; None where that leaves nothing and there was no file before us."""
    document = _parsed(path, raw)
    edited = edit(document, original.value if original is not None else {})
    if edited.raw == document.raw:
        return raw
    if edited.value == {} and (original is None or original.value == {}):
        return None if original is None else settings_files.read(Path(original.name))
    return edited.raw


def _drop_redundant_copies(path: Path, edit: Removal, original: JsonText | None) -> None:
    content = settings_files.read(path)
    for copy in settings_files.backups(path):
        raw = settings_files.read(copy)
        if raw is None:
            continue
        try:
            redundant = raw == content or _undone(copy, raw, edit, original) == content
        except SettingsFileError:
            continue
        if redundant:
            copy.unlink()


def _parsed(path: Path, raw: bytes | None) -> JsonText:
    document = JsonText(raw if raw and raw.strip() else b"{}", str(path))
    if not isinstance(document.value, dict):
        raise SettingsFileError(
            f"{path} holds no JSON object. Nothing was changed; correct it, then run this again."
        )
    return document


def _original(path: Path) -> JsonText | None:
    """The newest copy that has nothing of ours: what the file was before us."""
    for backup in settings_files.backups(path):
        try:
            document = _parsed(backup, settings_files.read(backup))
            ours = direct_install.own_hooks(document) or direct_install.own_server(document)
            if not ours and not plugin_install.own_plugin(document):
                return document
        except SettingsFileError:
            continue
    return None


def _notes(client: Client, target: Target) -> tuple[str, ...]:
    notes = []
    events = known_events(client.version)
    if len(events) < len(HOOK_EVENTS):
        missing = ", ".join(event for event in HOOK_EVENTS if event not in events)
        notes.append(
            f"Claude Code {client.version_text}: {missing} not registered, because a release that does not know "
            "a hook's name may ignore the whole settings file. After an update run setup again."
        )
    for path, document in (
        (client.settings, _parsed(client.settings, settings_files.read(client.settings))),
    ):
        if document.value.get("disableAllHooks") is True:
            notes.append(f"{path} sets disableAllHooks: live capture starts when it is removed.")
    if re.search(r"/uv/archive-v\d+/|/pipx/\.cache/", target.python):
        notes.append(
            f"{target.python} lies in a cache that may be cleaned; install session-mgmt-mcp for good "
            "(uv tool install, pipx install or pip install) and run setup again."
        )
    return tuple(notes)

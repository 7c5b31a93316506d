"""What makes Claude Code call us: hooks in its settings, our MCP server among the user's servers.

Everything is planned before anything is written, so a damaged file stops the whole and changes nothing.
"""

import os
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import session_mgmt_mcp
from session_mgmt_mcp.adapters.claude_code import settings_files
from session_mgmt_mcp.adapters.claude_code.client import HOOK_EVENTS, Client, known_events
from session_mgmt_mcp.adapters.claude_code.json_edit import JsonText
from session_mgmt_mcp.adapters.claude_code.settings_files import AppliedChange, FileChange
from session_mgmt_mcp.core.errors import InputError, SettingsFileError
from session_mgmt_mcp.core.settings import DATA_DIR_VARIABLE

SERVER_NAME = "session-mgmt"
SERVER_MODULE = "session_mgmt_mcp.server"
HOOK_TIMEOUT_S = 10
_SCRIPT_END = "session_mgmt_mcp/adapters/claude_code/hook.py"
_TOOL_EVENTS = {"PreToolUse", "PostToolUse", "PostToolUseFailure", "PermissionDenied"}


class Target(NamedTuple):
    """What the entries point at."""

    python: str  # as started: a virtual environment's python is a link that must not be resolved
    script: Path  # the hook script
    data_dir: Path | None  # None: the default, found anew each time


class Plan(NamedTuple):
    """File changes, none of them made yet, and what the user should know."""

    changes: tuple[FileChange, ...]
    notes: tuple[str, ...] = ()


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


def hook_command(target: Target) -> str:
    """The shell command of every hook. It exits 0 whatever is missing: exit code 2 would block the assistant."""
    words = [target.python, "-I", "-S", str(target.script)]
    if target.data_dir is not None:
        words += ["--data-dir", str(target.data_dir)]
    return f"{shlex.join(words)} || :"


class Registration(NamedTuple):
    """What of ours stands in Claude Code's files, whichever installation it points at."""

    hooks: dict[str, str]  # event -> command
    server: dict[str, Any] | None


def registered(client: Client) -> Registration:
    """What is registered now. Raises SettingsFileError."""
    settings = _parsed(client.settings, settings_files.read(client.settings))
    servers = _parsed(client.servers, settings_files.read(client.servers))
    hooks = {hook.event: str(hook.entry["command"]) for hook in _own_hooks(settings)}
    return Registration(hooks, servers.value["mcpServers"][SERVER_NAME] if _own_server(servers) else None)


def words_of(command: str) -> Target | None:
    """What a hook's command points at; None where it is none that `hook_command` made."""
    if not _is_own_command(command):
        return None
    words = shlex.split(command)
    data_dir = Path(words[5]) if words[4:5] == ["--data-dir"] else None
    return Target(words[0], Path(words[3]), data_dir)


def plan_install(client: Client, target: Target) -> Plan:
    """What has to change so that hooks and MCP server point at `target`; nothing where they do already.

    Raises SettingsFileError for a file that cannot be read, is malformed, or holds another server of our name.
    """
    changes = [
        _change(client.settings, lambda document: _with_hooks(document, client, target)),
        _change(client.servers, lambda document: _with_server(document, target)),
    ]
    return Plan(tuple(change for change in changes if change is not None), _notes(client, target))


def plan_undo(client: Client) -> Plan:
    """What has to change so that nothing of ours is left in Claude Code's files. Raises SettingsFileError."""
    changes = [_undo(path, edit, _original(path)) for path, edit in _removals(client)]
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
    return [(client.settings, _without_hooks), (client.servers, _without_server)]


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
            if not _own_hooks(document) and not _own_server(document):
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


# -- hooks


class _OwnHook(NamedTuple):
    event: str
    group: int
    place: int  # within the group
    entry: dict[str, Any]


def _is_own_command(command: object) -> bool:
    if not isinstance(command, str) or _SCRIPT_END not in command:
        return False
    try:
        words = shlex.split(command)
    except ValueError:
        return False
    return (
        len(words) >= 6
        and words[1:3] == ["-I", "-S"]
        and words[3].endswith(_SCRIPT_END)
        and words[-2:] == ["||", ":"]
    )


def _hooks_object(document: JsonText) -> dict[str, Any]:
    """The `hooks` object, {} where there is none. Raises SettingsFileError where its shape leaves no room for ours."""
    hooks = document.value.get("hooks", {})
    if not isinstance(hooks, dict):
        raise _wrong_shape(document, "hooks", "an object")
    for event, groups in hooks.items():
        if event in HOOK_EVENTS and not isinstance(groups, list):
            raise _wrong_shape(document, f"hooks.{event}", "an array")
    return hooks


def _wrong_shape(document: JsonText, where: str, wanted: str) -> SettingsFileError:
    return SettingsFileError(
        f"{document.name}: {where} is not {wanted}. Nothing was changed; correct it, then run this again."
    )


def _own_hooks(document: JsonText) -> list[_OwnHook]:
    found = []
    for event, groups in _hooks_object(document).items():
        for g, group in enumerate(groups if isinstance(groups, list) else ()):
            entries = group.get("hooks") if isinstance(group, dict) else None
            for i, entry in enumerate(entries if isinstance(entries, list) else ()):
                if isinstance(entry, dict) and _is_own_command(entry.get("command")):
                    found.append(_OwnHook(event, g, i, entry))
    return found


def _with_hooks(document: JsonText, client: Client, target: Target) -> JsonText:
    command = hook_command(target)
    own = _own_hooks(document)
    events = set(known_events(client.version))
    if client.version is None:  # cannot be judged: what an earlier run registered stays
        events |= {hook.event for hook in own if hook.event in HOOK_EVENTS}
    seen: set[str] = set()
    surplus = []
    for hook in own:
        if hook.event not in events or hook.event in seen:
            surplus.append(hook)
            continue
        seen.add(hook.event)
        if hook.entry["command"] != command:
            at: list[str | int] = ["hooks", hook.event, hook.group, "hooks", hook.place, "command"]
            document = document.set(at, command)
    document = _removed(document, surplus, {})
    for event in HOOK_EVENTS:
        if event in events and event not in seen:
            document = _with_hook(document, event, command)
    return document


def _with_hook(document: JsonText, event: str, command: str) -> JsonText:
    group: dict[str, Any] = {"matcher": "*"} if event in _TOOL_EVENTS else {}
    group["hooks"] = [{"type": "command", "command": command, "timeout": HOOK_TIMEOUT_S}]
    hooks = document.value.get("hooks")
    if hooks is None:
        return document.set(["hooks"], {event: [group]})
    if event not in hooks:
        return document.set(["hooks", event], [group])
    return document.append(["hooks", event], group)


def _without_hooks(document: JsonText, kept: dict[str, Any]) -> JsonText:
    return _removed(document, _own_hooks(document), kept)


def _removed(document: JsonText, own: list[_OwnHook], kept: dict[str, Any]) -> JsonText:
    """Take these hooks out, and what is empty then unless it was in the file (`kept`) before us."""
    kept_hooks = kept.get("hooks")
    for hook in reversed(own):
        document = document.remove(["hooks", hook.event, hook.group, "hooks", hook.place])
        groups = document.value["hooks"][hook.event]
        if not groups[hook.group]["hooks"]:
            document = document.remove(["hooks", hook.event, hook.group])
            was_there = isinstance(kept_hooks, dict) and hook.event in kept_hooks
            if len(groups) == 1 and not was_there:
                document = document.remove(["hooks", hook.event])
    if own and document.value["hooks"] == {} and kept_hooks is None:
        document = document.remove(["hooks"])
    return document


# -- MCP server


def _own_server(document: JsonText) -> bool:
    servers = document.value.get("mcpServers")
    entry = servers.get(SERVER_NAME) if isinstance(servers, dict) else None
    arguments = entry.get("args") if isinstance(entry, dict) else None
    return isinstance(arguments, list) and SERVER_MODULE in arguments


def _with_server(document: JsonText, target: Target) -> JsonText:
    servers = document.value.get("mcpServers")
    if servers is not None and not isinstance(servers, dict):
        raise _wrong_shape(document, "mcpServers", "an object")
    old = (servers or {}).get(SERVER_NAME)
    if old is not None and not _own_server(document):
        raise SettingsFileError(
            f"{document.name}: mcpServers.{SERVER_NAME} names another server. Nothing was changed; rename that "
            "entry, then run this again."
        )
    entry: dict[str, Any] = {
        "type": "stdio",
        "command": target.python,
        # -P: the server starts in the user's project, whose modules must not come before ours
        "args": ["-P", "-m", SERVER_MODULE],
        "env": {} if target.data_dir is None else {DATA_DIR_VARIABLE: str(target.data_dir)},
    }
    if servers is None:
        return document.set(["mcpServers"], {SERVER_NAME: entry})
    if old is None:
        return document.set(["mcpServers", SERVER_NAME], entry)
    own_env = old.get("env")
    if isinstance(own_env, dict):  # what the user added stays
        others = {name: value for name, value in own_env.items() if name != DATA_DIR_VARIABLE}
        entry["env"] = others | entry["env"]
    for name, value in entry.items():
        if old.get(name) != value:
            document = document.set(["mcpServers", SERVER_NAME, name], value)
    return document


def _without_server(document: JsonText, kept: dict[str, Any]) -> JsonText:
    if not _own_server(document):
        return document
    document = document.remove(["mcpServers", SERVER_NAME])
    if document.value["mcpServers"] == {} and "mcpServers" not in kept:
        document = document.remove(["mcpServers"])
    return document

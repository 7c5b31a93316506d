"""Registration straight in Claude Code's settings files: hooks in one, our MCP server in the other.

Edits of parsed documents only; nothing is read or written here.
"""

import shlex
from pathlib import Path
from typing import Any, NamedTuple

from session_mgmt_mcp.adapters.claude_code.client import HOOK_EVENTS, Client, known_events
from session_mgmt_mcp.adapters.claude_code.json_edit import JsonText
from session_mgmt_mcp.core.errors import SettingsFileError
from session_mgmt_mcp.core.settings import DATA_DIR_VARIABLE

SERVER_NAME = "session-mgmt"
SERVER_MODULE = "session_mgmt_mcp.server"
HOOK_TIMEOUT_S = 10
TOOL_EVENTS = {"PreToolUse", "PostToolUse", "PostToolUseFailure", "PermissionDenied"}
_SCRIPT_END = "session_mgmt_mcp/adapters/claude_code/hook.py"


class Target(NamedTuple):
    """What the entries point at."""

    python: str  # as started: a virtual environment's python is a link that must not be resolved
    script: Path  # the hook script
    data_dir: Path | None  # None: the default, found anew each time


def hook_command(target: Target) -> str:
    """The shell command of every hook. It exits 0 whatever is missing: exit code 2 would block the assistant."""
    words = [target.python, "-I", "-S", str(target.script)]
    if target.data_dir is not None:
        words += ["--data-dir", str(target.data_dir)]
    return f"{shlex.join(words)} || :"


def words_of(command: str) -> Target | None:
    """What a hook's command points at; None where it is none that `hook_command` made."""
    if not is_own_command(command):
        return None
    words = shlex.split(command)
    data_dir = Path(words[5]) if words[4:5] == ["--data-dir"] else None
    return Target(words[0], Path(words[3]), data_dir)


def wrong_shape(document: JsonText, where: str, wanted: str) -> SettingsFileError:
    """The error for a value of ours to be that has no room for ours."""
    return SettingsFileError(
        f"{document.name}: {where} is not {wanted}. Nothing was changed; correct it, then run this again."
    )


# -- hooks


class OwnHook(NamedTuple):
    event: str
    group: int
    place: int  # within the group
    entry: dict[str, Any]


def is_own_command(command: object) -> bool:
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
        raise wrong_shape(document, "hooks", "an object")
    for event, groups in hooks.items():
        if event in HOOK_EVENTS and not isinstance(groups, list):
            raise wrong_shape(document, f"hooks.{event}", "an array")
    return hooks


def own_hooks(document: JsonText) -> list[OwnHook]:
    found = []
    for event, groups in _hooks_object(document).items():
        for g, group in enumerate(groups if isinstance(groups, list) else ()):
            entries = group.get("hooks") if isinstance(group, dict) else None
            for i, entry in enumerate(entries if isinstance(entries, list) else ()):
                if isinstance(entry, dict) and is_own_command(entry.get("command")):
                    found.append(OwnHook(event, g, i, entry))
    return found


def with_hooks(document: JsonText, client: Client, target: Target) -> JsonText:
    command = hook_command(target)
    own = own_hooks(document)
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
    group: dict[str, Any] = {"matcher": "*"} if event in TOOL_EVENTS else {}
    group["hooks"] = [{"type": "command", "command": command, "timeout": HOOK_TIMEOUT_S}]
    hooks = document.value.get("hooks")
    if hooks is None:
        return document.set(["hooks"], {event: [group]})
    if event not in hooks:
        return document.set(["hooks", event], [group])
    return document.append(["hooks", event], group)


def without_hooks(document: JsonText, kept: dict[str, Any]) -> JsonText:
    return _removed(document, own_hooks(document), kept)


def _removed(document: JsonText, own: list[OwnHook], kept: dict[str, Any]) -> JsonText:
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


def own_server(document: JsonText) -> bool:
    servers = document.value.get("mcpServers")
    entry = servers.get(SERVER_NAME) if isinstance(servers, dict) else None
    arguments = entry.get("args") if isinstance(entry, dict) else None
    return isinstance(arguments, list) and SERVER_MODULE in arguments


def with_server(document: JsonText, target: Target) -> JsonText:
    servers = document.value.get("mcpServers")
    if servers is not None and not isinstance(servers, dict):
        raise wrong_shape(document, "mcpServers", "an object")
    old = (servers or {}).get(SERVER_NAME)
    if old is not None and not own_server(document):
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


def without_server(document: JsonText, kept: dict[str, Any]) -> JsonText:
    if not own_server(document):
        return document
    document = document.remove(["mcpServers", SERVER_NAME])
    if document.value["mcpServers"] == {} and "mcpServers" not in kept:
        document = document.remove(["mcpServers"])
    return document

"""Registration through Claude Code's plugins: two entries in its settings, and a record of where this program lies.

The plugin's folder is used where it is installed with the package, so an update of the package is one of the plugin.
Claude Code makes what it keeps of its own beside the settings (`plugins/`) from the entries, at its next start; `settle` has
it done at once, so that not even the first session misses a hook.
"""

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from session_mgmt_mcp.adapters.claude_code import settings_files
from session_mgmt_mcp.adapters.claude_code.client import Client, Version
from session_mgmt_mcp.adapters.claude_code.direct_install import Target, wrong_shape
from session_mgmt_mcp.adapters.claude_code.json_edit import JsonText
from session_mgmt_mcp.adapters.claude_code.settings_files import FileChange
from session_mgmt_mcp.core.errors import InputError

NAME = "session-mgmt"  # of the plugin and of its marketplace
PLUGIN = f"{NAME}@{NAME}"
# From here on a hook name it does not know is no harm, and plugins have a data folder of their own.
PLUGIN_SINCE: Version = (2, 1, 101)
_COMMAND_TIMEOUT_S = 60
_MARKETPLACES, _ENABLED = "extraKnownMarketplaces", "enabledPlugins"
_FOLDER_END = "session_mgmt_mcp/adapters/claude_code"


def usable(client: Client) -> bool:
    """Whether this Claude Code takes the plugin: new enough, and there to be asked."""
    return client.executable is not None and client.version is not None and client.version >= PLUGIN_SINCE


# -- the entries in the settings


def own_plugin(document: JsonText) -> bool:
    """Whether the settings enable the plugin."""
    return _object(document, _ENABLED).get(PLUGIN) is True


def with_plugin(document: JsonText, target: Target) -> JsonText:
    """The settings with the plugin enabled and its marketplace known.

    A marketplace that the user added from elsewhere (a repository, a clone) stays. Raises SettingsFileError for entries whose
    shape leaves no room.
    """
    folder = marketplace(target)
    known = _object(document, _MARKETPLACES).get(NAME)
    if known is None or (_is_package(known) and known != _source(folder)):
        document = _put(document, _MARKETPLACES, NAME, _source(folder))
    if _object(document, _ENABLED).get(PLUGIN) is not True:
        document = _put(document, _ENABLED, PLUGIN, True)
    return document


def without_plugin(document: JsonText, kept: dict[str, Any]) -> JsonText:
    """The settings without the plugin, nor what is empty then unless it was in the file (`kept`) before us."""
    for container, name in ((_ENABLED, PLUGIN), (_MARKETPLACES, NAME)):
        if name in _object(document, container):
            document = document.remove([container, name])
            if document.value[container] == {} and container not in kept:
                document = document.remove([container])
    return document


def marketplace(target: Target) -> Path:
    """The folder of the installed package that Claude Code reads as a marketplace."""
    return target.script.parent


def _source(folder: Path) -> dict[str, Any]:
    return {"source": {"source": "directory", "path": str(folder)}}


def _is_package(known: object) -> bool:
    """Whether a marketplace entry names an installed package, or a folder that is gone."""
    source = known.get("source") if isinstance(known, dict) else None
    path = source.get("path") if isinstance(source, dict) and source.get("source") == "directory" else None
    return isinstance(path, str) and (path.endswith(_FOLDER_END) or not os.path.exists(path))


def _object(document: JsonText, name: str) -> dict[str, Any]:
    value = document.value.get(name, {})
    if not isinstance(value, dict):
        raise wrong_shape(document, name, "an object")
    return value


def _put(document: JsonText, container: str, name: str, value: object) -> JsonText:
    if container not in document.value:
        return document.set([container], {name: value})
    return document.set([container, name], value)


# -- the record of where the program lies


def record_path(client: Client) -> Path:
    """The file in the plugin's data folder that `launch.sh` reads. Updates of the plugin leave it."""
    return client.config / "plugins" / "data" / f"{NAME}-{NAME}" / "installation"


def record_text(target: Target) -> str:
    """Three lines: the interpreter, the package's folder, the data folder (empty: the default).

    Raises InputError for a path that does not fit on a line.
    """
    package = target.script.parents[2]
    lines = [target.python, str(package), "" if target.data_dir is None else str(target.data_dir)]
    if any("\n" in line for line in lines):
        raise InputError(f"a path with a line break cannot be registered: {lines!r}; install it elsewhere.")
    return "".join(line + "\n" for line in lines)


def recorded(client: Client) -> Target | None:
    """The installation the plugin starts; None where none is recorded. Raises SettingsFileError."""
    raw = settings_files.read(record_path(client))
    lines = raw.decode("utf-8", "surrogateescape").split("\n") if raw is not None else []
    if len(lines) < 2 or not lines[0] or not lines[1]:
        return None
    script = Path(lines[1]) / "adapters" / "claude_code" / "hook.py"
    return Target(lines[0], script, Path(lines[2]) if len(lines) > 2 and lines[2] else None)


def record_change(client: Client, target: Target | None) -> FileChange | None:
    """The change that records `target`, or removes the record (None). None where nothing has to change."""
    path = record_path(client)
    before = settings_files.read(path)
    after = os.fsencode(record_text(target)) if target is not None else None
    return None if before == after else FileChange(path, before, after, copy=False)


# -- Claude Code's own state


def settle(client: Client, *, wanted: bool, env: Mapping[str, str] | None = None) -> str | None:
    """Have Claude Code install (or uninstall) now what the settings say. What went wrong, None where nothing did.

    It writes its settings anew, in its own style, on that occasion: where they mean the same, the bytes of before are put back.
    """
    if client.executable is None or _settled(client, wanted=wanted):
        return None
    kept = {path: settings_files.read(path) for path in (client.settings, record_path(client))}
    try:
        for words, needed in _commands(client, wanted=wanted):
            said = _run(client.executable, words, os.environ if env is None else env)
            if said is not None and needed:
                return said
    finally:
        for path, content in kept.items():
            _put_back(path, content)
    return None


def _commands(client: Client, *, wanted: bool) -> list[tuple[list[str], bool]]:
    """What to have it do, and whether it must succeed."""
    leave = [(["uninstall", PLUGIN], False), (["marketplace", "remove", NAME], False)]
    if not wanted:
        return leave
    path = _known_folder(client.settings)
    if path is None:  # the user's own marketplace is there already
        return [(["install", PLUGIN], True)]
    stale = _json(client.config / "plugins" / "known_marketplaces.json").get(NAME) is not None
    return [*(leave if stale else []), (["marketplace", "add", path], True), (["install", PLUGIN], True)]


def _settled(client: Client, *, wanted: bool) -> bool:
    state = client.config / "plugins"
    installed = _json(state / "installed_plugins.json").get("plugins")
    known = _json(state / "known_marketplaces.json").get(NAME)
    if not wanted:
        return known is None and not (isinstance(installed, dict) and PLUGIN in installed)
    path = _known_folder(client.settings)
    same = isinstance(known, dict) and (path is None or known.get("installLocation") == path)
    return same and isinstance(installed, dict) and PLUGIN in installed


def _known_folder(settings: Path) -> str | None:
    """The folder of our marketplace in the settings; None where it is not a folder, or not there."""
    known = _json(settings).get(_MARKETPLACES)
    entry = known.get(NAME) if isinstance(known, dict) else None
    source = entry.get("source") if isinstance(entry, dict) else None
    path = source.get("path") if isinstance(source, dict) else None
    return path if isinstance(path, str) else None


def _run(executable: str, words: list[str], env: Mapping[str, str]) -> str | None:
    quiet = {"DISABLE_AUTOUPDATER": "1", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"}
    command = [executable, "plugin", *words]
    try:
        done = subprocess.run(
            command,
            check=False,
            env={**env, **quiet},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_COMMAND_TIMEOUT_S,
            cwd="/",  # a project's own settings must not take part
        )
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    if not done.returncode:
        return None
    said = (done.stderr.strip() or done.stdout.strip()).decode("utf-8", "replace").splitlines()
    return said[-1] if said else f"`claude plugin {words[0]}` ended with exit code {done.returncode}"


def _put_back(path: Path, content: bytes | None) -> None:
    now = settings_files.read(path)
    if now == content or (now is not None and content is not None and _meaning(now) != _meaning(content)):
        return
    if content is None:
        if _meaning(now or b"") == {}:
            settings_files.make([FileChange(path, now, None, copy=False)])
    else:
        settings_files.make([FileChange(path, now, content, copy=False)])


def _meaning(raw: bytes) -> object:
    """What settings say: empty lists of plugins, which Claude Code leaves behind, say nothing."""
    try:
        value = json.loads(raw)
    except ValueError:
        return None
    if not isinstance(value, dict):
        return value
    return {k: v for k, v in value.items() if k not in (_MARKETPLACES, _ENABLED) or v != {}}


def _json(path: Path) -> dict[str, Any]:
    """A file of Claude Code's own, {} where it is not there or not as expected."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}

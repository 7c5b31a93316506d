"""What makes Codex call us, through its own commands: the MCP server among its servers, and the plugin with the skill.

The server is registered beside the plugin because Codex starts a plugin's server in the plugin's folder, where it cannot
tell which project it serves; one of its own servers starts in the project, and wins over the plugin's of the same name.
"""

import os
import shutil
import subprocess
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from session_mgmt_mcp.core.errors import SettingsFileError

NAME = "session-mgmt"  # of the server, the plugin and its marketplace
PLUGIN = f"{NAME}@{NAME}"
_TIMEOUT_S = 60


class Codex(NamedTuple):
    """An installed Codex."""

    executable: str
    home: Path  # its folder; may not exist yet

    @property
    def config(self) -> Path:
        """The settings, a TOML file. Codex itself keeps comments and order when it changes them."""
        return self.home / "config.toml"


class Server(NamedTuple):
    """How the server is started, and where the plugin's marketplace lies."""

    command: tuple[str, ...]
    settings: Mapping[str, str]  # environment variables
    marketplace: Path
    version: str  # of the plugin


class Command(NamedTuple):
    """A command of Codex that is to be run."""

    words: tuple[str, ...]
    needed: bool  # False: an older Codex that has no plugins does without

    def text(self) -> str:
        """As a person would type it."""
        return " ".join(("codex", *self.words))


def find_codex(env: Mapping[str, str] | None = None) -> Codex | None:
    """The Codex on PATH, or None."""
    env = os.environ if env is None else env
    executable = shutil.which("codex", path=env.get("PATH", ""))
    if executable is None:
        return None
    chosen = env.get("CODEX_HOME")
    home = Path(chosen) if chosen else Path(env.get("HOME") or os.path.expanduser("~")) / ".codex"
    return Codex(executable, home)


def plan_install(codex: Codex, server: Server) -> list[Command]:
    """The commands that are still needed; none where all is registered. Raises SettingsFileError for malformed settings."""
    config = _config(codex)
    commands = []
    if not _same_server(_table(config, "mcp_servers").get(NAME), server):
        given = [word for name, value in server.settings.items() for word in ("--env", f"{name}={value}")]
        commands.append(Command(("mcp", "add", NAME, *given, "--", *server.command), True))
    known = _table(config, "marketplaces").get(NAME)
    installed = PLUGIN in _table(config, "plugins")
    source = known.get("source") if isinstance(known, dict) else None
    moved = known is not None and source != str(server.marketplace) and not _is_other(source)
    if installed and (moved or not _cached(codex, server.version)):
        commands.append(Command(("plugin", "remove", PLUGIN), False))
        installed = False
    if moved:
        commands.append(Command(("plugin", "marketplace", "remove", NAME), False))
    if known is None or moved:
        commands.append(Command(("plugin", "marketplace", "add", str(server.marketplace)), False))
    if not installed:
        commands.append(Command(("plugin", "add", PLUGIN), False))
    return commands


def plan_undo(codex: Codex) -> list[Command]:
    """The commands after which nothing of ours is left. Raises SettingsFileError for malformed settings."""
    config = _config(codex)
    commands = []
    if NAME in _table(config, "mcp_servers"):
        commands.append(Command(("mcp", "remove", NAME), True))
    if PLUGIN in _table(config, "plugins"):
        commands.append(Command(("plugin", "remove", PLUGIN), True))
    if NAME in _table(config, "marketplaces"):
        commands.append(Command(("plugin", "marketplace", "remove", NAME), True))
    return commands


def run(codex: Codex, commands: Iterable[Command], env: Mapping[str, str] | None = None) -> list[str]:
    """Run the commands in order: what went wrong with those that are not needed.

    Raises SettingsFileError where a needed one fails.
    """
    complaints = []
    for command in commands:
        said = _run(codex, command.words, os.environ if env is None else env)
        if said is None:
            continue
        if command.needed:
            raise SettingsFileError(f"`{command.text()}` failed: {said}")
        complaints.append(f"`{command.text()}`: {said}")
    return complaints


def _run(codex: Codex, words: tuple[str, ...], env: Mapping[str, str]) -> str | None:
    try:
        done = subprocess.run(
            [codex.executable, *words],
            env=dict(env),
            cwd="/",  # a project's own settings must not take part
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    if not done.returncode:
        return None
    said = (done.stderr.strip() or done.stdout.strip()).decode("utf-8", "replace").splitlines()
    return said[-1] if said else f"exit code {done.returncode}"


def _config(codex: Codex) -> dict[str, Any]:
    try:
        return tomllib.loads(codex.config.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise SettingsFileError(
            f"{codex.config} cannot be read: {error}. Nothing was changed; correct it, then run this again."
        ) from None


def _table(config: dict[str, Any], name: str) -> dict[str, Any]:
    value = config.get(name, {})
    return value if isinstance(value, dict) else {}


def _same_server(entry: object, server: Server) -> bool:
    if not isinstance(entry, dict):
        return False
    command = (entry.get("command"), *entry.get("args", ()))
    return command == server.command and entry.get("env", {}) == dict(server.settings)


def _is_other(source: object) -> bool:
    """Whether a marketplace is the user's own: a repository or a clone that is there."""
    if not isinstance(source, str) or source.endswith("session_mgmt_mcp/adapters/claude_code"):
        return False
    return "://" in source or os.path.exists(source)


def _cached(codex: Codex, version: str) -> bool:
    """Whether Codex's copy of the plugin is of this version."""
    return (codex.home / "plugins" / "cache" / NAME / NAME / version).is_dir()

"""Where Claude Code keeps its files, which version it is, and which hooks that version knows."""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

Version = tuple[int, int, int]

# The hooks that are registered, with the first release that knows them (its changelog). Left out: what only repeats or
# streams (MessageDisplay, PostToolBatch, FileChanged), what replaces a default (WorktreeCreate) and what
# asks for an answer (PermissionRequest, Elicitation).
HOOK_EVENTS: dict[str, Version] = {
    "SessionStart": (1, 0, 62),
    "SessionEnd": (1, 0, 85),
    "UserPromptSubmit": (1, 0, 54),
    "PreToolUse": (1, 0, 38),
    "PostToolUse": (1, 0, 38),
    "PostToolUseFailure": (2, 1, 101),  # the changelog does not say since when; from here on it cannot harm
    "PermissionDenied": (2, 1, 89),
    "SubagentStart": (2, 0, 43),
    "SubagentStop": (1, 0, 41),
    "Stop": (1, 0, 38),
    "StopFailure": (2, 1, 78),
    "PreCompact": (1, 0, 48),
    "PostCompact": (2, 1, 76),
    "Notification": (1, 0, 38),
    "CwdChanged": (2, 1, 83),
    "TaskCreated": (2, 1, 84),
    "TaskCompleted": (2, 1, 33),
}
# Before this release one hook name it did not know made Claude Code ignore the *whole* settings file, permissions too.
TOLERANT_SINCE: Version = (2, 1, 101)
# Where the version cannot be told: what every release of the last year knows.
ASSUMED_VERSION: Version = (1, 0, 85)

_TAIL_BYTES = 256 * 1024


class Client(NamedTuple):
    """An installed Claude Code."""

    config: Path  # its folder; may not exist yet
    settings: Path  # hooks
    servers: Path  # MCP servers of the user
    transcripts: Path
    version: Version | None
    executable: str | None = None  # where it is on PATH

    @property
    def version_text(self) -> str:
        return ".".join(map(str, self.version)) if self.version else "of unknown version"


def find_client(env: Mapping[str, str] | None = None) -> Client | None:
    """The Claude Code of this user, or None: its folder exists, or `claude` is on PATH."""
    env = os.environ if env is None else env
    home = Path(env.get("HOME") or os.path.expanduser("~"))
    chosen = env.get("CLAUDE_CONFIG_DIR")
    config = (Path(chosen).expanduser() if chosen else home / ".claude").absolute()
    executable = shutil.which("claude", path=env.get("PATH", ""))
    if executable is None and not config.is_dir():
        return None
    legacy = config / ".config.json"  # wins over the newer place where it exists
    servers = legacy if legacy.exists() else (config if chosen else home).absolute() / ".claude.json"
    transcripts = config / "projects"
    return Client(
        config=config,
        settings=config / "settings.json",
        servers=servers,
        transcripts=transcripts,
        version=_asked_version(executable, env) or _recorded_version(transcripts),
        executable=executable,
    )


def known_events(version: Version | None) -> list[str]:
    """The hook events a release accepts in its settings, in the order they are registered."""
    if version is not None and version >= TOLERANT_SINCE:
        return list(HOOK_EVENTS)
    return [event for event, since in HOOK_EVENTS.items() if since <= (version or ASSUMED_VERSION)]


def _asked_version(executable: str | None, env: Mapping[str, str]) -> Version | None:
    if executable is None:
        return None
    try:
        # From the root: a project's own settings must not take part.
        answer = subprocess.run(
            [executable, "--version"],
            check=False,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=20,
            cwd="/",
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return _version(re.match(rb"\s*(\d+)\.(\d+)\.(\d+)", answer.stdout))


def _recorded_version(transcripts: Path) -> Version | None:
    """The version in the newest transcript: an editor's extension brings its own client that is not on PATH."""
    newest, newest_at = None, 0.0
    for path in transcripts.glob("*/*.jsonl"):
        try:
            changed_at = path.stat().st_mtime
        except OSError:
            continue
        if changed_at > newest_at:
            newest, newest_at = path, changed_at
    if newest is None:
        return None
    try:
        with newest.open("rb") as file:
            file.seek(max(0, newest.stat().st_size - _TAIL_BYTES))
            tail = file.read()
    except OSError:
        return None
    versions = list(re.finditer(rb'"version":"(\d+)\.(\d+)\.(\d+)"', tail))
    return _version(versions[-1]) if versions else None


def _version(match: re.Match[bytes] | None) -> Version | None:
    if match is None:
        return None
    major, minor, patch = (int(part) for part in match.groups())
    return major, minor, patch

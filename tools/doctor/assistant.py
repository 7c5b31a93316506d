"""Whether Claude Code calls this installation, whether what it calls works, and whether it really does."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from session_mgmt_mcp.adapters.claude_code import direct_install, install
from session_mgmt_mcp.adapters.claude_code.client import Client
from session_mgmt_mcp.core.errors import SessionMgmtError, SettingsFileError
from session_mgmt_mcp.core.log.log import FileLog
from session_mgmt_mcp.core.settings import DATA_DIR_VARIABLE
from session_mgmt_mcp.tools.doctor.finding import Finding, Fix, Severity, age_text
from session_mgmt_mcp.tools.doctor.journal import Latest

CHECK = "hooks"
HOOK_TIMEOUT_S = 20
SILENT_US = 15 * 60_000_000
_TRIAL = b'{"session_id": "doctor", "hook_event_name": "Notification"}'
_PROGRAM = "session-mgmt-mcp"
_SETUP = "`session-mgmt-mcp setup` registers it"


def check_registration(client: Client, folder: Path) -> Iterator[Finding]:
    """Hooks and MCP server: registered, pointing here, and able to run. Reads settings, changes nothing."""
    try:
        plan = install.plan_keep(client, install.this_installation(folder))
        found = install.registered(client)
    except SettingsFileError as error:
        where = str(client.settings)
        yield Finding(CHECK, Severity.ERROR, str(error), where, "correct the file, then run doctor again")
        return
    except SessionMgmtError as error:
        yield Finding(CHECK, Severity.ERROR, str(error), sys.executable, "install session-mgmt-mcp again")
        return
    # What was set up for other data is somebody's choice: only `setup` changes that.
    ours = all(target is None or _is_for(target, folder) for target in _targets(found))
    fix = Fix.REGISTER if ours else None
    for target in dict.fromkeys(_targets(found)):
        wrong = _trial(target)
        if wrong:
            what = f"the hooks do not work, nothing is captured: {wrong}"
            yield Finding(CHECK, Severity.ERROR, what, str(client.settings), _SETUP, fix)
    if found.plugin and found.hooks:
        what = "both the plugin and hooks in the settings are registered: every event is captured twice"
        yield Finding(CHECK, Severity.WARNING, what, str(client.settings), _SETUP, fix)
    if plan.changes:
        yield _unregistered(client, folder, found, fix)
    for note in plan.notes:
        severity = Severity.WARNING if "disableAllHooks" in note else Severity.NOTE
        yield Finding(CHECK, severity, note, str(client.settings), "see there")


def _unregistered(client: Client, folder: Path, found: install.Registration, fix: Fix | None) -> Finding:
    where = str(client.settings)
    if not found.captures and found.server is None:
        return Finding(CHECK, Severity.WARNING, "Claude Code does not call this program", where, _SETUP)
    here = install.this_installation(folder).script
    scripts = {target.script for target in _targets(found) if target is not None}
    others = ", ".join(sorted(str(script) for script in scripts if script != here))
    if others:
        what = f"Claude Code calls another installation: {others}"
    elif fix is None:
        what = "Claude Code's hooks write into another data folder"
    else:
        what = "Claude Code does not call this installation on every event, or not its MCP server"
    return Finding(CHECK, Severity.WARNING, what, where, _SETUP, fix)


def _targets(found: install.Registration) -> list[direct_install.Target | None]:
    """What the hooks start, the plugin's and the settings'; None: it cannot be told."""
    targets = list(map(direct_install.words_of, found.hooks.values()))
    return [*targets, found.recorded] if found.plugin else targets


def _is_for(words: direct_install.Target, folder: Path) -> bool:
    """Whether the hook writes into this data folder."""
    return words.data_dir == install.this_installation(folder).data_dir


def _trial(target: direct_install.Target | None) -> str | None:
    """Run what a registered hook starts for a scratch data folder; what is wrong with it."""
    if target is None:
        return "what they start is not recorded"
    for path, name in ((target.python, "interpreter"), (str(target.script), "script")):
        if not os.path.exists(path):
            return f"their {name} {path} is gone"
    return run_hook(target)


def run_hook(words: direct_install.Target) -> str | None:
    """What goes wrong when this hook reports an event into a scratch data folder; None where it is stored."""
    environment = {name: value for name, value in os.environ.items() if name != DATA_DIR_VARIABLE}
    with tempfile.TemporaryDirectory(prefix="session-mgmt-doctor-") as scratch:
        data = f"{scratch}/data"
        command = [words.python, "-I", "-S", str(words.script), "--data-dir", data]
        try:
            done = subprocess.run(
                command,
                input=_TRIAL,
                capture_output=True,
                timeout=HOOK_TIMEOUT_S,
                env=environment,
                check=False,
            )
        except (OSError, subprocess.SubprocessError) as error:
            return str(error)
        said = done.stderr.decode("utf-8", "replace").strip()
        if done.returncode or said:
            return said.splitlines()[-1] if said else f"exit code {done.returncode}"
        try:
            with FileLog(data) as log:
                return None if log.head().position == 1 else "it stored nothing"
        except SessionMgmtError as error:
            return str(error)


def check_firing(client: Client, latest: Latest, now_us: int, paused: bool) -> Iterator[Finding]:
    """Whether hooks reported while the assistant wrote its transcripts. Only where they are registered."""
    try:
        if paused or not install.registered(client).captures:
            return
        since = int(client.settings.stat().st_mtime * 1e6)
    except (SettingsFileError, OSError):
        return
    newest = _newest_transcript(client.transcripts)
    if newest is None:
        return
    path, active = newest
    if active > max(latest.hook_us, since) + SILENT_US:
        said = (
            f"the last hook reported {age_text(now_us - latest.hook_us)} ago"
            if latest.hook_us
            else "no hook ever did"
        )
        what = f"Claude Code was active {age_text(now_us - active)} ago, but {said}"
        mend = (
            "sessions that were open before `setup` report after their next start; "
            "see whether disableAllHooks or a managed policy stops hooks"
        )
        yield Finding(CHECK, Severity.WARNING, what, str(path), mend)


def _newest_transcript(transcripts: Path) -> tuple[Path, int] | None:
    """The transcript written last, and when (µs)."""
    newest: tuple[Path, int] | None = None
    for path in transcripts.glob("*/*.jsonl"):
        try:
            at = int(path.stat().st_mtime * 1e6)
        except OSError:
            continue
        if newest is None or at > newest[1]:
            newest = path, at
    return newest


def check_others(search_path: str) -> Iterator[Finding]:
    """Other installations of this program that a shell would start."""
    own = Path(sys.executable).parent
    for folder in dict.fromkeys(p for p in search_path.split(os.pathsep) if os.path.isabs(p)):
        path = Path(folder) / _PROGRAM
        if not os.access(path, os.X_OK) or _python_of(path).parent == own or path.resolve().parent == own:
            continue
        what = f"another installation is on PATH (with {_python_of(path)})"
        mend = (
            "nothing, if you keep two; else uninstall one, then run `session-mgmt-mcp setup` with the other"
        )
        yield Finding("installation", Severity.NOTE, what, str(path), mend)


def _python_of(script: Path) -> Path:
    """The interpreter in the script's first line."""
    try:
        with script.open("rb") as file:
            line = file.readline(512)
    except OSError:
        return Path("an unknown Python")
    words = line.removeprefix(b"#!").decode("utf-8", "replace").split()
    return Path(words[0] if line.startswith(b"#!") and words else "an unknown Python")

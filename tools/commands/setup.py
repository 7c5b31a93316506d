"""`session-mgmt-mcp setup`: find assistants, register with them, import their history; `--undo` takes it back."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from session_mgmt_mcp import __version__
from session_mgmt_mcp.adapters.claude_code import direct_install, install, plugin_install
from session_mgmt_mcp.adapters.claude_code.client import Client, find_client, known_events
from session_mgmt_mcp.adapters.claude_code.settings_files import AppliedChange, ChangedMeanwhileError
from session_mgmt_mcp.adapters.codex import install as codex_install
from session_mgmt_mcp.adapters.codex.install import Codex, find_codex
from session_mgmt_mcp.core.errors import LockTimeoutError
from session_mgmt_mcp.core.settings import DATA_DIR_VARIABLE, data_dir
from session_mgmt_mcp.tools.app import App
from session_mgmt_mcp.tools.cli import emit_json
from session_mgmt_mcp.tools.progress import import_progress, quiet, stages

EXAMPLE = "session-mgmt-mcp setup --dry-run"
T = TypeVar("T")
_ATTEMPTS = 3  # a running assistant rewrites its own file now and then


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `setup`."""
    parser.add_argument("--dry-run", action="store_true", help="show what would change, and change nothing")
    parser.add_argument(
        "--undo", action="store_true", help="take the registration back; what was captured stays"
    )
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument(
        "--no-backfill", action="store_true", help="leave out the history that is there already"
    )
    parser.add_argument(
        "--no-plugin",
        action="store_true",
        help="register in the settings files even where Claude Code could take the plugin",
    )
    parser.add_argument(
        "--print-installation",
        action="store_true",
        help="only print interpreter, package and data folder, a line each, as the plugin's launcher asks for them",
    )


def run(args: argparse.Namespace) -> int:
    """Set up or undo. Raises DataFolderError and SettingsFileError, both before anything is changed."""
    if args.print_installation:
        print(plugin_install.record_text(install.this_installation(data_dir())), end="")
        return 0
    talk = _Talk(quiet=args.json)
    client, codex = find_client(), find_codex()
    if client is None and codex is None:
        return _no_assistant(args, talk)
    return _undo(args, talk, client, codex) if args.undo else _set_up(args, talk, client, codex)


class _Talk:
    """What is said to people. With `quiet` (for machines) nothing is said and nothing asked."""

    def __init__(self, *, quiet: bool) -> None:
        self.quiet = quiet

    def say(self, text: str = "") -> None:
        if not self.quiet:
            print(text, flush=True)

    def agreed(self, question: str) -> bool:
        """Ask where somebody is there to answer; everywhere else the command itself is the answer."""
        if self.quiet or not (sys.stdin.isatty() and sys.stdout.isatty()):
            return True
        try:
            return input(f"{question} [Y/n] ").strip().lower() in ("", "y", "yes")
        except EOFError:
            return False


def _no_assistant(args: argparse.Namespace, talk: _Talk) -> int:
    talk.say(
        "No assistant was found: there is no Claude Code folder (~/.claude), no `claude` or `codex` on PATH."
    )
    talk.say("Nothing was changed. To see what this does, run `session-mgmt-mcp demo`;")
    talk.say("after installing Claude Code run `session-mgmt-mcp setup` again.")
    if args.json:
        emit_json({"assistants": [], "changes": [], "applied": False, "try": "session-mgmt-mcp demo"})
    return 0


def _set_up(args: argparse.Namespace, talk: _Talk, client: Client | None, codex: Codex | None) -> int:
    folder = data_dir()
    _check_folder(folder)
    target = install.this_installation(folder)
    plan = _plan(client, target, args) if client is not None else install.Plan(())
    commands = codex_install.plan_install(codex, _server(target)) if codex is not None else []
    _introduce(talk, client, codex, folder)
    _show(talk, plan, commands, diffs=args.dry_run)
    report = _report(client, codex, folder, plan, commands)
    if args.dry_run:
        talk.say("\nThis was a dry run: nothing was changed.")
        if args.json:
            emit_json(report)
        return 0
    if not args.yes and not talk.agreed("\nGo on?"):
        talk.say("Nothing was changed.")
        return 0
    with App.open(folder, create=True) as app:
        app.log.append([])  # nothing: but a folder that cannot be written is found before any settings are
        # First the hooks: what happens during the import is captured, and what is read twice is stored once.
        done = _register(talk, client, target, args) if client is not None else []
        _run(talk, codex, commands)
        _show_done(talk, done, commands)
        report |= {"applied": True, "changes": _changes(done)}
        if app.paused_since is not None:
            talk.say("Capture is paused: `session-mgmt-mcp resume` goes on.")
        if client is not None and not args.no_backfill:
            report["backfill"] = _backfill(talk, app, client)
        report["position"] = app.log.head().position
    if client is not None:
        talk.say("\nDone. New Claude Code sessions are captured; those open now, after their next start.")
    talk.say("Find something:  session-mgmt-mcp search 'why did the login test fail'")
    talk.say("Take it back:    session-mgmt-mcp setup --undo")
    if args.json:
        emit_json(report)
    return 0


def _undo(args: argparse.Namespace, talk: _Talk, client: Client | None, codex: Codex | None) -> int:
    folder = data_dir()
    plan = install.plan_undo(client) if client is not None else install.Plan(())
    commands = codex_install.plan_undo(codex) if codex is not None else []
    _show(talk, plan, commands, diffs=args.dry_run)
    report = _report(client, codex, folder, plan, commands)
    if args.dry_run:
        talk.say("\nThis was a dry run: nothing was changed.")
    elif not plan.changes and not commands:
        talk.say("Nothing of session-mgmt-mcp is registered.")
    elif args.yes or talk.agreed("\nGo on?"):
        done = _undone(client) if client is not None else []
        _run(talk, codex, commands)
        _show_done(talk, done, commands)
        report |= {"applied": True, "changes": _changes(done)}
    else:
        talk.say("Nothing was changed.")
    if folder.exists():
        talk.say(f"What was captured stays in {folder}; remove that folder if you do not want it.")
    if args.json:
        emit_json(report)
    return 0


def _server(target: direct_install.Target) -> codex_install.Server:
    """What Codex is to start."""
    command = (target.python, "-P", "-m", direct_install.SERVER_MODULE)
    settings = {} if target.data_dir is None else {DATA_DIR_VARIABLE: str(target.data_dir)}
    return codex_install.Server(command, settings, plugin_install.marketplace(target), __version__)


def _run(talk: _Talk, codex: Codex | None, commands: list[codex_install.Command]) -> None:
    if codex is None:
        return
    for complaint in codex_install.run(codex, commands):
        talk.say(f"Note: this Codex did without the skill: {complaint}")


def _check_folder(folder: Path) -> None:
    """Raises DataFolderError for a folder that cannot be used; creates nothing."""
    try:
        fresh = not folder.exists() or not any(folder.iterdir())
    except OSError:
        fresh = False
    if not fresh:
        App.open(folder).close()


def _plan(client: Client, target: direct_install.Target, args: argparse.Namespace) -> install.Plan:
    return install.plan_install(client, target, plugin=False if args.no_plugin else None)


def _register(
    talk: _Talk, client: Client, target: direct_install.Target, args: argparse.Namespace
) -> list[AppliedChange]:
    done, plan = _applied(lambda: _plan(client, target, args))
    refused = plugin_install.settle(client, wanted=plan.plugin)
    if refused is None or not plan.plugin:
        return done
    talk.say(f"Claude Code did not take the plugin ({refused}): registering in its settings files instead.")
    again, _ = _applied(lambda: install.plan_install(client, target, plugin=False))
    return [*done, *again]


def _undone(client: Client) -> list[AppliedChange]:
    done = _patiently(lambda: install.undo(client))
    plugin_install.settle(client, wanted=False)
    return done


def _applied(planned: Callable[[], install.Plan]) -> tuple[list[AppliedChange], install.Plan]:
    def once() -> tuple[list[AppliedChange], install.Plan]:
        plan = planned()
        return install.apply(plan), plan

    return _patiently(once)


def _patiently(work: Callable[[], T]) -> T:
    for _ in range(_ATTEMPTS - 1):
        try:
            return work()
        except ChangedMeanwhileError:
            continue
    return work()


def _backfill(talk: _Talk, app: App, client: Client) -> dict[str, Any]:
    """Import the history. Interrupted, it is run again: what is stored already is stored once."""
    if not client.transcripts.is_dir():
        talk.say(f"\nNo history yet: {client.transcripts} does not exist.")
        return {}
    talk.say(f"\nImporting history from {client.transcripts}")
    if talk.quiet:
        report = app.import_claude([client.transcripts])
    else:
        with import_progress() as progress:
            report = app.import_claude([client.transcripts], progress)
    talk.say(
        f"  {report.files} files, {report.read} records: {report.appended} new, {report.duplicates} known already, "
        f"{report.noise} noise, {report.errors} unreadable"
    )
    for sample in report.error_samples[:3]:
        talk.say(f"  unreadable: {sample.path}, line {sample.line}: {sample.reason}")
    try:
        if talk.quiet:
            app.maintain(quiet)
        else:
            with stages() as show:
                app.maintain(show)
    except LockTimeoutError:
        talk.say("  another process is building the views; search sees everything all the same")
    result: dict[str, Any] = msgspec.to_builtins(report)
    return result


def _introduce(talk: _Talk, client: Client | None, codex: Codex | None, folder: Path) -> None:
    if client is not None:
        events = len(known_events(client.version))
        talk.say(f"Found Claude Code {client.version_text} ({client.config}).")
        talk.say("\nWhat is captured, from now on and from the history that is there:")
        talk.say(
            "  prompts, replies and thinking, tool calls and their results, edits, compactions, subagents."
        )
        talk.say(f"  Hooks on {events} events report them live; transcripts add what hooks are not told.")
    if codex is not None:
        talk.say(
            f"Found Codex ({codex.home}): it gets the MCP server and the skill; its sessions are not captured."
        )
    talk.say(f"Where it is kept: {folder}, readable by you alone.")
    talk.say(
        "Nothing leaves this machine: no account, no network. Known shapes of secrets and whatever stands in"
    )
    talk.say("  <private>…</private> are taken out before anything is written.")


def _show(talk: _Talk, plan: install.Plan, commands: list[codex_install.Command], *, diffs: bool) -> None:
    if plan.changes or commands:
        talk.say("\nWhat changes:")
    for change in plan.changes:
        talk.say(f"  {change.action} {change.path}")
        if diffs:
            talk.say(change.diff())
    for command in commands:
        talk.say(f"  run {command.text()}")
    for text in plan.notes:
        talk.say(f"Note: {text}")


def _show_done(talk: _Talk, done: list[AppliedChange], commands: list[codex_install.Command]) -> None:
    if not done and not commands:
        talk.say("\nRegistered already: no file had to change.")
    for change in done:
        verb = {"create": "created", "edit": "edited", "remove": "removed"}[change.action]
        kept = f" (as it was: {change.backup})" if change.backup and change.backup.exists() else ""
        talk.say(f"{verb} {change.path}{kept}")
    for command in commands:
        talk.say(f"ran {command.text()}")


def _report(
    client: Client | None,
    codex: Codex | None,
    folder: Path,
    plan: install.Plan,
    commands: list[codex_install.Command],
) -> dict[str, Any]:
    found = []
    if client is not None:
        found.append({"name": "claude-code", "version": client.version_text, "config": str(client.config)})
    if codex is not None:
        found.append({"name": "codex", "config": str(codex.home)})
    return {
        "assistants": found,
        "data_dir": str(folder),
        "applied": False,
        "changes": [{"path": str(c.path), "action": c.action, "diff": c.diff()} for c in plan.changes],
        "commands": [command.text() for command in commands],
        "notes": list(plan.notes),
    }


def _changes(done: list[AppliedChange]) -> list[dict[str, Any]]:
    return [
        {"path": str(c.path), "action": c.action, "backup": str(c.backup) if c.backup else None} for c in done
    ]

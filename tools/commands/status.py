"""`status`: what is captured, how far the views are, what is wrong."""

import argparse
from typing import Any

import msgspec

from session_mgmt_mcp.adapters.claude_code import install
from session_mgmt_mcp.adapters.claude_code.client import find_client
from session_mgmt_mcp.core.errors import SessionMgmtError
from session_mgmt_mcp.tools import auditing, ignoring, retention
from session_mgmt_mcp.tools.app import App
from session_mgmt_mcp.tools.cli import emit_json
from session_mgmt_mcp.tools.doctor.finding import age_text
from session_mgmt_mcp.tools.embedding import SWITCH, is_on
from session_mgmt_mcp.tools.progress import stages

EXAMPLE = "session-mgmt-mcp status --json"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--verify",
        action="store_true",
        help="read every byte of the log and check it, as `audit verify` does",
    )


def run(args: argparse.Namespace) -> int:
    """0 where all is well, 1 where there is something to mend, 4 where `--verify` found the log damaged."""
    with App.open() as app:
        state = app.status()
        state["assistants"], findings = _registrations(app)
        ignored = ignoring.rules_of(app.folder)
        state["ignored"] = {**msgspec.to_builtins(ignored), "said": ignoring.status_line(ignored)}
        state["findings"] += [*retention.findings(app), *findings]
        if args.verify:
            with stages() as show:
                state["verified"] = auditing.verify_folder(app.folder, show)._asdict()
    if args.json:
        emit_json(state)
    else:
        _print(state)
    return 1 if state["findings"] else 0


def _registrations(app: App) -> tuple[dict[str, str], list[str]]:
    """Each assistant that is here and whether it calls this installation; and what to mend."""
    client = find_client()
    if client is None:
        return {}, []
    try:
        plan = install.plan_keep(client, install.this_installation(app.folder))
    except SessionMgmtError as error:
        return {"claude-code": "unreadable settings"}, [str(error)]
    if plan.changes:
        mend = "Claude Code does not call this installation on every event: `session-mgmt-mcp setup` registers it"
        return {"claude-code": "not registered, or for another installation"}, [mend]
    return {"claude-code": "registered"}, []


def _print(state: dict[str, Any]) -> None:
    views = state["views"]
    print(f"data folder   {state['folder']}")
    print(
        f"log           {state['position']} events, sealed up to {state['sealed']}, {_mib(state['log_bytes'])}"
    )
    print(
        f"views         {views['sessions']} sessions, {views['actions']} actions, {_mib(state['views_bytes'])}; "
        f"published up to {views['query_watermark']} (query), {views['lexical_watermark']} (lexical)"
    )
    print(f"vectors       {_vectors(views['vectors'])}")
    if verified := state.get("verified"):
        print(f"verified      {verified['events']} events, chain {verified['chain']}")
    print(f"ignored       {state['ignored']['said']}")
    for name, registration in state["assistants"].items():
        print(f"{name:13} {registration}")
    for kind, count in sorted(views["unknown"].items()):
        print(f"unknown type  {kind}: {count}, kept raw")
    for finding in state["findings"]:
        print(f"to mend       {finding}")
    if state["findings"]:
        print("              `session-mgmt-mcp doctor` looks closer, and mends what is safe with --fix")


def _vectors(vectors: dict[str, Any]) -> str:
    """How many passages can be found by meaning, and when the others can."""
    text = f"{vectors['passages']} passages can be found by meaning"
    if vectors["waiting"]:
        text += f", about {vectors['waiting']} wait"
        if vectors["seconds_left"] is not None:
            left = age_text(int(vectors["seconds_left"] * 1e6))
            text += f" ({left} at {vectors['rate']:,.0f} a second)"
        if not is_on():
            text += f"; {SWITCH} is off: `session-mgmt-mcp embed` goes on"
    return f"{text}; {vectors['scanned']}" if vectors["scanned"] else text


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.1f} MiB"

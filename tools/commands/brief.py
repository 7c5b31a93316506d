"""`brief`: what a session that starts here is told."""

import argparse

import msgspec

from session_mgmt_mcp.tools import lifecycle
from session_mgmt_mcp.tools.app import App
from session_mgmt_mcp.tools.cli import emit_json, note
from session_mgmt_mcp.tools.commands.search import folder

EXAMPLE = "session-mgmt-mcp brief --project ~/shop"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--project", type=folder, help="of this project (default: the working folder's)")
    parser.add_argument("--session", help="as this session is told after its context was compacted")
    parser.add_argument(
        "--budget",
        type=int,
        default=lifecycle.BUDGET_DEFAULT,
        metavar="TOKENS",
        help="how long it may be (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """0, also where there is nothing to say."""
    project = args.project or (None if args.session else lifecycle.here())
    with App.open() as app:
        brief = lifecycle.start(app, project, args.session, args.budget)
    if args.json:
        emit_json(msgspec.to_builtins(brief))
    elif brief.text:
        print(brief.text)
        note(f"\nabout {brief.tokens} tokens; hooks give it to every session that starts in {brief.project}")
    else:
        note(f"nothing is recorded of {brief.project} yet; `session-mgmt-mcp projects` lists what is")
    return 0

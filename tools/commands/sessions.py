"""`sessions`: list sessions."""

import argparse

from session_mgmt_mcp.core.errors import InputError
from session_mgmt_mcp.tools.app import App
from session_mgmt_mcp.tools.cli import emit_json, note
from session_mgmt_mcp.tools.commands.search import folder
from session_mgmt_mcp.tools.render import print_sessions, session_json
from session_mgmt_mcp.tools.terminal import add_pager_option, output

EXAMPLE = "session-mgmt-mcp sessions --project ~/shop"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--project", type=folder, help="only in this folder, or folders of this name, and below"
    )
    parser.add_argument("--assistant", help="only of this assistant, such as claude-code")
    parser.add_argument("--limit", type=int, default=50, help="how many at most (default: %(default)s)")
    add_pager_option(parser)


def run(args: argparse.Namespace) -> int:
    if args.limit < 1:
        raise InputError(f"--limit {args.limit}: give a number from 1 on")
    with App.open() as app:
        found = app.views.sessions(project=args.project, assistant=args.assistant, limit=args.limit)
    if args.json:
        emit_json({"sessions": [session_json(s) for s in found]})
    elif found:
        with output(pager=not args.no_pager) as out:
            print_sessions(found, out)
    else:
        note("no session yet; `session-mgmt-mcp setup` starts capturing and imports what is there")
    return 0

"""`stats`: activity over time, projects, assistants, tools, files, tokens, sessions' lengths."""

import argparse

from session_mgmt_mcp.core.errors import InputError
from session_mgmt_mcp.projections.query_times import EXAMPLES
from session_mgmt_mcp.tools.app import App
from session_mgmt_mcp.tools.cli import emit_json, note
from session_mgmt_mcp.tools.commands.search import folder, moment
from session_mgmt_mcp.tools.stats_view import print_statistics, statistics_json
from session_mgmt_mcp.tools.terminal import add_pager_option, output

EXAMPLE = "session-mgmt-mcp stats --project ~/shop --after 'last month'"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--project", type=folder, help="only in this folder, or folders of this name, and below"
    )
    parser.add_argument("--after", type=moment, metavar="DATE", help=f"not before this: {EXAMPLES}")
    parser.add_argument("--before", type=moment, metavar="DATE", help="before this")
    parser.add_argument(
        "--top", type=int, default=10, help="projects, tools and files at most (default: %(default)s)"
    )
    add_pager_option(parser)


def run(args: argparse.Namespace) -> int:
    """0, also where there is nothing to count."""
    from session_mgmt_mcp.projections.statistics import statistics

    if not 1 <= args.top <= 1000:
        raise InputError(f"--top {args.top}: give a number from 1 to 1000")
    with App.open() as app:
        projects = app.views.projects()
        with app.views.reading() as files:
            found = statistics(
                files,
                projects=projects,
                project=args.project,
                after=args.after,
                before=args.before,
                top=args.top,
            )
    if args.json:
        emit_json(statistics_json(found))
    elif found.actions:
        with output(pager=not args.no_pager) as out:
            print_statistics(found, out)
    else:
        note("nothing to count; `session-mgmt-mcp setup` starts capturing, or ask for less narrow a stretch")
    return 0

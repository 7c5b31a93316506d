"""`replay`: rebuild the views from the log."""

import argparse

from session_mgmt_mcp.core.errors import InputError
from session_mgmt_mcp.tools.app import App
from session_mgmt_mcp.tools.cli import emit_json
from session_mgmt_mcp.tools.progress import stages

EXAMPLE = "session-mgmt-mcp replay"
PROJECTIONS = ("query", "lexical")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="*", metavar="PROJECTION", help="query, lexical (default: all)")


def run(args: argparse.Namespace) -> int:
    """The live views serve until the rebuilt ones take their place."""
    for name in args.names:
        if name not in PROJECTIONS:
            raise InputError(f"no projection {name!r}; there are {', '.join(PROJECTIONS)}")
    with App.open() as app, stages() as report:
        digests = app.replay(args.names or None, report)
        sealed = app.log.sealed().position
    if args.json:
        emit_json({"position": sealed, "digests": digests})
    else:
        for name, digest in digests.items():
            print(f"{name:8} rebuilt up to position {sealed}, digest {digest}")
    return 0

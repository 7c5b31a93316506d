"""`maintain`: seal the log, import live transcripts, publish the views."""

import argparse
import os
import time

import msgspec

from session_mgmt_mcp.core.errors import LockTimeoutError
from session_mgmt_mcp.tools import maintenance
from session_mgmt_mcp.tools.app import App
from session_mgmt_mcp.tools.cli import emit_json, note
from session_mgmt_mcp.tools.progress import stages

EXAMPLE = "session-mgmt-mcp maintain --once"
EVERY_S = 60
_NICENESS = 10


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--once", action="store_true", help="one pass, at once; ends if another process is at it"
    )
    parser.add_argument("--force", action="store_true", help="seal the open journal however young it is")


def run(args: argparse.Namespace) -> int:
    """0 also where another process was at it. Without --once: a pass a minute until interrupted."""
    os.nice(_NICENESS)
    with App.open() as app:
        if args.once:
            maintenance.ask(app.log.folder)
        while True:
            try:
                with stages() as show:
                    report = app.maintain(show, force=args.force, wait_s=0)
            except LockTimeoutError as error:
                if args.json:
                    emit_json({"busy": True})
                else:
                    note(str(error))
            else:
                if args.json:
                    emit_json(msgspec.to_builtins(report))
            if args.once:
                return 0
            time.sleep(EVERY_S)

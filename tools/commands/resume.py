"""`session-mgmt-mcp resume`: go on capturing."""

import argparse

from session_mgmt_mcp.tools.app import App
from session_mgmt_mcp.tools.cli import emit_json
from session_mgmt_mcp.tools.commands.pause import moment

EXAMPLE = "session-mgmt-mcp resume"


def configure(parser: argparse.ArgumentParser) -> None:
    """No arguments of its own."""


def run(args: argparse.Namespace) -> int:
    """Resume; saying so again changes nothing."""
    with App.open() as app:
        since = app.paused_since
        resumed_now = app.resume()
    if args.json:
        emit_json({"paused": False, "changed": resumed_now, "since": since})
    elif resumed_now:
        print(f"Capture goes on. It was paused since {moment(since)}.")
    else:
        print("Capture was not paused.")
    return 0

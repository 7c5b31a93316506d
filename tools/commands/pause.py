"""`session-mgmt-mcp pause`: stop capturing until `resume`."""

import argparse
from datetime import UTC, datetime

from session_mgmt_mcp.tools.app import App
from session_mgmt_mcp.tools.cli import emit_json

EXAMPLE = "session-mgmt-mcp pause"


def configure(parser: argparse.ArgumentParser) -> None:
    """No arguments of its own."""


def run(args: argparse.Namespace) -> int:
    """Pause; saying so again changes nothing."""
    with App.open(create=True) as app:
        paused_now = app.pause()
        since = app.paused_since
    if args.json:
        emit_json({"paused": True, "changed": paused_now, "since": since})
    else:
        print(f"Capture {'is now paused' if paused_now else 'was paused already'}, since {moment(since)}.")
        print("Nothing that happens from now on is recorded; `session-mgmt-mcp resume` goes on.")
        print(
            "The assistant's own transcripts go on: `import` and `setup` would read them whole, this time too."
        )
    return 0


def moment(at_us: int | None) -> str:
    """Local time to the minute with its zone; for 0 and None that it is unknown."""
    if not at_us:
        return "an unknown time"
    return datetime.fromtimestamp(at_us / 1_000_000, UTC).astimezone().strftime("%Y-%m-%d %H:%M %Z")

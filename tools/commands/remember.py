"""`remember`: store a reflection."""

import argparse
import os

from session_mgmt_mcp.tools.app import App
from session_mgmt_mcp.tools.cli import emit_json
from session_mgmt_mcp.tools.commands.search import folder

EXAMPLE = "session-mgmt-mcp remember 'dates in tests are always UTC' --tag decision"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("text", nargs="+", help="what to remember")
    parser.add_argument(
        "--tag", action="append", default=[], help="decision, preference, pitfall, …; repeatable"
    )
    parser.add_argument("--project", type=folder, help="the folder it is about (default: this one)")
    parser.add_argument("--key", help="the same key and text again is stored once")


def run(args: argparse.Namespace) -> int:
    with App.open(create=True) as app:
        receipt = app.remember(" ".join(args.text), args.tag, args.project or _here(), None, args.key)
    if args.json:
        emit_json({"position": receipt.position, "appended": receipt.appended})
    else:
        print(f"{'remembered' if receipt.appended else 'known already'}, at position {receipt.position}")
    return 0


def _here() -> str | None:
    try:
        return os.getcwd()
    except FileNotFoundError:  # removed under the shell
        return None

"""`replay`: rebuild the views from the log, or check that they hold what it says."""

import argparse
from typing import TYPE_CHECKING

import msgspec

from session_mgmt_mcp.core.errors import InputError
from session_mgmt_mcp.projections.protocol import NAMES
from session_mgmt_mcp.tools.app import App
from session_mgmt_mcp.tools.cli import emit_json
from session_mgmt_mcp.tools.progress import stages

if TYPE_CHECKING:
    from session_mgmt_mcp.projections.checking import Checked
    from session_mgmt_mcp.tools.maintenance import Report

EXAMPLE = "session-mgmt-mcp replay lexical"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="*", metavar="PROJECTION", help=f"{', '.join(NAMES)} (default: all)")
    parser.add_argument(
        "--check",
        action="store_true",
        help="rebuild beside the published ones, compare, and change nothing; exit 1 where they differ",
    )


def run(args: argparse.Namespace) -> int:
    """The live views serve until the rebuilt ones take their place; interrupted, the next replay goes on from there."""
    for name in args.names:
        if name not in NAMES:
            raise InputError(f"no projection {name!r}; there are {', '.join(NAMES)}")
    with App.open() as app, stages() as report:
        if args.check:
            return _check(app, args, report)
        digests = app.replay(args.names or None, report)
        sealed = app.log.sealed().position
        waiting = app.views.status().vectors.waiting if "vector" in digests else 0
    if args.json:
        emit_json({"position": sealed, "digests": digests, "passages_waiting": waiting})
    else:
        for name, digest in digests.items():
            print(f"{name:8} rebuilt up to position {sealed}, digest {digest}")
        if waiting:
            print(f"about {waiting} passages have no vector yet: `session-mgmt-mcp embed` gives them theirs")
    return 0


def _check(app: App, args: argparse.Namespace, report: "Report") -> int:
    from session_mgmt_mcp.tools.replaying import check

    found = check(app, args.names or None, report)
    if args.json:
        emit_json({name: {**msgspec.to_builtins(c), "same": c.same} for name, c in found.items()})
    else:
        for name, checked in found.items():
            print(f"{name:8} {_verdict(name, checked)}")
    return 0 if all(checked.same for checked in found.values()) else 1


def _verdict(name: str, checked: "Checked") -> str:
    mend = f"`session-mgmt-mcp replay {name}` builds it anew"
    if checked.same:
        return f"holds what the log says up to position {checked.position}, digest {checked.published}"
    if not checked.published:
        return f"is not published, or by another version; {mend}"
    if not checked.rebuilt:
        return f"has damaged files; {mend}"
    return f"differs from the log at position {checked.position}: {checked.published}, rebuilt {checked.rebuilt}; {mend}"

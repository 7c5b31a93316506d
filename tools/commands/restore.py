"""`restore`: bring a log back from a backup, whole or up to a moment."""

import argparse
import shlex
from datetime import UTC, datetime
from pathlib import Path

from session_mgmt_mcp.core.backup.cut import Chosen
from session_mgmt_mcp.core.backup.restore import FETCHING, Point, Restored
from session_mgmt_mcp.tools import backups
from session_mgmt_mcp.tools.cli import emit_json, note
from session_mgmt_mcp.tools.progress import byte_stages

EXAMPLE = "session-mgmt-mcp restore /mnt/usb/session-backup --to ~/restored --time 2026-01-31T15:00"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("destination", help="where the backup is: a folder or a URL")
    parser.add_argument("--to", required=True, type=Path, metavar="FOLDER", help="an absent or empty folder")
    parser.add_argument(
        "--snapshot", metavar="ID", help="which snapshot (default: the newest; see backup --list)"
    )
    cut = parser.add_mutually_exclusive_group()
    cut.add_argument("--position", type=int, metavar="N", help="only the events up to position N, as a fork")
    cut.add_argument(
        "--time",
        metavar="T",
        help="only what was recorded up to an ISO date or time (local zone unless given), as a fork",
    )
    parser.add_argument(
        "--live", type=Path, metavar="FOLDER",
        help="the data folder the backup was made of: what it forgot since stays forgotten (default: the default one)",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """0 once the verified log has its name; 4 where the backup is damaged, and then nothing was switched in."""
    point = None
    if args.position is not None:
        point = Point(position=args.position)
    elif args.time is not None:
        point = Point(time_us=backups.parse_time(args.time))
    with byte_stages(FETCHING) as progress:
        done, notes = backups.restore_log(
            args.destination, args.to, snapshot=args.snapshot, point=point, live=args.live, progress=progress
        )
    for line in notes:
        note(line)
    if args.json:
        chosen = done.chosen and done.chosen._asdict()
        emit_json({**done._asdict(), "chosen": chosen, "notes": notes})
    else:
        _print(done)
    return 0


def _print(done: Restored) -> None:
    if done.chosen is not None:
        _print_chosen(done.chosen)
    print(f"restored {done.position} events of snapshot {done.snapshot} to {done.folder}, verified")
    added = done.events - done.position
    if done.forked_from:
        print(
            f"it is a fork of log {done.forked_from} with an id of its own, {done.log_id}; {added} events say so"
        )
    elif added:
        print(f"{added} events were added, which say what was forgotten since")
    print(f"use it: SESSION_MGMT_DATA_DIR={shlex.quote(done.folder)} session-mgmt-mcp replay")


def _print_chosen(chosen: Chosen) -> None:
    following = f"; the next was at {_clock(chosen.next_at)}" if chosen.next_at else ", the last"
    print(f"that time is position {chosen.position}, recorded at {_clock(chosen.recorded_at)}{following}")
    if chosen.later:
        print(
            f"{chosen.later} later events are stamped before that time too, because the clock was set back: "
            "--position N takes them in"
        )


def _clock(us: int) -> str:
    return datetime.fromtimestamp(us / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

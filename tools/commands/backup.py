"""`backup`: bring the log to another place, look at what is there, check it."""

import argparse
from typing import Any

from session_mgmt_mcp.core.backup.check import CHECKING
from session_mgmt_mcp.core.backup.create import COPYING
from session_mgmt_mcp.core.backup.retain import Keep
from session_mgmt_mcp.core.errors import InputError
from session_mgmt_mcp.tools import backups
from session_mgmt_mcp.tools.app import App
from session_mgmt_mcp.tools.cli import emit_json
from session_mgmt_mcp.tools.progress import byte_stages

EXAMPLE = "session-mgmt-mcp backup /mnt/usb/session-backup --keep 30"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("destination", help="a folder, or a URL fsspec can open (s3://…, sftp://…)")
    parser.add_argument("--keep", type=int, metavar="N", help="remove all but the newest N snapshots")
    parser.add_argument(
        "--keep-days",
        type=float,
        metavar="D",
        help="remove snapshots older than D days; with --keep, what neither keeps",
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--list", action="store_true", help="only list the snapshots that are there")
    what.add_argument(
        "--verify", action="store_true", help="only read a snapshot back and check every byte of it"
    )
    parser.add_argument("--snapshot", metavar="ID", help="with --verify: which one (default: the newest)")


def run(args: argparse.Namespace) -> int:
    """0 where the backup is complete, or checks; 1 where nothing could be removed as asked; 4 where it is damaged; 5 where the place cannot be written."""
    if args.keep is not None and args.keep < 1:
        raise InputError(f"--keep {args.keep}: at least one snapshot stays")
    if args.keep_days is not None and args.keep_days < 0:
        raise InputError(f"--keep-days {args.keep_days:g} is less than nothing")
    if args.snapshot and not args.verify:
        raise InputError("--snapshot goes with --verify; a new backup is always of the whole log")
    if args.list:
        return _list(args)
    if args.verify:
        return _verify(args)
    asked = args.keep is not None or args.keep_days is not None
    keep = Keep(args.keep, args.keep_days) if asked else None
    with App.open() as app, byte_stages(COPYING, CHECKING) as progress:
        done = backups.back_up(app, args.destination, keep, progress)
    code = 1 if done.left and asked else 0
    if args.json:
        emit_json(done._asdict())
        return code
    what = f"snapshot {done.snapshot}" if done.new else f"nothing new since snapshot {done.snapshot}"
    print(
        f"{what}: {done.position} events, {_size(done.bytes)}; copied {done.copied_objects} files, {_size(done.copied_bytes)}"
    )
    if done.purged:
        print(f"took what was forgotten out of {done.purged} snapshots")
    if done.dropped:
        print(f"removed {done.dropped} snapshots")
    if done.left:
        print("nothing was removed, because another backup is being made there: run it again after that one")
    return code


def _list(args: argparse.Namespace) -> int:
    found = backups.snapshots(args.destination)
    listed: list[dict[str, Any]] = [
        {"snapshot": s.id, "position": s.position, "chain": s.chain, "created_at": s.created_at,
         "bytes": sum(size for size in s.objects().values() if size > 0)}
        for s in found
    ]  # fmt: skip
    if args.json:
        emit_json({"snapshots": listed})
        return 0
    for snapshot in listed:
        print(f"{snapshot['snapshot']:40} {snapshot['position']:>10} events {_size(snapshot['bytes']):>12}")
    if not listed:
        print("no complete backup yet")
    return 0


def _verify(args: argparse.Namespace) -> int:
    with byte_stages(COPYING, CHECKING) as progress:
        checked = backups.check_backup(args.destination, args.snapshot, progress)
    if args.json:
        emit_json(checked._asdict())
    else:
        print(
            f"snapshot {checked.snapshot} checks: {checked.position} events in {checked.objects} files, "
            f"{_size(checked.bytes)}, chain {checked.chain}"
        )
    return 0


def _size(size: int) -> str:
    return f"{size / (1 << 20):.1f} MiB" if size >= 1 << 20 else f"{size / (1 << 10):.1f} KiB"

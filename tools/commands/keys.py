"""`keys`: who may ask over HTTP: keys made, listed, revoked, rotated."""

import argparse
import os
from datetime import datetime
from typing import Any

from session_mgmt_mcp.core.access import ADMIN_TOOLS, METRICS, Role
from session_mgmt_mcp.core.envelope import EventType, now_us
from session_mgmt_mcp.core.errors import InputError, SessionMgmtError
from session_mgmt_mcp.core.events import KeyRevoked
from session_mgmt_mcp.core.log.durable import sync_folder, write_new
from session_mgmt_mcp.projections.permissions import expiry
from session_mgmt_mcp.tools import access_keys
from session_mgmt_mcp.tools.access_audit import append_access, created
from session_mgmt_mcp.tools.access_keys import NewKey, StoredKey, Wanted
from session_mgmt_mcp.tools.app import App
from session_mgmt_mcp.tools.cli import emit_json, note
from session_mgmt_mcp.tools.commands.search import folder
from session_mgmt_mcp.tools.render import iso, minute
from session_mgmt_mcp.tools.terminal import printable

EXAMPLE = "session-mgmt-mcp keys create mira --role writer --project ~/shop --expires 30d --to-file mira.key"
_ACTOR = "user"


def configure(parser: argparse.ArgumentParser) -> None:
    parts = parser.add_subparsers(dest="what", metavar="what")
    parts.add_parser("list", help="all keys, without their secrets (the default)")
    create = parts.add_parser("create", help="make a key; it is shown this once")
    create.add_argument(
        "name", metavar="NAME", help="the user it stands for; what is written carries the name"
    )
    create.add_argument("--role", required=True, choices=[role.value for role in Role], help="what it may do")
    seen = create.add_mutually_exclusive_group(required=True)
    seen.add_argument(
        "--project",
        action="append",
        type=folder,
        metavar="FOLDER",
        help="only what was done there or below; repeatable",
    )
    seen.add_argument("--all-projects", action="store_true", help="everything that is recorded")
    create.add_argument(
        "--scope",
        action="append",
        default=[],
        choices=sorted((*ADMIN_TOOLS, METRICS)),
        metavar="TOOL",
        help="only this tool of the role, or metrics; repeatable",
    )
    create.add_argument(
        "--expires", default="", metavar="WHEN", help="30m, 8h, 30d, or a date (default: never)"
    )
    revoke = parts.add_parser("revoke", help="let a key open nothing any more")
    rotate = parts.add_parser("rotate", help="make a new key with the same rights and revoke the old one")
    for part in (revoke, rotate):
        part.add_argument("id", metavar="ID", help="as list shows it, or its beginning")
    revoke.add_argument("--reason", default="", help="kept with it")
    rotate.add_argument(
        "--overlap", default="", metavar="TIME", help="let the old one work so long still: 30m, 8h, 7d"
    )
    for part in (create, rotate):
        part.add_argument("--to-file", metavar="FILE", help="write the key there (0600), and do not print it")
    for part in parts.choices.values():
        part.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> int:
    with App.open(create=args.what == "create") as app:
        part = {"create": _create, "revoke": _revoke, "rotate": _rotate}.get(args.what, _list)
        return part(app, args)


def _list(app: App, args: argparse.Namespace) -> int:
    now = now_us()
    keys = sorted(access_keys.read_keys(app.folder), key=lambda key: (key.state(now) != "valid", key.name))
    if args.json:
        emit_json({"keys": [_json(key, now) for key in keys]})
    elif keys:
        for key in keys:
            print(_line(key, now))
    else:
        note("there are no keys; `session-mgmt-mcp keys create NAME --role reader --all-projects` makes one")
    return 0


def _create(app: App, args: argparse.Namespace) -> int:
    now = now_us()
    _refuse_existing(args.to_file)
    wanted = Wanted(
        args.name,
        Role(args.role),
        tuple(dict.fromkeys(args.scope)),
        None if args.all_projects else tuple(args.project),
        expiry(args.expires, datetime.now().astimezone()),
    )
    made = access_keys.create(
        app.folder,
        wanted,
        lambda key: append_access(app.log, EventType.KEY_CREATED, created(key), _ACTOR),
        now,
    )
    return _hand_over(args, made, now, {})


def _rotate(app: App, args: argparse.Namespace) -> int:
    now = now_us()
    _refuse_existing(args.to_file)
    overlap = expiry(args.overlap, datetime.now().astimezone()) - now if args.overlap else 0
    if args.overlap and overlap <= 0:
        raise InputError(f"--overlap {args.overlap[:40]!r} lies in the past; give a time such as 8h")

    def tell(old: StoredKey, new: StoredKey) -> None:
        append_access(app.log, EventType.KEY_CREATED, created(new, old.id), _ACTOR)
        if not overlap:
            reason = f"rotated to {new.id}"
            append_access(app.log, EventType.KEY_REVOKED, KeyRevoked(old.id, old.name, reason), _ACTOR)

    old, made = access_keys.rotate(app.folder, args.id, tell, now, overlap)
    if not args.json:
        until = f"works until {minute(old.expires_at)}" if overlap else "opens nothing any more"
        note(f"the key {old.id} {until}")
    return _hand_over(args, made, now, {"replaces": old.id})


def _hand_over(args: argparse.Namespace, made: NewKey, now: int, more: dict[str, Any]) -> int:
    """Give the key away: to a file, as JSON or on stdout, where it can be redirected."""
    said = {"key": _json(made.stored, now), **more}
    if args.to_file:
        try:
            write_new(args.to_file, made.text.encode() + b"\n")
            sync_folder(os.path.dirname(os.path.abspath(args.to_file)))
        except OSError as error:
            raise SessionMgmtError(
                f"{args.to_file} cannot be written ({error.strerror}), so nobody has the key {made.stored.id}; "
                f"`session-mgmt-mcp keys rotate {made.stored.id}` makes it anew"
            ) from error
        said["file"] = os.path.abspath(args.to_file)
    if args.json:
        emit_json(said if args.to_file else {**said, "text": made.text})
        return 0
    note(_line(made.stored, now))
    if args.to_file:
        print(f"the key is in {printable(args.to_file)}")
    else:
        print(made.text)
        note("keep it now: it cannot be shown again. Send it as `Authorization: Bearer <key>`")
    return 0


def _refuse_existing(path: str | None) -> None:
    if path and os.path.lexists(path):
        raise InputError(f"{path} exists already; name a new file for the key")


def _revoke(app: App, args: argparse.Namespace) -> int:
    gone, new = access_keys.revoke(app.folder, args.id)
    if new:
        append_access(app.log, EventType.KEY_REVOKED, KeyRevoked(gone.id, gone.name, args.reason), _ACTOR)
    if args.json:
        emit_json({"key": _json(gone, now_us()), "changed": new})
    else:
        print(f"{'revoked' if new else 'revoked before'}: {_line(gone, now_us())}")
    return 0


def _json(key: StoredKey, now: int) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "role": key.role.value,
        "scopes": list(key.scopes),
        "projects": None if key.projects is None else list(key.projects),
        "state": key.state(now),
        "created": iso(key.created_at),
        "expires": iso(key.expires_at),
        "revoked": iso(key.revoked_at),
    }


def _line(key: StoredKey, now: int) -> str:
    state = key.state(now)
    until = f" until {minute(key.expires_at)}" if key.expires_at and state == "valid" else ""
    narrowed = f" for {', '.join(key.scopes)}" if key.scopes else ""
    where = "all projects" if key.projects is None else ", ".join(key.projects)
    return printable(f"{key.id}  {state}{until}: {key.name}, {key.role.value}{narrowed}, {where}")

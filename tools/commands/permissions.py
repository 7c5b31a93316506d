"""`permissions`: what may be done without asking, as the user said it: listed, granted, revoked, checked."""

import argparse
from datetime import datetime
from typing import Any

import msgspec

from session_mgmt_mcp.core.envelope import now_us
from session_mgmt_mcp.projections.permissions import Asked, Grant, State, expiry
from session_mgmt_mcp.tools import permissions
from session_mgmt_mcp.tools.app import App
from session_mgmt_mcp.tools.cli import emit_json, note
from session_mgmt_mcp.tools.commands.search import folder
from session_mgmt_mcp.tools.render import minute
from session_mgmt_mcp.tools.terminal import printable

EXAMPLE = "session-mgmt-mcp permissions grant 'git push' --project ~/shop --expires 8h --reason 'release day'"


def configure(parser: argparse.ArgumentParser) -> None:
    parts = parser.add_subparsers(dest="what", metavar="what")
    parts.add_parser("list", help="all of them, those that hold first (the default)")
    grant = parts.add_parser("grant", help="record that an operation may be done without asking")
    check = parts.add_parser("check", help="whether one covers an operation now: exit code 0, else 1")
    for part in (grant, check):
        part.add_argument("operation", help="such as 'git push': its words, which may go on, or with * and ?")
        part.add_argument("--scope", default="", help="a folder or a pattern of paths (** crosses folders)")
        part.add_argument("--project", type=folder, default="", help="only in this project")
        part.add_argument("--session", default="", help="only in this session")
    grant.add_argument(
        "--expires", default="", metavar="WHEN", help="30m, 8h, 7d, or a date or time (default: never)"
    )
    revoke = parts.add_parser("revoke", help="take one back")
    revoke.add_argument("id", help="its id, or the beginning of it")
    for part in (grant, revoke):
        part.add_argument("--reason", default="", help="kept with it")
    for part in parts.choices.values():
        part.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> int:
    """0; of `check` 1 where nothing covers the operation."""
    with App.open(create=args.what == "grant") as app:
        part = {"grant": _grant, "revoke": _revoke, "check": _check}.get(args.what, _list)
        return part(app, args)


def _list(app: App, args: argparse.Namespace) -> int:
    now = now_us()
    found = sorted(permissions.listed(app), key=lambda g: (g.state(now) is not State.HOLDS, -g.position))
    if args.json:
        emit_json({"permissions": [_json(g, now) for g in found]})
    elif found:
        for one in found:
            print(_line(one, now))
    else:
        note("no permission is recorded")
    return 0


def _grant(app: App, args: argparse.Namespace) -> int:
    session = app.views.session(args.session).session if args.session else ""
    wanted = Grant(
        grant="",
        operation=args.operation,
        scope=args.scope,
        project=args.project,
        session=session,
        expires_at=expiry(args.expires, datetime.now().astimezone()),
        reason=args.reason,
    )
    stored, new = permissions.grant(app, wanted)
    if args.json:
        emit_json({"permission": _json(stored, now_us()), "appended": new})
    else:
        print(f"{'recorded' if new else 'recorded already'}: {_line(stored, now_us())}")
        note("a record to look up; it makes no assistant do or refuse anything")
    return 0


def _revoke(app: App, args: argparse.Namespace) -> int:
    gone, new = permissions.revoke(app, args.id, args.reason)
    if args.json:
        emit_json({"permission": _json(gone, now_us()), "appended": new})
    else:
        print(f"{'revoked' if new else 'revoked before'}: {_line(gone, now_us())}")
    return 0


def _check(app: App, args: argparse.Namespace) -> int:
    now = now_us()
    found = permissions.check(app, Asked(args.operation, args.scope, args.project, args.session), now)
    if args.json:
        covers = None if found.grant is None else _json(found.grant, now)
        others = [{"permission": _json(g, now), "why_not": why} for g, why in found.others]
        emit_json({"covered": covers is not None, "by": covers, "others": others})
    elif found.grant is not None:
        print(f"yes: {_line(found.grant, now)}")
    else:
        print("no")
        for one, why in found.others:
            note(f"{printable(why)}: {_line(one, now)}")
    return 0 if found.grant is not None else 1


def _json(grant: Grant, now: int) -> dict[str, Any]:
    return {**msgspec.to_builtins(grant), "state": grant.state(now).value}


def _line(grant: Grant, now: int) -> str:
    until = f" until {minute(grant.expires_at)}" if grant.expires_at else ""
    state = grant.state(now)
    where = [f"{name} {value}" for name in ("scope", "project", "session") if (value := getattr(grant, name))]
    said = f" ({grant.reason})" if grant.reason else ""
    parts = [
        f"{grant.grant}  {state.value}{until if state is not State.REVOKED else ''}: {grant.operation}",
        *where,
    ]
    return printable(f"{', '.join(parts)}{said}, by {grant.actor} {minute(grant.granted_at)}")

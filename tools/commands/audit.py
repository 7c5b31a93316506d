"""`audit`: check the log against its hash chain, list who did what when, sign the chain head, check signed ones."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from session_mgmt_mcp.adapters.signing import public_path
from session_mgmt_mcp.core.audit import encode
from session_mgmt_mcp.core.errors import InputError, LogCorruptError
from session_mgmt_mcp.core.settings import data_dir
from session_mgmt_mcp.tools import auditing
from session_mgmt_mcp.tools.app import App
from session_mgmt_mcp.tools.audit_formats import FORMATS, json_object, print_totals, write_rows
from session_mgmt_mcp.tools.cli import emit_json, note
from session_mgmt_mcp.tools.commands.search import folder, moment
from session_mgmt_mcp.tools.progress import stages
from session_mgmt_mcp.tools.render import iso, minute

EXAMPLE = "session-mgmt-mcp audit log --file '*.py' --after 2026-03-01 --format jsonl"
TEXT_LIMIT = 100
_EXAMPLES = {
    "verify": "session-mgmt-mcp audit verify --json",
    "log": EXAMPLE,
    "sign": "session-mgmt-mcp audit sign --output head-2026-03.json",
    "check": "session-mgmt-mcp audit check head-2026-03.json --public-key audit-key.pub",
}


def configure(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="what", required=True, metavar="verify | log | sign | check")
    _part(commands, "verify", "read every byte of the log and check it: manifests, files, leaves, chain")
    _configure_log(_part(commands, "log", "who did what when, the newest last"))
    sign = _part(commands, "sign", "verify the log, then sign its chain head")
    sign.add_argument(
        "--key", type=Path, metavar="FILE", help="private key, made where there is none "
        "(default: $XDG_CONFIG_HOME/session-mgmt-mcp/audit-key.pem)"
    )  # fmt: skip
    sign.add_argument(
        "--output", type=Path, metavar="FILE", help="where to put the statement (default: stdout)"
    )
    check = _part(commands, "check", "prove that since a statement was signed history was only appended to")
    check.add_argument("statements", nargs="+", type=Path, metavar="STATEMENT", help="files of `audit sign`")
    check.add_argument(
        "--public-key", type=Path, metavar="FILE", help="(default: the one beside the default key)"
    )


def _part(commands: Any, name: str, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=text,
        description=text[0].upper() + text[1:] + ".",
        epilog=f"example:\n  {_EXAMPLES[name]}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--json",
        action="store_true",
        default=argparse.SUPPRESS,
        help="one JSON object on stdout, for machines",
    )
    return parser


def _configure_log(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--session", help="a session's id, or the beginning of it")
    parser.add_argument("--project", type=folder, help="only in this folder and below")
    parser.add_argument("--actor", help="user, assistant, tool, system or agent:<id>")
    parser.add_argument("--tool", help="only calls and results of this tool, such as Bash")
    parser.add_argument("--file", help="a path, the end of one (app.py), or a pattern ('*/tests/*.py')")
    parser.add_argument("--kind", help="only this kind, such as ToolCalled or PayloadForgotten")
    parser.add_argument(
        "--after", type=moment, metavar="DATE", help="not before this date or time (ISO 8601)"
    )
    parser.add_argument("--before", type=moment, metavar="DATE", help="before this date or time (ISO 8601)")
    parser.add_argument(
        "--since-position", type=int, default=0, metavar="N", help="only what was appended after position N"
    )
    parser.add_argument(
        "--limit", type=int, help=f"the newest so many (default: {TEXT_LIMIT} as text on stdout, else all)"
    )
    parser.add_argument("--format", choices=FORMATS, default="text", help="(default: %(default)s)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="into this file, whole or not at all")
    parser.add_argument(
        "--summary", action="store_true", help="totals per actor, kind, tool and file instead"
    )


def run(args: argparse.Namespace) -> int:
    """0 done · 4 the log does not check, or is not what was signed."""
    run_part = {"verify": _verify, "log": _log, "sign": _sign, "check": _check}[args.what]
    return run_part(args)


def _verify(args: argparse.Namespace) -> int:
    with stages() as show:
        verified = auditing.verify_folder(data_dir(), show)
    if args.json:
        emit_json(verified._asdict())
    else:
        for name, value in verified._asdict().items():
            print(f"{name:10} {value}")
        print("every byte is what the chain says")
    return 0


def _log(args: argparse.Namespace) -> int:
    if args.limit is not None and args.limit < 1:
        raise InputError(f"--limit {args.limit}: give a number from 1 on")
    if args.since_position < 0:
        raise InputError(f"--since-position {args.since_position}: give a position, or 0 for all")
    with App.open() as app:
        app.views.refresh()
        with app.views.reading() as files:
            return _summary(args, app, files) if args.summary else _rows(args, app, files)


def _filters(args: argparse.Namespace, files: Any) -> Any:
    from session_mgmt_mcp.projections.audit import AuditFilters
    from session_mgmt_mcp.projections.sessions import resolve_session

    own = args.session == "log"  # of session-mgmt/log, which may have no row in the views
    session = args.session if args.session is None or own else resolve_session(files, args.session)
    return AuditFilters(
        session,
        args.project,
        args.actor,
        args.tool,
        args.file,
        args.kind,
        args.after,
        args.before,
        args.since_position,
    )


def _rows(args: argparse.Namespace, app: App, files: Any) -> int:
    from session_mgmt_mcp.projections.audit import audit_rows
    from session_mgmt_mcp.projections.own_events import EventIds, own_events

    limit = args.limit
    if limit is None and args.format == "text" and args.output is None and not args.json:
        limit = TEXT_LIMIT
    rows = audit_rows(files, own_events(app.log), EventIds(app.log), _filters(args, files), limit)
    if args.json and args.output is None:
        json_object(rows, sys.stdout)
        return 0
    count = write_rows(rows, args.format, args.output)
    if args.json:
        emit_json({"output": str(args.output), "format": args.format, "count": count})
    elif args.output is not None:
        note(f"{count} rows in {args.output}")
    elif not count:
        note("nothing found; try fewer filters")
    elif limit == count and args.limit is None:
        note(f"the newest {count}; --limit N shows more, --output FILE keeps all")
    return 0


def _summary(args: argparse.Namespace, app: App, files: Any) -> int:
    from session_mgmt_mcp.projections.audit import totals
    from session_mgmt_mcp.projections.own_events import own_events

    found = totals(files, own_events(app.log), _filters(args, files))
    if args.json:
        emit_json(msgspec.to_builtins(found))
    else:
        print_totals(found)
    return 0


def _sign(args: argparse.Namespace) -> int:
    if args.output is not None and args.output.exists():
        raise InputError(
            f"{args.output} is there already: statements are kept, not overwritten; name another file"
        )
    with stages() as show:
        signed = auditing.sign(data_dir(), args.key, show)
    raw = encode(signed.statement)
    if args.output is not None:
        auditing.put(args.output, raw)
    key = signed.key
    report = msgspec.to_builtins(signed.statement)
    if args.json:
        place = {
            "key_file": str(key.path),
            "public_key_file": str(public_path(key.path)),
            "key_made": key.made,
        }
        output = None if args.output is None else str(args.output)
        emit_json({"statement": report, "output": output, **place})
    elif args.output is None:
        sys.stdout.write(raw.decode())
    if key.made:
        note(f"made a new key: {key.path} (private) and {public_path(key.path)} (public)")
    note(
        f"signed position {signed.statement.position}. The proof is worth something only where the key and the statement "
        "are kept apart from this machine's data: whoever has both key and log can sign another history"
    )
    return 0


def _check(args: argparse.Namespace) -> int:
    with stages() as show:
        found = auditing.check(data_dir(), args.statements, args.public_key, show)
    if args.json:
        emit_json(
            {"ok": all(c.verdict.holds for c in found), "statements": [_checked_json(c) for c in found]}
        )
    else:
        _print_checked(found)
    return 0 if all(c.verdict.holds for c in found) else LogCorruptError.exit_code


def _checked_json(checked: auditing.Checked) -> dict[str, Any]:
    verdict = checked.verdict
    return {
        "file": str(checked.path),
        "ok": verdict.holds,
        "failed": verdict.part.value if verdict.part else None,
        "position": verdict.position,
        "signed_at": iso(verdict.signed_at),
        "appended_since": verdict.appended_since,
        "message": verdict.message,
    }


def _print_checked(found: Sequence[auditing.Checked]) -> None:
    for path, verdict in found:
        if verdict.holds:
            since = verdict.appended_since
            added = "1 event was" if since == 1 else f"{since} events were"
            print(f"{path}: {verdict.message} at {minute(verdict.signed_at)}; {added} appended since")
        else:
            print(f"{path}: FAILED ({verdict.part}): {verdict.message}")

"""`ignore`: projects and files of which nothing is stored."""

import argparse

import msgspec

from session_mgmt_mcp.tools import ignoring
from session_mgmt_mcp.tools.app import App
from session_mgmt_mcp.tools.cli import emit_json, note
from session_mgmt_mcp.tools.ignoring import Ignored
from session_mgmt_mcp.tools.terminal import printable

EXAMPLE = "session-mgmt-mcp ignore add --project ~/diary --path '**/secrets/*.yaml'"


def configure(parser: argparse.ArgumentParser) -> None:
    parts = parser.add_subparsers(dest="what", metavar="what")
    parts.add_parser("list", help="what is ignored (the default)")
    for name, text in (
        ("add", "leave out more, from now on"),
        ("remove", "take rules back; also one of those that hold by default"),
    ):
        part = parts.add_parser(name, help=text)
        part.add_argument(
            "--project",
            metavar="DIR",
            action="append",
            default=[],
            help="a folder: nothing of sessions in it, below it or in its worktrees is stored; repeatable",
        )
        part.add_argument(
            "--path",
            metavar="PATTERN",
            action="append",
            default=[],
            help="files by their path (* within a name, ** across folders): the event is stored, what stands in the file "
            "is not; repeatable. What a shell command prints of it cannot be told",
        )
    part = parts.add_parser(
        "check", help="whether a folder or file is ignored, and why; exit code 1: it is not"
    )
    part.add_argument("file", metavar="PATH", help="a folder or a file, which need not exist")
    for part in parts.choices.values():
        part.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> int:
    with App.open(create=args.what == "add") as app:
        folder = app.folder
    if args.what == "check":
        return _check(args, ignoring.check(folder, args.file))
    if args.what in ("add", "remove"):
        if not args.project and not args.path:
            note(f"session-mgmt-mcp ignore {args.what}: name a folder with --project or files with --path")
            return 2
        change = ignoring.add if args.what == "add" else ignoring.remove
        found = change(folder, args.project, args.path)
    else:
        found = ignoring.rules_of(folder)
    if args.json:
        emit_json(msgspec.to_builtins(found))
        return 0
    _print(found)
    if args.what == "add":
        for project in args.project:
            print(
                f"What is stored of it already stays: `session-mgmt-mcp forget --project {printable(project)}`"
            )
        for path in args.path:
            print(
                f"What is stored of {printable(path)} already stays: `search file:…` finds it, `forget` takes it out"
            )
    return 0


def _check(args: argparse.Namespace, found: ignoring.Verdict) -> int:
    if args.json:
        emit_json(msgspec.to_builtins(found))
    elif found.project:
        print(
            f"{printable(found.path)}: sessions here are not stored: the project {printable(found.project)} is ignored"
        )
    elif found.pattern:
        print(
            f"{printable(found.path)}: what stands in it is not stored: it matches {printable(found.pattern)}"
        )
    else:
        print(f"{printable(found.path)}: not ignored")
    return 0 if found.project or found.pattern else 1


def _print(found: Ignored) -> None:
    for project in found.projects:
        print(f"project  {printable(project)}")
    for path in found.paths:
        print(f"path     {printable(path)}")
    for path in found.defaults:
        print(f"path     {printable(path)}  (by default)")
    for path in found.kept:
        print(f"kept     {printable(path)}  (ignored by default, switched off)")
    if found.left_out:
        print(f"{found.left_out} events of ignored projects were left out")

"""`config`: the settings that are in force, a file of them checked, a file to begin with."""

import argparse
import os
from typing import Any

from session_mgmt_mcp.tools import settings_file
from session_mgmt_mcp.tools.cli import emit_json, note
from session_mgmt_mcp.tools.terminal import add_pager_option, output, printable

EXAMPLE = "session-mgmt-mcp config show"


def configure(parser: argparse.ArgumentParser) -> None:
    parts = parser.add_subparsers(dest="what", metavar="what")
    show = parts.add_parser("show", help="each setting, its value and where that comes from (the default)")
    add_pager_option(show)
    check = parts.add_parser("check", help="read a file as the service would; exit code 6: it is malformed")
    check.add_argument("file", metavar="FILE", nargs="?", help="default: the file that is in force")
    init = parts.add_parser("init", help="write a file with every setting commented out; never over one")
    init.add_argument("file", metavar="FILE", nargs="?", help="default: where the service looks for it")
    for part in parts.choices.values():
        part.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> int:
    """0; 1 where a checked file names files that cannot be read; 6 where something is malformed."""
    if args.what == "init":
        return _init(args)
    return _check(args) if args.what == "check" else _show(args)


def _show(args: argparse.Namespace) -> int:
    found = settings_file.in_force(os.environ)
    if args.json:
        emit_json(found)
        return 0
    with output(pager=not getattr(args, "no_pager", False)) as out:
        lines = [f"settings file: {found['file'] or 'none (`session-mgmt-mcp config init` writes one)'}"]
        for key, row in found["settings"].items():
            lines += ["", *_lines(key, row)]
        out.console.print(printable("\n".join(lines)), markup=False, highlight=False, soft_wrap=True)
    for name in found["unknown_variables"]:
        note(printable(f"nothing reads the variable {name}"))
    return 0


def _lines(key: str, row: dict[str, Any]) -> tuple[str, str]:
    value, default = settings_file.toml_value(row["value"]), settings_file.toml_value(row["default"])
    if row["origin"] != "default":
        origin = f"{row['where']}; default {default}"
    else:
        origin = "default" if value == default else "default, follows from the others"
    notes = [row["allowed"], row["variable"], *(["HUP"] if row["reload"] else [])]
    return f"{key} = {value}   [{origin}]", f"    {row['meaning']} ({'; '.join(notes)})"


def _check(args: argparse.Namespace) -> int:
    """A named file is looked at by itself; the one in force with the environment over it."""
    from session_mgmt_mcp.core.config import read

    named = os.path.abspath(os.path.expanduser(args.file)) if args.file else None
    loaded = read({} if named else None, named)
    findings = settings_file.unreadable({key: value.value for key, value in loaded.values.items()})
    set_here = [key for key, value in loaded.values.items() if value.origin == "file"]
    if args.json:
        emit_json({"file": loaded.file, "set": set_here, "findings": findings})
    else:
        file = loaded.file or "no settings file"
        print(
            printable(f"{file}: {len(set_here)} settings, {'well-formed' if loaded.file else 'all default'}")
        )
        for finding in findings:
            note(printable(finding))
    return 1 if findings else 0


def _init(args: argparse.Namespace) -> int:
    path = settings_file.write_initial(args.file)
    if args.json:
        emit_json({"file": path})
    else:
        print(printable(f"wrote {path}: every setting, commented out"))
    return 0

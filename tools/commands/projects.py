"""`projects`: which working folders are one project; join what was moved or renamed, separate it again."""

import argparse

import msgspec

from session_mgmt_mcp.tools import projects
from session_mgmt_mcp.tools.app import App
from session_mgmt_mcp.tools.cli import emit_json, note
from session_mgmt_mcp.tools.commands.search import folder
from session_mgmt_mcp.tools.projects import Joining, ProjectEntry
from session_mgmt_mcp.tools.render import minute
from session_mgmt_mcp.tools.terminal import printable

EXAMPLE = "session-mgmt-mcp projects join ~/old-name ~/new-name"
FOLDERS_SHOWN_MAX = 5


def configure(parser: argparse.ArgumentParser) -> None:
    parts = parser.add_subparsers(dest="what", metavar="what")
    parts.add_parser("list", help="projects with their folders, the last active first (the default)")
    one = parts.add_parser("join", help="let a project go on under another root: its folder was moved")
    one.add_argument("old", metavar="OLD", type=folder, help="the folder it had, or its name")
    one.add_argument("new", metavar="NEW", type=folder, help="the folder it has now, or its name")
    other = parts.add_parser("separate", help="let what was joined be a project of its own again")
    other.add_argument("root", metavar="ROOT", type=folder, help="the folder that was joined to another")
    for part in parts.choices.values():
        part.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> int:
    with App.open() as app:
        if args.what == "join":
            return _say(args, projects.join(app, args.old, args.new))
        if args.what == "separate":
            return _say(args, projects.separate(app, args.root))
        found = projects.listed(app)
    if args.json:
        emit_json({"projects": [msgspec.to_builtins(entry) for entry in found]})
    elif found:
        for entry in found:
            _print(entry)
    else:
        note("no project yet; `session-mgmt-mcp setup` starts capturing and imports what is there")
    return 0


def _say(args: argparse.Namespace, done: Joining) -> int:
    if args.json:
        emit_json(msgspec.to_builtins(done))
    elif not done.position:
        print(f"{printable(done.old)} and {printable(done.new)} are one project already")
    elif done.old == done.new:
        print(f"{printable(done.old)} is a project of its own, from position {done.position} on")
    else:
        print(f"{printable(done.old)} goes on as {printable(done.new)}, from position {done.position} on")
    return 0


def _print(entry: ProjectEntry) -> None:
    sessions = f"{entry.sessions} session{'' if entry.sessions == 1 else 's'}"
    print(f"{minute(entry.last_at)}  {sessions:>12}  {printable(entry.root)}")
    others = [f"joined: {root}" for root in entry.roots]
    others += [folder for folder in entry.folders if folder not in (entry.root, *entry.roots)]
    for line in others[:FOLDERS_SHOWN_MAX]:
        print(f"{'':32}{printable(line)}")
    if len(others) > FOLDERS_SHOWN_MAX:
        print(f"{'':32}… and {len(others) - FOLDERS_SHOWN_MAX} more; --json has them all")

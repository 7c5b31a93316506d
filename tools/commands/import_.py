"""`import`: append transcripts and other histories to the log."""

import argparse

import msgspec

from session_mgmt_mcp.adapters.importing import ImportReport
from session_mgmt_mcp.core.errors import LockTimeoutError
from session_mgmt_mcp.tools.app import App
from session_mgmt_mcp.tools.cli import emit_json, note
from session_mgmt_mcp.tools.importing import AUTO, FORMATS, check_paths, import_paths
from session_mgmt_mcp.tools.progress import import_progress, stages

EXAMPLE = "session-mgmt-mcp import ~/.claude/projects"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help="transcripts, or folders of them; - reads the generic format from stdin",
    )
    parser.add_argument(
        "--format",
        choices=FORMATS,
        default=AUTO,
        help="what the files are (default: told from their content); generic: JSON lines of any history",
    )
    parser.add_argument(
        "--no-views", action="store_true", help="append only; the views follow at the next maintenance"
    )


def run(args: argparse.Namespace) -> int:
    """0 when every line was taken, 1 when some could not be read; what was read is in the log either way."""
    check_paths(args.paths, args.format)
    with App.open(create=True) as app:
        with import_progress() as progress:
            report = import_paths(app, args.paths, args.format, progress)
        if report.appended and not args.no_views:
            try:
                with stages() as show:
                    app.maintain(show)
            except LockTimeoutError:  # what was imported is in the log all the same
                note("another process is building the views; search sees everything all the same")
    if args.json:
        emit_json(msgspec.to_builtins(report))
    else:
        print_report(report)
    return 1 if report.errors else 0


def print_report(report: ImportReport) -> None:
    print(
        f"{report.read} records of {report.files} files: {report.appended} appended, {report.duplicates} known, "
        f"{report.noise} noise, {report.errors} unreadable"
    )
    if report.changed:
        print(f"known, but not as they are in the log: {report.changed}; the log keeps what it has")
    for name, counts in (
        ("of unknown type, kept raw", report.unknown_by_type),
        ("unknown fields, kept raw", report.unknown_fields),
        ("noise", report.noise_by_type),
    ):
        if counts:
            listed = ", ".join(f"{kind} {count}" for kind, count in sorted(counts.items()))
            print(f"{name}: {listed}")
    for sample in report.error_samples:
        print(f"unreadable: {sample.path}:{sample.line}: {sample.reason}")

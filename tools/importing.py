"""Importing files of whatever format: which importer takes what."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from session_mgmt_mcp.adapters.generic import importer as generic
from session_mgmt_mcp.adapters.importing import ImportReport, Progress
from session_mgmt_mcp.core.entropy import redact_thorough, redact_thorough_many
from session_mgmt_mcp.core.errors import InputError
from session_mgmt_mcp.core.ignore import read_rules
from session_mgmt_mcp.tools.app import App

AUTO, CLAUDE_CODE, GENERIC = "auto", "claude-code", "generic"
FORMATS = (AUTO, CLAUDE_CODE, GENERIC)


def check_paths(paths: Sequence[str], chosen: str = AUTO) -> None:
    """Raise InputError where a path is missing, or stdin cannot be read as asked."""
    if chosen == CLAUDE_CODE and generic.STDIN in paths:
        raise InputError("stdin is read in the generic format only; give transcripts as files")
    for path in paths:
        if path != generic.STDIN and not Path(path).exists():
            raise InputError(f"{path}: no such file or folder; give a history's file or a folder of them")


def import_paths(
    app: App,
    paths: Sequence[str],
    chosen: str = AUTO,
    progress: Callable[[Progress], None] | None = None,
) -> ImportReport:
    """Append what files, folders (all their `*.jsonl`) and `-` (stdin, of the generic format) hold.

    With AUTO each file's first records say which format it is of; what is not plainly generic is taken for Claude
    Code's. Raises InputError (see `check_paths`) before anything is read.
    """
    check_paths(paths, chosen)
    files = [Path(path) for path in paths if path != generic.STDIN]
    transcripts, entries = _parted(files, chosen)
    inputs = [generic.Input(str(path)) for path in entries]
    if generic.STDIN in paths:
        inputs.append(generic.Input("stdin", sys.stdin.buffer))
    report = ImportReport()
    if transcripts or not inputs:
        report = app.import_claude(transcripts, progress)
    if inputs:
        report = report.joined(
            generic.import_entries(
                inputs,
                app.log,
                redact=redact_thorough,
                redact_many=redact_thorough_many,
                progress=progress,
                rules=read_rules(str(app.folder)),
            )
        )
    return report


def _parted(paths: Sequence[Path], chosen: str) -> tuple[list[Path], list[Path]]:
    """Transcripts, and files of the generic format."""
    if chosen == CLAUDE_CODE:
        return list(paths), []
    files = generic.find_files(paths)
    if chosen == GENERIC:
        return [], files
    found = [path for path in files if generic.is_generic(path)]
    return (list(paths), []) if not found else ([path for path in files if path not in set(found)], found)

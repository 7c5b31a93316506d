"""`doctor`: look the data folder, its locks, journals, views and the assistant's registration over, and mend what is safe."""

import argparse
from typing import Any

import msgspec

from session_mgmt_mcp.core.settings import data_dir
from session_mgmt_mcp.tools.cli import emit_json
from session_mgmt_mcp.tools.doctor.finding import Finding, Severity
from session_mgmt_mcp.tools.doctor.fix import Mended, mend
from session_mgmt_mcp.tools.doctor.run import Diagnosis, diagnose
from session_mgmt_mcp.tools.progress import quiet, stages
from session_mgmt_mcp.tools.terminal import printable

EXAMPLE = "session-mgmt-mcp doctor --fix"
_ROUNDS = 3  # one mending may uncover what another has to do


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--fix", action="store_true", help="mend what is safe to mend; never deletes data")
    parser.add_argument("--deep", action="store_true", help="verify the whole log too")


def run(args: argparse.Namespace) -> int:
    """0 nothing to mend · 1 something is · 3 data folder unusable · 4 log corrupt."""
    folder = data_dir()
    with stages() as show:
        diagnosis = diagnose(folder, deep=args.deep, progress=show)
        done: list[str] = []
        failed: list[str] = []
        if args.fix:
            for _ in range(_ROUNDS):
                mended = mend(folder, diagnosis, quiet if args.json else show)
                done += [line for line in mended.done if line not in done]
                failed = list(mended.failed)
                if not mended.done:
                    break
                diagnosis = diagnose(folder, deep=args.deep, progress=show)
    result = Mended(tuple(done), tuple(failed))
    if args.json:
        emit_json(_as_json(str(folder), diagnosis, result))
    else:
        _print(str(folder), diagnosis, result, fixed=args.fix)
    return diagnosis.exit_code


def _as_json(folder: str, diagnosis: Diagnosis, mended: Mended) -> dict[str, Any]:
    return {
        "folder": folder,
        "ok": diagnosis.exit_code == 0,
        "mended": list(mended.done),
        "not_mended": list(mended.failed),
        "findings": [_finding_json(finding) for finding in diagnosis.findings],
    }


def _finding_json(finding: Finding) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(finding)
    return {**found, "fixable": finding.fix is not None}


def _print(folder: str, diagnosis: Diagnosis, mended: Mended, *, fixed: bool) -> None:
    for line in mended.done:
        print(f"mended   {line}")
    for line in mended.failed:
        print(f"left     {line}")
    for finding in diagnosis.findings:
        print(printable(f"{finding.severity.value:8} {finding.check}: {finding.what}"))
        print(printable(f"         {finding.where}"))
        if finding.severity is not Severity.NOTE:
            hint = "" if finding.fix is None or fixed else " (--fix does it)"
            print(printable(f"         mend: {finding.mend}{hint}"))
    count = len(diagnosis.to_mend)
    if not count:
        print(f"{folder}: nothing to mend")
    else:
        print(f"{folder}: {count} thing{'' if count == 1 else 's'} to mend")

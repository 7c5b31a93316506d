"""What became of a forgetting."""

from typing import Any

import msgspec

from session_mgmt_mcp.tools.holders import Holder


class ForgetReport(msgspec.Struct, frozen=True):
    """What became of it."""

    forgotten: int  # payloads taken out of the log now
    ranges: tuple[tuple[int, int], ...]  # their positions
    twins: int  # of those, other reports of the same facts
    blobs: int  # of those, large contents nothing else refers to
    completed: int  # payloads whose forgetting had been interrupted before
    upto: int = 0  # what was appended beyond this position meanwhile was not looked at; 0: does not apply
    files_removed: tuple[str, ...] = ()
    files_masked: tuple[str, ...] = ()
    backups: tuple[str, ...] = ()  # a line for people each
    transcripts: tuple[str, ...] = ()  # files of the assistant that still hold it
    holders: tuple[Holder, ...] = ()  # processes that still have deleted files open
    findings: tuple[str, ...] = ()  # what is left to do


def report_json(report: ForgetReport) -> dict[str, Any]:
    """What became of it as plain data."""
    value: dict[str, Any] = msgspec.to_builtins(report)
    value["holders"] = [h._asdict() for h in report.holders]
    return value

"""Sessions written as Markdown, whole or as a handoff."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from session_mgmt_mcp.core.errors import InputError
from session_mgmt_mcp.projections.rows import Row
from session_mgmt_mcp.tools.app import App
from session_mgmt_mcp.tools.audit_formats import replacing

Report = Callable[[str, int, int], None]


def session_pieces(
    app: App, session: str, *, upto: int | None = None, detail: str = "concise", report: Report | None = None
) -> Iterator[str]:
    """A whole session as Markdown, piece by piece. `detail`: see `session_markdown`. Raises InputError."""
    from session_mgmt_mcp.projections.session_markdown import session_markdown

    head = app.views.session(session)
    rows: Iterable[Row] = app.views.session_rows(head.session, upto)
    if report is not None:
        rows = _counted(rows, head.actions, report)
    return session_markdown(head, rows, detail)


def handoff_pieces(app: App, session: str, *, upto: int | None = None) -> Iterator[str]:
    """A session's handoff as Markdown. Raises InputError."""
    from session_mgmt_mcp.projections.briefing import earlier_score
    from session_mgmt_mcp.projections.handoff import handoff_markdown
    from session_mgmt_mcp.projections.quality import assess

    full = app.views.session(session).session
    story = app.views.story(full, upto)
    yield handoff_markdown(story, assess(story.facts, earlier_score(app.views, full, upto)))


def write(pieces: Iterable[str], to: Path | None) -> int:
    """Write to a file, whole or not at all, or to stdout; how many bytes. Raises InputError where `to` is a folder, OSError
    where it cannot be written.
    """
    if to is None:
        return _write_all(pieces, sys.stdout.write)
    if to.is_dir():
        raise InputError(f"{to} is a folder; name a file in it")
    with replacing(to) as temporary:
        descriptor = os.open(
            temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600
        )  # it holds what the log holds
        with open(descriptor, "w", encoding="utf-8", errors="replace") as file:
            return _write_all(pieces, file.write)


def _write_all(pieces: Iterable[str], write_one: Callable[[str], int]) -> int:
    total = 0
    for piece in pieces:
        write_one(piece)
        total += len(piece.encode("utf-8", "replace"))
    return total


def _counted(rows: Iterable[Row], total: int, report: Report) -> Iterator[Row]:
    for number, row in enumerate(rows, 1):
        if number % 1000 == 0:
            report("exporting", number, total)
        yield row

"""The audit a page at a time, the newest first."""

from collections.abc import Callable, Iterable

from session_mgmt_mcp.adapters.mcp.services import AuditQuestion
from session_mgmt_mcp.core.envelope import Event
from session_mgmt_mcp.projections.audit import AuditFilters, AuditRow, audit_rows
from session_mgmt_mcp.projections.own_events import EventIds, own_events
from session_mgmt_mcp.projections.sessions import resolve_session
from session_mgmt_mcp.tools.app import App

Own = Callable[[App], Iterable[Event]]


def page(
    app: App,
    question: AuditQuestion,
    limit: int,
    own: Own = lambda app: own_events(app.log),
    access_of: str | None = None,
) -> tuple[list[AuditRow], int | None]:
    """The newest rows below `question.below`, newest first, and where older ones go on. Raises InputError.

    An event's rows are never parted: where a page would end within one, it ends before it. Only an event with more rows
    than a page holds is cut to its last ones. `own`: events that the views have no row of, in order of position. `access_of`: as
    `AuditFilters` takes it.
    """
    session, project = question.session, question.project
    folders = app.views.projects().widened(project) if project is not None else None
    with app.views.reading() as files:
        filters = AuditFilters(
            session=resolve_session(files, session) if session is not None else None,
            project=folders,
            actor=question.actor,
            tool=question.tool,
            file=question.file,
            after=question.after,
            before=question.before,
            below_position=question.below or 0,
            access_of=access_of,
        )
        rows = list(audit_rows(files, own(app), EventIds(app.log), filters, limit + 1))
    if len(rows) <= limit:
        return rows[::-1], None
    rest = rows[0].position
    whole = [row for row in rows if row.position != rest]
    if whole:
        return whole[::-1], rest + 1
    return rows[:0:-1], rest

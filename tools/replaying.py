"""Rebuilding the projections, and checking them against the log, under the maintenance lock."""

from collections.abc import Sequence

from session_mgmt_mcp.projections import checking
from session_mgmt_mcp.tools.app import MAINTENANCE_WAIT_S, App
from session_mgmt_mcp.tools.maintenance import Report, maintenance_lock


def check(
    app: App, names: Sequence[str] | None = None, report: Report | None = None
) -> dict[str, checking.Checked]:
    """Whether the published projections hold what the log says. Changes nothing. Raises LockTimeoutError, InputError."""
    with maintenance_lock(app.log.folder, MAINTENANCE_WAIT_S):
        return checking.check(
            app.log,
            app.folder,
            names,
            report and (lambda name, at, end: report(f"rebuilding the {name} view to compare", at, end)),
        )

"""MCP server on stdio: `python -m session_mgmt_mcp.server`. For a check, `from session_mgmt_mcp.server import mcp`."""

import os
import sys


def _leave_out_the_working_folder() -> None:
    """`-m` puts the working folder first on the path; a project's own modules there must not shadow anything here."""
    if __name__ != "__main__" or sys.flags.safe_path or not sys.path:
        return
    try:
        here = os.getcwd()
    except OSError:
        here = ""
    if sys.path[0] in ("", here):
        del sys.path[0]


_leave_out_the_working_folder()

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from session_mgmt_mcp.adapters.mcp.server import SessionMgmtServer
    from session_mgmt_mcp.adapters.mcp.services import Services

    mcp: SessionMgmtServer

LOG_LEVEL_VARIABLE = "SESSION_MGMT_LOG_LEVEL"


def open_services() -> "Services":
    """The real services, imported when a tool is first called."""
    from session_mgmt_mcp.tools import settings_file
    from session_mgmt_mcp.tools.mcp_services import McpServices

    settings_file.use()
    return McpServices.open()


def preload() -> None:
    """Import what the tools need, and open nothing."""
    import duckdb  # noqa: F401
    import tantivy  # noqa: F401

    from session_mgmt_mcp.tools import mcp_services  # noqa: F401


def serve(services_factory: "Callable[[], Services]" = open_services, folder: str | None = None) -> None:
    """Serve one client on stdin and stdout, then leave the process. Does not return.

    With the data folder's name the work is shared with the other servers on it, and what this client's session left
    is made ready for the next one.
    """
    from session_mgmt_mcp.adapters.mcp import exit, stdio

    os.umask(0o077)  # a log made or a file written here is the user's alone
    wire = stdio.claim()
    leaving = exit.Exit()
    leaving.watch()
    from session_mgmt_mcp.adapters.mcp.fast import Opening
    from session_mgmt_mcp.adapters.mcp.front import Front
    from session_mgmt_mcp.adapters.mcp.sharing import LazyEngine, Sharing
    from session_mgmt_mcp.adapters.mcp.surface import Surface

    if os.environ.get(LOG_LEVEL_VARIABLE):
        _log_to_stderr()  # says so early where it is mistyped

    def build() -> "SessionMgmtServer":
        _log_to_stderr()
        return _build(services_factory)

    surface = Surface.load()
    engine = LazyEngine(build, lambda: leaving.leave(1), preload)
    sharing = Sharing(folder, surface.mark if surface else "", engine)
    leaving.on_leave(sharing.leave)
    if folder is not None:
        leaving.on_leave(partial(_have_maintained, folder))
    leaving.on_leave(engine.close)
    Front(wire, leaving, Opening(surface), sharing).run()


def _data_folder() -> str | None:
    """None where the user has none; the first tool call says so."""
    from session_mgmt_mcp.core.errors import DataFolderError
    from session_mgmt_mcp.core.settings import data_folder

    try:
        return data_folder()
    except DataFolderError:
        return None


def _have_maintained(folder: str) -> None:
    """Start maintenance where something was appended since the last: a session that was killed says no goodbye."""
    if not os.path.exists(f"{folder}/FORMAT.json"):
        return
    from session_mgmt_mcp.adapters.claude_code.capture import MAINTAINED, spawn_maintenance

    try:
        with os.scandir(f"{folder}/journal") as journals:
            appended_s = max((journal.stat().st_mtime for journal in journals), default=0.0)
        due = not os.path.exists(folder + MAINTAINED) or appended_s > os.stat(folder + MAINTAINED).st_mtime
        if due:
            spawn_maintenance(folder)
    except OSError:
        return  # the next session's start has it done


def _build(services_factory: "Callable[[], Services]") -> "SessionMgmtServer":
    from session_mgmt_mcp.adapters.mcp.sdk import imported_lazily

    with imported_lazily():
        from session_mgmt_mcp.adapters.mcp.server import build_server
    return build_server(services_factory)


def _log_to_stderr() -> None:
    import logging

    asked = os.environ.get(LOG_LEVEL_VARIABLE, "").strip().upper() or "WARNING"
    level = logging.getLevelNamesMapping().get(asked)
    logging.basicConfig(
        stream=sys.stderr,
        level=level or logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    if level is None:
        names = ", ".join(logging.getLevelNamesMapping())
        logging.getLogger(__name__).warning("%s=%r is no level; one of %s", LOG_LEVEL_VARIABLE, asked, names)


def __getattr__(name: str) -> Any:
    if name == "mcp":
        globals()["mcp"] = _build(open_services)
        return globals()["mcp"]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


if __name__ == "__main__":
    serve(folder=_data_folder())

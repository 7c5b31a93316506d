"""What a service does beside answering: it opens what the first request would wait for, and has the log maintained."""

import contextlib
import logging
import os
import threading
import time
from pathlib import Path

from session_mgmt_mcp.adapters.claude_code.capture import MAINTAINED
from session_mgmt_mcp.core.errors import SessionMgmtError, ViewsBehindError
from session_mgmt_mcp.projections.meaning import LOADED, UNNEEDED
from session_mgmt_mcp.projections.protocol import views_folder
from session_mgmt_mcp.tools import maintenance
from session_mgmt_mcp.tools.app import App
from session_mgmt_mcp.tools.published import Published

logger = logging.getLogger(__name__)

EVERY_S = 60.0
AGAIN_S = 2.0  # while nothing can be searched
# /ready is open to anybody: what an error names stands in the log
BUILDING = "the views are being built from the log"
UNSEARCHABLE = "the views cannot be searched; the service's log says why"
MISSING = "missing, so words alone are searched; the service's log says why"
MAINTAIN_S = (
    maintenance.DUE_AGE_S
)  # what a hook appends is maintained by its own; this is for what comes over HTTP


class Upkeep:
    """A thread. Everything public may be read from any other."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._published = Published(app.log, views_folder(app.folder))
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="upkeep", daemon=True)
        self._trouble = "opening"  # what anybody may read
        self._why = ""  # the same for the log, with what it names
        self._said_of_model = ""
        self._model = ""
        self.tried = False
        """Whether the first attempt is over, however it went."""

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Tell it to end; does not wait."""
        self._over.set()

    def check_views(self) -> tuple[bool, str]:
        """Whether the last search tried was answered, so that none waits for files, engines and the model to be opened."""
        return not self._trouble, self._trouble or "ok"

    def check_model(self) -> tuple[bool, str]:
        """Whether it is settled that there is a model, or none; and which."""
        # it was settled once; where memory was short the next search opens it again
        state = self._model = self._app.views.model() or self._model
        if state in (LOADED, UNNEEDED):
            return True, "ok" if state == LOADED else UNNEEDED
        return bool(state), MISSING if state else "opening"

    def _run(self) -> None:
        self._open()
        self.tried = True
        self._maintain()  # a process of its own, which is not to compete with the start
        due_s = time.monotonic() + EVERY_S
        # again and again, as what could be searched once may not be any more, and vectors may bring the need of a model
        while not self._over.wait(AGAIN_S if self._trouble else EVERY_S):
            self._open()
            if time.monotonic() >= due_s:
                due_s = time.monotonic() + EVERY_S
                if maintenance_is_due(self._app.folder, time.time()) or self._is_much_unpublished():
                    self._maintain()
                if os.getpid() == 1:
                    reap_orphans()

    def _maintain(self) -> None:
        try:
            maintenance.start(str(self._app.folder))
        except RuntimeError as error:  # no thread can be had: the next time is another try
            logger.error("maintenance was not started: %s", error)

    def _is_much_unpublished(self) -> bool:
        """Whether the views lack so much that it counts: until it is published, every searching process holds it in memory."""
        with contextlib.suppress(SessionMgmtError, OSError):
            published = self._published.positions()["query"]
            return self._app.log.head().position - published >= maintenance.DUE_EVENTS
        return False

    def _open(self) -> bool:
        try:
            self._app.views.search("anything", limit=1, plain=True)
        except Exception as error:
            why = str(error) if isinstance(error, SessionMgmtError) else type(error).__name__
            if why != self._why:
                logger.error("the views cannot be searched: %s", why, exc_info=error)
            self._why, self._trouble = why, BUILDING if isinstance(error, ViewsBehindError) else UNSEARCHABLE
            return False
        self._why = self._trouble = ""
        model = self._app.views.model()
        if model not in (LOADED, UNNEEDED, self._said_of_model):
            logger.warning("nothing is found by meaning: %s", model)
            self._said_of_model = model
        return True


def maintenance_is_due(folder: Path, now_s: float) -> bool:
    """Whether something was appended since the last pass of maintenance began, and that is a while ago."""
    try:
        began_s = os.stat(f"{folder}{MAINTAINED}").st_mtime
    except OSError:
        return True
    if began_s > now_s:  # the clock was put back: what was appended when cannot be told
        return True
    if now_s - began_s < MAINTAIN_S:
        return False
    with contextlib.suppress(OSError), os.scandir(folder / "journal") as journals:
        return max((journal.stat().st_mtime for journal in journals), default=0.0) > began_s
    return False


def reap_orphans() -> None:
    """As the first process of a container, wait for what others left behind: nobody else does."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass

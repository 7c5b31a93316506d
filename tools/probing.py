"""A background thread that looks at the data folder every few seconds: what `/ready` and the gauges go by.

Requests never wait for it: they read what it found last. A look costs a small durable write and some reads of what changed.
"""

import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from session_mgmt_mcp.adapters.http.ports import Ready
from session_mgmt_mcp.adapters.http.reading import Reading
from session_mgmt_mcp.core import live
from session_mgmt_mcp.core.config import ServiceSettings
from session_mgmt_mcp.core.log.durable import sync_file
from session_mgmt_mcp.core.log.journals import list_journals
from session_mgmt_mcp.core.log.manifest import Manifest
from session_mgmt_mcp.projections.protocol import views_folder
from session_mgmt_mcp.tools.app import App
from session_mgmt_mcp.tools.backups import known_destinations
from session_mgmt_mcp.tools.memory_guard import MemoryGuard, memory_now
from session_mgmt_mcp.tools.published import Published

logger = logging.getLogger(__name__)

PROBE_FILE = "service.probe"
INTERVAL_S = 5.0
PULSE_S = 1.0  # memory may grow faster than the rest changes
STALE_S = 30.0  # without a look the disk hangs
DEAD_S = 120.0
ROOM_BYTES_MIN = 32 << 20  # a journal and what sealing it takes

# Anybody may ask /ready, so it names no paths; the reading's problems are in the log.
_TROUBLES = {
    "write": "nothing can be made durable in the data folder: the service's log says why",
    "log": "the log cannot be read: the service's log says why",
    "views": "how far the views are cannot be read: the service's log says why",
}

Check = Callable[[], tuple[bool, str]]  # whether it holds, and "ok" or what is wrong


class Prober:
    """Implements `adapters.http.ports.Probe`. Started once; every other method may be called from any thread."""

    def __init__(
        self,
        app: App,
        settings: Callable[[], ServiceSettings],
        *,
        checks: dict[str, Check] | None = None,
        synced: Callable[[float | None], None] = lambda seconds: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`checks`: further ones that `/ready` asks, cheap; of the model for one. `synced`: told how long each durable
        write took, in s; None where it failed.
        """
        self.guard = MemoryGuard(settings().max_memory_mb << 20, app.views)
        self.reading: Reading | None = None
        """What was found last; None before the first look."""
        self.draining = False
        """Set when the service is about to stop: `/ready` says so from then on."""
        self._app = app
        self._settings = settings
        self._checks = checks or {}
        self._synced = synced
        self._clock = clock
        self._beat = clock()
        self._stop = threading.Event()
        self._published = Published(app.log, views_folder(app.folder))
        self._oldest: tuple[int, float] = (0, 0.0)  # position, when it was recorded
        self._thread = threading.Thread(target=self._run, name="probe", daemon=True)

    # -- the thread ----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Look now, and then every few seconds."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more. A look that hangs on the disk is not waited for."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=PULSE_S)

    def is_alive(self) -> bool:
        """Whether the thread does its work; for a watchdog that starts the service again where not."""
        return self._thread.is_alive() and self._clock() - self._beat < DEAD_S

    def _run(self) -> None:
        due = self._clock()
        while not self._stop.is_set():
            self.guard.check()
            if self._clock() >= due:
                self.look()
                due = self._clock() + INTERVAL_S
            self._stop.wait(PULSE_S)

    def look(self) -> Reading:
        """Find out everything now; what fails is named in the reading and raises nothing."""
        problems: dict[str, str] = {}
        found: dict[str, Any] = {"sync_s": None}
        for part, find in (
            ("disk", self._disk),
            ("write", self._write),
            ("log", self._log),
            ("views", lambda: self._views(found.get("position"))),
            ("aside", self._aside),
            ("sessions", self._sessions),
            ("backups", self._backups),
        ):
            try:
                found.update(find())
            except Exception as error:  # noqa: BLE001  whatever it is, the next look must come
                problems[part] = str(error) or type(error).__name__
        self._synced(found["sync_s"])
        memory = memory_now()
        reading = Reading(
            taken_at=time.time(),
            problems=problems,
            anonymous_bytes=memory.anonymous,
            mapped_bytes=memory.mapped,
            **found,
        )
        self._beat = self._clock()
        self._report(reading)
        self.reading = reading
        return reading

    def _report(self, reading: Reading) -> None:
        """Log what went wrong since the last look; not again while it lasts."""
        before = self.reading.problems if self.reading is not None else {}
        for part, problem in reading.problems.items():
            if before.get(part) != problem:
                logger.warning("%s: %s", part, problem)

    # -- its parts -----------------------------------------------------------------------------------------------

    def _disk(self) -> dict[str, Any]:
        disk = os.statvfs(self._app.folder)
        return {"disk_free_bytes": disk.f_bavail * disk.f_frsize, "disk_bytes": disk.f_blocks * disk.f_frsize}

    def _write(self) -> dict[str, Any]:
        """As an append does it: written, and on the disk before it counts. The file is opened anew each time, so that a
        disk that was mounted read-only and a folder that is gone are seen.
        """
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(f"{self._app.folder}/{PROBE_FILE}", flags, 0o600)
        try:
            began = time.perf_counter()
            os.pwrite(fd, b"%020d\n" % time.time_ns(), 0)
            sync_file(fd)
            return {"sync_s": time.perf_counter() - began}
        finally:
            os.close(fd)

    def _log(self) -> dict[str, Any]:
        manifest: Manifest = self._app.log.reader.manifest()
        journals = 0
        for _, path in list_journals(str(self._app.folder)):
            try:
                journals += os.stat(path).st_size
            except FileNotFoundError:  # sealed meanwhile
                continue
        return {
            "position": self._app.log.head().position,
            "journal_bytes": journals,
            "segments": len(manifest.segments),
            "segment_bytes": sum(entry.bytes for entry in manifest.segments),
            "forgotten": sum(entry.forgotten for entry in manifest.segments),
        }

    def _views(self, head: int | None) -> dict[str, Any]:
        published = self._published.positions()
        if head is None:
            return {"published": published}
        through = min(published.values())
        return {
            "published": published,
            "lag_events": max(0, head - through),
            "lag_s": self._waits_since(through + 1) if through < head else 0.0,
            "vectors_behind": self._published.vectors_behind(head),
        }

    def _waits_since(self, position: int) -> float:
        """How long ago the event at a position was recorded, in s."""
        if self._oldest[0] != position:
            event = self._app.log.get([position])[position]
            self._oldest = (position, event.envelope.recorded_at / 1e6)
        return max(0.0, time.time() - self._oldest[1])

    def _aside(self) -> dict[str, Any]:
        spool = _names(self._app.folder / "spool")
        torn = _names(self._app.folder / "quarantine")
        return {
            "spooled": sum(name.endswith(".event") for name in spool),
            "rejected": {
                "spool": sum(name.endswith(".bad") for name in spool),
                "quarantine": sum(name.endswith(".torn") for name in torn),
            },
        }

    def _sessions(self) -> dict[str, Any]:
        at_work = live.read_all(str(self._app.folder))
        return {"live_sessions": sum(live.is_alive(one.process) is not False for one in at_work)}

    def _backups(self) -> dict[str, Any]:
        ended = [place.at / 1e6 for place in known_destinations(self._app.folder)]
        return {"last_backup_at": max(ended, default=None)}

    # -- what is asked -------------------------------------------------------------------------------------------

    def ready(self) -> Ready:
        """See `ports.Probe`."""
        judged = self._judged()
        return Ready(
            all(holds for holds, _ in judged.values()), {name: say for name, (_, say) in judged.items()}
        )

    def holds(self) -> dict[str, bool]:
        """Check -> whether it holds, for the gauges."""
        return {name: holds for name, (holds, _) in self._judged().items()}

    def _judged(self) -> dict[str, tuple[bool, str]]:
        found = self.reading
        if found is None:
            waiting = (False, "the data folder was not looked at yet")
            looks = {"log": waiting, "views": waiting}
        else:
            looks = {"log": self._judge_log(found), "views": self._judge_views(found)}
        memory = (not self.guard.over, "more is used than MAX_MEMORY_MB" if self.guard.over else "ok")
        stopping = (not self.draining, "the service is stopping" if self.draining else "ok")
        asked = {name: check() for name, check in self._checks.items()}
        return {**looks, **asked, "memory": memory, "draining": stopping}

    def _judge_log(self, found: Reading) -> tuple[bool, str]:
        silent = self._clock() - self._beat
        if silent > STALE_S:
            return False, f"the data folder has not answered for {silent:.0f} s: see whether its disk hangs"
        for part in ("write", "log"):
            if part in found.problems:
                return False, _TROUBLES[part]
        if found.disk_free_bytes is not None and found.disk_free_bytes < ROOM_BYTES_MIN:
            return False, f"only {found.disk_free_bytes >> 20} MiB are free on the disk: free some"
        return True, "ok"

    def _judge_views(self, found: Reading) -> tuple[bool, str]:
        if "views" in found.problems:
            return False, _TROUBLES["views"]
        if found.lag_events is None or found.lag_s is None:
            return False, "how far the views are behind cannot be told while the log cannot be read"
        settings = self._settings()
        if found.lag_events > settings.ready_lag_events:
            return False, (
                f"{found.lag_events} events are not published, more than ready_lag_events "
                f"({settings.ready_lag_events}): see whether `session-mgmt-mcp maintain --once` gets through"
            )
        if found.lag_s > settings.ready_lag_s:
            return False, (
                f"events of {found.lag_s:.0f} s ago are not published, more than ready_lag_s "
                f"({settings.ready_lag_s:g}): see whether `session-mgmt-mcp maintain --once` gets through"
            )
        return True, "ok"


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:  # backups leave out empty ones
        return []

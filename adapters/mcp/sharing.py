"""Who serves this client: this process as its folder's host, another server that is it already, or this one alone."""

import contextlib
import os
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from session_mgmt_mcp import __version__

if TYPE_CHECKING:
    from session_mgmt_mcp.adapters.mcp.engine import Engine
    from session_mgmt_mcp.adapters.mcp.front import Front, Link
    from session_mgmt_mcp.adapters.mcp.host import Host
    from session_mgmt_mcp.adapters.mcp.server import SessionMgmtServer

WAIT_S_MAX = 5.0  # for a host that holds the lock to listen
LOST_MAX = 2  # hosts that went while a request was theirs; it may be what ends them, and is not tried on more
TRIES_MAX = 5  # at the lock of a host that died, within .6 s; who asks something tries by itself
_POLL_S = 0.02  # between looks: what it waits for, the lock or the socket, has no one signal for both
_PREFIX = "SESSION_MGMT_"
_FOLDER_VARIABLE = "SESSION_MGMT_DATA_DIR"  # may spell the same folder in another way
_VARIABLES = (
    *("EMBEDDING_MODEL_PATH", "EMBEDDING_CACHE_SIZE", "MAX_WORKERS", "VECTOR_MEMORY_MB"),
    *("CLAUDE_CONFIG_DIR", "HOME", "TZ"),
)


class LazyEngine:
    """The engine, imported at the first call, or before. `preload` imports what the tools need."""

    def __init__(
        self,
        build: "Callable[[], SessionMgmtServer]",
        failed: Callable[[], None],
        preload: Callable[[], None] = lambda: None,
    ) -> None:
        self._build, self._failed, self._preload = build, failed, preload
        self._lock = threading.Lock()
        self._made: Engine | None = None

    def __call__(self) -> "Engine":
        from session_mgmt_mcp.adapters.mcp.engine import Engine

        with self._lock:
            if self._made is None:
                self._made = Engine(self._build, self._failed)
            return self._made

    def prepare(self) -> None:
        """Have it ready, and what the tools need. Opens nothing."""
        self().start()
        self._preload()

    def close(self) -> None:
        """Close it, if it was made."""
        if self._made is not None:
            self._made.close()


class Sharing:
    """Finds a link for a client. `folder` is the data folder; where it is none of ours yet, every server is alone."""

    def __init__(self, folder: str | None, surface_mark: str, engine: LazyEngine) -> None:
        self._folder, self._engine = folder, engine
        self._offer = {"version": __version__, "tools": surface_mark, "settings": settings()}
        self._host: Host | None = None
        self._alone = False
        self._deciding = threading.Lock()

    def connect(self, front: "Front", lost: int) -> "Link":
        """Whoever can serve this client now. `lost`: how often a request that is due was asked in vain."""
        self._alone = self._alone or (lost > LOST_MAX and self._host is None)
        link = None if self._alone else self._shared(front)
        return link or self._engine().serve(front)

    def stand_in(self) -> None:
        """The host died while nothing was due here: take its place if it is free. Loads nothing, waits for nothing."""
        if not (self._alone or self._take_lock()):
            with contextlib.suppress(RuntimeError):  # no thread can be had; the next request finds somebody
                threading.Thread(target=self._try_again, name="stand-in", daemon=True).start()

    def _try_again(self) -> None:
        """The system may close a dead host's sockets before it lets go of its lock."""
        for tries in range(TRIES_MAX):
            time.sleep(_POLL_S * 2**tries)
            if self._alone or self._take_lock():
                return

    def prepare(self) -> None:
        """Load what a first call takes, where this process is the host, or can be. A bridge needs nothing."""
        if not self._alone and self._is_ours() and self._take_lock():
            self._engine.prepare()

    def leave(self) -> None:
        """The process is about to end."""
        if self._host is not None:
            self._host.leave()

    def _shared(self, front: "Front") -> "Link | None":
        """A host's link; None where this process is the host, or is to serve alone."""
        if self._folder is None or not self._is_ours():
            return None
        from session_mgmt_mcp.adapters.mcp.bridge import Bridge, HostAwayError, HostUnfitError

        deadline = time.monotonic() + WAIT_S_MAX
        while not (self._take_lock() or self._alone) and time.monotonic() < deadline:
            try:
                return Bridge.open(self._folder, self._offer, front)
            except HostAwayError:
                time.sleep(_POLL_S)
            except HostUnfitError:
                break
        self._alone = self._host is None
        return None

    def _is_ours(self) -> bool:
        return self._folder is not None and os.path.exists(f"{self._folder}/FORMAT.json")

    def _take_lock(self) -> bool:
        """Whether this process is the host now."""
        with self._deciding:
            if self._host is not None or self._folder is None:
                return self._host is not None
            from session_mgmt_mcp.adapters.mcp.host import Host, try_host_lock

            lock = None
            try:
                if (lock := try_host_lock(self._folder)) is None:
                    return False
                host = Host(self._folder, self._offer, self._engine)
                host.start()
            except OSError:  # no lock or no socket can be had here: every server is for itself
                if lock is not None:
                    os.close(lock)
                self._alone = True
                return False
            self._host = host  # the lock is held until the process ends
            return True


def settings() -> dict[str, Any]:
    """The environment that changes what a server answers."""
    return {
        name: value
        for name, value in sorted(os.environ.items())
        if name in _VARIABLES or (name.startswith(_PREFIX) and name != _FOLDER_VARIABLE)
    }

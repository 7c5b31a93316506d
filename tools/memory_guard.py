"""`MAX_MEMORY_MB`: a bound on the service's own memory. Above it caches are dropped; where that is not enough, new work is
refused until it is below again. Nothing is killed, and what is being written is not touched.

Own memory is what is anonymous: mapped files (indexes, vectors) are the page cache's and are given back when others need
the room, so they count against nobody.
"""

import ctypes
import gc
import logging
import os
import threading
from collections.abc import Callable
from typing import NamedTuple

from session_mgmt_mcp.core.access import AccessError
from session_mgmt_mcp.projections.views import Views

logger = logging.getLogger(__name__)

RETRY_AFTER_S = 5
ARENAS = 2
_M_ARENA_MAX = -8  # of malloc.h


class Memory(NamedTuple):
    """Resident bytes of this process; None where the system does not tell (macOS)."""

    anonymous: int | None
    mapped: int | None


def memory_now() -> Memory:
    """From /proc/self/status."""
    sizes = {}
    try:
        with open("/proc/self/status", "rb") as file:
            for line in file:
                if line.startswith(b"Rss"):
                    name, size, *_ = line.split()
                    sizes[name] = int(size) << 10
    except (OSError, ValueError):
        return Memory(None, None)
    if b"RssAnon:" not in sizes:  # before Linux 4.5
        return Memory(None, None)
    return Memory(sizes[b"RssAnon:"], sizes.get(b"RssFile:", 0) + sizes.get(b"RssShmem:", 0))


def few_arenas() -> None:
    """Have glibc share a few heaps among all threads; to be called before there are any.

    By default each thread gets one of its own, up to eight a processor: what one frees the others cannot use, and memory
    grows by what is opened again and again. What `MALLOC_ARENA_MAX` says holds instead, where it is set.
    """
    if "MALLOC_ARENA_MAX" in os.environ:
        return
    try:
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, ARENAS)
    except (OSError, AttributeError):  # only glibc has it
        return


def give_back() -> None:
    """Return what was freed to the system, as far as the allocators can."""
    import pyarrow as pa

    gc.collect()
    pa.default_memory_pool().release_unused()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):  # only glibc has it
        return


def _beside(work: Callable[[], None]) -> None:
    threading.Thread(target=work, name="drop-caches", daemon=True).start()


class MemoryGuard:
    """Keeps the process below a bound. `check` is called every second, `admit` for each request."""

    def __init__(
        self,
        limit_bytes: int,
        views: Views,
        *,
        memory: Callable[[], Memory] = memory_now,
        trim: Callable[[], None] = give_back,
        beside: Callable[[Callable[[], None]], None] = _beside,
    ) -> None:
        """`limit_bytes`: 0 for none. `beside`: runs what may wait long for a question to end."""
        self.limit_bytes = limit_bytes
        self.dropped = 0
        """How often caches were dropped."""
        self._views = views
        self._memory = memory
        self._trim = trim
        self._beside = beside
        self._over = False
        self._dropping = threading.Lock()

    @property
    def over(self) -> bool:
        """Whether the bound is passed though caches were dropped."""
        return self._over

    def admit(self) -> None:
        """Raises AccessError (503, busy) while there is no memory for new work."""
        if self._over:
            raise AccessError(
                f"the service uses more memory than MAX_MEMORY_MB ({self.limit_bytes >> 20}); ask again in a moment",
                status=503,
                reason="busy",
                retry_after_s=RETRY_AFTER_S,
            )

    def check(self) -> None:
        """Look, and have caches dropped where the bound is passed."""
        if self._used() <= self.limit_bytes:
            self._now(over=False)
        elif self._dropping.acquire(blocking=False):
            try:
                self._beside(self._drop)
            except RuntimeError:  # no thread can be had; the next look tries again
                self._dropping.release()
                self._now(over=True)

    def _used(self) -> int:
        """Own memory in bytes; 0 where there is no bound, or it cannot be told."""
        return (self._memory().anonymous or 0) if self.limit_bytes else 0

    def _drop(self) -> None:
        try:
            self._views.close()
            self._trim()
            self.dropped += 1
            self._now(over=self._used() > self.limit_bytes)
        except Exception:
            logger.exception("caches could not be dropped")
        finally:
            self._dropping.release()

    def _now(self, *, over: bool) -> None:
        if over and not self._over:
            used = self._used() >> 20
            logger.warning("%d MiB are used, more than MAX_MEMORY_MB: new requests are refused", used)
        elif self._over and not over:
            logger.warning("memory is below MAX_MEMORY_MB again: requests are answered")
        self._over = over

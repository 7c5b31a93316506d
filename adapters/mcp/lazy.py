"""Services made at the first call that needs them."""

import threading
from collections.abc import Callable

from session_mgmt_mcp.adapters.mcp.services import Services


class LazyServices:
    """Services made at the first call that needs them: their engines cost memory an idle server need not hold."""

    def __init__(self, factory: Callable[[], Services]) -> None:
        self._factory = factory
        self._lock = threading.Lock()
        self._made: Services | None = None

    def get(self) -> Services:
        """The services; a factory that failed is tried again at the next call."""
        with self._lock:
            if self._made is None:
                self._made = self._factory()
            return self._made

    def close(self) -> None:
        """Close them, if they were made. Does not wait for a factory at work: there is nothing to close yet."""
        if self._made is not None:
            self._made.close()

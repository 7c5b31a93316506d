"""How often: token buckets, and the limit of requests for each principal."""

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

from session_mgmt_mcp.core.access import AccessError
from session_mgmt_mcp.core.config_table import ServiceSettings

BUCKETS_MAX: Final = 10_000


class Buckets:
    """A token bucket for each key: `burst` at once, then `per_s`. At most `keys_max` are remembered.

    The one used longest ago is dropped for a new one, and so full again when it comes back: the price of bounded
    memory. A bucket that has filled up is no different from one that is not there.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, keys_max: int = BUCKETS_MAX) -> None:
        self._clock = clock
        self._keys_max = keys_max
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # key -> tokens, at which time

    def __len__(self) -> int:
        return len(self._left)

    def take(self, key: str, per_s: float, burst: float) -> float:
        """Take a token. 0.0: there was one; else the seconds until there is one, and nothing is taken."""
        tokens, now = self._tokens(key, per_s, burst)
        short = 1 - tokens
        self._left[key] = (tokens if short > 0 else tokens - 1, now)
        self._left.move_to_end(key)
        while len(self._left) > self._keys_max:
            self._left.popitem(last=False)
        return max(0.0, short / per_s)

    def wait_s(self, key: str, per_s: float, burst: float) -> float:
        """What `take` would return; takes and remembers nothing."""
        return max(0.0, (1 - self._tokens(key, per_s, burst)[0]) / per_s)

    def _tokens(self, key: str, per_s: float, burst: float) -> tuple[float, float]:
        now = self._clock()
        tokens, then = self._left.get(key, (burst, now))
        return min(burst, tokens + max(0.0, now - then) * per_s), now


class RateLimit:
    """ASGI. `rate_limit` requests a minute for each principal, `rate_burst` at once; more are refused with 429.

    All keys of a principal share one bucket. The data folder's owner, where no keys are asked for, is not limited.
    """

    def __init__(
        self, app: Any, settings: Callable[[], ServiceSettings], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._app = app
        self._settings = settings
        self._buckets = Buckets(clock)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Raises AccessError (429) with the seconds to wait."""
        principal = scope["state"].get("principal") if scope["type"] == "http" else None
        if principal is not None:
            settings = self._settings()
            wait_s = self._buckets.take(principal.name, settings.rate_limit / 60, settings.rate_burst)
            if wait_s > 0:
                raise AccessError(
                    f"{principal.name} asks more than {settings.rate_limit} times a minute; ask again in "
                    f"{math.ceil(wait_s)} s, or have rate_limit raised",
                    status=429,
                    reason="rate",
                    retry_after_s=math.ceil(wait_s),
                )
        await self._app(scope, receive, send)

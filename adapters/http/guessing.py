"""Keys that are tried out: each further wrong one from the same place is looked at later.

Keys hold 256 random bits, so nobody guesses one; what is bounded here is the work and the noise of trying. A right key
is not to be locked out by others behind the same proxy. So failures are counted for a place *and* the key that was
named, all that cannot be a key together; and a key that was right from a place before is looked at whatever failed there.
"""

import hashlib
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from session_mgmt_mcp.adapters.http.addresses import neighbourhood
from session_mgmt_mcp.adapters.http.ports import Authenticator
from session_mgmt_mcp.adapters.http.rate import Buckets
from session_mgmt_mcp.core.access import AccessError, Principal

TRIES: Final = 10  # wrong ones at once, for each place and key
TRIES_PER_S: Final = 0.2
PLACE_TRIES: Final = 100  # from one place, whichever keys
PLACE_TRIES_PER_S: Final = 2.0
KNOWN_MAX: Final = 4096
KEY_CHARS_MIN: Final = 32
_PREFIX: Final = "smk_"
_KEY_ID_MAX: Final = 40


class SlowedGuessing:
    """An Authenticator before another one: refuses with 429 what failed too often, without looking at it."""

    def __init__(self, inner: Authenticator, clock: Callable[[], float] = time.monotonic) -> None:
        self._inner = inner
        self._tries = Buckets(clock)
        self._places = Buckets(clock)
        self._known: OrderedDict[bytes, None] = OrderedDict()

    def authenticate(self, authorization: str | None, address: str) -> Principal | None:
        """As the inner one. Raises AccessError: its own, or 429 with the seconds to wait."""
        if authorization is None:  # no guess: a client that asks how to authenticate
            return self._inner.authenticate(None, address)
        place = neighbourhood(address)
        named = f"{place} {_key_named(authorization)}"
        shown = hashlib.sha256(f"{place} {authorization}".encode("utf-8", "surrogatepass")).digest()
        if shown not in self._known and (wait_s := self._tries.wait_s(named, TRIES_PER_S, TRIES)) > 0:
            raise _too_often(wait_s)
        try:
            principal = self._inner.authenticate(authorization, address)
        except AccessError as error:
            if error.status != 401:
                raise
            self._known.pop(shown, None)  # revoked or expired since
            self._tries.take(named, TRIES_PER_S, TRIES)
            if (wait_s := self._places.take(place, PLACE_TRIES_PER_S, PLACE_TRIES)) > 0:
                raise _too_often(wait_s) from error
            raise
        if principal is not None:
            self._known[shown] = None
            self._known.move_to_end(shown)
            if len(self._known) > KNOWN_MAX:
                self._known.popitem(last=False)
        return principal


def _key_named(authorization: str) -> str:
    """Under what a try is counted: the id of the key that is shown; the whole of another long word, which may be the
    key of `admin_key_file`; "" for what cannot be a key, and so may wait.
    """
    scheme, _, key = authorization.partition(" ")
    key = key.strip()
    if scheme.lower() != "bearer" or len(key) < KEY_CHARS_MIN:
        return ""
    key_id, separator, _ = key.removeprefix(_PREFIX).partition("_")
    if key.startswith(_PREFIX) and separator and len(key_id) <= _KEY_ID_MAX:
        return key_id
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def _too_often(wait_s: float) -> AccessError:
    wait = max(1, math.ceil(wait_s))
    return AccessError(
        f"too many requests without a valid key; try again in {wait} s, with the key that "
        "`session-mgmt-mcp keys create` printed",
        status=429,
        reason="guessing",
        retry_after_s=wait,
    )

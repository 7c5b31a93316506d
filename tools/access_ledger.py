"""Which comings and refusals are worth an event: bounded in memory and in what is written, whatever an attacker does.

A key's first use from an address is told, then at most one an hour. Of refusals the first of a kind (reason, address, key)
is told at once, those that follow are counted and told together once a minute. Both are bounded a minute; what goes
beyond is summed up by its reason, without addresses. An IPv6 address counts with all of its /64 network, which one host has.
"""

import ipaddress
from collections import OrderedDict
from typing import Final, NamedTuple, TypeVar

from session_mgmt_mcp.core.access import AccessError, Principal
from session_mgmt_mcp.core.envelope import EventType
from session_mgmt_mcp.core.events import AccessDenied, AccessGranted

GRANTED_AGAIN_S: Final = 3600.0
FLUSH_S: Final = 60.0
AT_ONCE_MAX: Final = 20
"""Events written at once in a minute, comings and refusals each."""
FLUSHED_MAX: Final = 20
"""Kinds of refusal that are told apart when a minute's counts are written."""
KINDS_MAX: Final = 1000
ADDRESSES_MAX: Final = 10_000
WORD_CHARS_MAX: Final = 64
UNKNOWN: Final = "unknown"
"""The actor of what nobody known did."""

K = TypeVar("K")
V = TypeVar("V")


class Said(NamedTuple):
    """An event to append."""

    event_type: EventType
    payload: AccessGranted | AccessDenied
    actor: str


class _Kind(NamedTuple):
    reason: str
    address: str
    key: str


class _Count:
    """Refusals of a kind that were not told yet."""

    def __init__(self, what: str, actor: str) -> None:
        self.what = what
        self.actor = actor
        self.waiting = 0


class Ledger:
    """Not thread-safe. Times are seconds of any clock that does not go back."""

    def __init__(self, now: float) -> None:
        self._minute = now
        self._granted_at: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._last_address: OrderedDict[str, str] = OrderedDict()
        self._denied: dict[_Kind, _Count] = {}
        self._left = {EventType.ACCESS_GRANTED: AT_ONCE_MAX, EventType.ACCESS_DENIED: AT_ONCE_MAX}

    def granted(self, principal: Principal, address: str, now: float) -> Said | None:
        """A key was used; what to write of it."""
        address = network_of(address)
        _remember(self._last_address, principal.key_id, address)
        seen = (principal.key_id, address)
        before = self._granted_at.get(seen)
        if (before is not None and now - before < GRANTED_AGAIN_S) or not self._spend(
            EventType.ACCESS_GRANTED
        ):
            return None
        _remember(self._granted_at, seen, now)
        return Said(EventType.ACCESS_GRANTED, AccessGranted(principal.key_id, address), principal.name)

    def denied(self, error: AccessError, address: str, principal: Principal | None, what: str) -> Said | None:
        """A request was turned away; what to write of it at once."""
        key, actor = (principal.key_id, principal.name) if principal is not None else ("", UNKNOWN)
        known = network_of(address) if address else self._last_address.get(key, "")
        kind = _Kind(error.reason[:WORD_CHARS_MAX], known, key)
        count = self._denied.get(kind)
        if count is None and len(self._denied) >= KINDS_MAX:
            kind = _Kind(kind.reason, "", "")
            count = self._denied.get(kind)
        if count is not None:
            count.waiting += 1
            return None
        count = self._denied[kind] = _Count(what[:WORD_CHARS_MAX], actor)
        if not kind.address or not self._spend(EventType.ACCESS_DENIED):
            count.waiting = 1
            return None
        return _said(kind, count, 1)

    def due(self, now: float) -> list[Said]:
        """What was counted since the last minute began, once it is over."""
        return self.flush(now) if now - self._minute >= FLUSH_S else []

    def flush(self, now: float) -> list[Said]:
        """The same now; a new minute begins. The kinds that were refused most often are told apart."""
        waiting = [(kind, count) for kind, count in self._denied.items() if count.waiting]
        waiting.sort(key=lambda item: -item[1].waiting)
        told = [_said(kind, count, count.waiting) for kind, count in waiting[:FLUSHED_MAX]]
        summed: dict[str, int] = {}
        for kind, count in waiting[FLUSHED_MAX:]:
            summed[kind.reason] = summed.get(kind.reason, 0) + count.waiting
        rest = [_said(_Kind(reason, "", ""), _Count("", UNKNOWN), n) for reason, n in summed.items()]
        # A kind that was quiet for a whole minute begins anew.
        self._denied = {kind: _Count(count.what, count.actor) for kind, count in waiting}
        self._left = dict.fromkeys(self._left, AT_ONCE_MAX)
        self._minute = now
        return told + rest

    def next_due(self) -> float:
        """When `due` has something to say at the earliest."""
        return self._minute + FLUSH_S

    def _spend(self, event_type: EventType) -> bool:
        if not self._left[event_type]:
            return False
        self._left[event_type] -= 1
        return True


def network_of(address: str) -> str:
    """An address as it is told: of IPv6 the /64 network; what is none is cut short."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return "".join(c for c in address if c.isprintable())[:WORD_CHARS_MAX]
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        if not parsed.is_loopback:
            return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)


def _said(kind: _Kind, count: _Count, n: int) -> Said:
    payload = AccessDenied(kind.reason, kind.address, count.what, kind.key, n)
    return Said(EventType.ACCESS_DENIED, payload, count.actor)


def _remember(known: OrderedDict[K, V], key: K, value: V) -> None:
    """Keep the latest ones."""
    known[key] = value
    known.move_to_end(key)
    if len(known) > ADDRESSES_MAX:
        known.popitem(last=False)

"""Host and Origin headers against what the settings allow: what a web page may not reach through a browser.

DNS rebinding makes a browser send a foreign page's requests to this machine; they carry the page's own name as Host.
Patterns: `name`, `*.example.com` (below it), `*` (all); a Host without a port in the pattern may have any, `:*` says so
too. An Origin has a scheme, and the port it says: `https://app.example.com`, `http://localhost:*`.
"""

import re
from typing import Final, NamedTuple

LOOPBACK_ORIGINS: Final = tuple(
    f"{scheme}://{host}:*" for scheme in ("http", "https") for host in ("localhost", "127.0.0.1", "[::1]")
)
_AUTHORITY: Final = re.compile(r"(\[[0-9a-fA-F:.]{2,45}\]|[A-Za-z0-9*._-]{1,253})(?::(\d{1,5}|\*))?")


class _Authority(NamedTuple):
    name: str
    port: str  # "" where none is said


def host_allowed(host: str, allowed: tuple[str, ...]) -> bool:
    """Whether a Host header names this service."""
    asked = _authority(host)
    if asked is None or "*" in host:
        return False
    return any(pattern == "*" or _host_matches(asked, pattern) for pattern in allowed)


def origin_allowed(origin: str, allowed: tuple[str, ...]) -> bool:
    """Whether an Origin header names a page that may ask; `null` never does, unless all may."""
    if "*" in allowed:
        return True
    scheme, separator, rest = origin.partition("://")
    asked = _authority(rest)
    if not separator or asked is None or "*" in rest:
        return False
    return any(_origin_matches(scheme.lower(), asked, pattern) for pattern in allowed)


def _host_matches(asked: _Authority, pattern: str) -> bool:
    known = _authority(pattern)
    return known is not None and _name_matches(asked.name, known.name) and known.port in ("", "*", asked.port)


def _origin_matches(scheme: str, asked: _Authority, pattern: str) -> bool:
    allowed_scheme, _, rest = pattern.partition("://")
    known = _authority(rest)
    return (
        known is not None
        and scheme == allowed_scheme.lower()
        and _name_matches(asked.name, known.name)
        and known.port in ("*", asked.port)
    )


def _name_matches(name: str, pattern: str) -> bool:
    return name.endswith(pattern[1:]) if pattern.startswith("*.") else name == pattern


def _authority(text: str) -> _Authority | None:
    found = _AUTHORITY.fullmatch(text.strip())
    return _Authority(found[1].lower().rstrip("."), found[2] or "") if found else None

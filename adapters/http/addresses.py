"""Whose request it is by network address: the socket's, or what a trusted proxy says of it.

`X-Forwarded-For` grows on its right side: each proxy adds whom it was asked by. So it is read from the right, and the
first address that is no trusted proxy's is the client; what stands left of it is the client's own claim.
"""

import ipaddress
from functools import lru_cache
from typing import Any, Final

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network

UNIX: Final = "unix"  # in `trusted_proxies`: whoever asks through a Unix socket
_HOPS_MAX: Final = 32
_TEXT_MAX: Final = 64  # an IPv6 address with zone and port is shorter


def client_of(scope: Any, trusted: tuple[str, ...]) -> str:
    """The address of a request's client, "" for a Unix socket's. `trusted`: the setting `trusted_proxies`."""
    peer = scope["client"][0] if scope.get("client") else ""
    nearest = plain(peer) or peer
    if not trusted or not is_trusted(nearest, trusted):
        return nearest
    said = b",".join(value for name, value in scope["headers"] if name == b"x-forwarded-for")
    for hop in reversed(said.decode("latin-1").split(",")[-_HOPS_MAX:]):
        address = plain(hop)
        if address is None:  # the proxy we trust did not write that: the last address that is sure stands
            break
        nearest = address
        if not is_trusted(address, trusted):
            break
    return nearest


def is_trusted(address: str, trusted: tuple[str, ...]) -> bool:
    """Whether `address` ("" for a Unix socket) is one of the proxies, or in one of the networks, named."""
    if not address:
        return UNIX in trusted
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(parsed.version == network.version and parsed in network for network in _networks(trusted))


def plain(text: str) -> str | None:
    """An address without port, brackets and zone, an IPv4 one in its own form; None where `text` is none."""
    text = text.strip()
    if len(text) > _TEXT_MAX:
        return None
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        parsed = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return str(getattr(parsed, "ipv4_mapped", None) or parsed)


def neighbourhood(address: str) -> str:
    """What an address is counted under where it fails to authenticate: itself, or the /64 of an IPv6 one.

    One IPv6 subscriber has at least a /64, so counting single addresses would count nothing.
    """
    address = plain(address) or address
    if ":" not in address:
        return address
    try:
        return str(ipaddress.ip_network(f"{address}/64", strict=False))
    except ValueError:
        return address


@lru_cache(maxsize=8)
def _networks(trusted: tuple[str, ...]) -> tuple[_Network, ...]:
    found: list[_Network] = []
    for entry in trusted:
        try:
            found.append(ipaddress.ip_network(entry, strict=False))
        except ValueError:
            continue  # a name is no address: it is never trusted (`check_proxies` told so at the start)
    return tuple(found)


def wrong_proxies(trusted: tuple[str, ...]) -> tuple[str, ...]:
    """The entries of `trusted_proxies` that are neither an address, nor a network, nor `unix`: none of them counts."""
    wrong = []
    for entry in trusted:
        try:
            ipaddress.ip_network(entry, strict=False)
        except ValueError:
            if entry != UNIX:
                wrong.append(entry)
    return tuple(wrong)

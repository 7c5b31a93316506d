"""Clients that come to a port of TLS and do not speak it, or too slowly, or as it was spoken long ago."""

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from asgi_kit import echo
from certificates import make_certificate
from guarded_server import HANG_S_MAX, HEALTH, LAST, exchange, read_to_end, statuses

from session_mgmt_mcp.adapters.http.front import Front
from session_mgmt_mcp.adapters.http.health import Health
from session_mgmt_mcp.adapters.http.ports import AlwaysReady, Ports
from session_mgmt_mcp.adapters.http.protocol import protocol_class
from session_mgmt_mcp.adapters.http.serving import Servers, Site, tls_context
from session_mgmt_mcp.core.config_table import ServiceSettings


class Secure(NamedTuple):
    """A server with TLS, and the certificate that it shows."""

    port: int
    certificate: Path

    def plain(self) -> socket.socket:
        """A connection without TLS."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=HANG_S_MAX)

    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.certificate)

    def wrapped(self) -> ssl.SSLSocket:
        """A connection with TLS."""
        return self.context().wrap_socket(self.plain(), server_hostname="localhost")


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    with serving(tmp_path_factory.mktemp("tls"), 0.5) as found:
        yield found


@contextlib.contextmanager
def serving(folder: Path, timeout_s: float, max_connections: int = 2000) -> Iterator[Secure]:
    """A server whose handshakes and heads may take `timeout_s`."""
    certificate, key = make_certificate(folder)
    settings = ServiceSettings(header_timeout_s=timeout_s, max_connections=max_connections)
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    front = Front({"/mcp": echo}, Health(AlwaysReady()), Ports())
    protocol = protocol_class(lambda: settings)
    site = Site(front, listening, protocol, tls_context(str(certificate), str(key)), False, timeout_s)
    loop = asyncio.new_event_loop()
    servers = Servers([site])
    thread = threading.Thread(target=lambda: loop.run_until_complete(servers.run()), daemon=True)
    thread.start()
    yield Secure(port, certificate)
    loop.call_soon_threadsafe(servers.stop, 0.0)
    thread.join(HANG_S_MAX)
    assert not thread.is_alive()
    loop.close()


def alive(secure: Secure) -> bool:
    with contextlib.closing(secure.wrapped()) as client:
        return statuses(exchange(client, HEALTH + LAST)) == [200]


def test_a_client_that_does_not_shake_hands_is_cut_off(secure: Secure) -> None:
    with contextlib.closing(secure.plain()) as silent:
        assert read_to_end(silent) == b""
    assert alive(secure)


def test_a_request_that_comes_with_the_end_of_the_handshake_is_answered(secure: Secure) -> None:
    """Whether it does is a matter of microseconds, so there are many."""
    assert all(alive(secure) for _ in range(50))


def test_connections_that_do_not_shake_hands_are_counted_and_make_room(tmp_path: Path) -> None:
    with serving(tmp_path, HANG_S_MAX, max_connections=3) as secure, contextlib.ExitStack() as held:
        silent = [held.enter_context(contextlib.closing(secure.plain())) for _ in range(10)]
        assert [read_to_end(client) for client in silent[:7]] == [b""] * 7
        assert alive(secure)


def test_a_handshake_that_stops_half_way_is_cut_off(secure: Secure) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    half = secure.context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        half.do_handshake()
    with contextlib.closing(secure.plain()) as slow:
        slow.sendall(outgoing.read()[:100])
        assert read_to_end(slow) == b""
    assert alive(secure)


def test_plain_http_gets_no_answer_of_the_service(secure: Secure) -> None:
    with contextlib.closing(secure.plain()) as plain:
        assert b"alive" not in exchange(plain, HEALTH + LAST)
    assert alive(secure)


def test_a_head_that_never_ends_is_cut_off_behind_tls_too(secure: Secure) -> None:
    with contextlib.closing(secure.wrapped()) as slow:
        assert statuses(exchange(slow, b"GET /hea")) == [408]


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_what_tls_was_before_is_not_spoken(secure: Secure, version: ssl.TLSVersion) -> None:
    context = secure.context()
    context.minimum_version = version
    context.maximum_version = version
    context.set_ciphers("ALL:@SECLEVEL=0")
    with contextlib.closing(secure.plain()) as old, pytest.raises((ssl.SSLError, ConnectionResetError)):
        context.wrap_socket(old, server_hostname="localhost")
    assert alive(secure)

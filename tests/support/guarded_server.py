"""The service's connections and limits in this process, in front of an app that echoes; and sockets to attack them."""

import asyncio
import contextlib
import re
import socket
import threading
from collections.abc import Iterator
from typing import Any

import uvicorn
from asgi_kit import echo

from session_mgmt_mcp.adapters.http.front import Front
from session_mgmt_mcp.adapters.http.health import Health
from session_mgmt_mcp.adapters.http.limits import Limits
from session_mgmt_mcp.adapters.http.ports import AlwaysReady, Ports
from session_mgmt_mcp.adapters.http.protocol import Connections, protocol_class
from session_mgmt_mcp.adapters.http.work import Work
from session_mgmt_mcp.core.config_table import ServiceSettings

HANG_S_MAX = 60.0
POST = b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"
LAST = b"Connection: close\r\n\r\n"


class GuardedServer:
    """Listens on a free port of 127.0.0.1 in a thread of its own."""

    def __init__(self, app: Any, deadlines: dict[str, float], settings: dict[str, Any]) -> None:
        chosen = ServiceSettings(**settings)

        def now() -> ServiceSettings:
            return chosen

        front = Front({"/mcp": Limits(Work(app, now), now)}, Health(AlwaysReady()), Ports())
        protocol = protocol_class(now, **deadlines)
        self.connections: Connections = protocol.pool
        config = uvicorn.Config(
            front,
            http=protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            timeout_keep_alive=60,
        )
        self._server = uvicorn.Server(config)
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=2048)
        self.port = self._listening.getsockname()[1]
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.run(self._server._serve([self._listening]))

    def stop(self) -> None:
        self._server.force_exit = self._server.should_exit = True
        self._thread.join(HANG_S_MAX)
        assert not self._thread.is_alive()

    def open(self, *, receive_bytes: int = 0) -> socket.socket:
        """A connection. `receive_bytes`: how much the kernel takes in for a client that does not read."""
        client = socket.socket()
        if receive_bytes:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        client.settimeout(HANG_S_MAX)
        client.connect(("127.0.0.1", self.port))
        return client

    def exchange(self, *parts: bytes) -> bytes:
        """Send these and read until the server closes; a reset counts as the end."""
        with contextlib.closing(self.open()) as client:
            return exchange(client, *parts)


def exchange(client: socket.socket, *parts: bytes) -> bytes:
    """Send and read until the other side closes."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        for part in parts:
            client.sendall(part)
    return read_to_end(client)


def read_to_end(client: socket.socket) -> bytes:
    """Everything until the other side closes, or resets."""
    found = b""
    with contextlib.suppress(ConnectionResetError):
        while part := client.recv(1 << 16):
            found += part
    return found


def statuses(answers: bytes) -> list[int]:
    """Of the answers on one connection, in order."""
    return [int(found) for found in re.findall(rb"HTTP/1\.1 (\d{3}) ", answers)]


@contextlib.contextmanager
def guarded(
    app: Any = echo, deadlines: dict[str, float] | None = None, **settings: Any
) -> Iterator[GuardedServer]:
    """A server for the block. `deadlines`: as `protocol_class` takes them."""
    server = GuardedServer(app, {"sweep_s": 0.05, **(deadlines or {})}, settings)
    try:
        yield server
    finally:
        server.stop()

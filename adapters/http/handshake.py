"""Connections of TLS until they speak HTTP: counted from their first moment.

asyncio's own way with TLS tells the protocol of a connection when its handshake is over, and holds 256 KiB for each
before: clients that connect and say nothing would cost memory that no bound of ours sees.
"""

import asyncio
import ssl
from collections.abc import Callable

from session_mgmt_mcp.adapters.http.protocol import Connections, GuardedProtocol


class Handshake(asyncio.Protocol):
    """One connection. It can be given up for another, like those that wait for the head of a request."""

    transport: asyncio.Transport

    def __init__(
        self,
        make: Callable[[], GuardedProtocol],
        pool: Connections,
        context: ssl.SSLContext,
        timeout_s: float,
    ) -> None:
        """`make`: the protocol that is spoken afterwards; it is counted itself from then on."""
        self.loop = asyncio.get_running_loop()
        self._make = make
        self._pool = pool
        self._context = context
        self._timeout_s = timeout_s
        self._task: asyncio.Task[None] | None = None  # the loop itself holds tasks weakly
        self._early: list[bytes] = []

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        transport.pause_reading()  # what comes first is the handshake's
        self.transport = transport
        self._pool.enter(self)
        self._task = self.loop.create_task(self._shake())

    def data_received(self, data: bytes) -> None:
        """What came with the end of the handshake, before whoever is to have it knows of the connection."""
        self._early.append(data)

    def only_health(self) -> None:
        """Whether there is room for more is asked again when it speaks HTTP."""

    def look(self, now: float) -> None:
        """The handshake has a deadline of its own."""

    async def _shake(self) -> None:
        if self.transport.is_closing():  # it was given up for those that came with it
            return
        try:
            secured = await self.loop.start_tls(
                self.transport,
                self,
                self._context,
                server_side=True,
                ssl_handshake_timeout=self._timeout_s,
            )
        except OSError as error:  # no TLS, not in time, or gone: TimeoutError and ssl.SSLError are ones too
            error.with_traceback(None)  # else frames that hold the error keep the 256 KiB until a collection
            self.transport.abort()
            return
        finally:
            self._pool.leave(self)
        if secured is None or secured.is_closing():
            return
        spoken = self._make()
        secured.set_protocol(spoken)
        spoken.connection_made(secured)
        early, self._early = self._early, []
        for data in early:
            if not secured.is_closing():  # as there was no room for it
                spoken.data_received(data)

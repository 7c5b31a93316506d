"""Connections: uvicorn's HTTP/1.1 protocol with deadlines for every state in which a client can hold one, and a bound.

A connection is `waiting` for the head of a request, `idle` between requests (uvicorn's keep-alive ends that), `at work`,
or `lingering`: answered, while the client still sends the body that nobody wanted. Beyond `max_connections` the one that
waits or idles longest makes room; where all are at work, a few more are taken in that get /health alone.
"""

import asyncio
import contextlib
import json
import math
import resource
import sys
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final, Protocol

import h11
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol

from session_mgmt_mcp.adapters.http.answers import JSON_TYPE, send_complaint
from session_mgmt_mcp.core.config_table import ServiceSettings

RESERVE: Final = 16  # connections beyond the bound, for probes
HEADERS_MAX: Final = 100
HEAD_BYTES_MAX: Final = 32 << 10
PIECES_FREE: Final = 2000  # of a body: each costs the parser as much as 64 bytes would
PIECE_BYTES_MIN: Final = 64
STALL_S: Final = 30.0  # a reader that takes nothing for so long is cut
LINGER_S: Final = 2.0
CLOSE_S: Final = 10.0  # for what is still to be written when a connection closes
_SWEEP_S: Final = 1.0
_MESSAGES: Final = {
    400: "this is no HTTP request; send HTTP/1.1 as RFC 9112 has it",
    408: "the head of the request did not arrive in time; send it at once",
    431: f"the head of the request is too large: at most {HEADERS_MAX} headers and {HEAD_BYTES_MAX} bytes",
    505: "this version of HTTP is not spoken here; send HTTP/1.1",
    501: "this transfer coding is not understood; send the body chunked, or with a Content-Length",
}


class BoundedConnection(h11.Connection):
    """h11's parser, which also refuses what two parsers could read differently, and what costs more than it says."""

    _pieces = 0
    _bytes = 0

    def next_event(self) -> Any:
        """As h11's. Raises RemoteProtocolError for a request's head or body beyond the bounds."""
        event = super().next_event()
        if isinstance(event, h11.Request):
            self._pieces = self._bytes = 0
            _check(event)
        elif isinstance(event, h11.Data):
            self._pieces += 1
            self._bytes += len(event.data)
            if self._pieces > PIECES_FREE + self._bytes // PIECE_BYTES_MIN:
                raise h11.RemoteProtocolError("the body comes in too small chunks", error_status_hint=400)
        return event


def _check(request: h11.Request) -> None:
    size = sum(len(name) + len(value) + 4 for name, value in request.headers) + len(request.target)
    if len(request.headers) > HEADERS_MAX or size > HEAD_BYTES_MAX:
        raise h11.RemoteProtocolError("too large a head", error_status_hint=431)
    if request.http_version not in (b"1.0", b"1.1"):
        raise h11.RemoteProtocolError("another version", error_status_hint=505)
    names = {name for name, _ in request.headers}
    if b"transfer-encoding" in names and (b"content-length" in names or request.http_version < b"1.1"):
        # h11 lets the chunks win; a proxy that believes the length would see another request in them (RFC 9112, 6.1)
        raise h11.RemoteProtocolError("two lengths of one body", error_status_hint=400)


class Counted(Protocol):
    """A connection that `Connections` holds."""

    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport

    def only_health(self) -> None: ...

    def look(self, now: float) -> None: ...


class Connections:
    """Those that are open, their bound and their deadlines: looked through every second."""

    def __init__(
        self,
        settings: Callable[[], ServiceSettings],
        *,
        stall_s: float = STALL_S,
        linger_s: float = LINGER_S,
        close_s: float = CLOSE_S,
        sweep_s: float = _SWEEP_S,
    ) -> None:
        self.settings = settings
        self.stall_s = stall_s
        self.linger_s = linger_s
        self.close_s = close_s
        self._sweep_s = sweep_s
        self._open: dict[Counted, None] = {}
        self._spare: OrderedDict[Counted, None] = OrderedDict()  # not at work, longest first
        self._sweeping = False

    def __len__(self) -> int:
        return len(self._open)

    def enter(self, connection: "Counted") -> None:
        """Take a new connection in; where there is no room: instead of a spare one, for /health alone, or not."""
        bound = self.settings().max_connections
        if len(self._open) >= bound:
            if self._spare:
                oldest, _ = self._spare.popitem(last=False)
                self._open.pop(oldest, None)
                oldest.transport.abort()
            elif len(self._open) < bound + RESERVE:
                connection.only_health()
            else:
                connection.transport.abort()
                return
        self._open[connection] = None
        self._spare[connection] = None
        if not self._sweeping:
            self._sweeping = True
            connection.loop.call_later(self._pause_s(), self._sweep, connection.loop)

    def leave(self, connection: "Counted") -> None:
        self._open.pop(connection, None)
        self._spare.pop(connection, None)

    def spare(self, connection: "Counted", yes: bool) -> None:
        """Note whether a connection could be given up for another."""
        if not yes:
            self._spare.pop(connection, None)
        elif connection in self._open and connection not in self._spare:
            self._spare[connection] = None

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for connection in list(self._open):
            connection.look(now)
        self._sweeping = bool(self._open)
        if self._sweeping:
            loop.call_later(self._pause_s(), self._sweep, loop)

    def _pause_s(self) -> float:
        return min(self._sweep_s, self.settings().header_timeout_s / 4)


class GuardedProtocol(H11Protocol):
    """uvicorn's protocol for one connection. `pool` is set by `protocol_class`."""

    pool: Connections

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.conn = BoundedConnection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES_MAX)
        self._state = ""  # waiting, idle, work, lingering
        self._deadline = math.inf
        self._stalled_at: float | None = None
        self._closing_at: float | None = None
        self._deaf = False  # what comes is read and dropped

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._enter("waiting")
        self.pool.enter(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.pool.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        super().data_received(data)
        self._moved()

    def on_response_complete(self) -> None:
        super().on_response_complete()  # may start on a request that was sent ahead
        self._moved()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled_at = self.loop.time()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stalled_at = None

    def only_health(self) -> None:
        """Answer 503 to everything but /health on this connection."""
        self.app = _OnlyHealth(self.app)

    def look(self, now: float) -> None:
        """Close the connection where its time is up."""
        if self.transport.is_closing():
            self._closing_at = now if self._closing_at is None else self._closing_at
            if now - self._closing_at > self.pool.close_s:
                self.transport.abort()
        elif self._stalled_at is not None and now - self._stalled_at > self.pool.stall_s:
            self.transport.abort()
        elif now > self._deadline:
            if self._state == "waiting" and self.conn.trailing_data[0]:
                self._refuse(408)
            else:
                self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no request, where the connection is not in the middle of another answer."""
        error = sys.exception()
        status = error.error_status_hint if isinstance(error, h11.RemoteProtocolError) else 400
        if self.cycle is not None and not self.cycle.response_complete:
            began = self.cycle.response_started
            self.cycle.disconnected = True  # its answer would have no place to go
            self.cycle.message_event.set()
            if began:
                self.transport.abort()
                return
        self._refuse(status)

    def _refuse(self, status: int) -> None:
        """Answer and close, though not before what is under way has been read: the client would see a reset, no answer."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.abort()
            return
        status = status if status in _MESSAGES else 400
        error = {"code": "timeout" if status == 408 else "malformed", "message": _MESSAGES[status]}
        body = json.dumps({"error": error}).encode()
        length = b"%d" % len(body)
        headers = [(b"content-type", JSON_TYPE), (b"content-length", length), (b"connection", b"close")]
        start = h11.Response(status_code=status, headers=headers, reason=STATUS_PHRASES[status])
        for event in (start, h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._deaf = True
        self._enter("lingering")

    def _moved(self) -> None:
        if self._deaf:
            return
        theirs, ours = self.conn.their_state, self.conn.our_state
        if theirs is h11.IDLE:
            begun = self._state == "waiting" or bool(self.conn.trailing_data[0])
            self._enter("waiting" if begun else "idle")
        elif theirs is h11.SEND_BODY and ours in (h11.DONE, h11.MUST_CLOSE):
            self._enter("lingering")
        else:
            self._enter("work")

    def _enter(self, state: str) -> None:
        if state == self._state:
            return  # a deadline is not put off by sending one more byte
        self._state = state
        allowed_s = {
            "waiting": self.pool.settings().header_timeout_s,
            "lingering": self.pool.linger_s,
        }.get(state, math.inf)
        self._deadline = self.loop.time() + allowed_s
        self.pool.spare(self, state != "work")


class _OnlyHealth:
    """ASGI. What is left of the service for a connection too many."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/health":
            await self._app(scope, receive, send)
            return
        headers = ((b"retry-after", b"5"), (b"connection", b"close"))
        message = "all connections are at work; ask again in 5 s, or have max_connections raised"
        await send_complaint(send, 503, "unavailable", message, headers)


def protocol_class(settings: Callable[[], ServiceSettings], **deadlines: float) -> type[GuardedProtocol]:
    """The class for uvicorn's `http=`, one for each listening server; `deadlines`: as `Connections` takes them."""
    connections = Connections(settings, **deadlines)
    return type("Protocol", (GuardedProtocol,), {"pool": connections})


def raise_open_files() -> int:
    """Let this process open as many files as it may; the number that is in force. A connection is one, and so is a view."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):  # where "unlimited" is more than the system has
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]

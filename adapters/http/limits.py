"""What a request has to be before anything looks into it, and how long it may take."""

import asyncio
import json
from collections.abc import Callable
from typing import Any, Final

from session_mgmt_mcp.adapters.http.answers import send_complaint
from session_mgmt_mcp.adapters.http.names import LOOPBACK_ORIGINS, host_allowed, origin_allowed
from session_mgmt_mcp.core.access import AccessError
from session_mgmt_mcp.core.config_table import ServiceSettings, is_loopback

METRICS_PATH: Final = "/metrics"
RPC_ID: Final = "rpc_id"  # in the scope's state: the id of the JSON-RPC request, where there is one
_RPC_TIMEOUT: Final = -32001  # of the range that JSON-RPC leaves to servers
_EVENT_STREAM: Final = b"text/event-stream"


class Limits:
    """ASGI. Host, Origin, content type, declared size; a deadline for the whole request.

    A request that is not served in time is answered 504, or its event stream ends with an error; what it does goes on
    until it can stop, holding its slot.
    """

    def __init__(self, app: Any, settings: Callable[[], ServiceSettings]) -> None:
        self._app = app
        self._settings = settings
        self._late: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Raises AccessError."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        settings = self._settings()
        check_head(scope, settings)
        await self._within(settings.request_timeout_s, scope, receive, send)

    async def _within(self, seconds: float, scope: Any, receive: Any, send: Any) -> None:
        began: list[Any] = []
        over = False

        async def guarded(message: Any) -> None:
            if over:
                return
            if not began:
                began.append(message)
            await send(message)

        task = asyncio.create_task(self._app(scope, receive, guarded))
        try:
            await asyncio.wait({task}, timeout=seconds)
        except asyncio.CancelledError:  # the service stops
            self._let_go(task)
            raise
        if task.done():
            task.result()
        elif not began:
            over = True
            self._let_go(task)
            message = f"this took longer than {seconds:g} s; ask for less, or have request_timeout_s raised"
            await send_complaint(send, 504, "timeout", message)
        elif _is_stream(began[0]):
            over = True
            self._let_go(task)
            last = _last_event(scope["state"].get(RPC_ID), seconds)
            await send({"type": "http.response.body", "body": last, "more_body": False})
        else:  # a whole answer is on its way to a slow reader: the connection's own deadline ends that
            await task

    def _let_go(self, task: asyncio.Task[None]) -> None:
        """Cancel; a tool at work in a thread ends when it ends, and nobody waits for it."""
        self._late.add(task)
        task.add_done_callback(self._ended)
        task.cancel()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._late.discard(task)
        if not task.cancelled():
            task.exception()  # it was told to stop: what it says about that is nobody's


def check_head(scope: Any, settings: ServiceSettings) -> None:
    """Raise AccessError (421, 403, 415, 413) for a request that is not meant for this service, or cannot be served."""
    headers = scope["headers"]
    metrics_host = settings.metrics_host if settings.metrics_port else settings.http_host
    named = scope["path"] != METRICS_PATH or is_loopback(metrics_host)
    host = _only(headers, b"host")
    if named and not host_allowed(host, settings.allowed_hosts):  # a scraper asks by address: the key guards
        raise AccessError(
            f"{host[:80]!a} is no name of this service; add it to allowed_hosts",
            status=421,
            reason="host",
        )
    origins = [value.decode("latin-1") for name, value in headers if name == b"origin"]
    allowed = settings.allowed_origins or (LOOPBACK_ORIGINS if is_loopback(settings.http_host) else ())
    for origin in origins:
        if not origin_allowed(origin, allowed):
            raise AccessError(
                f"pages of {origin[:80]!a} may not ask this service; add the origin to allowed_origins",
                status=403,
                reason="origin",
            )
    if scope["method"] == "POST":
        _check_body_head(headers, settings)


def _check_body_head(headers: Any, settings: ServiceSettings) -> None:
    kind = _only(headers, b"content-type").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise AccessError(
            f"the body is {ascii(kind[:40]) if kind else 'of no type'}; send application/json",
            status=415,
            reason="body",
        )
    length = _only(headers, b"content-length")
    if length.isdigit() and int(length) > settings.max_body_bytes:
        raise too_large(settings)


def too_large(settings: ServiceSettings) -> AccessError:
    """The refusal of a body beyond the limit."""
    return AccessError(
        f"the body is larger than {settings.max_body_bytes} bytes; send less, or have max_body_bytes raised",
        status=413,
        reason="body",
    )


def _only(headers: Any, name: bytes) -> str:
    """A header's value; "" where it is missing or there are several, so that nobody can take the other one for it."""
    found = [value for key, value in headers if key == name]
    return found[0].decode("latin-1") if len(found) == 1 else ""


def _is_stream(start: Any) -> bool:
    return any(
        name.lower() == b"content-type" and value.startswith(_EVENT_STREAM)
        for name, value in start["headers"]
    )


def _last_event(rpc_id: object, seconds: float) -> bytes:
    """What ends a stream: the error of the request it was to answer; nothing where that has no id."""
    if rpc_id is None:
        return b""
    error = {"code": _RPC_TIMEOUT, "message": f"this took longer than {seconds:g} s; ask for less"}
    answer = {"jsonrpc": "2.0", "id": rpc_id, "error": error}
    return b"event: message\r\ndata: " + json.dumps(answer).encode() + b"\r\n\r\n"

"""The outermost layer: gives each request its id, and writes the line of the log that says how it went.

Nothing that was asked or answered is in it: the path without its query, the tool's name, the outcome.
"""

import logging
import re
import secrets
import time
from typing import Any, Final

from session_mgmt_mcp.adapters.http.ports import GONE, Call
from session_mgmt_mcp.core.requests import REQUEST, Request

logger = logging.getLogger("session_mgmt_mcp.access")

_HEADER: Final = b"x-request-id"
_ID: Final = re.compile(rb"[A-Za-z0-9._-]{8,64}")
_PATH_MAX: Final = 200
_QUIET: Final = frozenset(
    ["/health", "/ready", "/metrics"]
)  # asked every few seconds; logged where they say no


class AccessLog:
    """ASGI. A request id that a proxy gives (`X-Request-Id`) is kept, and sent back with the answer."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope["headers"])
        scope.setdefault("state", {})
        address = scope["client"][0] if scope.get("client") else ""
        status = 0

        async def watched(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [*message.get("headers", ()), (_HEADER, request_id)]
                message = {**message, "headers": headers}
            await send(message)

        before = REQUEST.set(Request(request_id.decode(), address))
        began = time.perf_counter()
        try:
            await self._app(scope, receive, watched)
        finally:
            _say(scope, status, time.perf_counter() - began)
            REQUEST.reset(before)


def _request_id(headers: Any) -> bytes:
    found = [value for name, value in headers if name == _HEADER]
    if len(found) == 1 and _ID.fullmatch(found[0]):
        return found[0]  # type: ignore[no-any-return]
    return secrets.token_hex(8).encode()


def _say(scope: Any, status: int, seconds: float) -> None:
    quiet = scope["path"] in _QUIET and 200 <= status < 400
    level = logging.DEBUG if quiet else logging.INFO
    if not logger.isEnabledFor(level):
        return
    call = scope["state"].get("call")
    tool, outcome = (call.tool, call.outcome) if isinstance(call, Call) else ("", "")
    principal = scope["state"].get("principal")
    logger.log(
        level,
        "request",
        extra={
            "principal": principal.name if principal is not None else None,
            "method": scope["method"][:20],
            "path": scope["path"][:_PATH_MAX],
            "status": status,  # 0: no answer, the connection was cut
            "tool": tool or None,
            "outcome": _outcome(status, outcome),
            "ms": round(seconds * 1000, 1),
        },
    )


def _outcome(status: int, noted: str) -> str:
    if noted == GONE:
        return noted
    if not status or status >= 500:
        return "failed"
    if status in (401, 403, 429):
        return "denied"
    return "error" if status >= 400 else noted or "ok"

"""What `/mcp` takes: POST alone."""

from typing import Any

from session_mgmt_mcp.adapters.http.answers import send_complaint


class OnlyMessages:
    """ASGI. A GET asks for a stream of what the server says unasked, a DELETE ends a session: a server that keeps no
    sessions has neither. The protocol's answer to that is 405, and clients go on without; a stream that stays open and
    silent would hold a connection, and a stop, for nothing.
    """

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["method"] == "POST":
            await self._app(scope, receive, send)
            return
        message = "send MCP messages with POST; no sessions are kept here, so there is no stream to open and none to end"
        await send_complaint(send, 405, "method_not_allowed", message, ((b"allow", b"POST"),))

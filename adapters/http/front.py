"""The outermost layer: which endpoint a request is for, refusals turned into answers, every request counted once."""

import logging
import time
from typing import Any, Final

from session_mgmt_mcp.adapters.http.answers import send_complaint, send_error
from session_mgmt_mcp.adapters.http.health import Health
from session_mgmt_mcp.adapters.http.ports import GONE, Call, Ports
from session_mgmt_mcp.core.access import AccessError

logger = logging.getLogger(__name__)

MCP_PATH: Final = "/mcp"
METRICS_PATH: Final = "/metrics"
_ENDPOINTS: Final = {MCP_PATH: "mcp", "/health": "health", "/ready": "ready", METRICS_PATH: "metrics"}


class Front:
    """ASGI. `routes`: path -> app, each behind its own limits; /health and /ready are answered here, before any limit.

    The key `state["call"]` of the scope is a `ports.Call`: the app behind notes there which tool was called.
    """

    def __init__(self, routes: dict[str, Any], health: Health, ports: Ports) -> None:
        self._routes = routes
        self._health = health
        self._ports = ports

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._other(scope, receive, send)
            return
        path = scope["path"]
        endpoint = _ENDPOINTS.get(path, "other")
        call = Call()
        scope.setdefault("state", {})["call"] = call
        seen = _Exchange(receive, send)
        metrics = self._ports.metrics
        began = time.perf_counter()
        counted = endpoint == "mcp"
        if counted:
            metrics.in_flight(1)
        outcome = "failed"
        try:
            await self._answer(path, scope, seen.receive, seen.send)
            # that the service is not ready is a right answer to the question whether it is
            outcome = "ok" if endpoint == "ready" else _outcome(seen.status, call)
        except AccessError as error:
            outcome = "denied"
            await self._refused(error, scope, endpoint, call, None if seen.status else seen.send)
        except Exception:
            logger.exception("a request to %s failed", path)
            if seen.status:
                raise  # the server cuts the connection: half an answer must not look whole
            await send_complaint(
                seen.send,
                500,
                "failed",
                "this is a fault of the service, not of the request; its log says more",
            )
        finally:
            if counted:
                metrics.in_flight(-1)
            call.outcome = outcome = GONE if outcome == "failed" and seen.gone else outcome
            metrics.observe(endpoint, call.tool, outcome, time.perf_counter() - began)

    async def _answer(self, path: str, scope: Any, receive: Any, send: Any) -> None:
        if path == "/health":
            await self._health.alive(scope, send)
        elif path == "/ready":
            await self._health.ready(scope, send)
        elif (app := self._routes.get(path)) is not None:
            await app(scope, receive, send)
        else:
            known = ", ".join([*self._routes, "/health", "/ready"])
            await send_complaint(send, 404, "not_found", f"nothing is served here; there is {known}")

    async def _refused(
        self, error: AccessError, scope: Any, endpoint: str, call: Call, send: Any | None
    ) -> None:
        principal = scope["state"].get("principal")
        address = scope["client"][0] if scope.get("client") else ""
        self._ports.metrics.denied(error.reason)
        self._ports.audit.denied(error, address, principal, call.tool or endpoint)
        if send is None:
            raise error  # the answer had begun: the connection is cut
        await send_error(send, error)

    async def _other(self, scope: Any, receive: Any, send: Any) -> None:
        """The app's beginning and end belong to the MCP server; WebSockets are not served."""
        if scope["type"] == "lifespan" and MCP_PATH in self._routes:
            await self._routes[MCP_PATH](scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})


class _Exchange:
    """What was seen of a request's exchange."""

    def __init__(self, receive: Any, send: Any) -> None:
        self._receive = receive
        self._send = send
        self._whole = False
        self.status = 0
        """Of the answer; 0 before it began."""
        self.gone = False
        """Whether the client went away before the answer was whole."""

    async def receive(self) -> Any:
        message = await self._receive()
        if message["type"] == "http.disconnect" and not self._whole:
            self.gone = True
        return message

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        elif message["type"] == "http.response.body" and not message.get("more_body", False):
            self._whole = True
        await self._send(message)


def _outcome(status: int, call: Call) -> str:
    if not status or status >= 500:
        return "failed"
    if status in (401, 403, 429):
        return "denied"
    return "error" if status >= 400 else call.outcome or "ok"

"""The outermost layer: which endpoint a request is for, refusals turned into answers, every request counted once."""

import logging
import time
from typing import Any, Final

from session_mgmt_mcp.adapters.http.answers import send_complaint, send_error
from session_mgmt_mcp.adapters.http.health import Health
from session_mgmt_mcp.adapters.http.ports import Call, Ports
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
        started: list[int] = []

        async def watched(message: Any) -> None:
            if message["type"] == "http.response.start":
                started.append(message["status"])
            await send(message)

        metrics = self._ports.metrics
        began = time.perf_counter()
        counted = endpoint == "mcp"
        if counted:
            metrics.in_flight(1)
        outcome = "failed"
        try:
            await self._answer(path, scope, receive, watched)
            # that the service is not ready is a right answer to the question whether it is
            outcome = "ok" if endpoint == "ready" else _outcome(started, call)
        except AccessError as error:
            outcome = "denied"
            await self._refused(error, scope, endpoint, call, None if started else watched)
        except Exception:
            logger.exception("a request to %s failed", path)
            if started:
                raise  # the server cuts the connection: half an answer must not look whole
            await send_complaint(
                watched,
                500,
                "failed",
                "this is a fault of the service, not of the request; its log says more",
            )
        finally:
            if counted:
                metrics.in_flight(-1)
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


def _outcome(started: list[int], call: Call) -> str:
    if not started or started[0] >= 500:
        return "failed"
    if started[0] in (401, 403, 429):
        return "denied"
    return "error" if started[0] >= 400 else call.outcome or "ok"

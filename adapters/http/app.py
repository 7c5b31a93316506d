"""The HTTP app put together.

From outside in: the log of requests, metrics and refusals (`front`), what a request has to be (`limits`), who it is from
(`auth_layer`), how often (`rate`), whether there is room (`work`), and the MCP server's app.
"""

from collections.abc import Callable
from typing import Any

from session_mgmt_mcp.adapters.http.access_log import AccessLog
from session_mgmt_mcp.adapters.http.addresses import client_of
from session_mgmt_mcp.adapters.http.auth_layer import Authentication
from session_mgmt_mcp.adapters.http.front import MCP_PATH, METRICS_PATH, Front
from session_mgmt_mcp.adapters.http.guessing import SlowedGuessing
from session_mgmt_mcp.adapters.http.health import Health, MetricsPage
from session_mgmt_mcp.adapters.http.limits import Limits
from session_mgmt_mcp.adapters.http.mcp_methods import OnlyMessages
from session_mgmt_mcp.adapters.http.ports import Authenticator, Everyone, Ports
from session_mgmt_mcp.adapters.http.rate import RateLimit
from session_mgmt_mcp.adapters.http.work import Work
from session_mgmt_mcp.core.config import ServiceSettings, is_loopback

Settings = Callable[[], ServiceSettings]  # those in force; a reload changes what it returns


def build_app(mcp_app: Any, ports: Ports, settings: Settings) -> Any:
    """The ASGI app of the service: `mcp_app` at /mcp, /health, /ready, and /metrics where it has no port of its own."""
    now = settings()
    authenticator = SlowedGuessing(ports.authenticator) if now.auth == "keys" else Everyone()
    admitted = _Admitted(OnlyMessages(Work(mcp_app, settings)), ports.admit)
    routes = {MCP_PATH: _behind_limits(RateLimit(admitted, settings), authenticator, ports, settings)}
    if not now.metrics_port:
        routes[METRICS_PATH] = _metrics(ports, settings)
    return _outermost(Front(routes, Health(ports.probe), ports), settings)


def build_metrics_app(ports: Ports, settings: Settings) -> Any:
    """The ASGI app of the metrics' own port; /health and /ready are there too."""
    routes = {METRICS_PATH: _metrics(ports, settings)}
    return _outermost(Front(routes, Health(ports.probe), ports), settings)


def metrics_need_keys(settings: ServiceSettings) -> bool:
    """Whether a scraper has to show a key: off loopback, unless the settings say otherwise."""
    host = settings.metrics_host if settings.metrics_port else settings.http_host
    return settings.metrics_auth == "keys" and not is_loopback(host)


def _metrics(ports: Ports, settings: Settings) -> Any:
    keys = metrics_need_keys(settings())
    authenticator = SlowedGuessing(ports.authenticator) if keys else Everyone()
    return _behind_limits(MetricsPage(ports.metrics), authenticator, ports, settings)


def _behind_limits(app: Any, authenticator: Authenticator, ports: Ports, settings: Settings) -> Any:
    return Limits(Authentication(app, authenticator, ports.audit, settings), settings)


class _Admitted:
    """ASGI. Lets a request in where `admit` raises nothing: AccessError while memory is short."""

    def __init__(self, app: Any, admit: Callable[[], None]) -> None:
        self._app = app
        self._admit = admit

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            self._admit()
        await self._app(scope, receive, send)


def _outermost(front: Front, settings: Settings) -> Any:
    logged = AccessLog(front)

    async def addressed(scope: Any, receive: Any, send: Any) -> None:
        trusted = settings().trusted_proxies
        if trusted and scope["type"] == "http":  # whom a proxy speaks for, in the log as everywhere
            address = client_of(scope, trusted)
            scope["client"] = (address, 0) if address else None
        await logged(scope, receive, send)

    return addressed

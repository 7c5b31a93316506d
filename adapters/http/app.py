"""The HTTP app put together. From outside in: metrics and refusals (`front`), authentication, the app behind."""

from collections.abc import Callable
from typing import Any

from session_mgmt_mcp.adapters.http.auth_layer import Authentication
from session_mgmt_mcp.adapters.http.front import MCP_PATH, METRICS_PATH, Front
from session_mgmt_mcp.adapters.http.health import Health, MetricsPage
from session_mgmt_mcp.adapters.http.mcp_methods import OnlyMessages
from session_mgmt_mcp.adapters.http.ports import Everyone, Ports
from session_mgmt_mcp.core.config import ServiceSettings, is_loopback

Settings = Callable[[], ServiceSettings]  # those in force; a reload changes what it returns


def build_app(mcp_app: Any, ports: Ports, settings: Settings) -> Front:
    """The ASGI app of the service: `mcp_app` at /mcp, /health, /ready, and /metrics where it has no port of its own."""
    routes = {MCP_PATH: Authentication(OnlyMessages(mcp_app), ports.authenticator, ports.audit)}
    now = settings()
    if not now.metrics_port:
        routes[METRICS_PATH] = _metrics(ports, now, now.http_host)
    return Front(routes, Health(ports.probe), ports)


def build_metrics_app(ports: Ports, settings: Settings) -> Front:
    """The ASGI app of the metrics' own port; /health and /ready are there too."""
    now = settings()
    return Front({METRICS_PATH: _metrics(ports, now, now.metrics_host)}, Health(ports.probe), ports)


def _metrics(ports: Ports, settings: ServiceSettings, host: str) -> Any:
    open_to_all = settings.metrics_auth == "none" or is_loopback(host)
    authenticator = Everyone() if open_to_all else ports.authenticator
    return Authentication(MetricsPage(ports.metrics), authenticator, ports.audit)

"""The service put together: one data folder served over HTTP until a signal ends it."""

import asyncio
import contextlib
import logging
import signal
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

from session_mgmt_mcp.adapters.http.ports import Ports, Ready
from session_mgmt_mcp.adapters.http.serving import (
    Servers,
    Site,
    address_of,
    listen,
    load_certificate,
    tls_context,
)
from session_mgmt_mcp.core.config import ServiceSettings
from session_mgmt_mcp.core.errors import SessionMgmtError, SettingsError
from session_mgmt_mcp.tools.app import App
from session_mgmt_mcp.tools.service_upkeep import Upkeep
from session_mgmt_mcp.tools.systemd_notify import Notifier, inherited_sockets

if TYPE_CHECKING:
    import socket
    import ssl

logger = logging.getLogger(__name__)

FORCED = 130  # exit code of a second signal
CLOSE_S_MAX = 5.0  # for closing what is open, after the drain


class Opened(NamedTuple):
    """What has to be had before anything is served."""

    settings: ServiceSettings
    app: App
    http: "socket.socket"
    metrics: "socket.socket | None"
    tls: "ssl.SSLContext | None"


def open_service(host: str | None = None, port: int | None = None) -> Opened:
    """Settings, data folder and sockets. Raises SettingsError, DataFolderError, ListenError."""
    from session_mgmt_mcp.core.config import load

    settings = load(http_host=host, http_port=port)
    refuse_unserved(settings)
    tls = tls_context(settings.tls_cert_file, settings.tls_key_file) if settings.tls_cert_file else None
    app = App.open(create=True)
    given = inherited_sockets()
    http = given.get("http") or listen(settings.http_host, settings.http_port, "http")
    metrics = None
    if settings.metrics_port:
        metrics = given.get("metrics") or listen(settings.metrics_host, settings.metrics_port, "metrics")
    return Opened(settings, app, http, metrics, tls)


def refuse_unserved(settings: ServiceSettings) -> None:
    """Raises SettingsError for what is set and not served: to ignore it silently would leave somebody without their data."""
    for variable, value in (("DATABASE_URL", settings.database_url), ("REDIS_URL", settings.redis_url)):
        if value:
            raise SettingsError(
                f"{variable} is set, and no server of that kind is served yet: the log lies in the data folder alone; "
                f"unset {variable}"
            )


class Service:
    """Serves what was opened. `run` is called once."""

    def __init__(self, opened: Opened) -> None:
        self._opened = opened
        self._settings = opened.settings
        self._notifier = Notifier()
        self._phase = "starting"
        self._upkeep = Upkeep(opened.app)
        self._stopping = asyncio.Event()
        self._forced = False

    def settings(self) -> ServiceSettings:
        """Those in force."""
        return self._settings

    def ready(self) -> Ready:
        """See `ports.Probe`."""
        checks = {"service": "ok" if self._phase == "serving" else self._phase, **self._upkeep.checks()}
        ok = self._phase == "serving" and self._upkeep.warm
        return Ready(ok, checks)

    @property
    def addresses(self) -> dict[str, str]:
        """Where it is served, as URLs."""
        scheme = "https" if self._opened.tls else "http"
        metrics = self._opened.metrics
        return {
            "mcp": f"{scheme}://{address_of(self._opened.http)}/mcp",
            "metrics": f"{scheme}://{address_of(metrics or self._opened.http)}/metrics",
        }

    async def run(self) -> int:
        """Serve until SIGTERM or SIGINT. The exit code: 0, or FORCED where a second one came."""
        from anyio import to_thread

        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop)
        loop.add_signal_handler(signal.SIGINT, self._stop)
        loop.add_signal_handler(signal.SIGHUP, self.reload)
        # a thread for each request that may be at work
        to_thread.current_default_thread_limiter().total_tokens = self._settings.max_concurrency
        servers = Servers(self._sites(), self._settings)
        serving = asyncio.create_task(servers.run())
        self._upkeep.start()
        beating = asyncio.create_task(self._beat(servers))
        stopping = asyncio.create_task(self._stopping.wait())
        await asyncio.wait([serving, stopping], return_when=asyncio.FIRST_COMPLETED)
        self._phase = "draining"
        servers.stop(self._settings.drain_s)
        if not await serving:
            logger.warning(
                "requests that took longer than drain_s (%g s) were cut off", self._settings.drain_s
            )
        for task in (beating, stopping):
            task.cancel()
        self._close()
        return FORCED if self._forced else 0

    def reload(self) -> None:
        """Take over the settings as they are now, where that needs no restart. A malformed file changes nothing."""
        from session_mgmt_mcp.core.config import load, needs_restart

        self._notifier.reloading()
        try:
            new = load(http_host=None, http_port=None)
            if self._opened.tls is not None and new.tls_cert_file:
                load_certificate(self._opened.tls, new.tls_cert_file, new.tls_key_file)
            if late := needs_restart(self._settings, new):
                logger.warning("changed, and taken over at the next start alone: %s", ", ".join(late))
            self._settings = new
            logger.info("settings were read anew")
        except SessionMgmtError as error:
            logger.error("the settings stay as they were: %s", error)
        self._notifier.ready("serving")

    def _sites(self) -> list[Site]:
        from session_mgmt_mcp.adapters.http.app import build_app, build_metrics_app

        ports = Ports(probe=self)
        sites = [
            Site(build_app(self._mcp(), ports, self.settings), self._opened.http, self._opened.tls, True)
        ]
        if self._opened.metrics is not None:
            sites.append(
                Site(build_metrics_app(ports, self.settings), self._opened.metrics, self._opened.tls)
            )
        return sites

    def _mcp(self) -> Any:
        from mcp.server.transport_security import TransportSecuritySettings

        from session_mgmt_mcp.adapters.mcp.remote import RemoteServer, behind
        from session_mgmt_mcp.adapters.mcp.server import build_server
        from session_mgmt_mcp.tools.mcp_services import McpServices

        server = build_server(lambda: McpServices(self._opened.app), RemoteServer)
        checked_before = TransportSecuritySettings(enable_dns_rebinding_protection=False)
        return behind(
            server.streamable_http_app(
                stateless_http=True,
                max_request_body_size=self._settings.max_body_bytes,
                transport_security=checked_before,
            )
        )

    def _stop(self) -> None:
        if self._stopping.is_set():
            self._forced = True
            logger.warning("a second signal: ending at once")
            raise SystemExit(FORCED)
        self._notifier.stopping("draining")
        self._stopping.set()

    async def _beat(self, servers: Servers) -> None:
        """Tell systemd when requests are welcome, and that the loop turns."""
        while not (servers.started and self._upkeep.warm):
            await asyncio.sleep(0.02)
        self._phase = "serving"
        self._notifier.ready("serving")
        logger.info("serving %(mcp)s, metrics at %(metrics)s", self.addresses)
        every_s = self._notifier.watchdog_s / 3 if self._notifier.watchdog_s else 60.0
        while True:
            if self._upkeep.alive:
                self._notifier.alive()
            await asyncio.sleep(every_s)

    def _close(self) -> None:
        """Close what is open, as far as it does not hang."""

        def close() -> None:
            self._upkeep.stop()
            self._opened.app.close()

        closing = threading.Thread(target=close, name="close", daemon=True)
        closing.start()
        closing.join(CLOSE_S_MAX)
        with contextlib.suppress(OSError):
            self._opened.http.close()

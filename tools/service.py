"""The service: one data folder served over HTTP until a signal ends it."""

import asyncio
import contextlib
import logging
import signal
import socket
import ssl
import threading
import time
from typing import Any, NamedTuple, Self

from session_mgmt_mcp.adapters.http.addresses import wrong_proxies
from session_mgmt_mcp.adapters.http.app import build_app, build_metrics_app, metrics_need_keys
from session_mgmt_mcp.adapters.http.protocol import protocol_class, raise_open_files
from session_mgmt_mcp.adapters.http.serving import (
    Servers,
    Site,
    address_of,
    listen,
    load_certificate,
    tls_context,
)
from session_mgmt_mcp.core.config import ServiceSettings, load, needs_restart
from session_mgmt_mcp.core.errors import SettingsError
from session_mgmt_mcp.tools import logging_setup
from session_mgmt_mcp.tools.app import App
from session_mgmt_mcp.tools.memory_guard import few_arenas
from session_mgmt_mcp.tools.service_parts import Parts
from session_mgmt_mcp.tools.service_upkeep import Upkeep
from session_mgmt_mcp.tools.systemd_notify import Notifier, inherited_sockets

logger = logging.getLogger(__name__)

FORCED = 130  # exit code of a second signal
CLOSE_S_MAX = 5.0  # for closing what is open, after the drain
BEAT_S = 20.0  # where no watchdog waits
_POLL_S = 0.02


class Given(NamedTuple):
    """What the command line says, and systemd by the sockets it opened; None: nothing."""

    http_host: str | None = None
    http_port: int | None = None
    metrics_host: str | None = None
    metrics_port: int | None = None
    auth: str | None = None

    def with_sockets(self, inherited: dict[str, socket.socket]) -> Self:
        """With the addresses that are listened on already: who may come in without a key is judged by those.

        A socket with a path is made for a proxy, behind which anybody may be: keys are asked for, whatever is set.
        """
        given = self
        for name, listening in inherited.items():
            if listening.family == socket.AF_UNIX:
                given = given._replace(auth="keys") if name == "http" else given
            elif name in ("http", "metrics"):
                host, port = listening.getsockname()[:2]
                given = given._replace(**{f"{name}_host": host, f"{name}_port": port})
        return given

    def settings(self, **held: Any) -> ServiceSettings:
        """The settings as they are now, but for what is `held` as it was at the start. Raises SettingsError."""
        found = load(**{**self._asdict(), **held})
        for variable, value in (("DATABASE_URL", found.database_url), ("REDIS_URL", found.redis_url)):
            if value:  # to ignore it silently would leave somebody without their data
                raise SettingsError(
                    f"{variable} is set, and no such server is used yet: the log lies in the data folder alone; "
                    f"unset {variable}"
                )
        if wrong := wrong_proxies(found.trusted_proxies):
            raise SettingsError(
                f"trusted_proxies: {', '.join(wrong)} is no address and no network; give 10.0.0.5 or 10.0.0.0/8"
            )
        return found


class Service:
    """What `open` opened, served once by `run`."""

    def __init__(
        self,
        given: Given,
        settings: ServiceSettings,
        logs: logging_setup.Logs,
        app: App,
        http: socket.socket,
        metrics: socket.socket | None,
        tls: ssl.SSLContext | None,
    ) -> None:
        self._given, self._settings, self._logs, self._app = given, settings, logs, app
        self._http, self._metrics, self._tls = http, metrics, tls
        self._serving = False
        self._upkeep = Upkeep(app)
        keys = settings.auth == "keys" or metrics_need_keys(settings)
        checks = {"start": self._check_start, "model": self._upkeep.check_model}
        self._parts = Parts(app, self.settings, checks, keys=keys)
        self._notifier = Notifier()
        self._why = ""  # the signal that ends it

    @classmethod
    def open(cls, given: Given) -> Self:
        """Settings, log file, data folder, sockets. Raises SettingsError, DataFolderError, ListenError."""
        few_arenas()
        inherited = inherited_sockets()
        given = given.with_sockets(inherited)
        settings = given.settings()
        tls = tls_context(settings.tls_cert_file, settings.tls_key_file) if settings.tls_cert_file else None
        with contextlib.ExitStack() as undo:
            logs = logging_setup.start(settings)
            undo.callback(logs.close)
            app = undo.enter_context(App.open(create=True))
            http = inherited.get("http") or listen(settings.http_host, settings.http_port, "http")
            undo.enter_context(http)
            metrics = inherited.get("metrics")
            if settings.metrics_port and metrics is None:
                metrics = listen(settings.metrics_host, settings.metrics_port, "metrics")
            if metrics is not None:
                undo.enter_context(metrics)
            service = cls(given, settings, logs, app, http, metrics, tls)
            undo.pop_all()
        return service

    def settings(self) -> ServiceSettings:
        """Those in force."""
        return self._settings

    @property
    def addresses(self) -> dict[str, str]:
        """Where it is served, as URLs."""
        scheme = "https" if self._tls else "http"
        return {
            "mcp": f"{scheme}://{address_of(self._http)}/mcp",
            "metrics": f"{scheme}://{address_of(self._metrics or self._http)}/metrics",
        }

    async def run(self) -> int:
        """Serve until SIGTERM or SIGINT, then drain. The exit code: 0; FORCED where a second signal came; 1 where a part of
        the service ended by itself.
        """
        from anyio import to_thread

        loop = asyncio.get_running_loop()
        told_to_stop, told_again = asyncio.Event(), asyncio.Event()

        def stop(number: signal.Signals) -> None:
            self._why = self._why or number.name
            (told_again if told_to_stop.is_set() else told_to_stop).set()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop, number)
        loop.add_signal_handler(signal.SIGHUP, self.reload)
        raise_open_files()
        self._upkeep.start()  # beside the imports that follow
        # tools run in threads: one for each request that may be at work
        to_thread.current_default_thread_limiter().total_tokens = self._settings.max_concurrency
        servers = Servers(self._sites())
        serving = asyncio.create_task(servers.run())
        beating = asyncio.create_task(self._beat(servers))
        await _first(serving, beating, asyncio.create_task(told_to_stop.wait()))
        failed = not told_to_stop.is_set()
        if failed:
            self._why = "failure"
            logger.error("a part of the service ended by itself", exc_info=_error_of(serving, beating))
        draining = asyncio.create_task(self._drain(servers, serving))
        await _first(draining, asyncio.create_task(told_again.wait()))
        beating.cancel()
        if not draining.done():
            logger.warning("a second signal: requests at work are cut off")
            return FORCED
        await draining
        return int(failed)

    async def _drain(self, servers: Servers, serving: "asyncio.Task[bool]") -> None:
        """Let requests at work finish, then close what is open."""
        self._serving = False
        self._parts.prober.draining = True
        self._notifier.stopping("draining")
        logger.info("%s: no new connections; requests at work get %g s", self._why, self._settings.drain_s)
        servers.stop(self._settings.drain_s)
        if not (await asyncio.gather(serving, return_exceptions=True))[0]:
            logger.warning("requests that took longer than drain_s were cut off")
        closing = threading.Thread(target=self._close, name="close", daemon=True)
        closing.start()
        until = time.monotonic() + CLOSE_S_MAX
        while closing.is_alive() and time.monotonic() < until:
            await asyncio.sleep(_POLL_S)

    def reload(self) -> None:
        """Take over the settings as they are now, where that needs no restart. Malformed ones change nothing."""
        if self._why:
            return  # it stops
        if self._serving:  # else `ready` would follow too early
            self._notifier.reloading()
        self._logs.reopen()
        try:
            new = self._given.settings()
            late = needs_restart(self._settings, new)
            # what others follow from, as allowed_hosts from http_host, is what is served until the next start
            new = self._given.settings(**{key: getattr(self._settings, key) for key in late})
            keys = self._parts.keys_for(new)
            if self._tls is not None and new.tls_cert_file:
                load_certificate(self._tls, new.tls_cert_file, new.tls_key_file)
        except Exception as error:  # noqa: BLE001  whatever it is, systemd waits for `ready`
            logger.error("the settings stay as they were: %s", error)
        else:
            if bool(new.tls_cert_file) != (self._tls is not None):
                late = (*late, "tls_cert_file")
            self._settings = new
            self._parts.take_over(new, keys)
            self._logs.set_level(new.log_level)
            logger.info("settings, keys and certificates were read anew")
            if late:
                logger.warning("changed, and taken over at the next start alone: %s", ", ".join(late))
        if self._serving:
            self._notifier.ready(self._standing())

    def _sites(self) -> list[Site]:
        def site(app: object, listening: socket.socket, *, lifespan: bool) -> Site:
            return Site(
                app,
                listening,
                protocol_class(self.settings),
                self._tls,
                lifespan,
                self._settings.header_timeout_s,
            )

        ports = self._parts.ports()
        sites = [site(build_app(self._parts.mcp_app(), ports, self.settings), self._http, lifespan=True)]
        if self._metrics is not None:
            sites.append(site(build_metrics_app(ports, self.settings), self._metrics, lifespan=False))
        return sites

    def _check_start(self) -> tuple[bool, str]:
        if not self._serving:
            return False, "starting" if not self._why else "stopping"
        return self._upkeep.check_views()

    async def _beat(self, servers: Servers) -> None:
        """Tell systemd that it is up, how it stands, and from then on that the loop and the probe turn.

        That it is up says that everything was tried, not that all is well: a start again would not help a full disk, and
        `/ready` keeps requests away.
        """
        from anyio import to_thread

        self._parts.start()
        while not (servers.started and self._upkeep.tried and self._parts.prober.reading is not None):
            await asyncio.sleep(_POLL_S)
            if self._why:  # it stops before it was up
                return
        self._serving = True
        await to_thread.run_sync(self._parts.say_started, address_of(self._http))
        self._notifier.ready(self._standing())
        logger.info("serving %(mcp)s, metrics at %(metrics)s", self.addresses)
        every_s = self._notifier.watchdog_s / 3 if self._notifier.watchdog_s else BEAT_S
        while True:
            if self._parts.prober.is_alive():
                self._notifier.alive(self._standing())
            await asyncio.sleep(every_s)

    def _standing(self) -> str:
        """A line for `systemctl status`."""
        prober = self._parts.prober
        said = prober.ready().checks
        wrong = [f"{name}: {said.get(name, '')}" for name, holds in prober.holds().items() if not holds]
        return f"not ready: {'; '.join(wrong)}" if wrong else "serving"

    def _close(self) -> None:
        self._upkeep.stop()
        self._parts.close(self._why)
        self._app.close()


def _error_of(*tasks: "asyncio.Task[object]") -> BaseException | None:
    return next((task.exception() for task in tasks if task.done() and not task.cancelled()), None)


async def _first(*tasks: "asyncio.Task[object]") -> None:
    """Wait until one of them is done."""
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)

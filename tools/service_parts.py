"""What the service is made of: the parts that stand behind its HTTP app, and the MCP server they guard."""

import logging
from collections.abc import Callable
from typing import Any

from session_mgmt_mcp import __version__
from session_mgmt_mcp.adapters.http.ports import Ports, Ready
from session_mgmt_mcp.core.access import PRINCIPAL, AccessError
from session_mgmt_mcp.core.config import ServiceSettings
from session_mgmt_mcp.core.errors import SessionMgmtError
from session_mgmt_mcp.tools.access_audit import AccessAudit
from session_mgmt_mcp.tools.access_authenticator import KeyAuthenticator
from session_mgmt_mcp.tools.app import App
from session_mgmt_mcp.tools.probing import Check, Prober

logger = logging.getLogger(__name__)


class Parts:
    """The service's parts over an App."""

    def __init__(
        self, app: App, settings: Callable[[], ServiceSettings], checks: dict[str, Check], *, keys: bool
    ) -> None:
        """`checks`: further ones of `/ready`. `keys`: whether some endpoint asks for keys. Raises SettingsError where it does
        and nobody could come in.
        """
        from session_mgmt_mcp.adapters.http.metrics import ServiceMetrics

        self._app = app
        self._settings = settings
        self.audit = AccessAudit.of(app.log)
        self._authenticator = self._keys(settings()) if keys else None
        self.prober = Prober(
            app, settings, checks=checks, synced=lambda seconds: self.metrics.synced(seconds)
        )
        self.metrics: ServiceMetrics = ServiceMetrics(
            lambda: self.prober.reading,
            redactions=lambda: app.redactions,
            ready=self.prober.holds,
            memory_limit_bytes=lambda: self.prober.guard.limit_bytes,
        )

    def ports(self) -> Ports:
        """What the HTTP app needs of them."""
        common = Ports(
            audit=self.audit, metrics=self.metrics, probe=self.prober, admit=self.prober.guard.admit
        )
        return common if self._authenticator is None else common._replace(authenticator=self)

    def authenticate(self, authorization: str | None, address: str) -> Any:
        """See `ports.Authenticator`: the present one's, which a reload replaces."""
        assert self._authenticator is not None
        return self._authenticator.authenticate(authorization, address)

    def ready(self) -> Ready:
        """See `ports.Probe`."""
        return self.prober.ready()

    def mcp_app(self) -> Any:
        """The MCP server as an ASGI app."""
        from session_mgmt_mcp.adapters.mcp.sdk import imported_lazily

        with imported_lazily():
            from mcp.server.transport_security import TransportSecuritySettings

            from session_mgmt_mcp.adapters.mcp.remote import RemoteServer, behind
            from session_mgmt_mcp.adapters.mcp.server import build_server
        from session_mgmt_mcp.tools.guarded_services import GuardedServices
        from session_mgmt_mcp.tools.mcp_services import McpServices

        server = build_server(lambda: GuardedServices(McpServices(self._app)), RemoteServer)
        server.on_denied = self._denied
        checked_before = TransportSecuritySettings(enable_dns_rebinding_protection=False)
        sdk_app = server.streamable_http_app(
            stateless_http=True,
            max_request_body_size=64 << 20,  # `work` bounds it before
            transport_security=checked_before,
        )
        return behind(sdk_app)

    def keys_for(self, new: ServiceSettings) -> KeyAuthenticator | None:
        """What tells keys with these settings. Raises SettingsError; None where no endpoint asks for any."""
        return self._keys(new) if self._authenticator is not None else None

    def take_over(self, new: ServiceSettings, keys: KeyAuthenticator | None) -> None:
        """What may change while the service runs."""
        self._authenticator = keys
        self.prober.guard.limit_bytes = new.max_memory_mb << 20

    def start(self) -> None:
        """Start their threads."""
        self.audit.start()
        self.prober.start()

    def say_started(self, address: str) -> None:
        """Have the log say that the service runs. One that cannot be written keeps nobody from reading."""
        try:
            self.audit.started(__version__, address, self._settings().auth)
        except SessionMgmtError as error:
            logger.warning("the start is not in the log: %s", error)

    def close(self, reason: str) -> None:
        """End them; what was counted is written, and why the service stops."""
        try:
            self.audit.stopped(reason)
        except SessionMgmtError as error:
            logger.warning("the stop is not in the log: %s", error)
        self.audit.close()
        self.prober.stop()

    def _denied(self, error: AccessError, what: str) -> None:
        """A tool, or a session of another's project, was refused to the principal at hand."""
        self.audit.denied(error, "", PRINCIPAL.get(), what)
        self.metrics.denied(error.reason)

    def _keys(self, settings: ServiceSettings) -> KeyAuthenticator:
        keys = KeyAuthenticator(self._app.folder, settings.admin_key_file or None)
        keys.check()
        return keys

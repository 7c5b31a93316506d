"""Authentication: who a request is from, for everything behind this layer."""

from collections.abc import Callable
from typing import Any, Final

from session_mgmt_mcp.adapters.http.ports import Audit, Authenticator
from session_mgmt_mcp.core.access import PRINCIPAL, AccessError
from session_mgmt_mcp.core.config_table import ServiceSettings

_FORWARDED: Final = frozenset([b"forwarded", b"via", b"x-real-ip"])
_X_FORWARDED: Final = b"x-forwarded-"  # -for, -host, -proto: proxies differ in which of them they add


class Authentication:
    """ASGI. Sets `state["principal"]` of the scope and the context variable PRINCIPAL for the app behind."""

    def __init__(
        self, app: Any, authenticator: Authenticator, audit: Audit, settings: Callable[[], ServiceSettings]
    ) -> None:
        self._app = app
        self._authenticator = authenticator
        self._audit = audit
        self._settings = settings

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Raises AccessError where no key, or no valid one, is shown."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        address = scope["client"][0] if scope.get("client") else ""
        principal = self._authenticator.authenticate(_authorization(scope["headers"]), address)
        if principal is None:
            self._check_nearby(scope["headers"])
        else:
            self._audit.authenticated(principal, address)
        scope["state"]["principal"] = principal
        before = PRINCIPAL.set(principal)
        try:
            await self._app(scope, receive, send)
        finally:
            PRINCIPAL.reset(before)

    def _check_nearby(self, headers: Any) -> None:
        """Without keys whoever reaches the loopback address is the owner; a proxy brings others there."""
        if not self._settings().trusted_proxies and any(
            name in _FORWARDED or name.startswith(_X_FORWARDED) for name, _ in headers
        ):
            raise AccessError(
                "a proxy passed this on, and the service asks for no keys; set SESSION_MGMT_AUTH=keys, or name the "
                "proxy in trusted_proxies if it lets nobody else in",
                reason="no_key",
            )


def _authorization(headers: Any) -> str | None:
    """The header's value, None where there is none. Raises AccessError where there are several: which one counts is then a
    matter of taste, and a proxy's may differ from ours.
    """
    found = [value for name, value in headers if name == b"authorization"]
    if len(found) > 1:
        raise AccessError("several Authorization headers; send one", status=401, reason="no_key")
    return found[0].decode("latin-1") if found else None

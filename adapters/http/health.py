"""`/health`, `/ready` and `/metrics`: small, cheap, no Starlette."""

from typing import Any, Final

from anyio import CapacityLimiter, to_thread

from session_mgmt_mcp.adapters.http.answers import send_body, send_complaint, send_json
from session_mgmt_mcp.adapters.http.ports import Metrics, Probe
from session_mgmt_mcp.core.access import METRICS, AccessError

_ALIVE: Final = b'{"status": "alive"}'
_NO_STORE: Final = ((b"cache-control", b"no-store"),)
_READS: Final = ("GET", "HEAD")


async def only_reads(scope: Any, send: Any) -> bool:
    """Whether the method reads; where not, the refusal is sent."""
    if scope["method"] in _READS:
        return True
    message = f"{scope['path']} is read with GET or HEAD, not {scope['method'][:20]}"
    await send_complaint(send, 405, "method_not_allowed", message, ((b"allow", b"GET, HEAD"),))
    return False


class Health:
    """Whether the process lives, and whether requests should come here."""

    def __init__(self, probe: Probe) -> None:
        self._probe = probe

    async def alive(self, scope: Any, send: Any) -> None:
        """200 as long as the event loop turns; touches neither log nor disk."""
        if await only_reads(scope, send):
            await send_body(send, 200, _ALIVE, headers=_NO_STORE, head=scope["method"] == "HEAD")

    async def ready(self, scope: Any, send: Any) -> None:
        """200 or 503, with what each check found."""
        if not await only_reads(scope, send):
            return
        found = self._probe.ready()
        value = {"status": "ready" if found.ok else "not ready", "checks": found.checks}
        head = scope["method"] == "HEAD"
        await send_json(send, 200 if found.ok else 503, value, headers=_NO_STORE, head=head)


class MetricsPage:
    """ASGI. What Prometheus scrapes; a principal needs the scope `metrics`."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._threads = CapacityLimiter(
            1
        )  # of its own: tools may use up all others, which is when it is looked at

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        principal = scope["state"].get("principal")
        if principal is not None and METRICS not in principal.tools:
            raise AccessError(
                f"the key of {principal.name} does not cover metrics; use one made with the scope `{METRICS}`"
            )
        if await only_reads(scope, send):
            body, content_type = await to_thread.run_sync(self._metrics.render, limiter=self._threads)
            await send_body(send, 200, body, content_type.encode(), _NO_STORE, head=scope["method"] == "HEAD")

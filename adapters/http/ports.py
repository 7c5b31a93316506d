"""What the HTTP app asks of the rest. `tools.service` brings the real ones; the classes here stand in where there are none.

Every method but `Authenticator.authenticate` is called for each request from the event loop: cheap, never raising, never
blocking.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    from session_mgmt_mcp.core.access import AccessError, Principal

GONE: Final = "gone"
"""The outcome of a request whose client went away before its answer was whole."""


class Ready(NamedTuple):
    """Whether requests should come here, and why: check -> "ok" or a sentence that says what is wrong, for people."""

    ok: bool
    checks: dict[str, str]


class Call:
    """What the app behind notes of the request at hand, in the scope's `state["call"]`."""

    __slots__ = ("outcome", "tool")

    def __init__(self) -> None:
        self.tool = ""
        """Of a tools/call that was served."""
        self.outcome = ""
        """ok, error, denied, failed or GONE, where the answer's status alone does not tell; in the end that of the whole request."""


class Authenticator(Protocol):
    """Tells who asks."""

    def authenticate(self, authorization: str | None, address: str) -> "Principal | None":
        """The principal of an Authorization header's value, from a client's address ("" where it has none).

        None: the owner of the data folder, who may do everything; only where the service asks for no keys. Raises
        AccessError. Runs in the event loop: looks at memory, and at a file's time of change at most.
        """


class Audit(Protocol):
    """Keeps who came in and who was turned away."""

    def authenticated(self, principal: "Principal", address: str) -> None: ...

    def denied(self, error: "AccessError", address: str, principal: "Principal | None", what: str) -> None:
        """`what`: the endpoint, or the tool, that was asked for."""


class Metrics(Protocol):
    """Counts requests. `endpoint`: mcp, health, ready, metrics, other; `tool`: of a tools/call, else ""."""

    def observe(self, endpoint: str, tool: str, outcome: str, seconds: float) -> None:
        """A request that is over. `outcome`: ok, error (the tool's or the protocol's), denied, failed (ours), gone (the client
        went away before it was answered).
        """

    def denied(self, reason: str) -> None:
        """A request that was turned away; `reason`: that of the AccessError."""

    def in_flight(self, change: int) -> None:
        """+1: a request to `/mcp` came in; -1: it was answered."""

    def render(self) -> tuple[bytes, str]:
        """What `/metrics` answers: the text and its content type. Called in a worker thread; may take a while."""


class Probe(Protocol):
    """Says how the service is doing, from what a background thread found last."""

    def ready(self) -> Ready: ...


class Everyone:
    """An Authenticator that takes everybody for the data folder's owner: on the loopback address alone."""

    def authenticate(self, authorization: str | None, address: str) -> "Principal | None":
        return None


class NoAudit:
    """An Audit that keeps nothing."""

    def authenticated(self, principal: "Principal", address: str) -> None:
        return None

    def denied(self, error: "AccessError", address: str, principal: "Principal | None", what: str) -> None:
        return None


class NoMetrics:
    """Metrics that count nothing."""

    def observe(self, endpoint: str, tool: str, outcome: str, seconds: float) -> None:
        return None

    def denied(self, reason: str) -> None:
        return None

    def in_flight(self, change: int) -> None:
        return None

    def render(self) -> tuple[bytes, str]:
        return b"", "text/plain; version=0.0.4; charset=utf-8"


class AlwaysReady:
    """A Probe of a service that has nothing to wait for."""

    def ready(self) -> Ready:
        return Ready(True, {})


def _admit_all() -> None:
    return None


class Ports(NamedTuple):
    """Everything the HTTP app needs from outside."""

    authenticator: Authenticator = Everyone()
    """Asked where the settings want keys."""
    audit: Audit = NoAudit()
    metrics: Metrics = NoMetrics()
    probe: Probe = AlwaysReady()
    admit: Callable[[], None] = _admit_all
    """Raises AccessError (503) while there is no room for more work at /mcp."""

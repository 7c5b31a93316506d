"""Which request over HTTP the code at hand works for: what every line of the service's log names."""

from contextvars import ContextVar
from typing import NamedTuple


class Request(NamedTuple):
    """A request, as its first byte came in."""

    request_id: str
    address: str  # the client's, "" where it has none


REQUEST: ContextVar[Request | None] = ContextVar("session_mgmt_request", default=None)

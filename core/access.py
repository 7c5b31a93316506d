"""Who asks: the principal of a request, what its role may call, and the refusal that says why.

A request over HTTP is made by a **principal**, found from its key; a command, a hook or a stdio server is run by the
owner of the data folder, who may do everything: PRINCIPAL is None there. The names of tools are those of the MCP
tools; `metrics` is the scope of a key that only scrapes.
"""

from contextvars import ContextVar
from enum import StrEnum
from typing import Final, NamedTuple

from session_mgmt_mcp.core.errors import SessionMgmtError


class Role(StrEnum):
    """What a key is for; each role may call what the ones before it may."""

    READER = "reader"
    WRITER = "writer"
    ADMIN = "admin"


READER_TOOLS: Final = frozenset({"search", "timeline", "status", "start", "audit"})
WRITER_TOOLS: Final = READER_TOOLS | {"remember", "checkpoint", "end", "permissions"}
ADMIN_TOOLS: Final = WRITER_TOOLS | {"forget"}
METRICS: Final = "metrics"
_ROLE_TOOLS: Final = {Role.READER: READER_TOOLS, Role.WRITER: WRITER_TOOLS, Role.ADMIN: ADMIN_TOOLS}


class Principal(NamedTuple):
    """Whoever a key stands for, as the request is served."""

    name: str
    """The user; what is written carries it as the actor."""
    role: Role
    key_id: str
    """Which of the user's keys was shown; never the secret."""
    tools: frozenset[str]
    """The tools (and `metrics`) this key may call: those of the role, narrowed by the key's scopes."""
    projects: tuple[str, ...] | None
    """Absolute folders whose rows are seen, with what lies below them; None: all projects."""


class AccessError(SessionMgmtError):
    """A request is refused: `status` is HTTP's (401, 403, 429, 503, …), `reason` a short word for audit and metrics.

    Reasons: no_key, unknown_key, expired, revoked, guessing, role, project, rate, host, origin, body, busy, settings.
    """

    kind = "access"
    exit_code = 2

    def __init__(
        self, message: str, *, status: int = 403, reason: str = "role", retry_after_s: int | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.retry_after_s = retry_after_s
        """How long to wait before asking again, where waiting helps."""


PRINCIPAL: Final[ContextVar[Principal | None]] = ContextVar("session_mgmt_principal", default=None)
"""Who the present request is made by. None: the owner of the data folder, at the machine itself."""


def tools_of(
    role: Role, scopes: tuple[str, ...] = (), projects: tuple[str, ...] | None = None
) -> frozenset[str]:
    """The tools a key of `role` may call. Scopes narrow the role, never widen it; none: all of the role's.

    `metrics` has to be named, or the role be admin of all projects: what is scraped counts everybody's work.
    """
    allowed = _ROLE_TOOLS[role]
    if not scopes:
        return allowed | {METRICS} if role is Role.ADMIN and projects is None else allowed
    return frozenset(scopes) & (allowed | {METRICS})


def refusal(principal: Principal, tool: str) -> AccessError:
    """Why this principal may not call a tool, and the mend."""
    needed = next((role for role, tools in _ROLE_TOOLS.items() if tool in tools), Role.ADMIN)
    if tool in _ROLE_TOOLS[principal.role]:
        why = f"this key of {principal.name} does not cover it; ask for one with the scope {tool}"
    else:
        why = f"{principal.name} has the role {principal.role.value}; it takes {needed.value}"
    return AccessError(f"{tool} is not allowed: {why}")

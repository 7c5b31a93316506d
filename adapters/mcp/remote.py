"""The server for clients that come over the network: it takes their word for less, and notes which tool a request called."""

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, Protocol

from mcp.server.mcpserver.context import Context
from mcp.server.mcpserver.exceptions import UnexpectedToolError
from mcp_types import CallToolResult, InputRequiredResult

from session_mgmt_mcp.adapters.mcp.caller import CALLER, REQUEST_KEY, Caller
from session_mgmt_mcp.adapters.mcp.server import SessionMgmtServer
from session_mgmt_mcp.core.access import AccessError

UNKNOWN = "unknown"  # the tool that is noted of a call of none there is
NOBODY = Caller(0, "")  # a remote client has no process and no working folder here


class Note(Protocol):
    """Where it is noted what a request turned out to be; `adapters.http.ports.Call` is one."""

    tool: str
    outcome: str


_NOTE: ContextVar[Note | None] = ContextVar("session_mgmt_note", default=None)


class RemoteServer(SessionMgmtServer):
    """A client's own request keys count for nothing: they could name another's request."""

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[Any, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        """As the server's, noted."""
        meta: Any = context.request_context.meta if context is not None else None
        if meta:
            meta.pop(REQUEST_KEY, None)
        note = _NOTE.get()
        if note is None:
            return await super().call_tool(name, arguments, context)
        known = {tool.name for tool in self._tool_manager.list_tools()}
        # what a client makes up is of any length, and may be a secret: it goes to the log
        note.tool, note.outcome = name if name in known else UNKNOWN, "failed"
        try:
            answer = await super().call_tool(name, arguments, context)
        except Exception as error:
            note.outcome = _outcome(error)
            raise
        note.outcome = "error" if isinstance(answer, CallToolResult) and answer.is_error else "ok"
        return answer


def _outcome(error: Exception) -> str:
    if isinstance(error, AccessError) or isinstance(error.__cause__, AccessError):
        return "denied"
    return "failed" if isinstance(error, UnexpectedToolError) else "error"


def behind(app: Callable[[Any, Any, Any], Awaitable[None]]) -> Callable[[Any, Any, Any], Awaitable[None]]:
    """The SDK's ASGI app, whose tools find nobody's working folder, and note what they are in the scope's `state["call"]`."""

    async def called(scope: Any, receive: Any, send: Any) -> None:
        CALLER.set(NOBODY)
        _NOTE.set(scope.get("state", {}).get("call"))
        await app(scope, receive, send)

    return called

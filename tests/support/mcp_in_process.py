"""The assembled server called without a process or a wire: what tests need who care for the answers alone."""

import re
from functools import cache
from typing import Any, cast

import anyio
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import CallToolResult, TextContent

from session_mgmt_mcp.adapters.mcp.caller import CALLER, REQUEST, REQUEST_KEY, Caller
from session_mgmt_mcp.adapters.mcp.server import SessionMgmtServer, build_server
from session_mgmt_mcp.adapters.mcp.services import Services

FENCE = re.compile(r"<(recorded-[0-9a-f]{12})>\n(.*)\n</\1>", re.DOTALL)


class InProcess:
    """Calls tools as a client of a process in a folder would. `folder` and `pid` may be changed between calls."""

    def __init__(self, services: Services, folder: str = "/shop", pid: int = 1) -> None:
        self.services = services
        self.server = _server()
        self.caller = Caller(pid, folder)

    def call(self, tool: str, /, **arguments: Any) -> str:
        """A tool's answer, which must be none of an error."""
        text, failed = self.ask(tool, **arguments)
        assert not failed, text
        return text

    def ask(self, tool: str, /, request: str | None = None, **arguments: Any) -> tuple[str, bool]:
        """A tool's text and whether it is an error. `request`: the key of a request that may be sent again."""

        async def run() -> tuple[str, bool]:
            _Current.services = self.services
            CALLER.set(self.caller)
            REQUEST.set(request)
            try:
                answer = await self.server.call_tool(tool, arguments, _Context(request))  # type: ignore[arg-type]
            except ToolError as error:
                return str(error), True
            assert isinstance(answer, CallToolResult)
            (block,) = answer.content
            assert isinstance(block, TextContent)
            return block.text, bool(answer.is_error)

        return anyio.run(run)


class _Current:
    """The services of the client that calls: the server is built once for all of them."""

    services: Services

    def __getattr__(self, name: str) -> Any:
        return getattr(self.services, name)


@cache
def _server() -> SessionMgmtServer:
    return build_server(cast(Any, _Current))


class _Context:
    """As much of the SDK's as the server looks at."""

    def __init__(self, request: str | None) -> None:
        self.request_context = self
        self.meta = {REQUEST_KEY: request} if request else {}


def parted(text: str) -> tuple[str, str]:
    """What is inside the only fence of an answer, and what is outside."""
    found = FENCE.search(text)
    assert found, text
    outside = text[: found.start()] + text[found.end() :]
    assert "recorded-" not in outside
    return found[2], outside

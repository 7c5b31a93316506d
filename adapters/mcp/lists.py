"""What the SDK's server offers: tools, prompts, resources, completions."""

from collections.abc import Callable, Sequence
from typing import Any

from anyio import to_thread
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.prompts import Prompt
from mcp.server.mcpserver.tools import Tool
from mcp_types import (
    Completion,
    CompletionArgument,
    CompletionContext,
    PromptReference,
    ResourceTemplateReference,
    ToolAnnotations,
)

from session_mgmt_mcp.adapters.mcp.caller import caller
from session_mgmt_mcp.adapters.mcp.lazy import LazyServices
from session_mgmt_mcp.adapters.mcp.prompts import Prompts
from session_mgmt_mcp.adapters.mcp.resources import Resources
from session_mgmt_mcp.adapters.mcp.tools import slim, table
from session_mgmt_mcp.core.errors import SessionMgmtError

VALUE_CHARS_MAX = 256
_COMPLETED = {"session": "session", "id": "session", "project": "project"}  # argument -> what its values are


def tools_of(services: LazyServices) -> list[Tool]:
    """The ten tools; their answers are text alone."""
    return [_tool(*row) for row in table(services)]


def _tool(function: Callable[..., str], title: str, description: str, annotations: ToolAnnotations) -> Tool:
    tool = Tool.from_function(
        function,
        title=title,
        description=description,
        annotations=annotations,
        structured_output=False,
    )
    tool.parameters = slim(tool.parameters)
    return tool


def add_prompts(server: MCPServer[Any], services: LazyServices) -> None:
    """What a user asks for by name."""
    for function, title, description in Prompts(services).table():
        server.add_prompt(Prompt.from_function(function, title=title, description=description))


def add_resources(server: MCPServer[Any], services: LazyServices) -> None:
    """Sessions and handoffs."""
    for row in Resources(services).table():
        server.resource(
            row.uri, name=row.name, title=row.title, description=row.description, mime_type=row.mime_type
        )(row.function)


def add_completions(server: MCPServer[Any], services: LazyServices) -> None:
    """Of session ids and projects; where there is nothing to complete, no values."""

    async def complete(
        ref: PromptReference | ResourceTemplateReference,
        argument: CompletionArgument,
        context: CompletionContext | None,
    ) -> Completion:
        what = _COMPLETED.get(argument.name)
        if what is None or len(argument.value) > VALUE_CHARS_MAX:
            return _completion(())
        here = caller()
        try:
            found = await to_thread.run_sync(lambda: services.get().complete(here, what, argument.value))
        except SessionMgmtError:
            return _completion(())
        return _completion(found)

    server.completion()(complete)  # type: ignore[no-untyped-call]


def _completion(values: Sequence[str]) -> Completion:
    return Completion(values=list(values), total=len(values), has_more=False)

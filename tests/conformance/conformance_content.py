"""What the official conformance suite expects of a server under test, part one: contents, notifications, resources, prompts.

Names and texts are the suite's; they say nothing of this program. Registered on the real server by `conformance_server`.
"""

import base64
import json
import warnings
from typing import Annotated, Any

import anyio
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.context import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.prompts.base import UserMessage
from mcp_types import (
    AudioContent,
    EmbeddedResource,
    EmptyResult,
    ImageContent,
    SetLevelRequestParams,
    SubscribeRequestParams,
    TextContent,
    TextResourceContents,
    UnsubscribeRequestParams,
)
from pydantic import Field

# One pixel, and one sample.
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg=="
WAV = "UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAAB9AAACABAAZGF0YQIAAAA="
WHAT = "A fixture of the conformance suite."
PAUSE_S = 0.05  # between two notifications, as the suite asks for
SCHEMA_2020_12: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}


def add_content(server: MCPServer[Any]) -> None:
    """Register the tools, resources and prompts that only answer."""
    _add_tools(server)
    _add_notifying_tools(server)
    _add_resources(server)
    _add_prompts(server)
    _add_requests(server)


def _image() -> ImageContent:
    return ImageContent(type="image", data=PNG, mime_type="image/png")


def _embedded(uri: str, kind: str, text: str) -> EmbeddedResource:
    return EmbeddedResource(
        type="resource", resource=TextResourceContents(uri=uri, mime_type=kind, text=text)
    )


def _add_tools(server: MCPServer[Any]) -> None:
    @server.tool(description=WHAT, structured_output=False)
    def test_simple_text() -> str:
        return "This is a simple text response for testing."

    @server.tool(description=WHAT, structured_output=False)
    def test_image_content() -> list[Any]:
        return [_image()]

    @server.tool(description=WHAT, structured_output=False)
    def test_audio_content() -> list[Any]:
        return [AudioContent(type="audio", data=WAV, mime_type="audio/wav")]

    @server.tool(description=WHAT, structured_output=False)
    def test_embedded_resource() -> list[Any]:
        return [_embedded("test://embedded-resource", "text/plain", "This is an embedded resource content.")]

    @server.tool(description=WHAT, structured_output=False)
    def test_multiple_content_types() -> list[Any]:
        return [
            TextContent(type="text", text="Multiple content types test:"),
            _image(),
            _embedded("test://mixed-content-resource", "application/json", '{"test": "data", "value": 123}'),
        ]

    @server.tool(description=WHAT, structured_output=False)
    def test_error_handling() -> str:
        raise ToolError("This tool intentionally returns an error for testing")

    @server.tool(description=WHAT, structured_output=False)
    def test_custom_headers(
        region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})],
    ) -> str:
        return region

    @server.tool(description=WHAT, structured_output=False)
    def json_schema_2020_12_tool() -> str:
        return "ok"

    server._tool_manager._tools["json_schema_2020_12_tool"].parameters = SCHEMA_2020_12


def _add_notifying_tools(server: MCPServer[Any]) -> None:
    async def log(ctx: Context[Any, Any], text: str) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecated as of 2026-07-28, still asked for by 2025-11-25
            await ctx.info(text)

    @server.tool(description=WHAT, structured_output=False)
    async def test_tool_with_logging(ctx: Context[Any, Any]) -> str:
        for text in ("Tool execution started", "Tool processing data", "Tool execution completed"):
            await log(ctx, text)
            await anyio.sleep(PAUSE_S)
        return "Tool with logging executed successfully"

    @server.tool(description=WHAT, structured_output=False)
    async def test_logging_tool(ctx: Context[Any, Any]) -> str:
        await log(ctx, "only for who asked for a level")
        return "done"

    @server.tool(description=WHAT, structured_output=False)
    async def test_tool_with_progress(ctx: Context[Any, Any]) -> str:
        for step in (0, 50, 100):
            await ctx.report_progress(progress=step, total=100, message=f"Completed step {step} of 100")
            await anyio.sleep(PAUSE_S)
        return "done"

    @server.tool(description=WHAT, structured_output=False)
    async def test_reconnection(ctx: Context[Any, Any]) -> str:
        await ctx.close_sse_stream()
        await anyio.sleep(4 * PAUSE_S)
        return "Reconnection test completed"


def _add_resources(server: MCPServer[Any]) -> None:
    @server.resource("test://static-text", mime_type="text/plain")
    def static_text() -> str:
        return "This is the content of the static text resource."

    @server.resource("test://static-binary", mime_type="image/png")
    def static_binary() -> bytes:
        return base64.b64decode(PNG)

    @server.resource("test://watched-resource", mime_type="text/plain")
    def watched() -> str:
        return "Watched resource content"

    @server.resource("test://template/{id}/data", mime_type="application/json")
    def template(id: str) -> str:
        return json.dumps({"id": id, "templateTest": True, "data": f"Data for ID: {id}"})


def _add_prompts(server: MCPServer[Any]) -> None:
    @server.prompt(description=WHAT)
    def test_simple_prompt() -> list[Any]:
        return [UserMessage("This is a simple prompt for testing.")]

    @server.prompt(description=WHAT)
    def test_prompt_with_arguments(arg1: str, arg2: str) -> list[Any]:
        return [UserMessage(f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'")]

    @server.prompt(description=WHAT)
    def test_prompt_with_embedded_resource(resourceUri: str) -> list[Any]:
        return [
            UserMessage(_embedded(resourceUri, "text/plain", "Embedded resource content for testing.")),
            UserMessage("Please process the embedded resource above."),
        ]

    @server.prompt(description=WHAT)
    def test_prompt_with_image() -> list[Any]:
        return [UserMessage(_image()), UserMessage("Please analyze the image above.")]


def _add_requests(server: MCPServer[Any]) -> None:
    """What the product does not offer, since nothing of it changes or logs to the client."""

    async def accept(*_: object) -> EmptyResult:
        return EmptyResult()

    lowlevel = server._lowlevel_server
    lowlevel.add_request_handler("logging/setLevel", SetLevelRequestParams, accept)
    lowlevel.add_request_handler("resources/subscribe", SubscribeRequestParams, accept)
    lowlevel.add_request_handler("resources/unsubscribe", UnsubscribeRequestParams, accept)

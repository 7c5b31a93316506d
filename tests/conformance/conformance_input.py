"""What the official conformance suite expects of a server under test, part two: asking the client for input.

Until 2025-11-25 a server sends requests of its own; from 2026-07-28 on a call answers with what it still needs.
"""

from collections.abc import Callable
from typing import Any

from conformance_content import WHAT
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.context import Context
from mcp.server.mcpserver.prompts.base import UserMessage
from mcp.shared.exceptions import MCPError
from mcp_types import (
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    CallToolResult,
    CreateMessageRequest,
    CreateMessageRequestParams,
    CreateMessageResult,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    InputRequiredResult,
    ListRootsRequest,
    ListRootsResult,
    SamplingMessage,
    TextContent,
)
from pydantic import BaseModel, Field

Ctx = Context[Any, Any]
NAME = {"name": {"type": "string"}}


def add_input(server: MCPServer[Any]) -> None:
    """Register the tools and the prompt that ask."""
    _add_requesting_tools(server)
    _add_elicitation_schemas(server)
    _add_rounds(server)
    _add_capability_tools(server)


# -- requests of the server's own


def _add_requesting_tools(server: MCPServer[Any]) -> None:
    @server.tool(description=WHAT, structured_output=False)
    async def test_sampling(prompt: str, ctx: Ctx) -> str:
        message = SamplingMessage(role="user", content=TextContent(type="text", text=prompt))
        answer = await ctx.session.create_message(
            messages=[message], max_tokens=100, related_request_id=ctx.request_id
        )
        return f"LLM response: {_text_of(answer)}"

    @server.tool(description=WHAT, structured_output=False)
    async def test_elicitation(message: str, ctx: Ctx) -> str:
        schema = {
            "type": "object",
            "properties": {
                "username": {"type": "string", "description": "User's response"},
                "email": {"type": "string", "description": "User's email address"},
            },
            "required": ["username", "email"],
        }
        answer = await ctx.session.elicit_form(message, schema, related_request_id=ctx.request_id)
        return f"User response: action={answer.action}, content={answer.content}"


class Defaults(BaseModel):
    """A default of each primitive type (SEP-1034)."""

    name: str = Field(default="John Doe", description="User name")
    age: int = Field(default=30, description="User age")
    score: float = Field(default=95.5, description="User score")
    status: str = Field(
        default="active",
        description="User status",
        json_schema_extra={"enum": ["active", "inactive", "pending"]},
    )
    verified: bool = Field(default=True, description="Verification status")


def _titled(*names: str) -> list[dict[str, str]]:
    return [{"const": name, "title": name.title()} for name in names]


ENUMS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "untitledSingle": {"type": "string", "enum": ["option1", "option2", "option3"]},
        "titledSingle": {"type": "string", "oneOf": _titled("value1", "value2", "value3")},
        "legacyEnum": {
            "type": "string",
            "enum": ["opt1", "opt2", "opt3"],
            "enumNames": ["Option One", "Option Two", "Option Three"],
        },
        "untitledMulti": {
            "type": "array",
            "items": {"type": "string", "enum": ["option1", "option2", "option3"]},
        },
        "titledMulti": {"type": "array", "items": {"anyOf": _titled("value1", "value2", "value3")}},
    },
}


def _add_elicitation_schemas(server: MCPServer[Any]) -> None:
    @server.tool(description=WHAT, structured_output=False)
    async def test_elicitation_sep1034_defaults(ctx: Ctx) -> str:
        answer = await ctx.elicit("Please provide user information", Defaults)
        content = answer.data.model_dump_json() if answer.action == "accept" else "{}"
        return f"Elicitation completed: action={answer.action}, content={content}"

    @server.tool(description=WHAT, structured_output=False)
    async def test_elicitation_sep1330_enums(ctx: Ctx) -> str:
        answer = await ctx.session.elicit_form(
            "Please select values", ENUMS, related_request_id=ctx.request_id
        )
        return f"Elicitation completed: action={answer.action}, content={answer.content}"


# -- rounds of one request


def _elicit(message: str, properties: dict[str, Any]) -> ElicitRequest:
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=schema))


def _sample(text: str, tokens: int) -> CreateMessageRequest:
    message = SamplingMessage(role="user", content=TextContent(type="text", text=text))
    return CreateMessageRequest(params=CreateMessageRequestParams(messages=[message], max_tokens=tokens))


def _given(ctx: Ctx, key: str, field: str) -> Any:
    """What the user filled in, None where the answer is missing or not of the asked form."""
    answer = (ctx.input_responses or {}).get(key)
    if not isinstance(answer, ElicitResult) or answer.action != "accept":
        return None
    return (answer.content or {}).get(field)


def _text_of(answer: object) -> str | None:
    if not isinstance(answer, CreateMessageResult):
        return None
    block = answer.content[0] if isinstance(answer.content, list) else answer.content
    return block.text if isinstance(block, TextContent) else ""


def _said(text: str) -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text=text)])


Answer = CallToolResult | InputRequiredResult


def _add_rounds(server: MCPServer[Any]) -> None:
    def tool(function: Callable[..., Any]) -> None:
        server.tool(description=WHAT, structured_output=False)(function)

    @tool
    async def test_input_required_result_elicitation(ctx: Ctx) -> Answer:
        name = _given(ctx, "user_name", "name")
        if not isinstance(name, str):
            return InputRequiredResult(input_requests={"user_name": _elicit("What is your name?", NAME)})
        return _said(f"Hello, {name}!")

    @tool
    async def test_input_required_result_sampling(ctx: Ctx) -> Answer:
        text = _text_of((ctx.input_responses or {}).get("capital_question"))
        if text is None:
            question = _sample("What is the capital of France?", 100)
            return InputRequiredResult(input_requests={"capital_question": question})
        return _said(text)

    @tool
    async def test_input_required_result_list_roots(ctx: Ctx) -> Answer:
        roots = (ctx.input_responses or {}).get("client_roots")
        if not isinstance(roots, ListRootsResult):
            return InputRequiredResult(input_requests={"client_roots": ListRootsRequest()})
        return _said(", ".join(str(root.uri) for root in roots.roots))

    @tool
    async def test_input_required_result_request_state(ctx: Ctx) -> Answer:
        if _given(ctx, "confirm", "ok") is None or ctx.request_state != "asked":
            confirm = _elicit("Please confirm", {"ok": {"type": "boolean"}})
            return InputRequiredResult(input_requests={"confirm": confirm}, request_state="asked")
        return _said("state-ok")

    @tool
    async def test_input_required_result_tampered_state(ctx: Ctx) -> Answer:
        # The framework seals the state and refuses one that was changed before this runs.
        if ctx.request_state is None:
            confirm = _elicit("Please confirm", {"ok": {"type": "boolean"}})
            return InputRequiredResult(input_requests={"confirm": confirm}, request_state="sealed")
        return _said("state-ok")

    @tool
    async def test_input_required_result_multiple_inputs(ctx: Ctx) -> Answer:
        answers = ctx.input_responses or {}
        name, greeting = _given(ctx, "user_name", "name"), _text_of(answers.get("greeting"))
        roots = answers.get("client_roots")
        if name is None or greeting is None or not isinstance(roots, ListRootsResult):
            return InputRequiredResult(
                input_requests={
                    "user_name": _elicit("What is your name?", NAME),
                    "greeting": _sample("Generate a greeting", 50),
                    "client_roots": ListRootsRequest(),
                },
                request_state="three",
            )
        return _said(f"{greeting} {name}, {len(roots.roots)} roots")

    @tool
    async def test_input_required_result_multi_round(ctx: Ctx) -> Answer:
        name, color = _given(ctx, "step1", "name"), _given(ctx, "step2", "color")
        if color is not None and ctx.request_state is not None:
            return _said(f"{ctx.request_state} likes {color}")
        if name is not None:
            step = _elicit("Step 2: What is your favorite color?", {"color": {"type": "string"}})
            return InputRequiredResult(input_requests={"step2": step}, request_state=str(name))
        step = _elicit("Step 1: What is your name?", NAME)
        return InputRequiredResult(input_requests={"step1": step}, request_state="one")

    @server.prompt(description=WHAT)
    async def test_input_required_result_prompt(ctx: Ctx) -> Any:
        context = _given(ctx, "user_context", "context")
        if context is None:
            asked = _elicit("What context should the prompt use?", {"context": {"type": "string"}})
            return InputRequiredResult(input_requests={"user_context": asked})
        return [UserMessage(f"Use this context: {context}")]


# -- what the client can do


def _add_capability_tools(server: MCPServer[Any]) -> None:
    @server.tool(description=WHAT, structured_output=False)
    async def test_input_required_result_capabilities(ctx: Ctx) -> Answer:
        able = ctx.client_capabilities
        asked: dict[str, Any] = {}
        if able is not None and able.sampling is not None:
            asked["capital"] = _sample("What is the capital of France?", 100)
        if able is not None and able.elicitation is not None:
            asked["name"] = _elicit("What is your name?", NAME)
        if able is not None and able.roots is not None:
            asked["roots"] = ListRootsRequest()
        if not asked or set(asked) <= set(ctx.input_responses or {}):
            return _said("done")
        return InputRequiredResult(input_requests=asked)

    @server.tool(description=WHAT, structured_output=False)
    async def test_missing_capability(ctx: Ctx) -> str:
        able = ctx.client_capabilities
        if able is None or able.sampling is None:
            raise MCPError(
                code=MISSING_REQUIRED_CLIENT_CAPABILITY,
                message="sampling is required",
                data={"requiredCapabilities": {"sampling": {}}},
            )
        return "done"

    @server.tool(description=WHAT, structured_output=False)
    async def test_streaming_elicitation(ctx: Ctx) -> Answer:
        await ctx.report_progress(progress=1, total=2)
        if _given(ctx, "user_name", "name") is None:
            return InputRequiredResult(input_requests={"user_name": _elicit("What is your name?", NAME)})
        return _said("done")

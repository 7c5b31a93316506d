"""Calls every tool through a Python client. Runs in that client's own environment.

usage: python_client.py fastmcp|langchain-mcp-adapters WORK.json
WORK.json: {"command": [...], "env": {...}, "calls": {tool: arguments}}. The last line printed is the answer, as JSON.
"""

import asyncio
import json
import sys
from typing import Any


async def fastmcp(work: dict[str, Any]) -> dict[str, Any]:
    """fastmcp's client, which speaks the newest revision."""
    from fastmcp import Client
    from fastmcp.client.transports import StdioTransport

    command, *arguments = work["command"]
    transport = StdioTransport(command, arguments, env=work["env"])
    calls = {}
    async with Client(transport) as client:
        tools = [tool.name for tool in await client.list_tools()]
        for name, given in work["calls"].items():
            answer = await client.call_tool(name, given, raise_on_error=False)
            calls[name] = {"error": answer.is_error, "text": str(answer.content)}
    return {"tools": tools, "calls": calls}


async def langchain(work: dict[str, Any]) -> dict[str, Any]:
    """LangChain's adapter on an SDK of the first generation."""
    from langchain_mcp_adapters.client import MultiServerMCPClient
    from langchain_mcp_adapters.tools import load_mcp_tools

    command, *arguments = work["command"]
    connection = {"command": command, "args": arguments, "transport": "stdio", "env": work["env"]}
    client = MultiServerMCPClient({"history": connection})
    calls = {}
    async with client.session("history") as session:
        tools = {tool.name: tool for tool in await load_mcp_tools(session)}
        for name, given in work["calls"].items():
            try:
                calls[name] = {"error": False, "text": str(await tools[name].ainvoke(given))}
            except Exception as error:  # noqa: BLE001  # whatever the client makes of it
                calls[name] = {"error": True, "text": str(error)}
    return {"tools": sorted(tools), "calls": calls}


if __name__ == "__main__":
    with open(sys.argv[2], encoding="utf-8") as file:
        given = json.load(file)
    play = {"fastmcp": fastmcp, "langchain-mcp-adapters": langchain}[sys.argv[1]]
    print(json.dumps(asyncio.run(play(given))))

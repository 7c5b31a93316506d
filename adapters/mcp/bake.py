"""Make `surface.json` from the server itself: `python -m session_mgmt_mcp.adapters.mcp.bake`.

To be run whenever tools, prompts, resources, instructions or the version change; a test compares the file with what the
server answers. With `--check` nothing is written and the exit code says whether it is up to date.
"""

import json
import os
import sys
from typing import Any

from session_mgmt_mcp import __version__
from session_mgmt_mcp.adapters.mcp.sdk import imported_lazily
from session_mgmt_mcp.adapters.mcp.surface import (
    ENVELOPE_REVISION,
    FILE,
    HANDSHAKE_REVISIONS,
    METHODS,
    params_of,
)

CLIENT = {"name": "bake", "version": "1"}


def bake() -> dict[str, Any]:
    """What the file holds. Raises ValueError where the revisions with a handshake differ in more than their name."""
    answers = [_handshake_answers(revision) for revision in HANDSHAKE_REVISIONS]
    if any(other != answers[0] for other in answers):
        raise ValueError(
            "the answers differ between revisions with a handshake; keep them apart in the surface"
        )
    return {"version": __version__, "handshake": answers[0], "envelope": _envelope_answers()}


def _handshake_answers(revision: str) -> dict[str, Any]:
    wanted = {"protocolVersion": revision, "capabilities": {}, "clientInfo": CLIENT}
    requests = [("initialize", wanted), *((method, params_of(method)) for method in METHODS)]
    answers = ask(requests)
    hello = answers["initialize"]["result"]
    if hello["protocolVersion"] != revision:
        raise ValueError(f"the server does not speak {revision}")
    hello["protocolVersion"] = ""  # filled in with the one agreed on
    return answers


def _envelope_answers() -> dict[str, Any]:
    meta = {
        "io.modelcontextprotocol/protocolVersion": ENVELOPE_REVISION,
        "io.modelcontextprotocol/clientInfo": CLIENT,
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    methods = ("server/discover", *METHODS)
    return ask([(method, {**params_of(method), "_meta": meta}) for method in methods])


def ask(requests: list[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    """Each request's answer from a server with the real tools, without `jsonrpc` and `id`; nothing is opened."""
    with imported_lazily():
        import anyio
        from mcp.shared.message import SessionMessage
        from mcp_types import JSONRPCRequest

        from session_mgmt_mcp.adapters.mcp.server import build_server

    def no_services() -> Any:
        raise AssertionError("an answer of the surface may need no services")

    async def talk() -> dict[str, Any]:
        answers = {}
        to_server, from_client = anyio.create_memory_object_stream[Any](0)
        to_client, from_server = anyio.create_memory_object_stream[Any](0)
        async with from_server, anyio.create_task_group() as tasks:
            tasks.start_soon(build_server(no_services).serve, from_client, to_client)
            for number, (method, params) in enumerate(requests):
                request = JSONRPCRequest(jsonrpc="2.0", id=number, method=method, params=params)
                await to_server.send(SessionMessage(request))
                answer = (await from_server.receive()).message
                answers[method] = answer.model_dump(
                    by_alias=True, exclude_unset=True, exclude={"jsonrpc", "id"}
                )
            await to_server.aclose()
        return answers

    return anyio.run(talk)


def main(arguments: list[str]) -> int:
    text = json.dumps(bake(), indent=1, ensure_ascii=False) + "\n"
    if arguments == ["--check"]:
        with open(FILE, encoding="utf-8") as stream:
            return int(stream.read() != text)
    temporary = f"{FILE}.tmp"
    with open(temporary, "w", encoding="utf-8") as stream:
        stream.write(text)
    os.replace(temporary, FILE)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""An ASGI app asked in process: one request, in pieces if need be, and what it answers."""

import asyncio
import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from session_mgmt_mcp.adapters.http.limits import Limits
from session_mgmt_mcp.adapters.http.work import Work
from session_mgmt_mcp.core.access import AccessError
from session_mgmt_mcp.core.config_table import ServiceSettings

JSON_POST = (("host", "localhost:8000"), ("content-type", "application/json"))


class Answer(NamedTuple):
    """What came back. `status` 0: nothing did. A refusal that was raised counts as its answer."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    reason: str = ""
    whole: bool = False

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def scope_of(
    method: str = "POST",
    path: str = "/mcp",
    headers: Iterable[tuple[str, str]] = JSON_POST,
    client: tuple[str, int] | None = ("127.0.0.1", 4711),
) -> dict[str, Any]:
    """An HTTP request as uvicorn hands it over."""
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
    return {
        "type": "http",
        "method": method,
        "path": path,
        "headers": raw,
        "client": client,
        "state": {},
        "query_string": b"",
    }


async def ask(
    app: Any, scope: dict[str, Any], parts: Iterable[bytes] = (b"{}",), ends: str = "body"
) -> Answer:
    """`ends`: `body` (it is complete), `never` (more is promised and does not come), `gone` (the client is)."""
    incoming = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    if ends == "body" and incoming:
        incoming[-1]["more_body"] = False
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if incoming:
            return incoming.pop(0)
        if ends != "gone":
            await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    try:
        await app(scope, receive, send)
    except AccessError as error:
        return Answer(error.status, str(error).encode(), (), error.reason)
    if not sent:
        return Answer(0)
    body = b"".join(message.get("body", b"") for message in sent[1:])
    whole = len(sent) > 1 and not sent[-1].get("more_body", False)
    return Answer(sent[0]["status"], body, tuple(sent[0].get("headers", ())), whole=whole)


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers 200 with the body it was sent."""
    message = await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": message.get("body", b"")})


def limited(app: Any = echo, **settings: Any) -> Limits:
    """`app` behind the limits of a request, with these settings."""
    chosen = ServiceSettings(**settings)
    return Limits(app, lambda: chosen)


def at_work(app: Any = echo, wait_s: float = 5.0, **settings: Any) -> Work:
    """`app` behind the limits of the room there is, with these settings."""
    chosen = ServiceSettings(**settings)
    return Work(app, lambda: chosen, wait_s)


def answered(app: Any, headers: tuple[tuple[str, str], ...] = JSON_POST, **what: Any) -> Answer:
    """The answer to one request, from a loop of its own."""
    return asyncio.run(ask(app, scope_of(headers=headers, **what)))

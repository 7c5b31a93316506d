"""Calls of the service's tools, tried again where that is safe: a request is lost only when its time is over."""

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from session_mgmt_mcp.tools.load.http import Connection, Place, RequestFailed

PROTOCOL: Final = "2025-06-18"
_AGAIN: Final = (
    408,
    425,
    429,
    500,
    502,
    503,
    504,
)  # worth another try; remember names a key, so that it stores once
_PAUSE_S_FIRST, _PAUSE_S_MAX = 0.05, 2.0


class ToolError(Exception):
    """The tool, or the protocol, said no: another try would hear the same. `kind` is for the count of errors."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class Unanswered(Exception):
    """Every try failed until the time was over."""


class Called(NamedTuple):
    """An answer that came."""

    text: str
    seconds: float  # of the try that was answered
    waited_s: float  # from the first try on
    tries: int


class Caller:
    """One client: one connection, one key."""

    def __init__(
        self,
        place: Place,
        key: str | None,
        *,
        timeout_s: float,
        retry_s: float,
        failed: Callable[[str], None],
    ) -> None:
        """`failed` is told the kind of each try that got no good answer; tries go on for `retry_s`."""
        self._connection = Connection(place, timeout_s)
        self._path = place.path
        self._retry_s = retry_s
        self._failed = failed
        self._number = 0
        self._headers = {
            "content-type": "application/json",
            "accept": "application/json, text/event-stream",
            "mcp-protocol-version": PROTOCOL,
        }
        if key:
            self._headers["authorization"] = f"Bearer {key}"

    async def call(self, tool: str, arguments: dict[str, Any]) -> Called:
        """The text of a tool's answer. Raises ToolError, Unanswered."""
        self._number += 1
        params = {"name": tool, "arguments": arguments}
        asked = {"jsonrpc": "2.0", "id": self._number, "method": "tools/call", "params": params}
        body = json.dumps(asked).encode()
        first, pause_s, tries = time.perf_counter(), _PAUSE_S_FIRST, 0
        while True:
            began, tries = time.perf_counter(), tries + 1
            least_s = 0.0
            try:
                answer = await self._connection.ask("POST", self._path, self._headers, body)
            except RequestFailed as error:
                self._failed(error.kind)
            else:
                now = time.perf_counter()
                if answer.status == 200:
                    return Called(self._text_of(answer.body), now - began, now - first, tries)
                kind = f"http {answer.status}"
                self._failed(kind)
                if answer.status not in _AGAIN:
                    raise ToolError(kind, answer.body.decode("utf-8", "replace")[:300])
                least_s = _seconds(answer.headers.get("retry-after", ""))
            left_s = first + self._retry_s - time.perf_counter()
            if left_s <= 0:
                raise Unanswered(tool)
            await asyncio.sleep(min(max(pause_s, least_s), left_s))
            pause_s = min(pause_s * 2, _PAUSE_S_MAX)

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.close()

    def _text_of(self, body: bytes) -> str:
        try:
            found = json.loads(_event(body))
            result = found.get("result")
            if found.get("id") != self._number or not isinstance(result, dict):
                raise ValueError(str(found.get("error"))[:300])
            text = "".join(part.get("text", "") for part in result["content"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self._failed("malformed")
            raise ToolError("malformed", str(error)) from None
        if result.get("isError"):
            self._failed("tool error")
            raise ToolError("tool error", text[:300])
        return text


def _event(body: bytes) -> bytes:
    """The JSON of an answer, which may come as an event stream; notifications in it are passed over."""
    if body.lstrip().startswith(b"{"):
        return body
    lines = [line[5:].strip() for line in body.splitlines() if line.startswith(b"data:")]
    return next((line for line in reversed(lines) if line), b"")


def _seconds(text: str) -> float:
    return min(float(text), 10.0) if text.isascii() and text.isdigit() else 0.0

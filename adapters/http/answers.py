"""Answers of our own: JSON, short, whole."""

import json
from typing import Any, Final

from session_mgmt_mcp.core.access import AccessError

JSON_TYPE: Final = b"application/json"
_CODES: Final = {401: "unauthenticated", 403: "forbidden", 429: "too_many_requests", 503: "unavailable"}
_REALM: Final = b'Bearer realm="session-mgmt"'


async def send_body(
    send: Any,
    status: int,
    body: bytes,
    content_type: bytes = JSON_TYPE,
    headers: tuple[tuple[bytes, bytes], ...] = (),
    *,
    head: bool = False,
) -> None:
    """Answer with `body`; `head`: what a GET would, without the body."""
    start = [(b"content-type", content_type), (b"content-length", b"%d" % len(body)), *headers]
    await send({"type": "http.response.start", "status": status, "headers": start})
    await send({"type": "http.response.body", "body": b"" if head else body})


async def send_json(
    send: Any, status: int, value: Any, headers: tuple[tuple[bytes, bytes], ...] = (), *, head: bool = False
) -> None:
    """Answer with a value as JSON."""
    await send_body(send, status, json.dumps(value).encode(), headers=headers, head=head)


async def send_complaint(
    send: Any, status: int, code: str, message: str, headers: tuple[tuple[bytes, bytes], ...] = ()
) -> None:
    """Answer `{"error": {"code": …, "message": …}}`; the message names the mend."""
    await send_json(send, status, {"error": {"code": code, "message": message}}, headers)


async def send_error(send: Any, error: AccessError) -> None:
    """Answer a refusal, with what its status asks for: the way to authenticate, or when to come again.

    A body that was not read is no matter of the answer: `protocol` reads on for a moment, so that the client gets this
    instead of a reset, and then closes.
    """
    headers: list[tuple[bytes, bytes]] = []
    if error.status == 401:
        headers.append((b"www-authenticate", _REALM))
    if error.retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % max(1, error.retry_after_s)))
    await send_complaint(
        send, error.status, _CODES.get(error.status, error.reason), str(error), tuple(headers)
    )

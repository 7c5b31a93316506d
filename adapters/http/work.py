"""The innermost limit: a request's body in memory, whole and of a sane shape, and a slot to work in.

It stands behind authentication: who shows no key holds neither memory nor a slot.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec

from session_mgmt_mcp.adapters.http.limits import RPC_ID, too_large
from session_mgmt_mcp.core.access import AccessError
from session_mgmt_mcp.core.config_table import ServiceSettings

WAIT_S: Final = 10.0  # for a slot
WAITING_PER_SLOT: Final = 4
OWN_SHARE: Final = 8  # one user has one in so many of the slots at most,
OWN_SLOTS_MIN: Final = 4  # yet so many: an assistant calls a few tools at once
BODIES: Final = 16  # of the largest size that are in memory at once
DEPTH_MAX: Final = 64
VALUES_MAX: Final = 20_000  # of a body: a tool takes a dozen
_OPEN: Final = b"[{"
_NO_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))


class _Envelope(msgspec.Struct):
    id: int | str | None = None


class Work:
    """ASGI. Reads the body (413, 408), checks its shape (400), waits for one of `max_concurrency` slots (503).

    A user holds a share of them at most, so that many heavy questions of one wait for each other before others wait.
    """

    def __init__(self, app: Any, settings: Callable[[], ServiceSettings], wait_s: float = WAIT_S) -> None:
        self._app = app
        self._settings = settings
        self._wait_s = wait_s
        self._slots_max = settings().max_concurrency
        self._slots = asyncio.Semaphore(self._slots_max)
        self._own_max = min(self._slots_max, max(OWN_SLOTS_MIN, self._slots_max // OWN_SHARE))
        self._own: dict[str, tuple[asyncio.Semaphore, int]] = {}  # of who is here, with how many requests
        self._waiting = 0
        self._held_bytes = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Raises AccessError."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        held = [0]
        try:
            body = await self._body(receive, held)
            check_shape(body)
            scope["state"][RPC_ID] = _id_of(body)
            principal = scope["state"].get("principal")
            async with self._share(principal.name if principal is not None else "") as own:
                await self._slot(own)
                try:
                    await self._app(scope, _replay(body, receive), send)
                finally:
                    self._slots.release()
                    own.release()
        finally:
            self._held_bytes -= held[0]

    async def _body(self, receive: Any, held: list[int]) -> bytes:
        settings = self._settings()
        parts: list[bytes] = []
        seconds = settings.request_timeout_s / 2
        try:
            async with asyncio.timeout(seconds):
                more = True
                while more:
                    message = await receive()
                    if message["type"] != "http.request":
                        raise AccessError(
                            "the connection ended before the body did", status=400, reason="body"
                        )
                    self._keep(message.get("body", b""), parts, held, settings)
                    more = message.get("more_body", False)
        except TimeoutError:
            raise AccessError(
                f"the body did not arrive within {seconds:g} s; send it faster, or have request_timeout_s raised",
                status=408,
                reason="body",
            ) from None
        return b"".join(parts)

    def _keep(self, part: bytes, parts: list[bytes], held: list[int], settings: ServiceSettings) -> None:
        if held[0] + len(part) > settings.max_body_bytes:
            raise too_large(settings)
        if self._held_bytes + len(part) > BODIES * settings.max_body_bytes:
            raise _busy("too many large requests at once")
        parts.append(part)
        held[0] += len(part)
        self._held_bytes += len(part)

    @asynccontextmanager
    async def _share(self, user: str) -> AsyncIterator[asyncio.Semaphore]:
        """The slots one user may hold; "": the owner of the data folder, who may hold all."""
        slots, here = self._own.get(user, (asyncio.Semaphore(self._own_max if user else self._slots_max), 0))
        self._own[user] = slots, here + 1
        try:
            yield slots
        finally:
            self._own[user] = slots, self._own[user][1] - 1
            if not self._own[user][1]:
                del self._own[user]

    async def _slot(self, own: asyncio.Semaphore) -> None:
        """Of the user's own, then of all. Raises AccessError."""
        if (own.locked() or self._slots.locked()) and self._waiting >= self._slots_max * WAITING_PER_SLOT:
            raise _busy(f"{self._slots_max} requests are at work, and more wait than can be served soon")
        self._waiting += 1
        try:
            async with asyncio.timeout(self._wait_s):
                await own.acquire()
                try:
                    await self._slots.acquire()
                except BaseException:
                    own.release()
                    raise
        except TimeoutError:
            raise _busy(f"no slot of {self._slots_max} was free for {self._wait_s:g} s") from None
        finally:
            self._waiting -= 1


def check_shape(body: bytes) -> None:
    """Raise AccessError (400) for JSON that is nested too deeply, or of so many values that it is no request.

    Counts what stands outside of strings; says nothing of whether it is JSON at all. Linear in the size, in C.
    """
    brackets = body.count(b"[") + body.count(b"{")
    if brackets <= DEPTH_MAX and body.count(b",") + brackets <= VALUES_MAX:
        return
    bare = body.replace(b"\\\\", b"").replace(b'\\"', b"") if b"\\" in body else body
    if bare.count(b'"') > 2 * VALUES_MAX:
        raise _shape(f"holds more than {VALUES_MAX} texts")
    outside = b"".join(bare.split(b'"')[::2])
    if outside.count(b",") + outside.count(b"[") + outside.count(b"{") > VALUES_MAX:
        raise _shape(f"holds more than {VALUES_MAX} values")
    if _depth(outside.translate(None, _NO_BRACKETS)) > DEPTH_MAX:
        raise _shape(f"is nested deeper than {DEPTH_MAX}")


def _depth(brackets: bytes) -> int:
    """How deep brackets are nested: at most VALUES_MAX open, what closes nothing ends the count."""
    depth = deepest = 0
    for byte in brackets:
        depth += 1 if byte in _OPEN else -1
        if depth < 0:
            break
        deepest = max(deepest, depth)
    return deepest


def _shape(what: str) -> AccessError:
    return AccessError(f"the body {what}: that is no request of MCP; send one", status=400, reason="body")


def _busy(why: str) -> AccessError:
    return AccessError(f"{why}; ask again in a moment", status=503, reason="busy", retry_after_s=1)


def _id_of(body: bytes) -> int | str | None:
    try:
        return msgspec.json.decode(body, type=_Envelope).id
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return None  # the MCP server answers what is wrong with it


def _replay(body: bytes, receive: Any) -> Callable[[], Any]:
    """A `receive` that gives the body in one piece, then whatever comes."""
    given = False

    async def replayed() -> Any:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed

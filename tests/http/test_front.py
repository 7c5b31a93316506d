"""The outermost layers: refusals become answers, every request is counted once, who asks is known behind them."""

import asyncio
import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
from anyio import to_thread
from asgi_kit import Answer, ask, echo, scope_of

from session_mgmt_mcp.adapters.http.auth_layer import Authentication
from session_mgmt_mcp.adapters.http.front import Front
from session_mgmt_mcp.adapters.http.health import Health, MetricsPage
from session_mgmt_mcp.adapters.http.ports import Everyone, NoAudit, NoMetrics, Ports, Ready
from session_mgmt_mcp.core.access import PRINCIPAL, AccessError, Principal, Role, tools_of
from session_mgmt_mcp.core.config import ServiceSettings

ANNA = Principal("anna", Role.WRITER, "k1", tools_of(Role.WRITER), None)


class Told(NoAudit):
    """An audit that remembers."""

    def __init__(self) -> None:
        self.refused: list[tuple[str, str, str]] = []
        self.came: list[str] = []

    def denied(self, error: AccessError, address: str, principal: Principal | None, what: str) -> None:
        self.refused.append((error.reason, address, what))

    def authenticated(self, principal: Principal, address: str) -> None:
        self.came.append(f"{principal.name} {address}")


class Counted(NoMetrics):
    """Metrics that remember."""

    def __init__(self) -> None:
        self.audit = Told()
        self.seen: list[tuple[str, str, str]] = []
        self.reasons: list[str] = []
        self.flying = self.most = 0

    def observe(self, endpoint: str, tool: str, outcome: str, seconds: float) -> None:
        assert seconds >= 0
        self.seen.append((endpoint, tool, outcome))

    def in_flight(self, change: int) -> None:
        self.flying += change
        self.most = max(self.most, self.flying)

    def render(self) -> tuple[bytes, str]:
        return b"counted 1\n", "text/plain"

    def denied(self, reason: str) -> None:
        self.reasons.append(reason)


class Keys:
    """Everybody with the key `right` is anna."""

    def authenticate(self, authorization: str | None, address: str) -> Principal:
        if authorization != "Bearer right":
            raise AccessError(
                "show a key", status=401, reason="no_key" if not authorization else "unknown_key"
            )
        return ANNA


def asked(
    app: Any, path: str = "/mcp", method: str = "POST", counted: Counted | None = None, **headers: str
) -> Answer:
    """The answer of a Front over `app`."""
    counted = counted or Counted()
    front = Front({"/mcp": app}, Health(_Ready(True)), Ports(audit=counted.audit, metrics=counted))
    scope = scope_of(method, path, [(name.replace("_", "-"), value) for name, value in headers.items()])
    return asyncio.run(ask(front, scope))


class _Ready:
    def __init__(self, ok: bool) -> None:
        self._ok = ok

    def ready(self) -> Ready:
        return Ready(self._ok, {"log": "ok" if self._ok else "the disk is full: free some"})


def raising(error: Exception, *, after_the_start: bool = False) -> Callable[..., Any]:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if after_the_start:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        raise error

    return app


def test_a_refusal_is_answered_counted_and_told_once() -> None:
    counted = Counted()
    error = AccessError("come back later", status=429, reason="rate", retry_after_s=7)
    answer = asked(raising(error), counted=counted)
    assert answer.status == 429
    assert dict(answer.headers)[b"retry-after"] == b"7"
    assert answer.json == {"error": {"code": "too_many_requests", "message": "come back later"}}
    assert counted.reasons == ["rate"]
    assert counted.audit.refused == [("rate", "127.0.0.1", "mcp")]
    assert counted.seen == [("mcp", "", "denied")]
    assert (counted.flying, counted.most) == (0, 1)


def test_who_shows_no_key_is_told_how_to() -> None:
    answer = asked(raising(AccessError("show a key", status=401, reason="no_key")))
    assert answer.status == 401
    assert dict(answer.headers)[b"www-authenticate"].startswith(b"Bearer")


def test_a_crash_is_answered_without_its_insides(caplog: pytest.LogCaptureFixture) -> None:
    counted = Counted()
    answer = asked(raising(ValueError("a secret of the insides")), counted=counted)
    assert answer.status == 500
    assert b"secret" not in answer.body
    assert answer.json["error"]["code"] == "failed"
    assert counted.seen == [("mcp", "", "failed")]
    assert "a request to /mcp failed" in caplog.text


@pytest.mark.parametrize("error", [AccessError("late", reason="role"), ValueError("late")])
def test_half_an_answer_is_cut_and_not_made_to_look_whole(error: Exception) -> None:
    counted = Counted()
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message["type"])

    front = Front(
        {"/mcp": raising(error, after_the_start=True)},
        Health(_Ready(True)),
        Ports(metrics=counted, audit=counted.audit),
    )
    with pytest.raises(type(error)):
        asyncio.run(front(scope_of(), None, send))
    assert sent == ["http.response.start"]
    assert counted.flying == 0


def test_the_tool_that_was_called_is_counted() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["state"]["call"].tool, scope["state"]["call"].outcome = "search", "error"
        await echo(scope, receive, send)

    counted = Counted()
    asked(app, counted=counted)
    assert counted.seen == [("mcp", "search", "error")]


@pytest.mark.parametrize("started", [False, True])
def test_a_client_that_goes_away_before_its_answer_is_no_failure_of_the_service(started: bool) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["state"]["call"].tool, scope["state"]["call"].outcome = "search", "failed"
        if started:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        while (await receive())["type"] != "http.disconnect":
            pass

    counted = Counted()
    front = Front({"/mcp": app}, Health(_Ready(True)), Ports(metrics=counted, audit=counted.audit))
    asyncio.run(ask(front, scope_of(), ends="gone"))
    assert counted.seen == [("mcp", "search", "gone")]


def test_a_client_that_leaves_once_it_was_answered_is_as_good_as_any() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await echo(scope, receive, send)
        assert (await receive())["type"] == "http.disconnect"

    counted = Counted()
    front = Front({"/mcp": app}, Health(_Ready(True)), Ports(metrics=counted, audit=counted.audit))
    asyncio.run(ask(front, scope_of(), ends="gone"))
    assert counted.seen == [("mcp", "", "ok")]


def test_that_it_is_not_ready_is_no_failure() -> None:
    counted = Counted()
    front = Front({}, Health(_Ready(False)), Ports(metrics=counted))
    answer = asyncio.run(ask(front, scope_of("GET", "/ready")))
    assert answer.status == 503
    assert answer.json == {"status": "not ready", "checks": {"log": "the disk is full: free some"}}
    assert counted.seen == [("ready", "", "ok")]


def test_a_websocket_is_closed() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message["type"])

    front = Front({}, Health(_Ready(True)), Ports())
    asyncio.run(front({"type": "websocket", "path": "/mcp"}, None, send))
    assert sent == ["websocket.close"]


# -- authentication ----------------------------------------------------------------------------------------------


def behind_keys(app: Any, counted: Counted, **settings: Any) -> Authentication:
    return Authentication(app, Keys(), counted.audit, lambda: ServiceSettings(**settings))


def test_who_asks_is_known_behind_and_nobody_afterwards() -> None:
    seen: list[Principal | None] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.extend([PRINCIPAL.get(), scope["state"]["principal"], await asyncio.to_thread(PRINCIPAL.get)])
        await echo(scope, receive, send)

    async def one() -> Principal | None:
        await ask(behind_keys(app, counted), scope_of(headers=[("authorization", "Bearer right")]))
        return PRINCIPAL.get()

    counted = Counted()
    assert asyncio.run(one()) is None
    assert seen == [ANNA, ANNA, ANNA]
    assert counted.audit.came == ["anna 127.0.0.1"]


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ([], "no_key"),
        ([("authorization", "Bearer wrong")], "unknown_key"),
        ([("authorization", "Bearer right"), ("authorization", "Bearer right")], "no_key"),
    ],
)
def test_nobody_comes_in_without_exactly_one_right_key(headers: list[tuple[str, str]], reason: str) -> None:
    counted = Counted()
    answer = asyncio.run(ask(behind_keys(echo, counted), scope_of(headers=headers)))
    assert (answer.status, answer.reason) == (401, reason)
    assert counted.audit.came == []


@pytest.mark.parametrize("header", ["X-Forwarded-For", "X-Forwarded-Proto", "Forwarded", "Via", "X-Real-IP"])
def test_a_proxy_does_not_let_the_world_in_as_the_owner(header: str) -> None:
    """Whoever reaches a loopback address that asks for no keys is the owner; a proxy brings others there."""
    scope = scope_of(headers=[(header, "203.0.113.9")])
    keyless = Authentication(echo, Everyone(), Told(), ServiceSettings)
    assert asyncio.run(ask(keyless, scope)).status == 403
    named = Authentication(echo, Everyone(), Told(), lambda: ServiceSettings(trusted_proxies=("127.0.0.1",)))
    assert asyncio.run(ask(named, scope)).status == 200


def test_metrics_want_their_scope() -> None:
    counted = Counted()
    page = behind_keys(MetricsPage(counted), counted)
    scope = scope_of("GET", "/metrics", [("authorization", "Bearer right")])
    refused = asyncio.run(ask(page, scope))
    assert (refused.status, refused.reason) == (403, "role")

    class Scraper(Keys):
        def authenticate(self, authorization: str | None, address: str) -> Principal:
            return ANNA._replace(tools=frozenset(["metrics"]))

    allowed = Authentication(MetricsPage(counted), Scraper(), counted.audit, ServiceSettings)
    assert asyncio.run(ask(allowed, scope)).body == b"counted 1\n"


# -- through the SDK ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("revision", ["2024-11-05", "2025-11-25", "2026-07-28"])
def test_tools_in_their_threads_see_who_asks(revision: str) -> None:
    """In every era of the protocol: the SDK starts what serves a request within the request's context."""
    from mcp_fake_server import FakeServices

    from session_mgmt_mcp.adapters.mcp.caller import caller, request_key
    from session_mgmt_mcp.core.errors import InputError

    class Telling(FakeServices):
        def search(self, query: str, **_: Any) -> Any:
            who = PRINCIPAL.get()
            raise InputError(f"{who.name if who else None} {tuple(caller())} {request_key()}")

    answer = called("search", {"query": "x"}, Telling, Counted(), revision)
    assert "anna (0, '') None" in answer.body.decode(), json.dumps(str(answer))


def test_metrics_are_answered_while_tools_hold_every_thread() -> None:
    page = Authentication(MetricsPage(Counted()), Everyone(), NoAudit(), ServiceSettings)
    over, holds = threading.Event(), threading.Event()

    def tool() -> None:
        holds.set()
        over.wait()

    async def scraped() -> Answer:
        to_thread.current_default_thread_limiter().total_tokens = 1
        held = asyncio.create_task(to_thread.run_sync(tool))
        while not holds.is_set():
            await asyncio.sleep(0)
        try:
            return await asyncio.wait_for(ask(page, scope_of("GET", "/metrics")), 30)
        finally:
            over.set()
            await held

    assert asyncio.run(scraped()).status == 200


def test_a_tool_there_is_none_of_is_not_noted_by_its_name() -> None:
    """The note goes to the log, and a name that a client makes up is of any length."""
    from mcp_fake_server import FakeServices

    counted = Counted()
    called("x" * 100_000, {}, FakeServices, counted, "2025-11-25")
    called("status", {}, FakeServices, counted, "2025-11-25")
    assert [tool for _, tool, _ in counted.seen] == ["unknown", "status"]


def called(
    tool: str, arguments: dict[str, Any], services: Callable[[], Any], counted: Counted, revision: str
) -> Answer:
    """A call of a tool by anna, through the SDK's server over `services`."""
    from service_process import rpc

    from session_mgmt_mcp.adapters.mcp.remote import RemoteServer, behind
    from session_mgmt_mcp.adapters.mcp.server import build_server

    async def life() -> Answer:
        app = build_server(services, RemoteServer).streamable_http_app(stateless_http=True)
        body, headers = rpc("tools/call", {"name": tool, "arguments": arguments}, revision)
        given = [*headers.items(), ("host", "localhost:1"), ("authorization", "Bearer right")]
        ports = Ports(metrics=counted)
        async with app.router.lifespan_context(app):
            front = Front({"/mcp": behind_keys(behind(app), counted)}, Health(_Ready(True)), ports)
            return await ask(front, scope_of(headers=given), [body])

    return asyncio.run(life())

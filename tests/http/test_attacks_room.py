"""Requests that take long, and more of them than there is room for."""

import asyncio
import json
from collections.abc import Awaitable
from typing import Any

import pytest
from asgi_kit import Answer, answered, ask, at_work, echo, limited, scope_of

from session_mgmt_mcp.adapters.http.limits import Limits
from session_mgmt_mcp.adapters.http.work import Work
from session_mgmt_mcp.core.access import AccessError, Principal, Role
from session_mgmt_mcp.core.config_table import ServiceSettings


async def never(scope: Any, receive: Any, send: Any) -> None:
    await asyncio.Event().wait()


async def streaming(scope: Any, receive: Any, send: Any) -> None:
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b": ping\r\n\r\n", "more_body": True})
    await asyncio.Event().wait()


def test_a_request_that_takes_too_long_is_answered_504() -> None:
    answer = answered(limited(never, request_timeout_s=0.1))
    assert answer.status == 504 and answer.json["error"]["code"] == "timeout"


def test_a_stream_that_takes_too_long_ends_with_the_error_of_its_request() -> None:
    chosen = ServiceSettings(request_timeout_s=0.1)
    app = Limits(Work(streaming, lambda: chosen), lambda: chosen)
    body = b'{"jsonrpc": "2.0", "id": 7, "method": "tools/call"}'
    answer = asyncio.run(ask(app, scope_of(), [body]))
    assert answer.whole
    last = json.loads(answer.body.rpartition(b"data: ")[2])
    assert last["id"] == 7 and "0.1 s" in last["error"]["message"]


def test_a_tool_that_cannot_be_stopped_keeps_its_slot_though_its_request_was_answered() -> None:
    async def go() -> tuple[Answer, Answer, Answer]:
        chosen = ServiceSettings(request_timeout_s=0.1, max_concurrency=1)
        release = asyncio.Event()

        async def stubborn(scope: Any, receive: Any, send: Any) -> None:
            while not release.is_set():
                try:
                    await release.wait()
                except asyncio.CancelledError:
                    continue
            await echo(scope, receive, send)

        work = Work(stubborn, lambda: chosen, wait_s=0.01)
        app = Limits(work, lambda: chosen)
        late = await ask(app, scope_of())
        refused = await ask(app, scope_of())
        release.set()
        return late, refused, await ask(Limits(Work(echo, lambda: chosen), lambda: chosen), scope_of())

    late, refused, after = asyncio.run(go())
    assert (late.status, refused.status, refused.reason, after.status) == (504, 503, "busy", 200)


def test_requests_beyond_the_slots_wait_their_turn_and_beyond_that_are_sent_away() -> None:
    async def go() -> tuple[int, int, list[Answer]]:
        release = asyncio.Event()
        inside: list[int] = []
        most = 0

        async def held(scope: Any, receive: Any, send: Any) -> None:
            nonlocal most
            inside.append(1)
            most = max(most, len(inside))
            await release.wait()
            await echo(scope, receive, send)
            inside.pop()

        app = at_work(held, max_concurrency=2)
        tasks = [asyncio.create_task(ask(app, scope_of())) for _ in range(30)]
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        release.set()
        return most, len(done), await asyncio.gather(*tasks)

    most, _, answers = asyncio.run(go())
    statuses = [answer.status for answer in answers]
    assert most == 2
    assert statuses.count(200) == 2 + 2 * 4 and statuses.count(503) == 20


def test_who_waits_too_long_for_a_slot_is_told_to_come_again() -> None:
    async def go() -> AccessError:
        work = at_work(never, wait_s=0.01, max_concurrency=1)
        first = asyncio.create_task(ask(work, scope_of()))
        await asyncio.sleep(0)  # it takes the slot

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"{}", "more_body": False}

        with pytest.raises(AccessError) as caught:
            await work(scope_of(), receive, None)
        first.cancel()
        return caught.value

    error = asyncio.run(go())
    assert (error.status, error.reason, error.retry_after_s) == (503, "busy", 1)


def test_one_user_cannot_hold_all_slots() -> None:
    async def go() -> tuple[int, Answer, list[Answer]]:
        release = asyncio.Event()
        inside: list[str] = []

        async def held(scope: Any, receive: Any, send: Any) -> None:
            inside.append(scope["state"]["principal"].name)
            if inside[-1] == "mira":
                await release.wait()
            await echo(scope, receive, send)

        def asked(work: Work, name: str) -> Awaitable[Answer]:
            principal = Principal(name, Role.READER, "k", frozenset(), None)
            return ask(work, {**scope_of(), "state": {"principal": principal}})

        work = at_work(held, max_concurrency=64)
        many = [asyncio.create_task(asked(work, "mira")) for _ in range(300)]
        await asyncio.wait(many, return_when=asyncio.FIRST_COMPLETED)  # those there is no room to wait for
        most = len(inside)
        other = await asked(work, "theo")
        release.set()
        return most, other, await asyncio.gather(*many)

    most, other, answers = asyncio.run(go())
    assert (most, other.status) == (8, 200)
    statuses = [answer.status for answer in answers]
    assert statuses.count(200) == 8 + 4 * 64 and statuses.count(503) == 300 - 8 - 4 * 64

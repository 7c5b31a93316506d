"""Connections held, flooded, and fed with what two parsers would read differently."""

import asyncio
import contextlib
import resource
import socket
import threading
from typing import Any

import pytest
from guarded_server import HEALTH, LAST, POST, GuardedServer, exchange, guarded, read_to_end, statuses
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from session_mgmt_mcp.adapters.http.protocol import HEADERS_MAX, RESERVE, raise_open_files


@pytest.fixture(scope="module")
def server() -> Any:
    with guarded(deadlines={"linger_s": 0.3}, header_timeout_s=20) as running:
        yield running


def until(client: socket.socket, wanted: bytes) -> None:
    """Read until this has come."""
    found = b""
    while wanted not in found:
        part = client.recv(4096)
        assert part, found
        found += part


def alive(server: GuardedServer) -> bool:
    return statuses(server.exchange(HEALTH + LAST)) == [200]


# --- slow clients ----------------------------------------------------------------------------------------------------


def test_a_head_that_comes_a_byte_at_a_time_is_cut_off_when_its_time_is_up() -> None:
    with guarded(header_timeout_s=0.3) as server, contextlib.closing(server.open()) as slow:
        slow.settimeout(0.02)
        answer = b""
        for byte in b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 5000:
            with contextlib.suppress(TimeoutError):
                answer = slow.recv(4096)
                break
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                slow.sendall(bytes([byte]))
        assert statuses(answer) == [408]
        assert alive(server)


def test_a_connection_that_says_nothing_is_closed() -> None:
    with guarded(header_timeout_s=0.2) as server:
        assert server.exchange() == b""


def test_the_second_head_on_a_connection_has_a_deadline_too() -> None:
    with guarded(header_timeout_s=0.2) as server:
        assert statuses(server.exchange(HEALTH + b"\r\n", b"GET /hea")) == [200, 408]
        assert statuses(server.exchange(HEALTH + b"\r\n" + HEALTH + b"X: 1")) == [200, 408]


def test_a_body_that_never_ends_is_answered_408_and_its_connection_closed() -> None:
    with guarded(deadlines={"linger_s": 0.1}, request_timeout_s=0.2) as server:
        assert statuses(server.exchange(POST + b"Content-Length: 20\r\n\r\n{")) == [408]


def test_a_refused_body_is_read_for_a_moment_so_that_the_client_sees_the_refusal() -> None:
    with guarded(deadlines={"linger_s": 0.5}, max_body_bytes=1024) as server:
        body = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
        answer = server.exchange(POST + b"Transfer-Encoding: chunked\r\n\r\n", *[body] * 64)
        assert statuses(answer) == [413]


def test_a_client_that_does_not_read_costs_bounded_memory_and_is_cut_off() -> None:
    written: list[int] = []
    ended = threading.Event()

    async def pouring(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        gone = asyncio.create_task(receive())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while not gone.done() and len(written) < 500:
            await send({"type": "http.response.body", "body": b"x" * (1 << 20), "more_body": True})
            written.append(1 << 20)
            await asyncio.sleep(0)
        ended.set()

    with (
        guarded(pouring, {"stall_s": 0.2}) as server,
        contextlib.closing(server.open(receive_bytes=4096)) as client,
    ):
        client.sendall(POST + b"Content-Length: 2\r\n\r\n{}")
        assert ended.wait(30)
        assert sum(written) < 10 << 20
        assert alive(server)


def test_a_closed_connection_whose_client_reads_nothing_does_not_stay() -> None:
    async def large(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x" * (8 << 20)})

    with guarded(large, {"stall_s": 60.0, "close_s": 0.2}) as server:
        with contextlib.closing(server.open(receive_bytes=4096)) as client:
            client.sendall(POST + b"Content-Length: 2\r\n" + LAST + b"{}")
            client.recv(10)
            while len(server.connections):
                assert alive(server)
        assert alive(server)


# --- many clients ----------------------------------------------------------------------------------------------------


def test_beyond_the_bound_the_connection_that_idles_longest_makes_room() -> None:
    with guarded(max_connections=5, header_timeout_s=60) as server, contextlib.ExitStack() as stack:
        idle = [stack.enter_context(contextlib.closing(server.open())) for _ in range(5)]
        for client in idle:
            client.sendall(HEALTH + b"\r\n")
            until(client, b"alive")
        assert alive(server)
        assert read_to_end(idle[0]) == b""
        assert statuses(exchange(idle[4], HEALTH + LAST)) == [200]


def test_while_all_connections_are_at_work_health_is_still_answered_and_the_rest_sent_away() -> None:
    inside = threading.Semaphore(0)
    release = threading.Event()

    async def held(scope: Any, receive: Any, send: Any) -> None:
        inside.release()
        await asyncio.to_thread(release.wait)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    with guarded(held, max_connections=3) as server, contextlib.ExitStack() as stack:
        busy = [stack.enter_context(contextlib.closing(server.open())) for _ in range(3)]
        for client in busy:
            client.sendall(POST + b"Content-Length: 2\r\n" + LAST + b"{}")
            assert inside.acquire(timeout=30)
        assert alive(server)
        answer = server.exchange(POST + b"Content-Length: 2\r\n\r\n{}")
        assert statuses(answer) == [503] and b"retry-after: 5" in answer
        release.set()
        assert [statuses(read_to_end(client)) for client in busy] == [[200]] * 3


def test_beyond_the_reserve_connections_are_closed_at_once() -> None:
    release = threading.Event()
    inside = threading.Semaphore(0)

    async def held(scope: Any, receive: Any, send: Any) -> None:
        inside.release()
        await asyncio.to_thread(release.wait)

    with guarded(held, max_connections=1, header_timeout_s=60) as server, contextlib.ExitStack() as stack:
        busy = stack.enter_context(contextlib.closing(server.open()))
        busy.sendall(POST + b"Content-Length: 2\r\n\r\n{}")
        assert inside.acquire(timeout=30)
        for _ in range(3 * RESERVE):
            stack.enter_context(contextlib.closing(server.open()))
        assert alive(server)
        assert len(server.connections) <= 1 + RESERVE
        release.set()


def test_a_thousand_silent_connections_leave_room_for_those_that_ask() -> None:
    raise_open_files()
    with guarded(max_connections=300, header_timeout_s=60) as server, contextlib.ExitStack() as stack:
        for number in range(1000):
            stack.enter_context(contextlib.closing(server.open()))
            if number % 100 == 0:
                assert alive(server)
        assert alive(server)
        assert len(server.connections) <= 300 + RESERVE


def test_files_may_be_opened_up_to_the_hard_bound() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, before[1]), before[1]))
        assert raise_open_files() == before[1]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


# --- smuggling and malformed heads -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", 400),
        (HEALTH + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n", 400),
        (POST + b"Content-Length: +5\r\n\r\n", 400),
        (POST + b"Content-Length: -1\r\n\r\n", 400),
        (POST + b"Content-Length: 0x5\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 501),
        (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n", 501),
        (POST + b"Transfer-Encoding: xchunked\r\n\r\n", 501),
        (POST + b"Transfer-Encoding : chunked\r\n\r\n", 400),
        (POST.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n", 400),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 21 + b"\r\n", 400),
        (b"GET /health HTTP/1.1\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET /health HTTP/2.0\r\nHost: localhost\r\n\r\n", 505),
        (b"GET /health HTTP/0.9\r\nHost: localhost\r\n\r\n", 505),
        (b"GET /hea lth HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /health\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /\xc3\xa9 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (HEALTH + b"X: a\x00b\r\n\r\n", 400),
        (HEALTH + b": no name\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    ],
)
def test_what_two_parsers_could_read_differently_is_refused_and_ends_the_connection(
    server: GuardedServer, head: bytes, expected: int
) -> None:
    smuggled = b"GET /ready HTTP/1.1\r\nHost: localhost\r\n\r\n"
    assert statuses(server.exchange(head + smuggled)) == [expected]
    assert alive(server)


@pytest.mark.parametrize(
    "head",
    [
        HEALTH + b"X: " + b"x" * 40_000 + b"\r\n\r\n",
        HEALTH + b"X: " + b"x" * 4_000_000,
        HEALTH + b"".join(b"X%d: 1\r\n" % number for number in range(HEADERS_MAX)) + b"\r\n",
        HEALTH + b"".join(b"X%d: 1\r\n" % number for number in range(20_000)) + b"\r\n",
        b"GET /" + b"x" * 40_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
)
def test_a_head_too_large_is_refused(server: GuardedServer, head: bytes) -> None:
    assert statuses(server.exchange(head)) == [431]


def test_a_large_head_may_come_in_pieces(server: GuardedServer) -> None:
    with contextlib.closing(server.open()) as client:
        client.sendall(HEALTH + b"X: " + b"x" * 25_000)
        assert alive(server)  # the first piece was looked at by then
        assert statuses(exchange(client, b"\r\n" + LAST)) == [200]
    assert alive(server)


def test_a_body_in_single_bytes_is_refused_before_it_costs_much(server: GuardedServer) -> None:
    answer = server.exchange(POST + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 100_000)
    assert statuses(answer) == [400]


def test_a_header_that_goes_on_in_the_next_line_hides_nothing(server: GuardedServer) -> None:
    folded = POST.replace(b"localhost\r\n", b"localhost\r\n evil.example\r\n") + b"Content-Length: 2\r\n"
    assert statuses(server.exchange(folded + LAST + b"{}")) == [421]


def test_a_malformed_chunk_in_the_middle_of_a_request_is_refused(server: GuardedServer) -> None:
    with contextlib.closing(server.open()) as client:
        client.sendall(POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n")
        assert statuses(exchange(client, b"zz\r\n")) == [400]


def test_requests_sent_ahead_are_answered_in_order_one_at_a_time(server: GuardedServer) -> None:
    requests = b"".join(POST + b"Content-Length: 2\r\n\r\n%02d" % number for number in range(50))
    answers = server.exchange(requests + HEALTH + LAST)
    assert statuses(answers) == [200] * 51
    order = [answers.index(b"\r\n%02d\r\n" % number) for number in range(50)]
    assert order == sorted(order)


def test_a_wish_for_another_protocol_is_not_granted(server: GuardedServer) -> None:
    for wish in (b"websocket", b"h2c"):
        upgrade = b"Connection: Upgrade, close\r\nUpgrade: " + wish + b"\r\n\r\n"
        assert statuses(server.exchange(HEALTH + upgrade)) == [200]
    assert statuses(server.exchange(b"CONNECT localhost:22 HTTP/1.1\r\nHost: localhost:22\r\n" + LAST)) == [
        404
    ]


@pytest.mark.parametrize(
    "path",
    [
        b"/../../etc/passwd",
        b"/mcp/../../etc/passwd",
        b"/%2e%2e/%2e%2e/etc/passwd",
        b"/mcp%2f..%2f..%2faccess.json",
        b"/mcp/",
        b"//mcp",
        b"/mcp%00",
        b"/mcp;x=1",
        b"/MCP",
        b"http://localhost/mcp",
        b"/access.json",
        b"/%c0%ae%c0%ae/",
        b"*",
    ],
)
def test_no_path_but_the_four_leads_anywhere(server: GuardedServer, path: bytes) -> None:
    answer = server.exchange(b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\n" + LAST)
    assert statuses(answer) == [404]
    assert path.strip(b"/") not in answer or path == b"/mcp/" or path == b"//mcp"


@pytest.mark.slow
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=60),
            st.sampled_from(
                [POST, HEALTH, b"\r\n", b"\r\n\r\n", b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n",
                 b"Expect: 100-continue\r\n", b"Connection: close\r\n", b"{}", b"\n", b"\x00", b"3\r\nabc\r\n"]
            ),
        ),
        max_size=12,
    )
)  # fmt: skip
def test_whatever_bytes_come_they_are_answered_or_the_connection_ends(
    server: GuardedServer, parts: list[bytes]
) -> None:
    with contextlib.closing(server.open()) as client:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            client.sendall(b"".join(parts))
            client.shutdown(socket.SHUT_WR)
        found = statuses(read_to_end(client))
    assert all(status < 500 or status == 501 for status in found)
    assert alive(server)

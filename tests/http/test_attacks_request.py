"""Requests that are not what they should be: foreign names, foreign pages, bodies too large, too slow, too deep."""

import asyncio
import json
from typing import Any

import pytest
from asgi_kit import JSON_POST, Answer, answered, ask, at_work, echo, limited, scope_of
from hypothesis import given, settings
from hypothesis import strategies as st

from session_mgmt_mcp.adapters.http.addresses import client_of, neighbourhood, plain, wrong_proxies
from session_mgmt_mcp.adapters.http.names import host_allowed, origin_allowed
from session_mgmt_mcp.adapters.http.work import DEPTH_MAX, VALUES_MAX, check_shape
from session_mgmt_mcp.core.access import AccessError

PROXIES = ("10.0.0.0/8", "192.0.2.1", "2001:db8::/32")


def headed(**headers: str) -> tuple[tuple[str, str], ...]:
    named = {"host": "localhost:8000", "content-type": "application/json"}
    return tuple((named | {name.replace("_", "-"): value for name, value in headers.items()}).items())


# --- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "", "a b", "*"]
)
def test_a_rebound_name_is_misdirected(host: str) -> None:
    answer = answered(limited(), headed(host=host))
    assert (answer.status, answer.reason) == (421, "host")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:8000", "[::1]:8000", "localhost."])
def test_names_of_this_machine_are_served(host: str) -> None:
    assert answered(limited(), headed(host=host)).status == 200


def test_no_host_and_two_hosts_are_misdirected() -> None:
    kind = ("content-type", "application/json")
    assert answered(limited(), (kind,)).status == 421
    assert answered(limited(), (kind, ("host", "localhost"), ("host", "evil.example"))).status == 421


@pytest.mark.parametrize(
    ("host", "allowed", "expected"),
    [
        ("memory.example.com", ("*.example.com",), True),
        ("example.com", ("*.example.com",), False),
        ("evilexample.com", ("*.example.com",), False),
        ("memory.example.com:8443", ("memory.example.com:8443",), True),
        ("memory.example.com:80", ("memory.example.com:8443",), False),
        ("memory.example.com", ("memory.example.com:8443",), False),
        ("memory.example.com:80", ("memory.example.com:*",), True),
        ("anything", ("*",), True),
        ("any\nthing", ("*",), False),
        ("*.example.com", ("*.example.com",), False),
        ("[2001:db8::1]:80", ("[2001:DB8::1]",), True),
    ],
)
def test_hosts_match_patterns_and_nothing_near_them(
    host: str, allowed: tuple[str, ...], expected: bool
) -> None:
    assert host_allowed(host, allowed) is expected


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://localhost.evil.example", "file://", "x"]
)
def test_a_foreign_page_is_refused(origin: str) -> None:
    answer = answered(limited(), headed(origin=origin))
    assert (answer.status, answer.reason) == (403, "origin")


def test_a_page_of_this_machine_may_ask_a_service_on_loopback_alone() -> None:
    page = headed(origin="http://localhost:3000")
    assert answered(limited(), page).status == 200
    assert answered(limited(http_host="0.0.0.0"), page).status == 403


@pytest.mark.parametrize(
    ("origin", "allowed", "expected"),
    [
        ("https://app.example.com", ("https://app.example.com",), True),
        ("http://app.example.com", ("https://app.example.com",), False),
        ("https://app.example.com:8443", ("https://app.example.com",), False),
        ("https://app.example.com:8443", ("https://app.example.com:*",), True),
        ("https://a.example.com", ("https://*.example.com",), True),
        ("https://example.com.evil.org", ("https://*.example.com",), False),
        ("https://app.example.com/path", ("https://app.example.com",), False),
        ("null", ("*",), True),
    ],
)
def test_origins_match_patterns_and_nothing_near_them(
    origin: str, allowed: tuple[str, ...], expected: bool
) -> None:
    assert origin_allowed(origin, allowed) is expected


def test_one_foreign_origin_among_several_is_enough_to_refuse() -> None:
    origins = (("origin", "http://localhost:1"), ("origin", "https://evil.example"))
    assert answered(limited(), (*JSON_POST, *origins)).status == 403


def test_metrics_off_loopback_are_scraped_by_address_and_on_loopback_not_by_rebound_pages() -> None:
    rebound = (("host", "evil.example"),)
    assert answered(limited(), rebound, method="GET", path="/metrics").status == 421
    scraped = limited(metrics_host="0.0.0.0")
    assert answered(scraped, (("host", "10.1.2.3:9090"),), method="GET", path="/metrics").status == 200
    assert answered(scraped, (("host", "10.1.2.3:9090"), JSON_POST[1])).status == 421


def test_a_refusal_shows_control_characters_of_a_header_escaped() -> None:
    answer = answered(limited(), headed(host="evil\x1b[31m\x7f"))
    assert b"\x1b" not in answer.body and b"\\x1b" in answer.body


# --- addresses -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("203.0.113.9", ["198.51.100.1"], "203.0.113.9"),  # no proxy of ours: its word counts for nothing
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["1.2.3.4, 198.51.100.1"], "198.51.100.1"),  # what the client claims stands left
        ("10.0.0.1", ["1.2.3.4", "198.51.100.1, 10.0.0.2"], "198.51.100.1"),
        ("10.0.0.1", ["1.2.3.4, nonsense"], "10.0.0.1"),
        ("10.0.0.1", ["nonsense, 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("10.0.0.1", ["198.51.100.1:4711"], "198.51.100.1"),
        ("10.0.0.1", ["[2001:db9::5]:4711"], "2001:db9::5"),
        ("::ffff:10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("::ffff:203.0.113.9", [], "203.0.113.9"),
        ("2001:db8::1", ["2001:db9::5"], "2001:db9::5"),
        ("10.0.0.1", [",".join(["10.0.0.2"] * 5000)], "10.0.0.2"),
        ("10.0.0.1", ["9" * 9000], "10.0.0.1"),
    ],
)
def test_the_address_is_the_last_that_a_trusted_proxy_vouches_for(
    peer: str, forwarded: list[str], expected: str
) -> None:
    headers = [("x-forwarded-for", value) for value in forwarded]
    assert client_of(scope_of(headers=headers, client=(peer, 1)), PROXIES) == expected


def test_behind_a_unix_socket_only_a_named_one_is_believed() -> None:
    scope = scope_of(headers=[("x-forwarded-for", "198.51.100.1")], client=None)
    assert client_of(scope, ("unix",)) == "198.51.100.1"
    assert client_of(scope, PROXIES) == ""


def test_ipv4_clients_of_an_ipv6_socket_are_not_taken_for_one_place() -> None:
    assert neighbourhood("::ffff:192.0.2.1") == "192.0.2.1"
    assert neighbourhood("2001:db8::1") == neighbourhood("2001:db8::2") != neighbourhood("2001:db8:0:1::1")


def test_proxies_that_are_no_addresses_are_named() -> None:
    assert wrong_proxies(("10.0.0.0/8", "unix", "nginx", "300.1.1.1", "::1")) == ("nginx", "300.1.1.1")


@given(st.text(max_size=100))
def test_whatever_is_said_to_be_an_address_is_one_or_nothing(text: str) -> None:
    found = plain(text)
    assert found is None or plain(found) == found
    neighbourhood(text)


# --- bodies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "", "application/jsonp", "x" * 999]
)
def test_a_body_that_a_web_form_could_send_is_refused(kind: str) -> None:
    assert answered(limited(), headed(content_type=kind)).status == 415


def test_json_in_a_charset_is_json() -> None:
    assert answered(limited(), headed(content_type="Application/JSON; charset=utf-8")).status == 200


def test_a_body_declared_too_large_is_refused_before_any_of_it_is_read() -> None:
    answer = answered(limited(max_body_bytes=2000), headed(content_length="2001"))
    assert (answer.status, answer.reason) == (413, "body")
    assert answered(limited(max_body_bytes=2000), headed(content_length="2000")).status == 200
    assert answered(limited(max_body_bytes=2000), headed(content_length="9" * 4000)).status == 413


def test_a_body_that_grows_too_large_is_refused_on_the_way() -> None:
    parts = [b" " * 1000] * 3
    answer = asyncio.run(ask(at_work(max_body_bytes=2000), scope_of(), parts, ends="never"))
    assert (answer.status, answer.reason) == (413, "body")


def test_a_body_in_many_pieces_arrives_whole() -> None:
    parts = [b"%d," % number for number in range(500)]
    assert asyncio.run(ask(at_work(), scope_of(), parts)).body == b"".join(parts)


def test_a_body_that_does_not_arrive_is_waited_for_half_the_time_of_a_request() -> None:
    answer = asyncio.run(ask(at_work(request_timeout_s=0.1), scope_of(), [b"{"], ends="never"))
    assert answer.status == 408


def test_a_client_that_leaves_in_its_body_is_no_fault_of_the_service() -> None:
    assert asyncio.run(ask(at_work(), scope_of(), [b"{"], ends="gone")).status == 400


def test_large_bodies_together_take_bounded_memory() -> None:
    async def go() -> tuple[list[Answer], Answer]:
        release = asyncio.Event()

        async def held(scope: Any, receive: Any, send: Any) -> None:
            await release.wait()
            await echo(scope, receive, send)

        app = at_work(held, max_body_bytes=1024)
        large = [asyncio.create_task(ask(app, scope_of(), [b" " * 1024])) for _ in range(20)]
        _, waiting = await asyncio.wait(large, return_when=asyncio.FIRST_COMPLETED)
        while len(waiting) > 16:
            _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        release.set()
        return await asyncio.gather(*large), await ask(app, scope_of(), [b" " * 1024])

    answers, later = asyncio.run(go())
    assert sorted(answer.status for answer in answers) == [200] * 16 + [503] * 4
    assert later.status == 200


@pytest.mark.parametrize(
    "body",
    [
        b"[" * (DEPTH_MAX + 1) + b"]" * (DEPTH_MAX + 1),
        b'{"a":' * 5000 + b"1" + b"}" * 5000,
        b"[" * 4_000_000,
        b'{"a": "' + b'\\"' * 100 + b'", "b": ' + b"[" * 100 + b"]" * 100 + b"}",
        b'{"a": "\\\\", "b": ' + b"[" * 100 + b"]" * 100 + b"}",
        b"[" + b"1," * (VALUES_MAX + 1) + b"1]",
        b"[" + b"{}," * (VALUES_MAX + 1) + b"{}]",
        b"[" + b'"",' * (VALUES_MAX + 1) + b'""]',
    ],
)
def test_a_body_nested_too_deeply_or_of_too_many_values_is_refused(body: bytes) -> None:
    with pytest.raises(AccessError) as caught:
        check_shape(body)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({"text": "[{" * 100_000 + "," * 100_000}).encode(),
        json.dumps({"text": '\\"[[' * 10_000}).encode(),
        b'"' + b'\\"' * 1_000_000 + b"[" * 100,
        b"[" * DEPTH_MAX + b"]" * DEPTH_MAX,
        b"",
        b"\xff\x00",
    ],
)
def test_brackets_in_texts_are_text(body: bytes) -> None:
    check_shape(body)


@settings(max_examples=50, deadline=None)
@given(
    st.recursive(st.text() | st.none(), lambda inner: st.lists(inner, max_size=3), max_leaves=40),
    st.integers(0, 90),
)
def test_depth_is_counted_as_a_parser_would(value: Any, more: int) -> None:
    for _ in range(more):
        value = [value]
    body = json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")
    if _depth_of(value) <= DEPTH_MAX:
        check_shape(body)
    else:
        with pytest.raises(AccessError):
            check_shape(body)


def _depth_of(value: Any) -> int:
    return 1 + max(map(_depth_of, value), default=0) if isinstance(value, list) else 0

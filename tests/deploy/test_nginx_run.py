"""A real nginx before the real service: TLS, a streaming client of the SDK, what it keeps out, a restart under load."""

import asyncio
import contextlib
import http.client
import http.server
import json
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from nginx_kit import NAME, Gate, free_port, nginx_before
from service_process import ServiceProcess, rpc

from session_mgmt_mcp.core.config import ServiceSettings

pytestmark = pytest.mark.slow

KEY = "smk_0123456789ab_" + "5e" * 32
HEADERS_ONCE = (
    "strict-transport-security",
    "x-content-type-options",
    "x-frame-options",
    "content-security-policy",
    "referrer-policy",
)


class Site(NamedTuple):
    """The service behind nginx."""

    gate: Gate
    folder: Path
    port: int

    def service(self) -> ServiceProcess:
        """The service, to be entered; again after it was stopped."""
        key = self.folder / "admin_key"
        key.write_text(KEY)
        return ServiceProcess(
            self.folder / "data",
            "--port",
            str(self.port),
            env={
                "SESSION_MGMT_AUTH": "keys",
                "SESSION_MGMT_ADMIN_KEY_FILE": str(key),
                "SESSION_MGMT_ALLOWED_HOSTS": f"{NAME},localhost",
                "SESSION_MGMT_TRUSTED_PROXIES": "127.0.0.1",
            },
        )


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    port = free_port()
    with nginx_before(port, tmp_path / "nginx") as gate:
        yield Site(gate, tmp_path, port)


def test_a_client_of_the_sdk_works_through_tls(site: Site) -> None:
    async def play(mode: str) -> tuple[set[str], str]:
        import httpx2
        from mcp import Client
        from mcp.client.streamable_http import streamable_http_client

        url = f"https://localhost:{site.gate.https_port}/mcp"
        async with (
            httpx2.AsyncClient(verify=site.gate.trust(), headers={"authorization": f"Bearer {KEY}"}) as web,
            Client(streamable_http_client(url, http_client=web), mode=mode) as client,  # type: ignore[arg-type]
        ):
            tools = {tool.name for tool in (await client.list_tools()).tools}
            await client.call_tool("remember", {"text": f"TLS ends at the proxy, {mode}"})
            found = await client.call_tool("search", {"query": f"TLS ends proxy {mode}"})
            return tools, str(found.content)

    with site.service():
        for mode in ("auto", "legacy"):
            tools, found = asyncio.run(play(mode))
            assert {"search", "remember", "forget"} <= tools
            assert f"TLS ends at the proxy, {mode}" in found


def test_nginx_lets_in_what_is_meant_for_outside_and_nothing_else(site: Site) -> None:
    gate = site.gate
    with site.service():
        assert gate.ask("GET", "/health").status == 200
        for path in ("/metrics", "/ready", "/", "/mcp/", "/mcp/x", "/health/../ready", "//ready", "/%72eady"):
            assert gate.ask("GET", path).status == 404, path
        assert gate.ask("POST", "/mcp", *rpc("tools/list")).status == 401
        foreign = gate.ask("GET", "/health", headers={"host": "evil.example"})
        body, headers = rpc("tools/list")
        headers |= {"authorization": f"Bearer {KEY}", "host": "evil.example"}
        assert foreign.status == 200  # a life sign is for every name
        assert gate.ask("POST", "/mcp", body, headers).status == 421


def test_a_request_in_the_clear_is_sent_to_tls_with_its_method(site: Site) -> None:
    plain = http.client.HTTPConnection("127.0.0.1", site.gate.http_port, timeout=60)
    with contextlib.closing(plain):
        plain.request("POST", "/mcp", b"{}")
        answer = plain.getresponse()
        assert (answer.status, answer.getheader("location")) == (308, f"https://{NAME}/mcp")
        assert answer.getheader("server") == "nginx"


def test_security_headers_stand_once_on_every_answer_and_no_version_is_told(site: Site) -> None:
    with site.service():
        answered = [("GET", "/health"), ("GET", "/nothing"), ("POST", "/mcp"), ("GET", "/metrics")]
        seen = [_headers(site.gate, method, path) for method, path in answered]
    seen.append(_headers(site.gate, "GET", "/health"))  # told by nginx itself: the service is gone
    for headers in seen:
        for name in HEADERS_ONCE:
            assert len(headers.get_all(name) or []) == 1, (name, str(headers))
        assert not re.search(r"\d", headers["server"])


def test_only_tls_1_2_and_1_3_are_spoken(site: Site) -> None:
    spoken = set()
    for version in (ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = site.gate.trust()
        context.set_ciphers("ALL:@SECLEVEL=0")  # the client would speak the old one
        with (
            pytest.warns(DeprecationWarning) if version < ssl.TLSVersion.TLSv1_2 else contextlib.nullcontext()
        ):
            context.minimum_version = context.maximum_version = version
        with (
            contextlib.suppress(ssl.SSLError, ConnectionResetError),
            socket.create_connection(("127.0.0.1", site.gate.https_port)) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as secure,
        ):
            spoken.add(secure.version())
    assert spoken == {"TLSv1.2", "TLSv1.3"}


def test_what_nginx_itself_turns_away_is_told_as_json(site: Site) -> None:
    headers = {"content-type": "application/json", "authorization": f"Bearer {KEY}"}
    too_large = site.gate.ask("POST", "/mcp", b" " * (ServiceSettings().max_body_bytes + 1), headers)
    gone = site.gate.ask("POST", "/mcp", b"{}", headers)
    assert (too_large.status, too_large.json["error"]["code"]) == (413, "body")
    assert (gone.status, gone.json["error"]["code"], gone.headers["retry-after"]) == (503, "unavailable", "1")


def test_an_address_that_asks_without_measure_is_told_when_to_come_again(tmp_path: Path) -> None:
    with (
        nginx_before(free_port(), tmp_path / "nginx", rate="1r/m") as gate,
        contextlib.closing(gate.connection()) as connection,
    ):
        answers = [_answered(connection, "GET", "/health") for _ in range(202)]
    assert {status for status, _ in answers[:201]} == {503}  # nothing is behind it
    assert answers[201][0] == 429  # the first, the burst, and one more
    assert answers[201][1]["retry-after"] == "1"


def test_the_service_sees_the_clients_address_and_not_what_it_claims(site: Site) -> None:
    body, headers = rpc("tools/list")
    with site.service() as service:
        site.gate.ask(
            "POST",
            "/mcp",
            body,
            {**headers, "x-forwarded-for": "203.0.113.9", "forwarded": "for=203.0.113.9"},
        )
        service.stop()  # and what it logs is written
        asked = [line for line in service.log_lines() if line.get("path") == "/mcp"]
    assert [line["address"] for line in asked] == ["127.0.0.1"]


def test_a_part_of_a_stream_arrives_before_the_next_is_sent(tmp_path: Path) -> None:
    arrived = threading.Event()

    class Parts(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.send_header("connection", "close")
            self.end_headers()
            self.wfile.write(b"data: 1\n\n")
            # Were it held back, the client could not say that it came.
            self.wfile.write(b"data: 2\n\n" if arrived.wait(30) else b"data: the first was held back\n\n")

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Parts) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with (
            nginx_before(server.server_address[1], tmp_path / "nginx") as gate,
            contextlib.closing(gate.connection()) as connection,
        ):
            connection.request("POST", "/mcp", b"{}")
            answer = connection.getresponse()
            first = answer.readline()
            arrived.set()
            rest = answer.read()
        server.shutdown()
    assert (first, rest) == (b"data: 1\n", b"\ndata: 2\n\n")


def test_a_restart_behind_nginx_loses_no_acknowledged_note_and_fails_no_request_for_good(site: Site) -> None:
    clients, stop, failed = 3, threading.Event(), []
    kept: list[list[str]] = [[] for _ in range(clients)]
    asked_again = [0] * clients

    def note(number: int) -> None:
        while not stop.is_set():
            text = f"note number {len(kept[number])} of writer{number}"
            for _ in range(600):
                with contextlib.suppress(ConnectionError, http.client.HTTPException):
                    answer = site.gate.call("remember", {"text": text}, KEY)
                    if answer.status == 200 and not answer.message["result"].get("isError"):
                        kept[number].append(text)
                        break
                    if answer.status not in (429, 503):
                        failed.append((answer.status, answer.body))
                        return
                asked_again[number] += 1
                stop.wait(0.1)
            else:
                failed.append((0, text.encode()))
                return

    threads = [threading.Thread(target=note, args=(number,)) for number in range(clients)]
    with site.service() as service:
        for thread in threads:
            thread.start()
        _wait_for_notes(kept, failed, more=5)
        assert service.stop() == 0
    with site.service():
        _wait_for_notes(kept, failed, more=5)
        stop.set()
        for thread in threads:
            thread.join(60)
        for text in (text for texts in kept for text in texts):
            assert text in site.gate.call("search", {"query": f'"{text}"', "limit": 3}, KEY).text
    assert failed == []
    assert sum(asked_again) > 0  # the restart was noticed, and no more than that


def _wait_for_notes(kept: list[list[str]], failed: list[Any], more: int) -> None:
    from docker_kit import until

    goal = [len(texts) + more for texts in kept]
    until(
        lambda: failed or all(len(texts) >= wanted for texts, wanted in zip(kept, goal, strict=True)),
        "every client goes on",
    )


def _headers(gate: Gate, method: str, path: str) -> http.client.HTTPMessage:
    with contextlib.closing(gate.connection()) as connection:
        return _answered(connection, method, path)[1]


def _answered(
    connection: http.client.HTTPConnection, method: str, path: str
) -> tuple[int, http.client.HTTPMessage]:
    """Status and headers, all of them."""
    connection.request(method, path, json.dumps({}) if method == "POST" else None)
    answer = connection.getresponse()
    answer.read()
    return answer.status, answer.headers

"""The service's life: stop, reload, TLS, sockets of systemd, death and return. Each test starts processes of its own."""

import contextlib
import json
import os
import signal
import socket
import ssl
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from certificates import make_certificate
from service_process import HANG_S_MAX, ServiceProcess, request, rpc

from session_mgmt_mcp.tools.service import FORCED

pytestmark = pytest.mark.slow

# gives the process the socket with the number argv[1] as systemd would: as descriptor 3
HAND_OVER = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1'); "
    "os.execv(sys.executable, [sys.executable, '-m', 'session_mgmt_mcp', *sys.argv[2:]])"
)


@contextlib.contextmanager
def half_a_request(running: ServiceProcess, text: str) -> Iterator[Any]:
    """A tools/call that is at work: its head and half its body were sent. Yields a function that sends the rest and gives
    the answer.
    """
    body, headers = rpc("tools/call", {"name": "remember", "arguments": {"text": text}})
    connection = running.connection()
    connection.putrequest("POST", "/mcp")
    for name, value in {**headers, "content-length": str(len(body))}.items():
        connection.putheader(name, value)
    connection.endheaders(body[:20])

    def rest() -> tuple[int, bytes]:
        connection.send(body[20:])
        answer = connection.getresponse()
        return answer.status, answer.read()

    try:
        until_at_work(running)
        yield rest
    finally:
        connection.close()


def until_at_work(running: ServiceProcess) -> None:
    """Wait until the service took a request up."""
    deadline = time.monotonic() + HANG_S_MAX
    while b"session_mgmt_requests_in_flight 1.0" not in running.ask("GET", "/metrics").body:
        assert time.monotonic() < deadline, "it never took the request up"


def until_refused(running: ServiceProcess) -> None:
    """Wait until nobody listens any more."""
    deadline = time.monotonic() + HANG_S_MAX
    while time.monotonic() < deadline:
        try:
            running.ask("GET", "/health")
        except ConnectionRefusedError:
            return
        except (OSError, ssl.SSLError):
            continue
    raise AssertionError("it goes on listening")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_lets_the_request_at_work_finish_and_ends_with_0(
    tmp_path: Path, number: signal.Signals
) -> None:
    with ServiceProcess(tmp_path / "data") as running:
        with half_a_request(running, "said while it stops") as rest:
            running.process.send_signal(number)
            running.until("STOPPING=1")
            until_refused(running)
            status, body = rest()
            assert status == 200
            assert b"Remembered" in body
        assert running.process.wait(HANG_S_MAX) == 0
    with ServiceProcess(tmp_path / "data") as again:
        assert "said while it stops" in again.call("search", {"query": "said while it stops"}).text


def test_a_request_that_takes_longer_than_the_drain_is_cut_off_and_it_ends_with_0(tmp_path: Path) -> None:
    with (
        ServiceProcess(tmp_path / "data", env={"SESSION_MGMT_DRAIN_S": "1"}) as running,
        half_a_request(running, "never said"),
    ):
        assert running.stop() == 0
        assert any("cut off" in line["message"] for line in running.log_lines())


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    with (
        ServiceProcess(tmp_path / "data", env={"SESSION_MGMT_DRAIN_S": "3600"}) as running,
        half_a_request(running, "never said"),
    ):
        running.process.send_signal(signal.SIGTERM)
        running.until("STOPPING=1")
        assert running.stop(signal.SIGINT) == FORCED


def test_starts_and_stops_stand_in_the_log(tmp_path: Path) -> None:
    with ServiceProcess(tmp_path / "data") as running:
        assert running.stop() == 0
    with ServiceProcess(tmp_path / "data") as again:
        told = again.call("audit").text
        assert told.count("started") == 2
        assert "SIGTERM" in told


def test_what_was_acknowledged_before_a_kill_is_found_by_the_next(tmp_path: Path) -> None:
    said: list[str] = []
    with ServiceProcess(tmp_path / "data") as running:

        def talk(number: int) -> None:
            with contextlib.closing(running.connection()) as connection, contextlib.suppress(Exception):
                for step in range(10_000):
                    text = f"kept{number}x{step}"
                    if not running.call("remember", {"text": text}, connection=connection).message["result"][
                        "isError"
                    ]:
                        said.append(text)

        talkers = [threading.Thread(target=talk, args=(number,)) for number in range(8)]
        for talker in talkers:
            talker.start()
        while len(said) < 100:
            assert any(talker.is_alive() for talker in talkers)
        running.process.kill()
        for talker in talkers:
            talker.join(HANG_S_MAX)
    with ServiceProcess(tmp_path / "data") as again, contextlib.closing(again.connection()) as connection:
        lost = [
            text
            for text in said
            if text not in again.call("search", {"query": f'"{text}"'}, connection=connection).text
        ]
        assert len(said) >= 100
        assert lost == []


# -- reload ------------------------------------------------------------------------------------------------------


def reloaded(running: ServiceProcess) -> None:
    """Send HUP and wait until it is done."""
    running.process.send_signal(signal.SIGHUP)
    assert "MONOTONIC_USEC=" in running.until("RELOADING=1")
    running.until("READY=1")


def test_a_reload_takes_over_what_it_may_and_names_what_has_to_wait(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text("max_body_bytes = 4096\n")
    with ServiceProcess(tmp_path / "data", env={"SESSION_MGMT_CONFIG": str(config)}) as running:
        large = {"text": "x" * 5000}
        assert running.call("remember", large).status == 413
        config.write_text("max_body_bytes = 65536\nmax_concurrency = 3\n")
        reloaded(running)
        assert running.call("remember", large).status == 200
        assert any("max_concurrency" in line["message"] for line in running.log_lines())
        config.write_text("max_body_bytes = 'many'\n")
        reloaded(running)
        assert running.call("remember", {"text": "y" * 5000}).status == 200
        assert any(
            "max_body_bytes" in line["message"] for line in running.log_lines() if line["level"] == "ERROR"
        )
        assert running.stop() == 0


def test_what_follows_from_a_setting_that_has_to_wait_waits_too(tmp_path: Path) -> None:
    """Names that are answered by default are those of the address that is listened on."""
    config = tmp_path / "config.toml"
    config.write_text('http_host = "127.0.0.2"\n')
    with ServiceProcess(tmp_path / "data", env={"SESSION_MGMT_CONFIG": str(config)}) as running:
        assert running.call("status").status == 200
        config.write_text('http_host = "127.0.0.1"\n')
        for _ in range(2):
            reloaded(running)
            assert running.call("status").status == 200
        waiting = [
            line for line in running.log_lines() if "at the next start alone: http_host" in line["message"]
        ]
        assert len(waiting) == 2


def test_a_stop_while_it_starts_ends_it_with_0(tmp_path: Path) -> None:
    """The first process of a container gets no signal that it did not ask for."""
    config = tmp_path / "config.toml"
    os.mkfifo(config)
    environment = {"SESSION_MGMT_CONFIG": str(config)}
    starting = ServiceProcess(tmp_path / "data", env=environment)
    try:
        with config.open("w"):  # it reads its settings, and waits for the first
            assert starting.stop() == 0
    finally:
        starting.__exit__(None, None, None)


def test_a_log_file_that_was_moved_away_is_made_anew(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    with ServiceProcess(tmp_path / "data", env={"SESSION_MGMT_LOG_DIR": str(logs)}) as running:
        (name,) = os.listdir(logs)
        (logs / name).rename(tmp_path / "rotated")
        reloaded(running)
        running.call("status")
        assert running.stop() == 0  # a request's line is written after its answer
        assert any(
            json.loads(line).get("tool") == "status" for line in (logs / name).read_text().splitlines()
        )


def test_a_new_certificate_is_shown_to_new_connections(tmp_path: Path) -> None:
    cert, key = make_certificate(tmp_path / "tls", "first.example")
    second_cert, second_key = make_certificate(tmp_path / "next", "second.example")
    tls = {"SESSION_MGMT_TLS_CERT_FILE": str(cert), "SESSION_MGMT_TLS_KEY_FILE": str(key)}
    with ServiceProcess(tmp_path / "data", env=tls) as running:
        assert running.url.startswith("https://")
        assert running.ask("GET", "/ready", trust=cert).status == 200
        body, headers = rpc("tools/list")
        assert running.ask("POST", "/mcp", body, headers, trust=cert).status == 200
        open_before = running.connection(trust=cert)
        assert request(open_before, "GET", "/health").status == 200
        first = cert.read_bytes()
        second_cert.replace(cert)
        reloaded(running)  # the key is still the first one's
        assert any(
            "tls_key_file" in line["message"] for line in running.log_lines() if line["level"] == "ERROR"
        )
        (tmp_path / "trusted.pem").write_bytes(first)
        assert running.ask("GET", "/health", trust=tmp_path / "trusted.pem").status == 200
        second_key.replace(key)
        reloaded(running)
        assert running.ask("GET", "/health", trust=cert).status == 200
        with pytest.raises(ssl.SSLCertVerificationError):
            running.ask("GET", "/health", trust=tmp_path / "trusted.pem")
        assert request(open_before, "GET", "/health").status == 200
        open_before.close()


def test_nothing_older_than_tls_1_2_is_spoken(tmp_path: Path) -> None:
    cert, key = make_certificate(tmp_path / "tls")
    tls = {"SESSION_MGMT_TLS_CERT_FILE": str(cert), "SESSION_MGMT_TLS_KEY_FILE": str(key)}
    with ServiceProcess(tmp_path / "data", env=tls) as running:
        connection = running.connection(trust=cert)
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.load_verify_locations(cert)
        old.set_ciphers("DEFAULT:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning):
            old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
        with (
            socket.create_connection((connection.host, connection.port)) as wire,
            pytest.raises((ssl.SSLError, ConnectionResetError)),
        ):
            old.wrap_socket(wire, server_hostname="localhost")
        assert running.ask("GET", "/health", trust=cert).status == 200


# -- systemd -----------------------------------------------------------------------------------------------------


def test_the_watchdog_is_fed(tmp_path: Path) -> None:
    with ServiceProcess(tmp_path / "data", env={"WATCHDOG_USEC": "3000000"}) as running:
        for _ in range(2):
            running.until("WATCHDOG=1")


def test_a_restart_on_a_socket_of_systemd_loses_no_connection(tmp_path: Path) -> None:
    """The socket stays open while nobody serves it; who connects meanwhile is answered by the next process."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        number = listening.fileno()

        def started() -> ServiceProcess:
            command = (sys.executable, "-c", HAND_OVER, str(number))
            return ServiceProcess(tmp_path / "data", command=command, pass_fds=(number,))

        with started() as running:
            assert running.url == f"http://127.0.0.1:{listening.getsockname()[1]}/mcp"
            assert running.call("remember", {"text": "before the restart"}).status == 200
            waiting = running.connection()
            assert running.stop() == 0
            waiting.connect()  # nobody serves
        with started() as again:
            assert request(waiting, "GET", "/ready").status == 200
            assert "before the restart" in again.call("search", {"query": "before the restart"}).text
            waiting.close()


def test_metrics_have_a_port_of_their_own_unless_told(tmp_path: Path) -> None:
    with ServiceProcess(tmp_path / "data", env={"SESSION_MGMT_METRICS_PORT": str(_free_port())}) as running:
        assert running.ask("GET", "/metrics").status == 404
        running.addresses["mcp"] = running.addresses["metrics"]
        assert b"session_mgmt_requests_total" in running.ask("GET", "/metrics").body
        assert running.ask("GET", "/health").status == 200
        assert running.ask("POST", "/mcp", b"{}").status == 404


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

"""Servers that share a data folder: one serves, the others are bridges, and nothing is lost when it goes."""

import fcntl
import json
import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest
from mcp_raw_client import HANG_S_MAX, RawClient, alive

from session_mgmt_mcp.adapters.mcp import bridge
from session_mgmt_mcp.adapters.mcp.host import LOCK

SERVER = str(Path(__file__).parent.parent / "support" / "mcp_shared_server.py")
Start = Callable[..., RawClient]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What looks like a data folder."""
    made = tmp_path / "data"
    made.mkdir(mode=0o700)
    (made / "FORMAT.json").write_text("{}")
    return made


@pytest.fixture
def start(folder: Path) -> Iterator[Start]:
    """Starts servers on the folder, each with its handshake done."""
    with ExitStack() as stack:

        def started(on: Path = folder, **options: Any) -> RawClient:
            client = stack.enter_context(RawClient(command=[sys.executable, SERVER, str(on)], **options))
            client.initialize()
            return client

        yield started


def told(text: str) -> dict[str, Any]:
    """What the services said of themselves."""
    found = re.search(r"\{.*\}", text)
    assert found, text
    said: dict[str, Any] = json.loads(found[0])
    return said


def who(client: RawClient) -> dict[str, Any]:
    return told(client.call("search", query="who")[0])


def ask(client: RawClient, number: int, query: str) -> None:
    """Send a search without waiting for its answer."""
    params = {"name": "search", "arguments": {"query": query}}
    request = {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}
    client.write(json.dumps(request).encode())


def until(happened: Callable[[], bool]) -> None:
    """Returns once it has; fails where that is in vain."""
    limit = threading.Event()
    guard = threading.Timer(HANG_S_MAX / 2, limit.set)
    guard.start()
    while not happened():
        assert not limit.is_set(), "it never happens"
        os.sched_yield()
    guard.cancel()


def listening_since(folder: Path) -> int | None:
    """When the host's socket was made (ns); None while there is none: a successor removes it and makes its own."""
    try:
        return (folder / bridge.SOCKET).stat().st_mtime_ns
    except FileNotFoundError:
        return None


def is_taken_up(folder: Path) -> None:
    until((folder / "taken").exists)


def answered(client: RawClient) -> tuple[int, dict[str, Any]]:
    message = client.read()
    return message["id"], told(message["result"]["content"][0]["text"])


def test_the_first_that_is_asked_serves_the_others_too(folder: Path, start: Start) -> None:
    first, second, third = start(), start(), start()
    assert who(second)["pid"] == second.process.pid
    assert {who(client)["pid"] for client in (first, third, second)} == {second.process.pid}
    assert (folder / bridge.SOCKET).stat().st_mode & 0o777 == 0o600


def test_the_host_is_told_who_asks_and_where(start: Start, tmp_path: Path) -> None:
    host, other = start(), start(cwd=tmp_path)
    assert who(host)["caller"] == [os.getpid(), os.getcwd()]
    assert who(other)["caller"] == [os.getpid(), str(tmp_path)]


def test_a_bridge_stays_small_and_loads_no_engine(start: Start) -> None:
    host, thin = start(), start()
    who(host)
    assert who(thin)["pid"] == host.process.pid
    maps = Path(f"/proc/{thin.process.pid}/maps")
    if not maps.exists():
        pytest.skip("needs /proc")
    assert "pydantic" in Path(f"/proc/{host.process.pid}/maps").read_text()
    assert "pydantic" not in maps.read_text() and "duckdb" not in maps.read_text()
    status = Path(f"/proc/{thin.process.pid}/status").read_text()
    assert int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) < 40 << 10


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "left"])
def test_when_the_host_goes_what_it_was_asked_is_answered_by_another(
    folder: Path, start: Start, number: signal.Signals
) -> None:
    host, one, two = start(), start(), start()
    assert who(host)["pid"] == who(one)["pid"] == who(two)["pid"] == host.process.pid
    ask(one, 70, "hang")
    is_taken_up(folder)
    ask(one, 71, "who")
    assert answered(one) == (71, {**answered_by(host), "key": ANY, "query": "who"})
    host.process.send_signal(number)
    number_70, said = answered(one)
    assert number_70 == 70
    assert said["pid"] in (one.process.pid, two.process.pid)  # whoever took the place first
    assert who(two)["pid"] == who(one)["pid"] == said["pid"]


def answered_by(host: RawClient) -> dict[str, Any]:
    return {"pid": host.process.pid, "caller": [os.getpid(), os.getcwd()]}


@pytest.mark.slow
def test_a_request_has_the_same_key_when_it_is_sent_again_and_no_other_has(
    folder: Path, start: Start
) -> None:
    host, other = start(), start()
    who(host)
    ask(other, 70, "hang")
    is_taken_up(folder)
    host.process.kill()
    before = told(other.read()["result"]["content"][0]["text"])["key"]
    after = who(other)["key"]
    assert before and after and before != after
    nonce, _, number = before.partition("-")
    assert after == f"{nonce}-{int(number) + 1}"


@pytest.mark.slow
def test_a_cancelled_request_is_not_asked_again(folder: Path, start: Start) -> None:
    host, other = start(), start()
    who(host)
    ask(other, 70, "hang")
    is_taken_up(folder)
    other.write(b'{"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 70}}')
    ask(other, 71, "who")
    assert answered(other)[0] == 71
    host.process.kill()
    ask(other, 72, "who")
    assert answered(other)[0] == 72


@pytest.mark.slow
def test_a_host_without_work_is_replaced_before_anybody_asks(folder: Path, start: Start) -> None:
    host, other = start(), start()
    who(host)
    who(other)
    listening = listening_since(folder)
    host.process.kill()
    until(lambda: listening_since(folder) not in (None, listening))
    late = start()
    assert who(late)["pid"] == other.process.pid


@pytest.mark.slow
def test_a_host_that_does_not_move_is_done_without(folder: Path, start: Start) -> None:
    host, other = start(), start()
    who(host)
    who(other)
    host.process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, host.process.pid, os.WSTOPPED)
    try:
        ask(other, 70, "who")
        assert answered(other)[1]["pid"] == other.process.pid
        late = start()
        assert who(late)["pid"] == late.process.pid
    finally:
        host.process.send_signal(signal.SIGCONT)
    assert who(host)["pid"] == host.process.pid
    assert who(other)["pid"] == other.process.pid


@pytest.mark.slow
def test_a_client_that_does_not_read_holds_up_nobody(start: Start) -> None:
    host, slow, other = start(), start(), start()
    who(host)
    for number in range(20):
        ask(slow, number, "big 400000")  # more than the pipe and the socket hold
    assert who(other)["pid"] == host.process.pid
    assert who(host)["pid"] == host.process.pid
    assert sorted(slow.read()["id"] for _ in range(20)) == list(range(20))


@pytest.mark.slow
def test_large_messages_pass_whole_in_both_directions(start: Start) -> None:
    host, other = start(), start()
    who(host)
    request = {"name": "remember", "arguments": {"text": "y" * 3_000_000}}
    assert "at most" in other.request("tools/call", request)["result"]["content"][0]["text"]
    text, _ = other.call("search", query="big 3000000")
    assert text.count("x") >= 3_000_000 and told(text)["pid"] == host.process.pid


def test_a_line_that_is_no_message_is_answered_over_the_bridge_too(start: Start) -> None:
    host, other = start(), start()
    who(host)
    who(other)
    other.write(b"this is no json")
    assert other.read()["error"]["code"] == -32700
    other.write(b'{"id": 8, "method": "ping"}')
    message = other.read()
    assert (message["id"], message["error"]["code"]) == (8, -32600)
    assert who(other)["pid"] == host.process.pid


@pytest.mark.slow
def test_other_settings_are_not_served(start: Start) -> None:
    host, other = start(), start(env={**os.environ, "EMBEDDING_CACHE_SIZE": "3"})
    who(host)
    assert who(other)["pid"] == other.process.pid
    assert who(host)["pid"] == host.process.pid


@pytest.mark.slow
def test_the_socket_of_a_dead_host_is_replaced(folder: Path, start: Start) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(folder / bridge.SOCKET))
    host, other = start(), start()
    who(host)
    assert who(other)["pid"] == host.process.pid


@pytest.mark.slow
def test_a_lock_held_by_who_does_not_listen_is_not_waited_for_longer_than_its_limit(
    folder: Path, start: Start
) -> None:
    with open(folder / LOCK, "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        client = start()
        assert who(client)["pid"] == client.process.pid


@pytest.mark.slow
def test_a_host_that_goes_whenever_it_is_asked_is_soon_done_without(folder: Path, start: Start) -> None:
    with open(folder / LOCK, "w") as held, socket.socket(socket.AF_UNIX) as broken:
        fcntl.flock(held, fcntl.LOCK_EX)
        broken.bind(str(folder / bridge.SOCKET))
        broken.listen()
        taken = 0

        def serve() -> None:
            nonlocal taken
            with suppress(OSError):
                while True:
                    peer = broken.accept()[0]
                    with peer, peer.makefile("rb") as lines:
                        lines.readline()
                        peer.sendall(b'{"refused": ""}\n')
                        lines.readline()
                    taken += 1

        serving = threading.Thread(target=serve)
        serving.start()
        client = start()
        assert who(client)["pid"] == client.process.pid
        broken.shutdown(socket.SHUT_RDWR)
        serving.join()
        assert taken == 3


@pytest.mark.slow
def test_a_folder_with_a_name_too_long_for_a_socket_is_shared_too(tmp_path: Path, start: Start) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    (deep / "FORMAT.json").write_text("{}")
    host, other = start(deep), start(deep)
    who(host)
    assert who(other)["pid"] == host.process.pid


@pytest.mark.slow
def test_in_a_folder_that_is_no_data_folder_nothing_is_written(folder: Path, start: Start) -> None:
    (folder / "FORMAT.json").unlink()
    one, other = start(), start()
    assert who(one)["pid"] == one.process.pid
    assert who(other)["pid"] == other.process.pid
    assert list(folder.iterdir()) == []


@pytest.mark.slow
def test_who_talks_something_else_is_turned_away(folder: Path, start: Start) -> None:
    host = start()
    who(host)
    for opening in (b"GET / HTTP/1.1\r\n\r\n", b"[]\n", b"{}\n", b'{"pid": "x", "folder": 3}\n'):
        with socket.socket(socket.AF_UNIX) as stranger:
            stranger.connect(str(folder / bridge.SOCKET))
            stranger.settimeout(HANG_S_MAX / 2)
            stranger.sendall(opening)
            assert b"result" not in stranger.recv(4096)
    assert who(start())["pid"] == host.process.pid


@pytest.mark.parametrize("way", ["input", "signal"])
def test_a_bridge_with_a_request_under_way_ends_on_time(folder: Path, start: Start, way: str) -> None:
    host, other = start(), start()
    who(host)
    ask(other, 70, "hang")
    is_taken_up(folder)
    if way == "input":
        other.close_input()
    else:
        other.process.send_signal(signal.SIGTERM)
    assert other.ends() == 0
    assert alive(host.process.pid) and who(host)["pid"] == host.process.pid


def test_a_host_that_leaves_takes_its_socket_away(folder: Path, start: Start) -> None:
    host = start()
    who(host)
    host.close_input()
    assert host.ends() == 0
    assert not (folder / bridge.SOCKET).exists() and (folder / LOCK).exists()

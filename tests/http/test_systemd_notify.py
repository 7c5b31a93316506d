"""What systemd is told, and the sockets it hands over."""

import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from session_mgmt_mcp.core.errors import SettingsError
from session_mgmt_mcp.tools import systemd_notify
from session_mgmt_mcp.tools.systemd_notify import Notifier, inherited_sockets


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """systemd's end of the wire, on an abstract address."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(f"\0session-mgmt-notify-{os.getpid()}")
        told.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@session-mgmt-notify-{os.getpid()}")
        yield told


def test_each_state_is_told_as_systemd_reads_it(manager: socket.socket) -> None:
    notifier = Notifier()
    notifier.ready("serving")
    assert manager.recv(500) == b"READY=1\nSTATUS=serving"
    notifier.reloading()
    state, _, stamp = manager.recv(500).partition(b"\n")
    assert state == b"RELOADING=1"
    assert stamp.startswith(b"MONOTONIC_USEC=")
    notifier.stopping("draining")
    assert manager.recv(500) == b"STOPPING=1\nSTATUS=draining"
    notifier.alive("not ready: log: the disk is full\nREADY=1")
    assert manager.recv(500) == b"WATCHDOG=1\nSTATUS=not ready: log: the disk is full READY=1"


def test_a_socket_in_the_file_system_is_told_too(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = str(tmp_path_factory.mktemp("n") / "s")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(path)
        told.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", path)
        Notifier().alive("serving")
        assert told.recv(500) == b"WATCHDOG=1\nSTATUS=serving"


def test_a_manager_that_is_gone_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/nonexistent/notify")
    Notifier().ready("serving")


@pytest.mark.parametrize(
    ("usec", "pid", "seconds"),
    [("30000000", None, 30.0), ("30000000", "own", 30.0), ("30000000", "1", 0.0), ("", None, 0.0)],
)
def test_the_watchdog_waits_for_the_process_it_names(
    monkeypatch: pytest.MonkeyPatch, usec: str, pid: str | None, seconds: float
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", usec)
    if pid is not None:
        monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()) if pid == "own" else pid)
    assert Notifier().watchdog_s == seconds


def test_children_do_not_speak_for_the_service(manager: socket.socket) -> None:
    Notifier()
    assert "NOTIFY_SOCKET" not in os.environ


def _two_free_descriptors() -> int:
    """The first of two that follow each other: what the test runner or another test holds is not touched."""
    with Path(os.devnull).open("rb") as some:
        low = 200
        while True:
            first, second = (fcntl.fcntl(some, fcntl.F_DUPFD, low + index) for index in range(2))
            os.close(first)
            os.close(second)
            if (first, second) == (low, low + 1):
                return low
            low = second


class TestInheritedSockets:
    @pytest.fixture(autouse=True)
    def first(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[socket.socket]]:
        """Two sockets where systemd would put them: descriptors that follow each other."""
        opened = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
        low = _two_free_descriptors()
        for index, one in enumerate(opened):
            os.dup2(one.fileno(), low + index)
        monkeypatch.setattr(systemd_notify, "_FIRST_FD", low)
        monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
        monkeypatch.setenv("LISTEN_FDS", "2")
        monkeypatch.delenv("LISTEN_FDNAMES", raising=False)
        yield opened
        for one in opened:
            one.close()
        for index in range(2):
            try:
                os.close(low + index)
            except OSError:
                continue  # the test took it over and closed it

    def taken(self) -> dict[str, int]:
        """name -> port."""
        found = inherited_sockets()
        ports = {name: one.getsockname()[1] for name, one in found.items()}
        for one in found.values():
            one.close()
        return ports

    def test_without_names_the_first_is_the_service_and_the_second_the_metrics(
        self, first: list[socket.socket]
    ) -> None:
        ports = [one.getsockname()[1] for one in first]
        assert self.taken() == {"http": ports[0], "metrics": ports[1]}

    def test_names_say_which_is_which(
        self, first: list[socket.socket], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("LISTEN_FDNAMES", "metrics:http")
        ports = [one.getsockname()[1] for one in first]
        assert self.taken() == {"http": ports[1], "metrics": ports[0]}

    @pytest.mark.parametrize("names", ["http:http", "metrics:metrics"])
    def test_a_socket_nobody_would_serve_is_refused(
        self, names: str, first: list[socket.socket], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Two addresses in one unit have the same name; clients of the first would wait for ever."""
        monkeypatch.setenv("LISTEN_FDNAMES", names)
        with pytest.raises(SettingsError, match=r"socket 2 of 2 .*FileDescriptorName="):
            inherited_sockets()

    def test_sockets_of_another_process_are_left_alone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LISTEN_PID", "1")
        assert inherited_sockets() == {}

    def test_children_inherit_neither_sockets_nor_their_names(self) -> None:
        found = inherited_sockets()
        assert not any(os.get_inheritable(one.fileno()) for one in found.values())
        assert "LISTEN_FDS" not in os.environ
        assert inherited_sockets() == {}
        for one in found.values():
            one.close()

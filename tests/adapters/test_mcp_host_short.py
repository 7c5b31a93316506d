"""A host that can get no more threads."""

import socket
import threading
from typing import Any

import pytest

from session_mgmt_mcp.adapters.mcp import host
from session_mgmt_mcp.adapters.mcp.host import Host


class OverError(Exception):
    """Nobody else comes."""


class Listening:
    """Two clients come, one after the other."""

    def __init__(self) -> None:
        pairs = [socket.socketpair() for _ in range(2)]
        self.clients = [client for client, _ in pairs]
        self._peers = [peer for _, peer in pairs]

    def accept(self) -> tuple[socket.socket, str]:
        if not self._peers:
            raise OverError
        return self._peers.pop(0), ""


def test_a_client_for_whom_there_is_no_thread_is_let_go_and_the_next_is_served(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    served: list[socket.socket] = []

    class Thread:
        """The first cannot be had."""

        begun = 0

        def __init__(self, args: tuple[socket.socket], **_: Any) -> None:
            self._peer = args[0]

        def start(self) -> None:
            Thread.begun += 1
            if Thread.begun == 1:
                raise RuntimeError("can't start new thread")
            served.append(self._peer)

    class Event(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            return False

    monkeypatch.setattr(host.threading, "Thread", Thread)
    monkeypatch.setattr(host.threading, "Event", Event)
    listening = Listening()
    with pytest.raises(OverError):
        Host("/nowhere", {}, lambda: None)._accept(listening)  # type: ignore[arg-type, return-value]
    refused, taken = listening.clients
    assert refused.recv(1) == b""
    assert "no other server can be taken on" in capsys.readouterr().err
    served[0].sendall(b"!")
    assert taken.recv(1) == b"!"
    for one in (refused, taken, *served):
        one.close()

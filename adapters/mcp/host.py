"""Serving the other servers of a data folder: the first that is asked something holds `host.lock` and listens.

Clients come over a socket in the folder that only the user may use. Each has a thread that receives, so that it is told
at once that the host moves, and one that hands its lines to the SDK, which may first have to be loaded.
"""

import contextlib
import fcntl
import json
import os
import queue
import socket
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from session_mgmt_mcp.adapters.mcp.bridge import (
    ASKED,
    MOVES,
    SILENCE_S_MAX,
    SOCKET,
    lines_of,
    peer_of,
    socket_address,
)
from session_mgmt_mcp.adapters.mcp.caller import Caller

if TYPE_CHECKING:
    from session_mgmt_mcp.adapters.mcp.engine import Connection, Engine

LOCK = "host.lock"
CLIENTS_MAX = 200
WAITING_LINES_MAX = 1000  # of one client
_BACKLOG = 128


def try_host_lock(folder: str) -> int | None:
    """The lock's descriptor; None where another process holds it. Raises OSError. The file is never removed."""
    descriptor = os.open(f"{folder}/{LOCK}", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


class Host:
    """The holder of `host.lock`, until the process ends. `offer` is what a client must have in common with it."""

    def __init__(self, folder: str, offer: dict[str, Any], engine: "Callable[[], Engine]") -> None:
        self._folder, self._offer, self._engine = folder, offer, engine
        self._places = threading.Semaphore(CLIENTS_MAX)

    def start(self) -> None:
        """Listen. A dead host's socket is replaced: who holds the lock is the only one alive. Raises OSError."""
        address, descriptor = socket_address(self._folder)
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(address)
            listening = socket.socket(socket.AF_UNIX)
            listening.bind(
                address
            )  # nobody else gets into the folder, whatever the socket's mode is till the next line
            os.chmod(address, 0o600)
            listening.listen(_BACKLOG)
        finally:
            if descriptor is not None:
                os.close(descriptor)
        threading.Thread(target=self._accept, args=(listening,), name="host", daemon=True).start()

    def leave(self) -> None:
        """Take the socket away; the lock goes with the process."""
        with contextlib.suppress(OSError):
            os.unlink(f"{self._folder}/{SOCKET}")

    def _accept(self, listening: socket.socket) -> None:
        while True:
            peer = None
            try:
                peer, _ = listening.accept()
                threading.Thread(target=self._serve, args=(peer,), name="host-client", daemon=True).start()
            except (
                OSError,
                RuntimeError,
            ) as error:  # no descriptor or thread: who is not taken serves itself
                print(f"session-mgmt: no other server can be taken on: {error}", file=sys.stderr)
                if peer is not None:
                    peer.close()
                threading.Event().wait(1.0)

    def _serve(self, peer: socket.socket) -> None:
        place = self._places.acquire(blocking=False)
        try:
            client = _Client(peer)
            caller = client.introduced(self._offer, full=not place)
            if caller is not None:
                client.serve(caller, self._engine)
        except (OSError, ValueError, KeyError):
            pass  # it left, or talks something else
        finally:
            peer.close()
            if place:
                self._places.release()


class _Client:
    """Another server's client."""

    def __init__(self, peer: socket.socket) -> None:
        self._peer = peer
        self._received = lines_of(peer)
        self._sending = threading.Lock()
        self._lines: queue.Queue[bytes | None] = queue.Queue(WAITING_LINES_MAX)

    def introduced(self, offer: dict[str, Any], *, full: bool) -> Caller | None:
        """Who it is; None where it was refused. Raises OSError, ValueError or KeyError where it is no server of ours."""
        if not peer_of(self._peer)[1]:
            return None
        self._peer.settimeout(SILENCE_S_MAX)
        hello = json.loads(next(self._received, b""))
        self._peer.settimeout(None)
        caller = Caller(int(hello.pop("pid")), str(hello.pop("folder")))
        differs = [name for name in offer if hello.get(name) != offer[name]]
        refusal = "too many clients" if full else f"another {differs[0]}" if differs else ""
        self._peer.sendall(json.dumps({"refused": refusal}).encode() + b"\n")
        return None if refusal else caller

    def serve(self, caller: Caller, engine: "Callable[[], Engine]") -> None:
        """Until it leaves."""
        feeding = threading.Thread(target=self._feed, args=(caller, engine), name="host-feed", daemon=True)
        feeding.start()
        try:
            for line in self._received:
                if line == ASKED:
                    with self._sending:
                        self._peer.sendall(MOVES + b"\n")
                else:
                    self._lines.put(line)
        finally:
            self._lines.put(None)
            feeding.join()

    def _feed(self, caller: Caller, engine: "Callable[[], Engine]") -> None:
        connection: Connection | None = None
        try:
            while (line := self._lines.get()) is not None:
                if connection is None:
                    connection = engine().connect(caller, self._send, self._gone)
                key, _, message = line.partition(b"\t")
                connection.feed(message, key.decode())
        except Exception as error:  # noqa: BLE001  the client finds somebody else, or serves itself
            print(f"session-mgmt: another server's client could not be served: {error!r}", file=sys.stderr)
            self._gone()
            while self._lines.get() is not None:
                pass
        if connection is not None:
            connection.end()

    def _send(self, line: bytes, answers: str) -> None:
        with self._sending:
            self._peer.sendall(b"%b\t%b" % (answers.encode(), line))

    def _gone(self) -> None:
        with contextlib.suppress(OSError):
            self._peer.shutdown(socket.SHUT_RDWR)

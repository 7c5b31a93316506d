"""Being served by another server on the same data folder, its host: lines go through, nothing heavy is loaded.

On the socket a line of the client travels as `<key>\\t<line>`, one to the client as `<JSON of the id it answers>\\t<line>`.
The first line each way is a JSON object (`hello` and its reply). `?` asks whether the other side still moves, `!` says so.
"""

import json
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from session_mgmt_mcp.adapters.mcp.caller import own_caller
from session_mgmt_mcp.adapters.mcp.front import LinkLostError

if TYPE_CHECKING:
    from session_mgmt_mcp.adapters.mcp.front import Front

SOCKET = "host.sock"
BEAT_S = 1.0
SILENCE_S_MAX = (
    20.0  # a host that owes an answer and says nothing for so long does not move; it may just be busy
)
ASKED, MOVES = b"?", b"!"
_PATH_BYTES_MAX = 100  # what a socket's address holds on every system
_RECEIVED_BYTES = 256 << 10


class HostAwayError(Exception):
    """Nobody listens, or not yet."""


class HostUnfitError(Exception):
    """There is a host, but it cannot serve this client: another version or other settings, or it does not move."""


def socket_address(folder: str) -> tuple[str, int | None]:
    """What to bind or connect to, and a descriptor to close afterwards. Raises OSError where the path is too long."""
    path = f"{folder}/{SOCKET}"
    if len(os.fsencode(path)) <= _PATH_BYTES_MAX:
        return path, None
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    path = f"/proc/self/fd/{descriptor}/{SOCKET}"
    if os.path.exists(f"/proc/self/fd/{descriptor}/."):
        return path, descriptor
    os.close(descriptor)
    raise OSError(f"{folder}/{SOCKET}: too long for a socket's name")


def peer_of(peer: socket.socket) -> tuple[int, bool]:
    """The process at the other end, 0 where the system cannot tell, and whether it belongs to the same user.

    Where that cannot be told either, the mode of the folder has to do.
    """
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return 0, True
    pid, user, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, option, struct.calcsize("3i")))
    return pid, user == os.geteuid()


def is_stopped(pid: int) -> bool:
    """Whether a process was stopped, as by SIGSTOP. False where the system cannot tell."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            return stat.read().rpartition(b")")[2].split()[0] in (b"T", b"t")
    except (OSError, IndexError):
        return False


def lines_of(peer: socket.socket, silent: Callable[[], None] | None = None) -> Iterator[bytes]:
    """The lines that arrive, without their ends, until the connection does. `silent()` is called every BEAT_S without.

    Raises OSError.
    """
    poll = select.poll()
    poll.register(peer, select.POLLIN)
    parts: list[bytes] = []
    while True:
        if silent is not None and not poll.poll(BEAT_S * 1000):
            silent()
            continue
        received = peer.recv(_RECEIVED_BYTES)
        if not received:
            return
        *whole, rest = received.split(b"\n")
        for line in whole:
            yield b"".join((*parts, line)) if parts else line
            parts = []
        if rest:
            parts.append(rest)


class Bridge:
    """A link over a host's socket. Its thread delivers what the host says and watches whether it moves."""

    def __init__(self, peer: socket.socket, host: int, front: "Front") -> None:
        self._peer, self._host, self._front = peer, host, front
        self._sending = threading.Lock()
        self._heard_s = time.monotonic()

    @classmethod
    def open(cls, folder: str, hello: dict[str, Any], front: "Front") -> "Bridge":
        """Raises HostAwayError or HostUnfitError."""
        peer = socket.socket(socket.AF_UNIX)
        try:
            _connect(peer, folder)
            host, is_own = peer_of(peer)
            if not is_own:
                raise HostUnfitError("it belongs to another user")
            caller = own_caller()
            _introduce(peer, host, {**hello, "pid": caller.pid, "folder": caller.folder})
        except (HostAwayError, HostUnfitError):
            peer.close()
            raise
        bridge = cls(peer, host, front)
        threading.Thread(target=bridge._receive, name="bridge", daemon=True).start()
        return bridge

    def feed(self, line: bytes, key: str) -> None:
        try:
            with self._sending:
                self._peer.sendall(b"%b\t%b" % (key.encode(), line))
        except OSError as error:
            raise LinkLostError from error

    def end(self) -> None:
        """Wakes whoever sends or receives."""
        try:
            self._peer.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # it is closed already

    def _receive(self) -> None:
        try:
            for line in lines_of(self._peer, self._silent):
                self._heard_s = time.monotonic()
                if line == MOVES:
                    continue
                answers, _, message = line.partition(b"\t")
                self._front.deliver(self, message + b"\n", answers.decode())
                self._heard_s = time.monotonic()  # the client may have been slow to take it
        except OSError:
            pass  # it is gone, or did not move
        self._front.lost(self)
        with self._sending:
            self._peer.close()

    def _silent(self) -> None:
        """Nothing was heard for a while. Raises OSError where that was too long."""
        if not self._front.waits():
            self._heard_s = time.monotonic()
            return
        if time.monotonic() - self._heard_s > SILENCE_S_MAX or is_stopped(self._host):
            self.end()
            raise OSError("the host does not move")
        if self._sending.acquire(blocking=False):  # who holds it is waiting for the host as well
            try:
                self._peer.sendall(ASKED + b"\n")
            finally:
                self._sending.release()


def _connect(peer: socket.socket, folder: str) -> None:
    try:
        address, descriptor = socket_address(folder)
    except OSError as error:
        raise HostUnfitError(str(error)) from error
    peer.settimeout(BEAT_S)
    try:
        peer.connect(address)
    except TimeoutError as error:
        raise HostUnfitError("it takes no connections") from error
    except OSError as error:
        raise HostAwayError from error
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _introduce(peer: socket.socket, host: int, hello: dict[str, Any]) -> None:
    """Raises HostUnfitError where the host declines or does not move, HostAwayError where it goes."""
    deadline = time.monotonic() + SILENCE_S_MAX
    reply = b""
    try:
        peer.sendall(json.dumps(hello).encode() + b"\n")
        while not reply.endswith(b"\n"):
            try:
                received = peer.recv(4096)
            except TimeoutError:
                if is_stopped(host) or time.monotonic() > deadline:
                    raise HostUnfitError("it does not move") from None
                continue
            if not received:
                raise HostAwayError
            reply += received
        peer.settimeout(None)
    except OSError as error:
        raise HostAwayError from error
    if refusal := json.loads(reply)["refused"]:
        raise HostUnfitError(refusal)

"""What systemd is told (sd_notify(3)), and the sockets it hands over (sd_listen_fds(3)). Without systemd all of it is nothing."""

import contextlib
import os
import socket
import time

from session_mgmt_mcp.core.errors import SettingsError

_FIRST_FD = 3
_NAMES = ("http", "metrics")


class Notifier:
    """Sends states to `NOTIFY_SOCKET`. Never raises: a supervisor that is gone is no reason to stop."""

    def __init__(self) -> None:
        """Takes the variables out of the environment, so that no child speaks for this process."""
        self._address = os.environ.pop("NOTIFY_SOCKET", "")
        meant_for = os.environ.pop("WATCHDOG_PID", "")
        usec = os.environ.pop("WATCHDOG_USEC", "")
        mine = not meant_for or meant_for == str(os.getpid())
        self.watchdog_s = int(usec) / 1e6 if mine and usec.isdigit() else 0.0
        """How often WATCHDOG=1 is wanted at the latest, in seconds; 0: never."""

    def ready(self, status: str) -> None:
        self._send(f"READY=1\nSTATUS={_line(status)}")

    def reloading(self) -> None:
        """`ready` has to follow."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self, status: str) -> None:
        self._send(f"STOPPING=1\nSTATUS={_line(status)}")

    def alive(self, status: str) -> None:
        self._send(f"WATCHDOG=1\nSTATUS={_line(status)}")

    def _send(self, text: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
            out.setblocking(False)
            out.sendto(text.encode(), address)


def _line(text: str) -> str:
    """One line: each further one would be another assignment."""
    return " ".join(text.split())


def inherited_sockets() -> dict[str, socket.socket]:
    """Listening sockets that systemd opened for this process, by name (`FileDescriptorName=`); without names `http` is the
    first, `metrics` the second. Empty where there are none; a second call finds none. Raises SettingsError for one
    that nobody would serve: who connects to it would wait for ever.
    """
    meant_for = os.environ.pop("LISTEN_PID", "")
    count = os.environ.pop("LISTEN_FDS", "")
    names = os.environ.pop("LISTEN_FDNAMES", "").split(":")
    if meant_for != str(os.getpid()) or not count.isdigit():
        return {}
    taken: list[str] = []
    for index in range(int(count)):
        named = names[index] if index < len(names) else ""
        name = named if named in _NAMES else next((one for one in _NAMES if one not in taken), "")
        if not name or name in taken:
            raise SettingsError(
                f"socket {index + 1} of {count} that systemd opened would not be served: the service has one named http and "
                "one named metrics; give each a unit of its own with FileDescriptorName=, and one ListenStream="
            )
        taken.append(name)
    return {name: _listening(_FIRST_FD + index) for index, name in enumerate(taken)}


def _listening(descriptor: int) -> socket.socket:
    listening = socket.socket(fileno=descriptor)
    listening.set_inheritable(False)
    listening.setblocking(False)
    return listening

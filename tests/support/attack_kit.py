"""A service that asks for keys, off loopback, and the keys of those who use it and of those who should not."""

import contextlib
import os
import socket
import threading
from pathlib import Path
from typing import Any

from guarded_server import HANG_S_MAX, exchange
from service_process import ServiceProcess

from session_mgmt_mcp.core.access import Role
from session_mgmt_mcp.core.envelope import now_us
from session_mgmt_mcp.tools.access_keys import NewKey, Wanted, create
from session_mgmt_mcp.tools.app import App

NAMES = "localhost,127.0.0.1,0.0.0.0"
ATTACKS_S_MAX = 600.0
HOUR_US = 3_600_000_000


def new_key(folder: Path, name: str, role: Role = Role.WRITER, **wanted: Any) -> NewKey:
    """A key of a data folder; `wanted`: as `Wanted` takes it, and `now` (µs) to have it made at another time."""
    now = wanted.pop("now", 0)
    return create(folder, Wanted(name, role, **wanted), lambda stored: None, now)


def expired_key(folder: Path, name: str) -> NewKey:
    """A key whose time was up an hour ago."""
    now = now_us()
    return new_key(folder, name, now=now - 2 * HOUR_US, expires_at=now - HOUR_US)


def data_folder(folder: Path) -> Path:
    """An empty data folder."""
    before = os.environ.get("SESSION_MGMT_DATA_DIR")
    os.environ["SESSION_MGMT_DATA_DIR"] = str(folder)
    try:
        App.open(create=True).close()
    finally:
        if before is None:
            del os.environ["SESSION_MGMT_DATA_DIR"]
        else:
            os.environ["SESSION_MGMT_DATA_DIR"] = before
    return folder


class Target(ServiceProcess):
    """The service under attack, on every address of this machine, /metrics on the same port."""

    def __init__(self, folder: Path, **settings: object) -> None:
        """`settings`: as the table has them."""
        chosen = {"allowed_hosts": NAMES, "rate_limit": 1_000_000, "rate_burst": 1_000_000, **settings}
        env = {f"SESSION_MGMT_{key.upper()}": str(value) for key, value in chosen.items()}
        super().__init__(folder, "--host", "0.0.0.0", env=env)
        self._guard.cancel()  # a whole module of attacks takes longer than one test
        self._guard = threading.Timer(ATTACKS_S_MAX, self.process.kill)
        self._guard.daemon = True
        self._guard.start()

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2].partition("/")[0])

    def open(self) -> socket.socket:
        """A connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=HANG_S_MAX)

    def raw(self, *parts: bytes) -> bytes:
        """Send bytes and read until the service closes."""
        with contextlib.closing(self.open()) as client:
            return exchange(client, *parts)

    def healthy(self) -> bool:
        return self.ask("GET", "/health").status == 200

    def memory_bytes(self) -> int:
        """The process's own memory."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("this system does not tell the memory of a process")

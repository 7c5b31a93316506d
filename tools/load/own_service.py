"""A service of its own to load: started on a folder, waited for, stopped."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

from session_mgmt_mcp.core.config_table import TABLE
from session_mgmt_mcp.core.errors import SessionMgmtError
from session_mgmt_mcp.core.settings import DATA_DIR_VARIABLE

START_S_MAX: Final = 120.0
STOP_S_MAX: Final = 60.0
_POLL_S: Final = 0.05
_DIRECT: Final = build_opener(ProxyHandler({}))  # a proxy of the environment's is not for loopback


class ServiceFailed(SessionMgmtError):
    """The service that was to be loaded did not come up."""

    kind = "load_service"


class OwnService:
    """`serve --http` on loopback without keys, with no settings but these, on the data folder `folder`."""

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, str] | None = None,
        port: int = 0,
        listening: socket.socket | None = None,
    ) -> None:
        """`settings`: more variables; `port` 0: any free one; `listening`: a socket to hand over as systemd does, which
        holds connections while none serves. The service's log is `<folder>.log`.
        """
        self.folder = folder
        self.log = folder.with_name(folder.name + ".log")
        self.pid = 0
        self.url = ""
        self._port = port
        self._listening = listening
        self._settings = dict(settings or {})
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def base(self) -> str:
        """The URL without a path."""
        return self.url.removesuffix("/mcp")

    def start(self) -> float:
        """Start it and wait until it is ready; seconds from the start until then. Raises ServiceFailed.

        Interrupted, it leaves no process behind.
        """
        began = time.monotonic()
        try:
            self._start()
            while not self._is_ready():
                if self._process is not None and self._process.poll() is not None:
                    raise self._failed(f"it ended with exit code {self._process.returncode}")
                if time.monotonic() - began > START_S_MAX:
                    raise self._failed(f"it was not ready after {START_S_MAX:g} s")
                time.sleep(_POLL_S)
        except BaseException:
            self.kill()
            raise
        return time.monotonic() - began

    def _start(self) -> None:
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                self._command(),
                pass_fds=() if self._listening is None else (self._listening.fileno(),),
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the test, which then stops it
            )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.startswith(b"{"):
            raise self._failed("it said no address")
        self.url = json.loads(line)["mcp"]
        self.pid = self._process.pid
        self._port = int(self.base.rpartition(":")[2])  # a later start takes the same

    def kill(self) -> None:
        """kill -9."""
        if self._process is not None:
            self._process.kill()
            self._reap()

    def stop(self) -> int:
        """SIGTERM, and the exit code; killed where it does not end in time."""
        if self._process is None or self._process.poll() is not None:
            return 0 if self._process is None else self._reap()
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
        return self._reap()

    def _command(self) -> list[str]:
        serve = [
            sys.executable,
            "-P",
            "-m",
            "session_mgmt_mcp",
            "serve",
            "--http",
            "--port",
            str(self._port),
            "--json",
        ]
        if self._listening is None:
            return serve
        script = f'exec 3<&{self._listening.fileno()}; LISTEN_FDS=1 LISTEN_PID=$$ exec "$@"'
        return ["sh", "-c", script, "sh", *serve]

    def _reap(self) -> int:
        assert self._process is not None
        code = self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        return code

    def _failed(self, what: str) -> ServiceFailed:
        self.kill()
        said = self.log.read_text("utf-8", "replace")[-1500:].strip()
        return ServiceFailed(
            f"a service for the load test was started and {what}; it said: {said or 'nothing'}"
        )

    def _is_ready(self) -> bool:
        try:
            with _DIRECT.open(f"{self.base}/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except (URLError, OSError):
            return False

    def _environment(self) -> dict[str, str]:
        settings = {name for row in TABLE.values() for name in row.variables}
        mine = {
            name: value
            for name, value in os.environ.items()
            if name not in settings and not name.startswith("SESSION_MGMT_")
        }
        return {
            **mine,
            "SESSION_MGMT_CONFIG": os.devnull,
            "SESSION_MGMT_METRICS_PORT": "0",
            DATA_DIR_VARIABLE: str(self.folder),
            **self._settings,
        }

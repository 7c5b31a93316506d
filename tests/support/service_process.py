"""The service as a process of its own, and raw requests to it. It says by systemd's protocol when it is ready."""

import contextlib
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import urllib.parse
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

HANG_S_MAX = 120.0  # a service that hangs is killed, so that a test fails instead of waiting for ever
REVISIONS = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28")
MODERN = "2026-07-28"


class Answer(NamedTuple):
    """What a request was answered with; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def message(self) -> Any:
        """The JSON-RPC message, whether it came as JSON or as the one event of a stream."""
        if self.headers.get("content-type", "").startswith("text/event-stream"):
            lines = [line for line in self.body.splitlines() if line.startswith(b"data: ")]
            return json.loads(lines[-1][6:])
        return self.json

    @property
    def text(self) -> str:
        """The text of a tool's answer."""
        message = self.message
        assert "result" in message, message
        return str(message["result"]["content"][0]["text"])


class ServiceProcess:
    """`session-mgmt-mcp serve --http` on a free port of 127.0.0.1 unless told otherwise. Use it in a `with` block.

    `state()` gives what it told systemd; entering the block waits until it is ready.
    """

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        env: dict[str, str] | None = None,
        pass_fds: tuple[int, ...] = (),
        command: tuple[str, ...] = (sys.executable, "-m", "session_mgmt_mcp"),
        log: Path | None = None,
        hang_s: float = HANG_S_MAX,
    ) -> None:
        """`env`: on top of what is set; `command`: what runs the command line; `log`: where its stderr goes; `hang_s`: after
        which it is killed.
        """
        self.folder = folder
        self.log = log or folder.with_name(folder.name + ".log")
        self._told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._told.bind(f"\0session-mgmt-{os.getpid()}-{id(self)}")
        self._told.settimeout(HANG_S_MAX)
        # a clean environment: what the tests set for themselves is not for a service
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("SESSION_MGMT_", "PYTEST_"))}
        self.environment = {
            **inherited,
            "SESSION_MGMT_DATA_DIR": str(folder),
            "SESSION_MGMT_EMBED": "off",
            "SESSION_MGMT_METRICS_PORT": "0",
            "XDG_CONFIG_HOME": str(folder.with_name(folder.name + ".config")),
            "NOTIFY_SOCKET": "@" + self._told.getsockname()[1:].decode(),
            **(env or {}),
        }
        ports = () if "--port" in arguments or pass_fds else ("--port", "0")
        self._stderr = self.log.open("wb")
        self.process = subprocess.Popen(
            [*command, "serve", "--http", "--json", *ports, *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            pass_fds=pass_fds,
        )
        self._guard = threading.Timer(hang_s, self.process.kill)
        self._guard.daemon = True
        self._guard.start()
        self.addresses: dict[str, Any] = {}

    def __enter__(self) -> Self:
        try:
            assert self.process.stdout is not None
            line = self.process.stdout.readline()
            assert line, f"it did not start: {self.errors()}"
            self.addresses = json.loads(line)
            self.until("READY=1")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._guard.cancel()
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        self._stderr.close()
        self._told.close()

    @property
    def url(self) -> str:
        """Of /mcp."""
        return str(self.addresses["mcp"])

    def state(self) -> str:
        """The next thing it tells systemd."""
        return self._told.recv(4096).decode()

    def until(self, wanted: str) -> str:
        """What it tells systemd that holds `wanted`, whatever comes before."""
        try:
            while wanted not in (told := self.state()):
                pass
        except TimeoutError:
            raise AssertionError(f"it never told {wanted}: {self.errors()}") from None
        return told

    def errors(self) -> str:
        """What it wrote on stderr."""
        return self.log.read_text(errors="replace")

    def log_lines(self) -> list[dict[str, Any]]:
        """The lines of its log."""
        return [json.loads(line) for line in self.errors().splitlines() if line.startswith("{")]

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait; the exit code."""
        self.process.send_signal(number)
        return self.process.wait(HANG_S_MAX)

    def connection(self, *, trust: Path | None = None) -> http.client.HTTPConnection:
        """A connection to it, not yet opened. `trust`: the certificate that is believed."""
        parts = urllib.parse.urlsplit(self.url)
        if parts.scheme == "https":
            context = ssl.create_default_context(cafile=trust)
            return http.client.HTTPSConnection(
                parts.hostname or "", parts.port, timeout=HANG_S_MAX, context=context
            )
        return http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=HANG_S_MAX)

    def ask(
        self,
        method: str = "GET",
        path: str = "/mcp",
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        *,
        trust: Path | None = None,
    ) -> Answer:
        """One request on a connection of its own."""
        with contextlib.closing(self.connection(trust=trust)) as connection:
            return request(connection, method, path, body, headers)

    def call(
        self,
        tool: str,
        arguments: dict[str, Any] | None = None,
        *,
        key: str = "",
        revision: str = "2025-11-25",
        connection: http.client.HTTPConnection | None = None,
    ) -> Answer:
        """Call a tool, as a client of `revision` does, with an API key where one is given."""
        body, headers = rpc("tools/call", {"name": tool, "arguments": arguments or {}}, revision)
        if key:
            headers["authorization"] = f"Bearer {key}"
        if connection is not None:
            return request(connection, "POST", "/mcp", body, headers)
        return self.ask("POST", "/mcp", body, headers)


def request(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
) -> Answer:
    """One request on this connection, its answer read whole."""
    connection.request(method, path, body, headers or {})
    answer = connection.getresponse()
    content = answer.read()
    return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, content)


def rpc(
    method: str, params: dict[str, Any] | None = None, revision: str = "2025-11-25", number: int = 1
) -> tuple[bytes, dict[str, str]]:
    """Body and headers of a JSON-RPC request, as a client of `revision` sends it."""
    params = dict(params or {})
    headers = {
        "content-type": "application/json",
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": revision,
    }
    if revision == MODERN:
        params["_meta"] = {
            "io.modelcontextprotocol/protocolVersion": revision,
            "io.modelcontextprotocol/clientInfo": {"name": "raw", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {},
        }
        headers["mcp-method"] = method
        if "name" in params:
            headers["mcp-name"] = params["name"]
    message = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
    return json.dumps(message).encode(), headers

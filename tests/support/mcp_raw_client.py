"""A client that speaks raw lines to a server process, for tests of the wire itself."""

import contextlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self

FAKE_SERVER = str(Path(__file__).with_name("mcp_fake_server.py"))
HANG_S_MAX = 60.0  # a server that hangs is killed, so that a test fails instead of waiting for ever


class RawClient:
    """A server process and the ends of its pipes."""

    def __init__(self, *modes: str, command: list[str] | None = None, **options: Any) -> None:
        self.process = subprocess.Popen(
            command or [sys.executable, FAKE_SERVER, *modes],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **options,
        )
        self._guard = threading.Timer(HANG_S_MAX, self.process.kill)
        self._guard.start()
        self._number = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        self._guard.cancel()
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    def write(self, line: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + b"\n")
        self.process.stdin.flush()

    def read(self) -> dict[str, Any]:
        """The next line, which must be a JSON-RPC message."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the server closed its output; it said: {self.errors()}"
        message: dict[str, Any] = json.loads(line)
        assert message["jsonrpc"] == "2.0"
        return message

    def errors(self) -> str:
        """What the server said on stderr; only after it has ended."""
        assert self.process.stderr is not None
        return self.process.stderr.read().decode()

    def request(self, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        """Send a request; its answer."""
        self._number += 1
        self.write(
            json.dumps(
                {"jsonrpc": "2.0", "id": self._number, "method": method, "params": params or {}}
            ).encode()
        )
        answer = self.read()
        assert answer["id"] == self._number
        return answer

    def initialize(self, revision: str = "2025-06-18") -> dict[str, Any]:
        info = {
            "protocolVersion": revision,
            "capabilities": {},
            "clientInfo": {"name": "raw", "version": "1"},
        }
        answer = self.request("initialize", info)
        self.write(b'{"jsonrpc": "2.0", "method": "notifications/initialized"}')
        return answer

    def call(self, tool: str, /, **arguments: Any) -> tuple[str, bool]:
        """A tool's text and whether it is an error."""
        result = self.request("tools/call", {"name": tool, "arguments": arguments})["result"]
        return result["content"][0]["text"], result.get("isError", False)

    def close_input(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

    def ends(self) -> int:
        """The exit code, once it has ended by itself."""
        return self.process.wait(timeout=HANG_S_MAX / 2)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True

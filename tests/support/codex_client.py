"""The real Codex, offline and without an account, through its app server."""

import json
import subprocess
from pathlib import Path
from threading import Timer
from types import TracebackType
from typing import Any, Self

TIMEOUT_S = 120


class Codex:
    """One running app server in a working folder; `start` after what is to be registered is registered."""

    def __init__(self, program: Path, environment: dict[str, str], work: Path) -> None:
        self._program = program
        self._environment = environment
        self._work = work
        self._number = 0
        self._server: subprocess.Popen[str] | None = None
        self._thread = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._watchdog.cancel()
            self._server.kill()
            self._server.communicate()

    def register(self, name: str, command: list[str], settings: dict[str, str]) -> None:
        """Register a server by Codex's own command."""
        given = [f"--env={key}={value}" for key, value in settings.items()]
        self.run("mcp", "add", name, *given, "--", *command)

    def run(self, *words: str) -> str:
        """One of Codex's commands."""
        done = subprocess.run(
            [str(self._program), *words],
            env=self._environment,
            cwd=self._work,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start(self) -> None:
        """Start a thread in the working folder."""
        self._server = subprocess.Popen(
            [str(self._program), "app-server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=self._environment,
            cwd=self._work,
        )
        self._watchdog = Timer(TIMEOUT_S, self._server.kill)
        self._watchdog.start()
        self.ask("initialize", clientInfo={"name": "check", "title": "check", "version": "0"})
        self._send({"method": "initialized"})
        self._thread = self.ask("thread/start", cwd=str(self._work))["thread"]["id"]

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """A request of the app server's protocol, and its result."""
        self._number += 1
        self._send({"id": self._number, "method": method, "params": params})
        assert self._server is not None and self._server.stdout is not None
        for line in self._server.stdout:
            message = json.loads(line)
            if message.get("id") == self._number and "method" not in message:
                assert "result" in message, message
                result: dict[str, Any] = message["result"]
                return result
        raise AssertionError(f"codex closed during {method}")

    def tools(self, server: str) -> set[str]:
        """The tools of a server as Codex lists them."""
        listed = self.ask("mcpServerStatus/list")["data"]
        return {name for entry in listed if entry["name"] == server for name in entry["tools"]}

    def call(self, server: str, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Call a tool."""
        return self.ask(
            "mcpServer/tool/call", threadId=self._thread, server=server, tool=tool, arguments=arguments
        )

    def _send(self, message: dict[str, Any]) -> None:
        assert self._server is not None and self._server.stdin is not None
        self._server.stdin.write(json.dumps(message) + "\n")
        self._server.stdin.flush()

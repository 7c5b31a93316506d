"""The real Claude Code client, offline: a scripted model answers it on the loopback interface."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from signal import SIGKILL
from threading import Lock, Thread, Timer
from types import TracebackType
from typing import Any, Self

CLIENTS_VARIABLE = "SESSION_MGMT_CLIENTS"  # a folder with node_modules/.bin/claude
TIMEOUT_S = 120


def client_folder() -> Path | None:
    """The folder the client is installed in, None where the variable names none."""
    named = os.environ.get(CLIENTS_VARIABLE)
    folder = Path(named) / "node_modules" / ".bin" if named else None
    return folder if folder is not None and (folder / "claude").exists() else None


Turn = tuple[str, dict[str, Any]] | str | Callable[[], str]


class ScriptedModel:
    """Plays `turns` in order: ("Bash", {...input}) calls a tool, a plain text ends the turn, a function says it when asked."""

    def __init__(self, turns: list[Turn]) -> None:
        self.requests: list[dict[str, Any]] = []
        self._turns = list(turns)
        self._lock = Lock()
        model = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self) -> None:
                self._answer("text/plain", b"")

            def do_GET(self) -> None:
                self._answer("application/json", b"{}")

            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers["content-length"]))
                kind, body = model.reply(json.loads(raw or b"{}"))
                self._answer(kind, body)

            def _answer(self, kind: str, body: bytes) -> None:
                self.send_response(200)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def reply(self, request: dict[str, Any]) -> tuple[str, bytes]:
        """Content type and body of the answer to one Messages request."""
        with self._lock:
            self.requests.append(request)
            number = len(self.requests)
            # A request without tools asks for a title or the like; it uses up no turn.
            turn = self._turns.pop(0) if request.get("tools") and self._turns else "done"
        if callable(turn):
            turn = turn()
        if isinstance(turn, str):
            block, stop = {"type": "text", "text": turn}, "end_turn"
        else:
            block = {"type": "tool_use", "id": f"toolu_test_{number}", "name": turn[0], "input": turn[1]}
            stop = "tool_use"
        message = {
            "id": f"msg_test_{number}",
            "type": "message",
            "role": "assistant",
            "model": request.get("model"),
            "content": [block],
            "stop_reason": stop,
            "stop_sequence": None,
            "usage": {"input_tokens": 1, "output_tokens": 1},
        }
        if request.get("stream"):
            return "text/event-stream", _stream(message, block, stop)
        return "application/json", json.dumps(message).encode()


def _stream(message: dict[str, Any], block: dict[str, Any], stop: str) -> bytes:
    if block["type"] == "text":
        start, delta = {**block, "text": ""}, {"type": "text_delta", "text": block["text"]}
    else:
        start = {**block, "input": {}}
        delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {**message, "content": [], "stop_reason": None}},
        {"type": "content_block_start", "index": 0, "content_block": start},
        {"type": "content_block_delta", "index": 0, "delta": delta},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": stop}, "usage": {"output_tokens": 1}},
        {"type": "message_stop"},
    ]
    return "".join(f"event: {e['type']}\ndata: {json.dumps(e)}\n\n" for e in events).encode()


def client_environment(clients: Path, home: Path, url: str) -> dict[str, str]:
    """What the client is started with: nothing of the machine's own settings, no network but the scripted model."""
    return {
        "HOME": str(home),
        "SESSION_MGMT_EMBED": "off",
        "PATH": f"{clients}:/usr/local/bin:/usr/bin:/bin:{Path(sys.executable).parent}",
        "LANG": "C.UTF-8",
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_API_KEY": "none",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
        "ENABLE_TOOL_SEARCH": "false",
        "MCP_CONNECTION_NONBLOCKING": "0",
        "GIT_CONFIG_COUNT": "2",
        "GIT_CONFIG_KEY_0": "user.name",
        "GIT_CONFIG_VALUE_0": "t",
        "GIT_CONFIG_KEY_1": "user.email",
        "GIT_CONFIG_VALUE_1": "t@example.com",
    }


class Conversation:
    """A session that goes on as long as it is talked to. Leaving it ends the client as its user would."""

    def __init__(self, clients: Path, home: Path, work: Path, turns: list[Any], tools: str) -> None:
        self.model = ScriptedModel(turns)
        self.printed: list[dict[str, Any]] = []
        self._watchdog = Timer(TIMEOUT_S, self.kill)
        self._client = subprocess.Popen(
            [
                *(str(clients / "claude"), "-p", "--allowedTools", tools, "--include-hook-events"),
                *("--input-format", "stream-json", "--output-format", "stream-json", "--verbose"),
            ],
            cwd=work,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=client_environment(clients, home, self.model.url),
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        self.model.__enter__()
        self._watchdog.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._client.stdin is not None:
                self._client.stdin.close()
            self.printed += list(self._lines())
            self._client.wait()
        finally:
            self._watchdog.cancel()
            if self._client.stdout is not None:
                self._client.stdout.close()
            with suppress(ProcessLookupError):
                os.killpg(self._client.pid, SIGKILL)  # what a killed client left behind
            self.model.__exit__(kind, error, trace)

    def say(self, text: str) -> list[dict[str, Any]]:
        """Say something and wait for the end of the turn: what the client printed for it."""
        return self._until(text, lambda event: event["type"] == "result")

    def say_and_wait_for_tool(self, text: str, tool: str) -> None:
        """Say something and wait until the tool is called."""

        def calls(event: dict[str, Any]) -> bool:
            content = event.get("message", {}).get("content", ()) if event["type"] == "assistant" else ()
            return any(block.get("type") == "tool_use" and block["name"] == tool for block in content)

        self._until(text, calls)
        self._until(
            None, lambda event: event.get("hook_name") == f"PreToolUse:{tool}" and "exit_code" in event
        )

    def kill(self) -> None:
        """kill -9."""
        self._client.kill()

    @property
    def session(self) -> str:
        return next(event["session_id"] for event in self.printed if "session_id" in event)

    def hook_answers(self, hook: str) -> list[str]:
        """What the hooks of this name (`SessionStart:startup`) printed, those that printed something."""
        return [
            event["stdout"]
            for event in self.printed
            if event.get("hook_name") == hook and event.get("stdout")
        ]

    def hook_failures(self) -> list[dict[str, Any]]:
        """What the client was told by hooks that did not simply succeed."""
        return [e for e in self.printed if e.get("subtype") == "hook_response" and e["outcome"] != "success"]

    def _until(self, text: str | None, done: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
        if text is not None:
            assert self._client.stdin is not None
            message = {"type": "user", "message": {"role": "user", "content": text}}
            self._client.stdin.write(json.dumps(message).encode() + b"\n")
            self._client.stdin.flush()
        seen = []
        for event in self._lines():
            self.printed.append(event)
            seen.append(event)
            if done(event):
                return seen
        raise AssertionError(f"the client left: {self.printed[-3:]}")

    def _lines(self) -> Iterator[dict[str, Any]]:
        assert self._client.stdout is not None
        for line in self._client.stdout:
            try:
                yield json.loads(line)
            except ValueError:  # the last line of a killed client
                return


def shown_text(request: dict[str, Any]) -> str:
    """All text of a request to the model."""
    parts = []
    blocks = [request.get("system"), *(message["content"] for message in request["messages"])]
    for content in blocks:
        for block in content if isinstance(content, list) else [{"text": content}]:
            inner = block.get("text") or block.get("content") or ""
            parts.append(inner if isinstance(inner, str) else json.dumps(inner))
    return "\n".join(parts)


def run_session(
    clients: Path,
    home: Path,
    work: Path,
    prompt: str,
    turns: list[Turn],
    tools: str,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """One session to its end: what the client printed, and what the model was shown."""
    with ScriptedModel(turns) as model:
        done = subprocess.run(
            [
                *(str(clients / "claude"), "-p", prompt, "--allowedTools", tools),
                *("--output-format", "stream-json", "--verbose", "--include-hook-events"),
            ],
            check=True,
            cwd=work,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIMEOUT_S,
            env=client_environment(clients, home, model.url),
        )
    return [json.loads(line) for line in done.stdout.splitlines()], model.requests

"""The real Claude Code client, offline: a scripted model answers it on the loopback interface."""

import json
import os
import subprocess
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from types import TracebackType
from typing import Any, Self

CLIENTS_VARIABLE = "SESSION_MGMT_CLIENTS"  # a folder with node_modules/.bin/claude
TIMEOUT_S = 120


def client_folder() -> Path | None:
    """The folder the client is installed in, None where the variable names none."""
    named = os.environ.get(CLIENTS_VARIABLE)
    folder = Path(named) / "node_modules" / ".bin" if named else None
    return folder if folder is not None and (folder / "claude").exists() else None


class ScriptedModel:
    """Plays `turns` in order: ("Bash", {...input}) calls a tool, a plain text ends the turn."""

    def __init__(self, turns: list[tuple[str, dict[str, Any]] | str]) -> None:
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


def run_session(
    clients: Path,
    home: Path,
    work: Path,
    prompt: str,
    turns: list[tuple[str, dict[str, Any]] | str],
    tools: str,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """One session to its end: what the client printed, and what the model was shown."""
    with ScriptedModel(turns) as model:
        done = subprocess.run(
            [
                *(str(clients / "claude"), "-p", prompt, "--allowedTools", tools),
                *("--output-format", "stream-json", "--verbose"),
            ],
            check=True,
            cwd=work,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIMEOUT_S,
            env={
                "HOME": str(home),
                "SESSION_MGMT_EMBED": "off",
                "PATH": f"{clients}:/usr/local/bin:/usr/bin:/bin",
                "LANG": "C.UTF-8",
                "ANTHROPIC_BASE_URL": model.url,
                "ANTHROPIC_API_KEY": "none",
                "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
                "DISABLE_AUTOUPDATER": "1",
                "ENABLE_TOOL_SEARCH": "false",
                "MCP_CONNECTION_NONBLOCKING": "0",
            },
        )
    return [json.loads(line) for line in done.stdout.splitlines()], model.requests

"""The real Gemini CLI, offline: a scripted model on the loopback interface has it call tools."""

import json
import subprocess
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

TIMEOUT_S = 300


def call_tools(
    program: Path, environment: dict[str, str], work: Path, calls: dict[str, dict[str, Any]]
) -> tuple[set[str], dict[str, Any]]:
    """Have it call the tools of its only server, in order.

    The tools the model was offered of it, without prefix, and by tool how often it succeeded and failed.
    """
    offered: set[str] = set()
    waiting = list(calls.items())

    def next_part(request: dict[str, Any]) -> dict[str, Any]:
        declared = [
            d["name"] for tool in request.get("tools", ()) for d in tool.get("functionDeclarations", ())
        ]
        ours = {name.removeprefix("mcp_session-mgmt_"): name for name in declared if name.startswith("mcp_")}
        offered.update(ours)
        if not ours or not waiting:
            return {"text": "done"}
        tool, arguments = waiting.pop(0)
        return {"functionCall": {"name": ours[tool], "args": arguments}}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["content-length"])) or b"{}")
            content = {"role": "model", "parts": [next_part(request)]}
            usage = {"promptTokenCount": 1, "candidatesTokenCount": 1, "totalTokenCount": 2}
            candidate = {"content": content, "finishReason": "STOP", "index": 0}
            body = json.dumps({"candidates": [candidate], "usageMetadata": usage}).encode()
            streamed = "stream" in self.path
            self.send_response(200)
            self.send_header("content-type", "text/event-stream" if streamed else "application/json")
            body = b"data: " + body + b"\r\n\r\n" if streamed else body
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as model:
        Thread(target=model.serve_forever, daemon=True).start()
        try:
            done = subprocess.run(
                [str(program), "-m", "gemini-2.5-flash", "-p", "go", "--yolo", "--output-format", "json"],
                env={
                    **environment,
                    "GEMINI_API_KEY": "none",
                    "GOOGLE_GEMINI_BASE_URL": f"http://127.0.0.1:{model.server_port}",
                },
                cwd=work,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
                check=False,
            )
        finally:
            model.shutdown()
    assert done.returncode == 0, done.stdout + done.stderr
    by_name = json.loads(done.stdout)["stats"]["tools"]["byName"]
    return offered, {name.removeprefix("mcp_session-mgmt_"): counts for name, counts in by_name.items()}


def configure(home: Path, command: list[str], settings: dict[str, str]) -> None:
    """Register the server, and nothing that asks or reports."""
    (home / ".gemini").mkdir()
    chosen = {
        "security": {"folderTrust": {"enabled": False}, "auth": {"selectedType": "gemini-api-key"}},
        "telemetry": {"enabled": False},
        "privacy": {"usageStatisticsEnabled": False},
        "mcpServers": {
            "session-mgmt": {"command": command[0], "args": command[1:], "env": settings, "trust": True}
        },
    }
    (home / ".gemini" / "settings.json").write_text(json.dumps(chosen))

"""The scripts of deploy/ run in a place of their own: settings, data, backups, and somebody who answers."""

import contextlib
import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker_kit import DEPLOY

from session_mgmt_mcp.tools.app import App
from session_mgmt_mcp.tools.cli import main

SCRIPTS = DEPLOY / "scripts"
INSTALL = DEPLOY / "systemd" / "install.sh"


class Place:
    """A data folder, settings that name it, and a folder for backups."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        self.backups = folder / "backups"
        self.etc = folder / "etc"
        self.etc.mkdir()
        self.write(
            f'# of the test\nSESSION_MGMT_DATA_DIR="{self.data}"\n', f"BACKUP_DESTINATION={self.backups}\n"
        )
        self.fake_systemctl = folder / "systemctl"

    def write(self, service: str, deploy: str) -> None:
        (self.etc / "service.env").write_text(service)
        (self.etc / "deploy.env").write_text(deploy)

    def remember(self, text: str) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SESSION_MGMT_DATA_DIR", str(self.data))
            assert main(["remember", text]) == 0

    def script(
        self, name: str, *options: str, env: dict[str, str] | None = None, umask: int = -1
    ) -> subprocess.CompletedProcess[str]:
        clean = {
            k: v for k, v in os.environ.items() if not k.startswith("SESSION_MGMT_") or k.endswith("_EMBED")
        }
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        return subprocess.run(
            ["bash", str(SCRIPTS / name), *options],
            env={**clean, "ETC_DIR": str(self.etc), "SYSTEMCTL": "", "PATH": path, **(env or {})},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False, umask=umask,
        )  # fmt: skip

    def events(self) -> int:
        with App.open(self.data) as app:
            return app.log.head().position


class _Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response({"/busy": 503, "//ready": 404}.get(self.path, 200))
        self.end_headers()
        self.wfile.write(b'{"status": "told"}')

    def log_message(self, format: str, *args: object) -> None: ...


@contextlib.contextmanager
def answering() -> Iterator[str]:
    """The URL of a server that says 200, but 503 to /busy and 404 to //ready."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Answers)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()

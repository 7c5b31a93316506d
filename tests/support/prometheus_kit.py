"""Prometheus and Alertmanager as processes with the shipped configuration, made quick; and who they tell of alerts."""

import http.server
import json
import queue
import re
import shutil
import socket
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

SHIPPED = Path(__file__).parents[2] / "deploy" / "monitoring"
HANG_S_MAX = 90.0
_PAUSE_S = 0.1


def free_port() -> int:
    """A port nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Told:
    """A web server to which Alertmanager sends its notifications."""

    def __init__(self) -> None:
        told: queue.Queue[tuple[str, str, str]] = queue.Queue()  # alert, firing or resolved, receiver

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                for alert in body["alerts"]:
                    told.put((alert["labels"]["alertname"], alert["status"], self.path))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                return

        self._told = told
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def until(self, alert: str, status: str) -> str:
        """Wait for a notification; the path it came to."""
        seen = []
        deadline = time.monotonic() + HANG_S_MAX
        while True:
            try:
                found = self._told.get(timeout=max(0.01, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"nobody told that {alert} is {status}, only {seen}") from None
            seen.append(found)
            if found[:2] == (alert, status):
                return found[2]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Monitoring:
    """Both programs over one service at `target` (host:port). Use it in a `with` block."""

    def __init__(self, folder: Path, target: str, key: str) -> None:
        """`key`: of the service, with the scope `metrics`."""
        for program in ("prometheus", "prometheus-alertmanager"):
            if shutil.which(program) is None:
                pytest.skip(f"{program} is not installed (Debian: prometheus, prometheus-alertmanager)")
        self.told = Told()
        self._folder = folder
        self._ports = {"prometheus": free_port(), "alertmanager": free_port()}
        (folder / "secrets").mkdir(parents=True)
        (folder / "secrets" / "metrics-key").write_text(key + "\n")
        self._write(target)
        self._processes: list[subprocess.Popen[bytes]] = []

    def _write(self, target: str) -> None:
        """The shipped files with these addresses, looking every second instead of every quarter of a minute."""
        scraping = (SHIPPED / "prometheus.yml").read_text()
        scraping = re.sub(r"(scrape|evaluation)_interval: \w+", r"\1_interval: 1s", scraping)
        for shipped, here in (
            ("session-mgmt-mcp:9090", target),
            ("localhost:9090", f"127.0.0.1:{self._ports['prometheus']}"),
            ("alertmanager:9093", f"127.0.0.1:{self._ports['alertmanager']}"),
        ):
            assert shipped in scraping
            scraping = scraping.replace(shipped, here)
        rules = re.sub(r"\bfor: \w+", "for: 2s", (SHIPPED / "session-mgmt-alerts.yml").read_text())
        telling = (SHIPPED / "alertmanager.yml").read_text().replace("http://127.0.0.1:9099", self.told.url)
        telling = re.sub(r"group_(wait|interval): \w+", r"group_\1: 200ms", telling)
        for name, text in (
            ("prometheus.yml", scraping),
            ("session-mgmt-alerts.yml", rules),
            ("alertmanager.yml", telling),
        ):
            (self._folder / name).write_text(text)

    def __enter__(self) -> Self:
        folder = self._folder
        self._start(
            "prometheus",
            "prometheus",
            f"--config.file={folder}/prometheus.yml",
            f"--storage.tsdb.path={folder}/series",
        )
        self._start(
            "alertmanager",
            "prometheus-alertmanager",
            f"--config.file={folder}/alertmanager.yml",
            f"--storage.path={folder}/alerts",
            "--cluster.listen-address=",
        )
        for name in self._ports:
            self.until(lambda name=name: self._get(name, "/-/ready") is not None, f"{name} is ready")  # type: ignore[misc]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
        self.told.close()

    def _start(self, name: str, *command: str) -> None:
        with (self._folder / f"{name}.log").open("wb") as log:
            self._processes.append(
                subprocess.Popen(
                    [*command, f"--web.listen-address=127.0.0.1:{self._ports[name]}"],
                    stdout=log,
                    stderr=log,
                    cwd=self._folder,
                )
            )

    def _get(self, name: str, path: str) -> bytes | None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._ports[name]}{path}", timeout=30) as answer:
                return bytes(answer.read())
        except OSError:
            return None

    def until(self, happened: Any, what: str) -> None:
        """Ask again and again, a while apart: these programs tell nobody."""
        deadline = time.monotonic() + HANG_S_MAX
        while not happened():
            logs = {path.name: path.read_text()[-2000:] for path in self._folder.glob("*.log")}
            assert time.monotonic() < deadline, f"it never happened that {what}: {logs}"
            time.sleep(_PAUSE_S)

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series an expression gives now. Fails where Prometheus does not understand it."""
        raw = self._get("prometheus", "/api/v1/query?" + urllib.parse.urlencode({"query": expression}))
        assert raw is not None, f"refused: {expression}"
        answer = json.loads(raw)
        assert answer["status"] == "success", answer
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found

    def alerts(self) -> set[str]:
        """Names of the alerts that Alertmanager holds."""
        raw = self._get("alertmanager", "/api/v2/alerts?active=true")
        assert raw is not None
        return {alert["labels"]["alertname"] for alert in json.loads(raw)}

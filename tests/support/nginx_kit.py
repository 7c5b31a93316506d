"""nginx with the files of deploy/nginx on free ports of this machine, and clients that go through it."""

import contextlib
import http.client
import os
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from docker_kit import DEPLOY, program, run, until
from service_process import HANG_S_MAX, Answer, request, rpc

NAME = "session-mgmt.example.com"
_INSTALLED = "/etc/nginx/session-mgmt-mcp"


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def settings_of_host(
    folder: Path, http_port: int, https_port: int, service_port: int, rate: str = ""
) -> Path:
    """deploy/nginx as its README installs it, below `folder` and on these ports; the main file.

    `rate`: of requests from one address, in place of what the settings say.
    """
    installed = folder / "session-mgmt-mcp"
    shutil.copytree(DEPLOY / "nginx", installed)
    run("sh", installed / "self-signed.sh", installed, NAME)
    if rate:
        limits = installed / "http.conf"
        assert "rate=50r/s" in limits.read_text()
        limits.write_text(limits.read_text().replace("rate=50r/s", f"rate={rate}"))
    site = (installed / "session-mgmt-mcp.conf").read_text()
    for old, new in (
        (_INSTALLED, str(installed)),
        ("listen 80;", f"listen 127.0.0.1:{http_port};"),
        ("listen [::]:80;", ""),
        ("listen 443 ssl;", f"listen 127.0.0.1:{https_port} ssl;"),
        ("listen [::]:443 ssl;", ""),
        ("server 127.0.0.1:8000;", f"server 127.0.0.1:{service_port};"),
        ("/var/log/nginx/session-mgmt-mcp.log", str(folder / "access.log")),
    ):
        assert old in site, f"the settings have no {old!r} any more"
        site = site.replace(old, new)
    (folder / "site.conf").write_text(site)
    # What the nginx.conf of distributions and of nginx.org say in the same block.
    stock = "sendfile on;\ntcp_nopush on;\ntypes_hash_max_size 2048;\nserver_tokens on;\nkeepalive_timeout 65;\ngzip on;\n"
    user = "user root;\n" if os.geteuid() == 0 else ""  # the folders of tests are closed to others
    main = folder / "nginx.conf"
    main.write_text(
        f"{user}worker_processes 1;\npid {folder}/nginx.pid;\nerror_log {folder}/error.log;\nevents {{}}\nhttp {{\n"
        f"client_body_temp_path {folder}/body;\nproxy_temp_path {folder}/proxy;\nfastcgi_temp_path {folder}/fastcgi;\n"
        f"uwsgi_temp_path {folder}/uwsgi;\nscgi_temp_path {folder}/scgi;\n{stock}include {folder}/site.conf;\n}}\n"
    )
    return main


class Gate(NamedTuple):
    """A running nginx, and how a client reaches what is behind it."""

    http_port: int
    https_port: int
    certificate: Path
    folder: Path

    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.certificate)

    def connection(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(
            "localhost", self.https_port, timeout=HANG_S_MAX, context=self.trust()
        )

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Answer:
        """One request over TLS on a connection of its own."""
        with contextlib.closing(self.connection()) as connection:
            return request(connection, method, path, body, headers)

    def call(self, tool: str, arguments: dict[str, object], key: str) -> Answer:
        """Call a tool."""
        body, headers = rpc("tools/call", {"name": tool, "arguments": arguments})
        return self.ask("POST", "/mcp", body, {**headers, "authorization": f"Bearer {key}"})


@contextlib.contextmanager
def nginx_before(service_port: int, folder: Path, rate: str = "") -> Iterator[Gate]:
    """nginx of this machine before a service on `service_port`."""
    binary = program("nginx")
    folder.mkdir(parents=True)
    ports = free_port(), free_port()
    main = settings_of_host(folder, *ports, service_port, rate)
    with subprocess.Popen(
        [binary, "-c", str(main), "-e", str(folder / "error.log"), "-g", "daemon off;"],
        stdin=subprocess.DEVNULL, start_new_session=True,
    ) as process:  # fmt: skip
        try:
            until(lambda: _listens(ports[1]), "nginx listens")
            yield Gate(*ports, folder / "session-mgmt-mcp" / "tls.crt", folder)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(HANG_S_MAX)


def _listens(port: int) -> bool:
    with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False

"""The stack of deploy/compose brought up: TLS from outside, an upgrade and restarts under load, Prometheus, isolation."""

import contextlib
import http.client
import json
import os
import shutil
import ssl
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Self

import pytest
from docker_kit import (
    DEPLOY,
    IMAGE,
    Engine,
    build_image,
    debian_image,
    engine,
    free_name,
    program,
    run,
    tools_folder,
    until,
)
from service_process import HANG_S_MAX, Answer, request, rpc

pytestmark = pytest.mark.slow

VERSION = IMAGE.split(":")[1]
NEXT = f"{VERSION}-next"


class Stack(NamedTuple):
    """A copy of deploy/ whose stack has a name, ports and volumes of its own."""

    engine: Engine
    folder: Path
    name: str
    images: dict[str, str]

    def compose(self, *command: str, check: bool = True, **environ: str) -> str:
        done = run(
            program("docker-compose"), "--project-directory", self.folder, *command,
            check=check, env=self.environment | environ,
        )  # fmt: skip
        return done.stdout + done.stderr

    @property
    def environment(self) -> dict[str, str]:
        return {
            **self.engine.env,
            **self.images,
            "PATH": f"{tools_folder()}/venv/bin:{os.environ['PATH']}",
            "COMPOSE_PROJECT_NAME": self.name,
            "SESSION_MGMT_VERSION": VERSION,
            "PUBLIC_HTTP_PORT": "127.0.0.1:0",
            "PUBLIC_HTTPS_PORT": "127.0.0.1:0",
            "PROMETHEUS_PORT": "0",
        }

    def up(self, *options: str, **environ: str) -> None:
        self.compose(*options, "up", "--detach", "--no-build", "--wait", "--wait-timeout", "120", **environ)

    def secrets(self, *arguments: str) -> None:
        run("sh", self.folder / "secrets.sh", *arguments, env=self.environment)

    def port(self, service: str, inside: int) -> int:
        return int(self.compose("port", service, str(inside)).strip().rsplit(":", 1)[1])

    def client(self) -> "Client":
        trust = ssl.create_default_context(cafile=self.folder / "secrets" / "tls.crt")
        return Client(self.port("proxy", 8443), trust, (self.folder / "secrets" / "admin_key").read_text())


class Client(NamedTuple):
    """Someone outside, who knows the admin's key."""

    port: int
    trust: ssl.SSLContext
    key: str

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Answer:
        connection = http.client.HTTPSConnection(
            "localhost", self.port, timeout=HANG_S_MAX, context=self.trust
        )
        with contextlib.closing(connection):
            return request(connection, method, path, body, headers)

    def call(self, tool: str, arguments: dict[str, object]) -> Answer:
        body, headers = rpc("tools/call", {"name": tool, "arguments": arguments})
        return self.ask("POST", "/mcp", body, {**headers, "authorization": f"Bearer {self.key}"})


@pytest.fixture(scope="module")
def docker() -> Iterator[tuple[Engine, dict[str, str]]]:
    program("docker-compose")
    with engine() as running:
        if running.host and "-P FORWARD DROP" in run("iptables", "-S", "FORWARD", check=False).stdout:
            pytest.skip(
                "the firewall drops what containers send each other: iptables -P FORWARD ACCEPT lets it pass"
            )
        build_image(running)
        yield running, {"NGINX_IMAGE": debian_image(running, "nginx:1.28", "nginx-light")}


@pytest.fixture
def stack(docker: tuple[Engine, dict[str, str]], tmp_path: Path) -> Iterator[Stack]:
    for name in ("compose", "nginx", "monitoring"):
        shutil.copytree(DEPLOY / name, tmp_path / name, ignore=shutil.ignore_patterns("secrets", ".env"))
    made = Stack(docker[0], tmp_path / "compose", free_name(), docker[1])
    try:
        yield made
    finally:
        made.compose("--profile", "metrics", "down", "--volumes", "--timeout", "5", check=False)


def test_without_its_secrets_the_stack_does_not_start(stack: Stack) -> None:
    said = stack.compose("up", "--detach", "--no-build", "--wait", check=False)
    assert "secrets/" in said
    assert not (stack.folder / "secrets").exists()
    assert stack.compose("ps", "--quiet", "--status", "running").strip() == ""


def test_the_stack_comes_up_serves_through_tls_alone_and_keeps_its_data(stack: Stack) -> None:
    stack.secrets("history.example.com")
    stack.up()
    client = stack.client()
    assert client.ask("GET", "/health").status == 200
    assert {client.ask("GET", path).status for path in ("/metrics", "/ready", "/")} == {404}
    assert client.ask("POST", "/mcp", *rpc("tools/list")).status == 401
    assert _status(client, "history.example.com") == 200
    assert _status(client, "evil.example") == 421
    assert client.call("remember", {"text": "the kiln is fired on Thursdays"}).status == 200
    placed = _inspected(stack, "app")["NetworkSettings"]
    assert not any(placed["Ports"].values())
    assert list(placed["Networks"]) == [f"{stack.name}_backend"]
    network = json.loads(stack.engine.docker("network", "inspect", *placed["Networks"]).stdout)[0]
    assert network["Internal"] is True  # the engine keeps it from everything outside

    made = {path.name: path.read_bytes() for path in (stack.folder / "secrets").iterdir()}
    stack.compose("down", "--timeout", "30")
    stack.secrets()
    stack.up()
    assert {path.name: path.read_bytes() for path in (stack.folder / "secrets").iterdir()} == made
    assert "fired on Thursdays" in stack.client().call("search", {"query": "kiln Thursdays"}).text


def test_an_upgrade_and_a_restart_under_load_lose_nothing_and_fail_no_request_for_good(stack: Stack) -> None:
    label = tools_folder() / f"image-{stack.name}"
    label.mkdir()
    (label / "Dockerfile").write_text(f"FROM {IMAGE}\nLABEL of=next\n")
    stack.engine.docker("build", "-q", "-t", f"session-mgmt-mcp:{NEXT}", label, env={"DOCKER_BUILDKIT": "0"})
    shutil.rmtree(label)
    stack.secrets()
    stack.up()
    before = _container(stack, "app")
    with Writers(stack.client()) as writers:
        writers.go_on(3)
        stack.up(SESSION_MGMT_VERSION=NEXT)  # what `docker compose up` does with a new version
        assert _container(stack, "app") != before
        writers.go_on(3)
        stack.compose("restart", "app", SESSION_MGMT_VERSION=NEXT)
        writers.go_on(3)
        stack.compose("kill", "--signal", "KILL", "app", SESSION_MGMT_VERSION=NEXT)
        stack.up(SESSION_MGMT_VERSION=NEXT)
        writers.go_on(3)
    assert writers.failed == []
    client = stack.client()
    for text in writers.kept:
        assert text in _found(client, text)


RESTORE = "/usr/local/lib/session-mgmt/restore.sh"


def test_a_backup_is_restored_as_the_readme_says_and_what_was_there_stays_beside(stack: Stack) -> None:
    ours = ("exec", "-T", "app", "session-mgmt-mcp")
    stack.secrets()
    stack.up()
    assert stack.client().call("remember", {"text": "the kiln is fired on Thursdays"}).status == 200
    key = json.loads(
        stack.compose(*ours, "keys", "create", "mira", "--role", "reader", "--all-projects", "--json")
    )
    stack.compose(*ours, "backup", "/backups/session-mgmt", "--keep", "30", "--keep-days", "30")
    stack.compose(*ours, "backup", "/backups/session-mgmt", "--verify")
    assert stack.client().call("remember", {"text": "a note after the backup"}).status == 200
    stack.compose("stop", "app")
    assert stack.client().ask("GET", "/health").status == 503
    restore = (
        "run",
        "--rm",
        "--no-deps",
        "-T",
        "--entrypoint",
        RESTORE,
        "app",
        "--from",
        "/backups/session-mgmt",
    )
    assert "left as it was" in stack.compose(*restore, check=False)  # nobody said yes
    stack.compose(*restore, "--yes")
    stack.up()
    client = stack.client()
    assert "fired on Thursdays" in _found(client, "kiln")
    assert "after the backup" not in _found(client, "note")
    assert "fired on Thursdays" in _found(client._replace(key=key["text"]), "kiln")  # keys stay
    beside = stack.compose("exec", "-T", "app", "bash", "-c", "ls -d /data/session-mgmt.before-*/FORMAT.json")
    assert beside.count("\n") == 1


def test_a_damaged_backup_is_not_restored_in_the_container(stack: Stack) -> None:
    stack.secrets()
    stack.up()
    assert stack.client().call("remember", {"text": "the kiln is fired on Thursdays"}).status == 200
    stack.compose("exec", "-T", "app", "session-mgmt-mcp", "backup", "/backups/session-mgmt")
    spoil = "for f in $(find /backups/session-mgmt/objects -type f); do chmod 600 $f; : >$f; done"
    stack.compose("exec", "-T", "app", "bash", "-c", spoil)
    stack.compose("stop", "app")
    said = stack.compose(
        "run", "--rm", "--no-deps", "-T", "--entrypoint", RESTORE, "app",
        "--from", "/backups/session-mgmt", "--yes", check=False,
    )  # fmt: skip
    assert "damaged" in said
    stack.up()
    assert "fired on Thursdays" in _found(stack.client(), "kiln")


def test_prometheus_scrapes_the_service_with_a_key_of_its_own(
    stack: Stack, docker: tuple[Engine, dict[str, str]]
) -> None:
    image = debian_image(
        docker[0],
        "prom/prometheus:v3.5.0",
        "prometheus",
        more="RUN install -d -o 65534 -g 65534 /prometheus",  # as in the official one
    )
    stack = stack._replace(images={**stack.images, "PROMETHEUS_IMAGE": image})
    stack.secrets()
    stack.up()
    stack.secrets("--metrics")
    stack.up("--profile", "metrics")
    port = stack.port("prometheus", 9090)

    def up() -> bool:
        url = f"http://127.0.0.1:{port}/api/v1/query?query=up%7Bjob%3D%22session-mgmt-mcp%22%7D"
        with urllib.request.urlopen(url, timeout=10) as answer:
            result = json.load(answer)["data"]["result"]
        return bool(result) and result[0]["value"][1] == "1"

    until(up, "Prometheus has scraped the service")
    key = (stack.folder / "secrets" / "metrics_key").read_text().strip()
    body, headers = rpc("tools/call", {"name": "search", "arguments": {"query": "kiln"}})
    refused = stack.client().ask("POST", "/mcp", body, {**headers, "authorization": f"Bearer {key}"})
    assert refused.status == 403 or refused.message.get("error") or refused.message["result"]["isError"]


class Writers:
    """Two clients that store notes one after another through the proxy, asking again while there is no answer."""

    def __init__(self, client: Client) -> None:
        self.failed: list[tuple[int, bytes]] = []
        self._kept: tuple[list[str], list[str]] = ([], [])
        self._client = client
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._write, args=(number,)) for number in range(2)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(HANG_S_MAX)

    @property
    def kept(self) -> list[str]:
        """What was acknowledged."""
        return [text for texts in self._kept for text in texts]

    def go_on(self, notes: int) -> None:
        """Wait until each has stored so many more."""
        goal = [len(texts) + notes for texts in self._kept]
        until(
            lambda: (
                self.failed
                or all(len(texts) >= wanted for texts, wanted in zip(self._kept, goal, strict=True))
            ),
            "the writers go on",
        )

    def _write(self, number: int) -> None:
        while not self._stop.is_set():
            text = f"note number {len(self._kept[number])} of writer{number}"
            for _ in range(1200):
                answer = self._ask(text)
                if answer is not None and answer.status == 200:
                    assert not answer.message["result"].get("isError"), answer.text
                    self._kept[number].append(text)
                    self._stop.wait(0.2)  # within the rate that a key has
                    break
                if answer is not None and answer.status not in (429, 503):
                    self.failed.append((answer.status, answer.body))
                    return
                self._stop.wait(0.1)
            else:
                self.failed.append((0, text.encode()))
                return

    def _ask(self, text: str) -> Answer | None:
        with contextlib.suppress(ConnectionError, http.client.HTTPException, ssl.SSLError):
            return self._client.call("remember", {"text": text})
        return None


def _status(client: Client, host: str) -> int:
    """Of a request that asks for the service by this name."""
    body, headers = rpc("tools/list")
    headers |= {"authorization": f"Bearer {client.key}", "host": host}
    return client.ask("POST", "/mcp", body, headers).status


def _found(client: Client, text: str) -> str:
    """What a search for the text finds, asked again where the rate is exceeded."""
    answers: list[Answer] = []

    def answered() -> bool:
        answers.append(client.call("search", {"query": f'"{text}"', "limit": 3}))
        return answers[-1].status != 429

    until(answered, "the search is let in")
    return answers[-1].text


def _container(stack: Stack, service: str) -> str:
    return stack.compose("ps", "--quiet", service).strip()


def _inspected(stack: Stack, service: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(stack.engine.docker("inspect", _container(stack, service)).stdout)[0]
    return found

"""The image built and run: locked down, stopped, taken away and made again; what is in it and what is not."""

import contextlib
import http.client
import importlib.metadata
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker_kit import (
    DEPLOY,
    IMAGE,
    KEY,
    LOCKED_DOWN,
    ROOT,
    Box,
    Engine,
    box,
    build_image,
    engine,
    run,
    until,
)
from service_process import HANG_S_MAX, Answer, request, rpc

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def docker() -> Iterator[Engine]:
    with engine() as running:
        build_image(running)
        yield running


@pytest.fixture
def service(docker: Engine, tmp_path: Path) -> Iterator[Box]:
    with box(docker, tmp_path) as made:
        yield made


def ask(
    port: int, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=HANG_S_MAX)
    with contextlib.closing(connection):
        return request(connection, method, path, body, headers)


def call(port: int, tool: str, arguments: dict[str, object]) -> str:
    body, headers = rpc("tools/call", {"name": tool, "arguments": arguments})
    return ask(port, "POST", "/mcp", body, {**headers, "authorization": f"Bearer {KEY}"}).text


def test_a_container_that_is_taken_away_and_made_again_keeps_what_was_remembered(service: Box) -> None:
    first = service.start()
    call(first, "remember", {"text": "the kiln is fired on Thursdays"})
    assert "the kiln is fired" in call(first, "search", {"query": "kiln Thursdays"})
    assert service.stop() == 0
    second = service.start()
    assert "the kiln is fired" in call(second, "search", {"query": "kiln Thursdays"})
    service.engine.docker("kill", service.name)
    service.engine.docker("rm", service.name)
    third = service.start()
    assert "the kiln is fired" in call(third, "search", {"query": "kiln Thursdays"})
    assert "every byte is what the chain says" in service.inside("session-mgmt-mcp", "audit", "verify")


def test_the_service_runs_without_rights_and_writes_nowhere_but_in_its_data(service: Box) -> None:
    port = service.start()
    assert ask(port, "GET", "/ready").status == 200
    process = service.inside("cat", "/proc/1/status")
    assert re.search(r"^Uid:\s+10001\s+10001\s+10001\s+10001$", process, re.MULTILINE)
    assert re.search(r"^CapEff:\s+0+$", process, re.MULTILINE) and re.search(
        r"^NoNewPrivs:\s+1$", process, re.MULTILINE
    )
    assert service.inside("stat", "-c", "%u %a", "/data").split() == ["10001", "700"]
    for path in ("/opt/session-mgmt/x", "/usr/local/bin/x", "/x"):
        done = service.engine.docker("exec", "--user", "0", service.name, "touch", path, check=False)
        assert done.returncode != 0, path


def test_who_has_no_key_gets_nothing_but_the_life_sign(service: Box) -> None:
    port = service.start("--publish", "127.0.0.1:0:9090")
    metrics = int(service.engine.docker("port", service.name, "9090").stdout.rsplit(":", 1)[1])
    body, headers = rpc("tools/list")
    assert ask(port, "GET", "/health").status == 200
    assert ask(port, "POST", "/mcp", body, headers).status == 401
    assert ask(metrics, "GET", "/metrics").status == 401
    assert ask(metrics, "GET", "/metrics", headers={"authorization": f"Bearer {KEY}"}).status == 200
    assert KEY not in service.logs()


def test_without_any_key_the_container_refuses_and_says_what_to_do(docker: Engine) -> None:
    done = docker.docker("run", "--rm", "--network", "none", *LOCKED_DOWN, IMAGE, check=False)
    assert done.returncode == 6
    assert "session-mgmt-mcp keys create" in done.stderr
    assert done.stderr.count("\n") < 5 and "Traceback" not in done.stderr


def test_a_service_that_hangs_becomes_unhealthy(service: Box) -> None:
    service.start("--health-retries", "1", "--health-timeout", "2s")
    service.inside("bash", "-c", "kill -STOP $(cat /proc/1/task/1/children)")
    until(lambda: service.state("{{.State.Health.Status}}") == "unhealthy", "it is noticed")


def test_commands_work_in_the_container_beside_the_service(service: Box) -> None:
    port = service.start()
    made = json.loads(
        service.inside(
            "session-mgmt-mcp", "keys", "create", "mira", "--role", "reader", "--all-projects", "--json"
        )
    )
    body, headers = rpc("tools/list")
    answer = ask(port, "POST", "/mcp", body, {**headers, "authorization": f"Bearer {made['text']}"})
    assert answer.status == 200
    assert json.loads(service.inside("session-mgmt-mcp", "status", "--json"))
    assert "mira" in service.inside("session-mgmt-mcp", "audit", "log", "--format", "jsonl", check=False)


def test_the_image_holds_what_its_list_says_and_nothing_of_the_build(docker: Engine, tmp_path: Path) -> None:
    run("sh", DEPLOY / "docker" / "sbom.sh", IMAGE, tmp_path, env=docker.env)
    listed = json.loads((tmp_path / "python.cdx.json").read_text())
    assert listed["bomFormat"] == "CycloneDX"
    components = {_plain(part["name"]): part["version"] for part in listed["components"]}
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {_plain(re.split(r"[<>=\[]", line)[0]) for line in project["dependencies"]} | {
        "session-mgmt-mcp"
    }
    assert wanted <= set(components)
    loose = {name: version for name, version in components.items() if name not in map(_plain, pinned)}
    assert set(loose) == {"session-mgmt-mcp"}
    for name, version in pinned.items():
        assert components.get(_plain(name), version) == version
    assert not {"pip", "pytest", "hatchling", "cyclonedx-bom"} & set(components)
    debian = [line.split("\t") for line in (tmp_path / "debian.tsv").read_text().splitlines()]
    assert {"libc6", "bash"} <= {row[0].split(":")[0] for row in debian} and all(row[1] for row in debian)
    installed = docker.docker(
        "run", "--rm", "--network", "none", "--entrypoint", "/opt/session-mgmt/bin/python", IMAGE, "-I", "-c",
        "import importlib.metadata as m; print(*{d.metadata['Name'] for d in m.distributions(path=__import__('site').getsitepackages())})",
    ).stdout.split()  # fmt: skip
    assert {_plain(name) for name in installed} == set(components)


def test_the_image_carries_no_sources_beside_the_package_and_no_secret(docker: Engine) -> None:
    listing = docker.docker(
        "run", "--rm", "--network", "none", "--user", "0", "--entrypoint", "find", IMAGE,
        "/opt", "/data", "/root", "/home", "/tmp", "/build", "-xdev", "-type", "f",
        check=False,
    ).stdout  # fmt: skip
    files = [line for line in listing.splitlines() if not line.startswith("/opt/session-mgmt/")]
    assert [path for path in files if "/." not in path] == []  # but a shell's profile
    assert "/site-packages/session_mgmt_mcp/py.typed" in listing
    assert not [
        path for path in listing.splitlines() if re.search("/site-packages/(tests|benchmarks|deploy)/", path)
    ]
    config = json.loads(docker.docker("image", "inspect", IMAGE).stdout)[0]["Config"]
    assert not [pair for pair in config["Env"] if re.search("KEY|TOKEN|SECRET|PASSWORD", pair.split("=")[0])]
    assert config["Labels"]["org.opencontainers.image.version"] == importlib.metadata.version(
        "session-mgmt-mcp"
    )


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()

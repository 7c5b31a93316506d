"""deploy/docker without an engine: what no linter of Dockerfiles looks at, and the health check against real answers."""

import http.server
import os
import re
import shlex
import ssl
import subprocess
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docker_kit import BASE, DEPLOY, ROOT, program, run
from nginx_kit import free_port

from session_mgmt_mcp.core.config import OTHER_VARIABLES, TABLE, ServiceSettings

FOLDER = DEPLOY / "docker"
HEALTH = FOLDER / "health"
UID = "10001"
SETTINGS = {name for row in TABLE.values() for name in row.variables} | OTHER_VARIABLES


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions with their arguments, continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", (FOLDER / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    return [
        (word.upper(), rest.strip())
        for line in lines
        if line.strip()
        for word, _, rest in [line.partition(" ")]
    ]


def last_stage() -> list[tuple[str, str]]:
    found = instructions()
    begin = max(number for number, (word, _) in enumerate(found) if word == "FROM")
    return found[begin:]


def values(word: str) -> list[str]:
    return [rest for each, rest in instructions() if each == word]


def environment() -> dict[str, str]:
    """ENV of the image."""
    words = [shlex.split(rest) for word, rest in last_stage() if word == "ENV"]
    return dict(pair.split("=", 1) for pairs in words for pair in pairs)


def copied() -> list[str]:
    """What is copied out of the repository."""
    return [path for rest in values("COPY") if "--from=" not in rest for path in rest.split()[:-1]]


def test_the_image_has_one_user_to_whom_the_data_and_the_backups_belong() -> None:
    assert [rest for word, rest in last_stage() if word == "USER"] == [f"{UID}:{UID}"]
    made = " ".join(rest for word, rest in last_stage() if word == "RUN")
    assert f"groupadd --gid {UID} " in made and f"useradd --uid {UID} --gid {UID} " in made
    # Below the volume, not the volume: a restore puts another folder in its place.
    volume = str(Path(environment()["SESSION_MGMT_DATA_DIR"]).parent)
    assert values("VOLUME") == [volume]
    assert f"install -d -m 0700 -o {UID} -g {UID} {volume} /backups " in made


def test_the_base_is_one_that_can_be_named_and_is_pinned() -> None:
    bases = {base.split(" AS ")[0] for base in values("FROM")}
    assert bases == {"${BASE}"}
    assert values("ARG")[0] == f"BASE={BASE}"
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert tuple(map(int, BASE.split(":")[1].split("-")[0].split("."))) >= tuple(
        map(int, wanted[2:].split("."))
    )


def test_what_builds_the_image_is_pinned() -> None:
    lines = (FOLDER / "build-requirements.txt").read_text().splitlines()
    loose = [
        line for line in lines if not line.startswith("#") and not re.fullmatch(r"[\w.-]+==[\w.]+", line)
    ]
    assert loose == []
    for installs in (part for rest in values("RUN") for part in rest.split("&&") if " install " in part):
        pinned = (
            "-c constraints.txt" in installs
            or "build-requirements.txt" in installs
            or "--no-deps" in installs
        )
        assert pinned or "pip" not in installs, installs


def test_every_file_that_is_copied_exists_and_reaches_the_build() -> None:
    assert copied()
    for path in copied():
        assert (ROOT / path).exists(), path
        assert not ignored(path), path


@pytest.mark.parametrize(
    "path",
    [
        ".git/config",
        ".venv/bin/python",
        "tests/conftest.py",
        "deploy/compose/secrets/admin_key",
        "deploy/compose/.env",
        "deploy/nginx/tls.key",
        "data/journal/0.journal",
        "core/.env",
        "core/__pycache__/log.pyc",
        "secrets.txt",
    ],
)
def test_data_and_secrets_do_not_reach_the_build(path: str) -> None:
    assert ignored(path)


def test_nothing_secret_is_given_to_the_build() -> None:
    named = [*(rest.split("=")[0] for rest in values("ARG")), *environment()]
    assert [name for name in named if re.search("KEY|SECRET|TOKEN|PASSWORD|URL", name)] == []


def test_the_image_sets_what_the_service_reads_and_opens_the_ports_it_listens_on() -> None:
    ours = {name for name in environment() if name.startswith("SESSION_MGMT_")}
    assert ours and ours <= SETTINGS
    settings = ServiceSettings()
    assert values("EXPOSE") == [f"{settings.http_port} {settings.metrics_port}"]
    assert environment()["SESSION_MGMT_HTTP_PORT"] == str(settings.http_port)
    assert environment()["SESSION_MGMT_METRICS_PORT"] == str(settings.metrics_port)


def test_the_image_is_stopped_by_the_signal_on_which_the_service_drains() -> None:
    assert values("STOPSIGNAL") == ["SIGTERM"]
    for word in ("ENTRYPOINT", "CMD"):  # no shell that would keep the signal to itself
        assert all(rest.startswith("[") for rest in values(word)), word


def test_the_versions_agree() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"VERSION={version}" in values("ARG")
    assert f"session-mgmt-mcp:{version} --build-arg VERSION={version}" in (FOLDER / "Dockerfile").read_text()


def test_hadolint_finds_nothing() -> None:
    run(program("hadolint"), FOLDER / "Dockerfile")


def test_shellcheck_finds_nothing() -> None:
    run(program("shellcheck"), HEALTH, FOLDER / "sbom.sh")


# -- the health check ------------------------------------------------------------------------------------------------


class Answering(http.server.BaseHTTPRequestHandler):
    """Answers /health with the server's `status`, all else with 404."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(self.server.status if self.path == "/health" else 404)  # type: ignore[attr-defined]
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def answering() -> Iterator[http.server.HTTPServer]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def healthy(port: int, **environ: str) -> bool:
    done = subprocess.run(
        [HEALTH],
        env={"PATH": os.environ["PATH"], "SESSION_MGMT_HTTP_PORT": str(port), **environ},
        stderr=subprocess.DEVNULL,
        check=False,
        timeout=60,
    )
    return done.returncode == 0


@pytest.mark.parametrize("status", [200, 404, 500, 503])
def test_only_an_answer_of_200_is_health(answering: http.server.HTTPServer, status: int) -> None:
    answering.status = status  # type: ignore[attr-defined]
    assert healthy(answering.server_address[1]) == (status == 200)


def test_nobody_who_answers_is_no_health() -> None:
    assert not healthy(free_port())


def test_a_service_that_speaks_tls_itself_is_asked_over_tls(
    answering: http.server.HTTPServer, tmp_path: Path
) -> None:
    run("sh", DEPLOY / "nginx" / "self-signed.sh", tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")
    answering.socket = context.wrap_socket(answering.socket, server_side=True)
    answering.status = 200  # type: ignore[attr-defined]
    port = answering.server_address[1]
    assert healthy(port, SESSION_MGMT_TLS_CERT_FILE="set")
    answering.status = 503  # type: ignore[attr-defined]
    assert not healthy(port, SESSION_MGMT_TLS_CERT_FILE="set")


def test_the_image_carries_the_health_check_and_asks_it() -> None:
    placed = [rest.split()[-1] for rest in values("COPY") if "deploy/docker/health" in rest]
    assert f'CMD ["{placed[0]}"]' in values("HEALTHCHECK")[0]
    made = " ".join(rest for word, rest in last_stage() if word == "RUN")
    assert f"chmod 0755 {placed[0]}" in made  # the clone's mode may be for its owner alone


def test_the_image_carries_the_restore_script_and_what_it_needs() -> None:
    (placed,) = [rest.split() for rest in values("COPY") if "restore.sh" in rest]
    needed = re.findall(
        r'^\. "\$\(dirname "\$0"\)/(\S+)"$', (DEPLOY / "scripts/restore.sh").read_text(), re.MULTILINE
    )
    assert {Path(path).name for path in placed[:-1]} == {"restore.sh", *needed}
    made = " ".join(rest for word, rest in last_stage() if word == "RUN")
    assert re.search(rf"chmod 0755 .*{placed[-1].rstrip('/')} {placed[-1]}\*\.sh", made)


def ignored(path: str) -> bool:
    """Whether .dockerignore keeps a path from the build: the last pattern that matches it or a folder above decides."""
    lines = [line.strip() for line in (ROOT / ".dockerignore").read_text().splitlines()]
    parts = path.split("/")
    names = ["/".join(parts[: end + 1]) for end in range(len(parts))]
    out = False
    for line in lines:
        if line and not line.startswith("#"):
            pattern = re.escape(line.removeprefix("!"))
            pattern = (
                pattern.replace(r"\*\*/", "(?:.*/)?")
                .replace(r"\*", "[^/]*")
                .replace(r"\[", "[")
                .replace(r"\]", "]")
            )
            if any(re.fullmatch(pattern, name) for name in names):
                out = not line.startswith("!")
    return out

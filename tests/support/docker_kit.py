"""A container engine for the tests of deploy/: the machine's own, or one that is started for the run and ended after it.

The one started here keeps everything in the folder of `.ci/deploy_tools` and leaves the machine's firewall alone. Where no
registry can be reached, images are made of the Debian tree there.
"""

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
IMAGE = "session-mgmt-mcp:test"
BASE = "python:3.13-slim"
_STAGE = "session-mgmt-test-build:latest"
_LOCAL_BASE = "session-mgmt-test-base:trixie"
WAIT_S_MAX = 120.0  # what hangs fails


def tools_folder() -> Path:
    """Where `.ci/deploy_tools` puts what the tests of deploy/ need."""
    named = os.environ.get("SESSION_MGMT_DEPLOY_TOOLS")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(named) if named else cache / "session-mgmt-deploy"


def program(name: str) -> str:
    """The path of a program that deploy_tools installs; skips the test where it is missing."""
    tools = tools_folder()
    path = os.pathsep.join(
        [f"{tools}/venv/bin", f"{tools}/npm/node_modules/.bin", os.environ["PATH"], "/usr/sbin"]
    )
    found = shutil.which(name, path=path)
    if found is None:
        pytest.skip(f"no {name}: .ci/deploy_tools installs it")
    return found


def run(
    *command: str | Path, check: bool = True, env: Mapping[str, str] | None = None, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run a command; one that fails tells what it said."""
    done = subprocess.run(
        [str(part) for part in command],
        check=False,
        env={**os.environ, **(env or {})},
        stdin=options.pop("stdin", subprocess.DEVNULL) if "input" not in options else None,
        capture_output=True,
        text=True,
        timeout=options.pop("timeout", 900),
        **options,
    )
    if check and done.returncode:
        raise AssertionError(f"{' '.join(map(str, command))}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done


def until(true: Callable[[], object], what: str, seconds: float = WAIT_S_MAX) -> None:
    """Ask again until it is so; fails when it does not become so."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"waited {seconds:.0f} s for: {what}"
        time.sleep(0.1)


class Engine(NamedTuple):
    """A running engine."""

    host: str
    """DOCKER_HOST; "" is the default one."""

    @property
    def env(self) -> dict[str, str]:
        return {"DOCKER_HOST": self.host} if self.host else {}

    def docker(self, *command: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
        return run("docker", *command, env={**self.env, **options.pop("env", {})}, **options)

    def has(self, image: str) -> bool:
        return self.docker("image", "inspect", image, check=False).returncode == 0

    def obtains(self, image: str) -> bool:
        """Whether the image is here, or a registry gives it."""
        return self.has(image) or self.docker("pull", "-q", image, check=False).returncode == 0


# -- the engine ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def engine() -> Iterator[Engine]:
    """An engine for as long as the test runs. Skips where there can be none."""
    program("docker")
    if _answers(""):
        yield Engine("")
        return
    if os.geteuid() != 0 or shutil.which("dockerd") is None:
        pytest.skip("no container engine answers, and none can be started: needs root and dockerd")
    folder = tools_folder() / "docker"
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "users.lock", "w") as users, open(folder / "start.lock", "w") as start:
        with _held(start):
            fcntl.flock(users, fcntl.LOCK_SH)
            _start(folder)
        try:
            yield Engine(_socket(folder))
        finally:
            with _held(start):
                _stop_unless_used(folder, users)


def _socket(folder: Path) -> str:
    return f"unix://{folder}/docker.sock"


def _answers(host: str) -> bool:
    return (
        run("docker", "info", check=False, env={"DOCKER_HOST": host} if host else {}, timeout=60).returncode
        == 0
    )


def _start(folder: Path) -> None:
    """Start the engine unless it runs. The caller holds start.lock."""
    if _answers(_socket(folder)):
        return
    (folder / "pid").unlink(missing_ok=True)
    with open(folder / "log", "w") as log:
        # a process of its own: which test process is the last to need it is not known
        subprocess.run(
            [
                "setsid", "--fork", "dockerd", "--data-root", folder / "data", "--exec-root", folder / "exec",
                "--pidfile", folder / "pid", "--host", _socket(folder), "--bridge=none",
                "--iptables=false", "--ip6tables=false", "--ip-forward=false",
            ],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=True,
        )  # fmt: skip
    end = time.monotonic() + WAIT_S_MAX
    while not _answers(_socket(folder)):
        said = (folder / "log").read_text().splitlines()[-3:]
        if time.monotonic() > end or any("failed to start daemon" in line for line in said):
            pytest.skip(f"dockerd does not run on this machine: {' '.join(said)}")
        time.sleep(0.2)


def _stop_unless_used(folder: Path, users: IO[str]) -> None:
    """End the engine when the last test process is done with it. The caller holds start.lock."""
    fcntl.flock(users, fcntl.LOCK_UN)
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    with contextlib.suppress(FileNotFoundError, ProcessLookupError, ValueError):
        pid = int((folder / "pid").read_text())
        os.kill(pid, signal.SIGTERM)
        until(lambda: not (folder / "pid").exists(), "dockerd ends")


@contextlib.contextmanager
def _held(file: IO[str]) -> Iterator[None]:
    fcntl.flock(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


# -- images ----------------------------------------------------------------------------------------------------------


def build_image(engine: Engine) -> str:
    """The service's image, built from this tree; its name."""
    with _one_builds():
        base = BASE if engine.obtains(BASE) else _local_base(engine)
        options = ("-f", DEPLOY / "docker" / "Dockerfile", "--build-arg", f"BASE={base}")
        # The first stage has a name too: what no name holds any more is cleared away, and with it what can be reused.
        _build(engine, ROOT, _STAGE, "--target", "build", *options)
        _build(engine, ROOT, IMAGE, *options)
        if engine.host:
            engine.docker("image", "prune", "--force")
    return IMAGE


def debian_image(engine: Engine, name: str, package: str, more: str = "") -> str:
    """An image that holds Debian's package, in place of the one a registry would give; its name.

    `name`: the official image, which is taken where it can be had; `more`: a further line of the Dockerfile.
    """
    with _one_builds():
        if engine.obtains(name):
            return name
        local = f"session-mgmt-test-{package}:trixie"
        script = (
            f"FROM {_local_base(engine)}\n"
            f"RUN apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "
            f"{package} >/dev/null && rm -rf /var/lib/apt/lists/*\n{more}\n"
        )
        context = tools_folder() / f"image-{package}"
        context.mkdir(exist_ok=True)
        (context / "Dockerfile").write_text(script)
        _build(engine, context, local)
        return local


def _build(engine: Engine, context: Path, name: str, *options: str | Path) -> None:
    # Before BuildKit an engine needs nothing that a Debian package does not bring.
    engine.docker(
        "build", "-q", "--network", "host", "-t", name, *options, context, env={"DOCKER_BUILDKIT": "0"}
    )


def _local_base(engine: Engine) -> str:
    """Debian with Python, and with what this machine trusts, so that a build reaches what this machine reaches."""
    if engine.has(_LOCAL_BASE):
        return _LOCAL_BASE
    tree = tools_folder() / "trixie"
    if not (tree / ".complete").exists():
        pytest.skip(f"{BASE} cannot be pulled, and there is no Debian tree: .ci/deploy_tools makes one")
    with subprocess.Popen(["tar", "-C", tree, "-c", "."], stdout=subprocess.PIPE) as tar:
        engine.docker("import", "-", f"{_LOCAL_BASE}-plain", stdin=tar.stdout)
    context = tools_folder() / "image-base"
    shutil.rmtree(context, ignore_errors=True)
    (context / "etc" / "ssl" / "certs").mkdir(parents=True)
    for path in (Path("/etc/ssl/certs/ca-certificates.crt"), Path("/etc/pip.conf")):
        if path.exists():
            shutil.copy(path, context / path.relative_to("/"))
    (context / "Dockerfile").write_text(f"FROM {_LOCAL_BASE}-plain\nENV LANG=C.UTF-8\nCOPY etc/ /etc/\n")
    _build(engine, context, _LOCAL_BASE)
    return _LOCAL_BASE


@contextlib.contextmanager
def _one_builds() -> Iterator[None]:
    tools_folder().mkdir(parents=True, exist_ok=True)
    with open(tools_folder() / "build.lock", "w") as lock, _held(lock):
        yield


# -- containers ------------------------------------------------------------------------------------------------------


def free_name() -> str:
    """A name for a container, volume or project of this test alone."""
    return f"session-mgmt-test-{uuid.uuid4().hex[:12]}"


LOCKED_DOWN = (
    "--read-only",
    "--tmpfs",
    "/tmp",
    "--cap-drop",
    "ALL",
    "--security-opt",
    "no-new-privileges",
    "--init",
)
KEY = "smk_0123456789ab_" + "5e" * 32


class Box(NamedTuple):
    """The service's image, and a network and a volume for its containers; `with box(...)` takes all of it away again."""

    engine: Engine
    name: str
    key_file: Path

    def start(self, *options: str) -> int:
        """Start the service, locked down, on the volume; the port of this machine it is reached at."""
        self.engine.docker(
            "run", "--detach", "--name", self.name, "--network", self.name, "--volume", f"{self.name}:/data",
            "--volume", f"{self.key_file}:/run/secrets/admin_key:ro", "--publish", "127.0.0.1:0:8000",
            "--env", "SESSION_MGMT_ADMIN_KEY_FILE=/run/secrets/admin_key", "--env", "SESSION_MGMT_EMBED=off",
            "--health-interval", "1s", *LOCKED_DOWN, *options, IMAGE,
        )  # fmt: skip
        until(lambda: self.state("{{.State.Health.Status}}") == "healthy", "the container is healthy")
        return int(self.engine.docker("port", self.name, "8000").stdout.splitlines()[0].rsplit(":", 1)[1])

    def state(self, template: str) -> str:
        return self.engine.docker("inspect", "--format", template, self.name).stdout.strip()

    def inside(self, *command: str, check: bool = True) -> str:
        """What a command in the running container prints."""
        return self.engine.docker("exec", self.name, *command, check=check).stdout

    def logs(self) -> str:
        done = self.engine.docker("logs", self.name)
        return done.stdout + done.stderr

    def stop(self) -> int:
        """Stop as an operator does, and take the container away; the service's exit code."""
        self.engine.docker("stop", "--time", "60", self.name)
        code = int(self.state("{{.State.ExitCode}}"))
        self.engine.docker("rm", self.name)
        return code


@contextlib.contextmanager
def box(engine: Engine, folder: Path) -> Iterator[Box]:
    """A volume, a network and a key for containers of the service."""
    name, key = free_name(), folder / "admin_key"
    key.write_text(KEY)
    key.chmod(0o444)
    engine.docker("network", "create", name)
    engine.docker("volume", "create", name)
    try:
        yield Box(engine, name, key)
    finally:
        for kind in (["rm", "--force"], ["volume", "rm"], ["network", "rm"]):
            engine.docker(*kind, name, check=False)

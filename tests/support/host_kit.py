"""A Debian machine with systemd, booted in a container with a network of its own, to install the service on."""

import contextlib
import os
import shutil
import subprocess
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from docker_kit import program, run, tools_folder

_BOOTED = ("running", "degraded")
BOOT_S_MAX = 120.0
STOP_S_MAX = 60.0
PATHS = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Host:
    """The machine; `root` is its file system. What is written there stays in the scratch folder."""

    def __init__(self, scratch: Path, binds: Mapping[str, Path]) -> None:
        """`binds`: folders of this machine it may read, by where it sees them. Skips where no machine can be booted."""
        if os.geteuid() != 0:
            pytest.skip("booting a machine needs root")
        self._nspawn = program("systemd-nspawn")
        tree = tools_folder() / "trixie"
        if not (tree / ".complete").exists():
            pytest.skip("no Debian tree: .ci/deploy_tools makes it")
        self._scratch = scratch
        self._binds = binds
        self.root = scratch / "root"
        upper = scratch / "upper"
        for folder in (self.root, upper, scratch / "work"):
            folder.mkdir(mode=0o755, parents=True)
            folder.chmod(0o755)  # the machine's / : its users have to get in
        layers = f"lowerdir={tree},upperdir={upper},workdir={scratch / 'work'}"
        mounted = run("mount", "-t", "overlay", "overlay", "-o", layers, self.root, check=False)
        if mounted.returncode:
            pytest.skip(f"no overlay file system: {mounted.stderr.strip()}")
        self._container: subprocess.Popen[bytes] | None = None
        self._leader = 0

    def boot(self) -> None:
        """Returns once systemd says that the machine is up."""
        with (self._scratch / "console").open("ab") as console:
            self._container = subprocess.Popen(
                [
                    self._nspawn, "--quiet", "--register=no", "--keep-unit", "--private-network",
                    f"--directory={self.root}", "--console=read-only", "--boot",
                    *[f"--bind-ro={source}:{seen}" for seen, source in self._binds.items()],
                ],
                env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
                stdin=subprocess.DEVNULL, stdout=console, stderr=console,
            )  # fmt: skip
        self.until(self._is_up, "the machine to boot", BOOT_S_MAX)

    def stop(self) -> None:
        """Shut down in order, as a machine that is switched off properly."""
        if self._container is None:
            return
        self._container.terminate()
        try:
            self._container.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            self._container.kill()
            self._container.wait()
        self._container, self._leader = None, 0

    def discard(self) -> None:
        """Stop it and forget what it wrote."""
        self.stop()
        run("umount", self.root, check=False)
        shutil.rmtree(self._scratch, ignore_errors=True)

    def command(self, *words: str) -> list[str]:
        """What runs `words` there, as root, with nothing of this machine's environment."""
        return [
            "nsenter", "--target", str(self._leader), "--all", "env", "-i",
            f"PATH={PATHS}", "HOME=/root", "LANG=C.UTF-8", *words,
        ]  # fmt: skip

    def run(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return run(*self.command(*words), check=check)

    def output(self, *words: str) -> str:
        return self.run(*words).stdout.strip()

    def until(self, holds: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
        """Wait for something out there; fails after `seconds`."""
        deadline = time.monotonic() + seconds
        while not holds():
            console = (self._scratch / "console").read_bytes()[-2000:].decode("utf-8", "replace")
            assert time.monotonic() < deadline, f"waited {seconds} s for {what}\n{console}"
            time.sleep(0.2)

    def _is_up(self) -> bool:
        assert self._container is not None
        assert self._container.poll() is None, "the machine did not start"
        children = Path(f"/proc/{self._container.pid}/task/{self._container.pid}/children")
        found = children.read_text().split()
        if not found:
            return False
        self._leader = int(found[-1])
        return self.run("systemctl", "is-system-running", check=False).stdout.strip() in _BOOTED


@contextlib.contextmanager
def host(scratch: Path, binds: Mapping[str, Path]) -> Iterator[Host]:
    machine = Host(scratch, binds)
    try:
        machine.boot()
        yield machine
    finally:
        machine.discard()


def other_wheel(wheel: Path, folder: Path, version: str, edits: Mapping[str, str] | None = None) -> Path:
    """A copy of a wheel as another version, with some of its files replaced. Returns its path."""
    name, before, *rest = wheel.name.split("-")
    to = folder / "-".join([name, version, *rest])
    with zipfile.ZipFile(wheel) as source, zipfile.ZipFile(to, "w", zipfile.ZIP_DEFLATED) as target:
        for item in source.infolist():
            body = source.read(item)
            if item.filename.endswith(".dist-info/METADATA"):
                body = body.replace(f"\nVersion: {before}\n".encode(), f"\nVersion: {version}\n".encode(), 1)
            if edits and item.filename in edits:
                body = edits[item.filename].encode()
            target.writestr(
                item.filename.replace(f"{name}-{before}.dist-info", f"{name}-{version}.dist-info"), body
            )
    return to

"""No socket leaves the machine over the whole life of the product: hooks, imports, maintenance, commands, a server, embedding."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

LIFE = Path(__file__).parents[1] / "support" / "product_life.py"
STRACE = ["strace", "-f", "-qq", "-e", "trace=socket,connect,bind,sendto,sendmsg", "-e", "signal=none"]
ALONE = ["unshare", "-r", "-n"]  # a network namespace with nothing in it, not even a loopback that is up
_FAMILY = re.compile(r"\b(?:AF|PF)_([A-Z0-9]+)")
_SOCKET_NAME = re.compile(r'(?:connect|bind)\(.*sun_path=(@?)"?([^"]*)')


def can(*command: str) -> bool:
    """Whether this machine lets us run it."""
    return (
        shutil.which(command[0]) is not None
        and not subprocess.run(command, capture_output=True, check=False).returncode
    )


@pytest.mark.slow
def test_every_socket_is_a_file_in_the_data_folder(tmp_path: Path) -> None:
    if not can(*STRACE, "-o", str(tmp_path / "try"), sys.executable, "-c", "0"):
        pytest.skip("strace is not here, or may not trace")
    trace = tmp_path / "trace"
    alone = ALONE if can(*ALONE, "true") else []
    done = subprocess.run(
        [*alone, *STRACE, "-o", str(trace), sys.executable, str(LIFE), str(tmp_path / "life")],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    lines = [line for line in trace.read_text(errors="replace").splitlines() if _FAMILY.search(line)]
    families = {name for line in lines for name in _FAMILY.findall(line)}
    assert families <= {"UNIX"}, [line for line in lines if "UNIX" not in line][:20]
    named = {match.groups() for line in lines if (match := _SOCKET_NAME.search(line))}
    data = str(tmp_path / "life" / "data")
    assert named, "the server shares its search on a socket, so the trace has seen none"
    assert {name for mark, name in named if mark or not _is_ours(name, data)} == set()


def _is_ours(name: str, data: str) -> bool:
    """A path in the data folder, or through a descriptor of it where the path is too long for a socket's name."""
    return name.startswith((f"{data}/", "/proc/self/fd/", "host.sock"))


def test_the_life_needs_no_network_to_be_seen() -> None:
    """What the trace is judged by sees a socket of the network, and only that."""
    seen = _FAMILY.findall(
        '7 connect(3, {sa_family=AF_INET, sin_port=htons(443), sin_addr=inet_addr("1.2.3.4")}, 16) = 0'
    )
    assert seen == ["INET"]
    match = _SOCKET_NAME.search(
        '7 connect(3, {sa_family=AF_UNIX, sun_path="/var/run/nscd/socket"}, 110) = -1'
    )
    assert match is not None and match.groups() == ("", "/var/run/nscd/socket")
    assert not _is_ours("/var/run/nscd/socket", "/data")

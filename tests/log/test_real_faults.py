"""Real processes and real files on a failing disk: errors of the nth system call, no space, no descriptors, size limits.

By command, every call instead of some: SESSION_MGMT_FAULT_EVERY=1 pytest -m slow tests/log/test_real_faults.py
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fault_sweep import SWEEPS
from log_child import Child, ToldError
from log_kit import content, snapshot

from session_mgmt_mcp.core.log.log import FileLog
from session_mgmt_mcp.core.log.verify import verify

SUPPORT = Path(__file__).parents[1] / "support"


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The preloaded library, compiled."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler: system calls cannot be made to fail")
    if not sys.platform.startswith("linux"):
        pytest.skip("the library that makes system calls fail is for Linux")
    library = tmp_path_factory.mktemp("shim") / "fault_shim.so"
    source = SUPPORT / "fault_shim.c"
    command = [
        compiler,
        "-shared",
        "-fPIC",
        "-O1",
        "-Wall",
        "-Werror",
        "-o",
        str(library),
        str(source),
        "-ldl",
    ]
    subprocess.run(command, check=True, capture_output=True)
    return library


def sweep(shim: Path, folder: Path, every: int, *names: str) -> dict[str, Any]:
    folder.mkdir()
    command = [
        sys.executable,
        "-W",
        "ignore:This process:DeprecationWarning",
        str(SUPPORT / "fault_sweep.py"),
    ]
    done = subprocess.run(
        [*command, str(folder), str(every), *names],
        env={**os.environ, "LD_PRELOAD": str(shim)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    found: dict[str, Any] = json.loads(done.stdout)
    print(json.dumps(found))
    return found


def check(found: dict[str, Any]) -> None:
    for name, outcome in found.items():
        assert outcome["wrong"] == [], name
        assert 0 < outcome["scenarios"] == outcome["strikes"], name


def test_whatever_call_fails_or_ends_the_process_nothing_acknowledged_is_lost(
    shim: Path, tmp_path: Path
) -> None:
    check(sweep(shim, tmp_path / "logs", 140, "sync-loses", "disk-full", "kill-after"))


@pytest.mark.slow
@pytest.mark.parametrize("name", SWEEPS)
def test_failing_at_any_call_of_a_kind_loses_nothing_acknowledged(
    shim: Path, tmp_path: Path, name: str
) -> None:
    every = 2 if name.startswith("sync-loses-and-dies") else 5
    check(sweep(shim, tmp_path / "logs", int(os.environ.get("SESSION_MGMT_FAULT_EVERY", every)), name))


@pytest.mark.slow
def test_the_sweep_notices_a_log_that_acknowledges_before_it_syncs(shim: Path, tmp_path: Path) -> None:
    """A test of the test: with the product's sync left out of the append, lost pages lose what was acknowledged."""
    broken = tmp_path / "broken.py"
    broken.write_text(
        "import runpy, sys\n"
        "from session_mgmt_mcp.core.log.appender import Appender\n"
        "Appender._make_durable = lambda self, *files: None\n"
        f"sys.argv[0] = {str(SUPPORT / 'fault_sweep.py')!r}\n"
        f"sys.path.insert(0, {str(SUPPORT)!r})\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    (tmp_path / "logs").mkdir()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(broken), str(tmp_path / "logs"), "1", "sync-loses-and-dies"],
        env={**os.environ, "LD_PRELOAD": str(shim)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["sync-loses-and-dies"]["wrong"]


# -- limits of the process ---------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    FileLog(folder, create=True).close()
    return folder


@pytest.fixture
def child(folder: Path) -> Iterator[Child]:
    child = Child(folder)
    yield child
    child.kill()


def names(folder: Path) -> list[str]:
    with FileLog(folder) as log:
        assert verify(log.folder, log.log_id).events == len(content(log))
        return [(e.payload or b"").rstrip(b".").decode() for e in content(log)]


@pytest.mark.parametrize("left", range(8))
def test_without_descriptors_an_append_is_refused_in_words_and_works_again_with_them(
    folder: Path, child: Child, left: int
) -> None:
    child.do("append", "one")
    child.do("maintain", "seal")
    child.do("limit", "NOFILE", left)
    refused = 0
    for turn in range(3):
        try:
            child.do("append", f"scarce {turn}")
            child.do("roll")
            child.do("reopen")
        except ToldError as error:
            refused += 1
            assert "Too many open files" in str(error)
            assert "restore" not in str(error)
            assert str(error).startswith(("AppendError", "DataFolderError"))
    assert refused == 3 or left > 0
    child.do("unlimit", "NOFILE")
    child.do("reopen")
    child.do("append", *(f"scarce {turn}" for turn in range(3)), "after")
    child.do("roll")
    child.do("maintain", "seal")
    found = names(folder)
    assert sorted(found) == ["after", "one", *(f"scarce {turn}" for turn in range(3))]


def test_beyond_a_limit_of_file_size_an_append_is_refused_and_the_log_goes_on_below_and_after(
    folder: Path, child: Child
) -> None:
    child.do("append", "one")
    child.do("limit", "FSIZE", 2 << 20)
    assert child.do("append", "below") == [[2, True]]
    with pytest.raises(ToldError, match=r"AppendError: .*(bytes were written|File too large)"):
        child.do("append", "beyond", size=3 << 20)
    assert child.do("append", "still below") == [[3, True]]
    with pytest.raises(ToldError, match=r"AppendError: .*File too large"):
        child.do("roll")  # a new journal is larger than the limit
    assert not list((folder / "journal").glob("*.tmp"))
    child.do("unlimit", "FSIZE")
    assert child.do("append", "beyond", size=3 << 20) == [[4, True]]
    child.do("roll")
    child.do("maintain", "seal")
    assert names(folder) == ["one", "below", "still below", "beyond"]


def test_a_disk_that_is_full_refuses_appends_reads_on_and_takes_them_when_there_is_space(
    tmp_path: Path,
) -> None:
    """A file system of its own, of 20 MiB, really full."""
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=20m,mode=0700", "tmpfs", str(small)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("a file system of its own cannot be mounted here (needs root)")
    filler = small / "filler"
    filler.write_bytes(b"x" * (5 << 20))
    child = Child(small / "data")
    try:
        with FileLog(small / "data", create=True) as log:
            told, k = [], 0
            try:
                while True:
                    child.do("append", f"{k}", size=1 << 20)
                    told.append(f"{k}")
                    k += 1
            except ToldError as error:
                assert str(error).startswith("AppendError: cannot append to")
                assert "No space left on device; free some space; what was acknowledged is safe" in str(error)
            before = snapshot(small / "data")
            with pytest.raises(ToldError, match="No space left"):
                child.do("append", f"{k}", size=1 << 20)
            assert snapshot(small / "data") == before
            assert [(e.payload or b"").rstrip(b".").decode() for e in content(log)] == told
            filler.unlink()
            child.do("append", f"{k}", size=1 << 20)
        assert names(small / "data") == [*told, f"{k}"]
    finally:
        child.kill()
        subprocess.run(["umount", str(small)], check=True)

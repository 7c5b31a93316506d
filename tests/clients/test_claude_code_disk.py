"""The real Claude Code where the log cannot be written: it works on, and no hook of ours fails."""

import ctypes
import os
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from claude_machine import EVENTS, WORK, Machine, failed_hooks, outcome

DATA_MIB = 24  # room for a journal and a little more
_PR_CAPBSET_DROP = 24
_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH = 1, 2  # by which root enters what is not its own or closed


@pytest.fixture
def small_disk(machine: Machine) -> Iterator[Path]:
    """The machine's data folder on a file system of its own."""
    machine.data.mkdir(parents=True, mode=0o700)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DATA_MIB}m,mode=0700", "tmpfs", str(machine.data)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("a file system of its own cannot be mounted here (needs root)")
    yield machine.data
    # what maintenance still does there must not keep the disk
    subprocess.run(["umount", "--lazy", str(machine.data)], check=True)


def _fill(folder: Path) -> Path:
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
    return filler


def _undisturbed(machine: Machine) -> None:
    stream, _ = machine.session("write the note", *WORK)
    assert outcome(stream) == ("success", False)
    assert (machine.work / "note.txt").read_text() == "hello\n"
    assert failed_hooks(stream) == []


def test_a_full_disk_does_not_disturb_the_client_and_capture_goes_on_once_there_is_room(
    machine: Machine, small_disk: Path
) -> None:
    machine.run("setup", "--yes")
    filler = _fill(small_disk)
    assert os.statvfs(small_disk).f_bavail == 0
    _undisturbed(machine)
    filler.unlink()

    _undisturbed(machine)

    machine.run("maintain", "--once")
    assert [payload["hook_event_name"] for payload in machine.reported()][-len(EVENTS) :] == EVENTS


def _without_the_rights_of_root(action: Callable[[], None]) -> None:
    """Run in a thread whose children obey the modes of files though they are root's."""

    def run() -> None:
        prctl = ctypes.CDLL(None, use_errno=True).prctl
        for capability in (_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH):
            assert prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) == 0, os.strerror(ctypes.get_errno())
        action()

    with ThreadPoolExecutor(1) as threads:
        threads.submit(run).result()


def test_a_data_folder_it_may_not_enter_does_not_disturb_the_client(machine: Machine) -> None:
    machine.run("setup", "--yes")
    machine.data.chmod(0)

    def session() -> None:
        listed = subprocess.run(["ls", str(machine.data)], capture_output=True, check=False)
        assert listed.returncode, "it may not be entered"
        _undisturbed(machine)

    try:
        if os.geteuid() == 0:
            if not Path("/proc/self/status").exists():
                pytest.skip("root's rights cannot be given up here")
            _without_the_rights_of_root(session)
        else:
            session()
    finally:
        machine.data.chmod(0o700)

    assert machine.reported() == []

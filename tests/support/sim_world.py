"""The real modules of the log, put on a simulated machine."""

import importlib
import os
import pkgutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import ModuleType
from typing import cast
from unittest import mock

from sim_calls import SimFcntl, SimShutil, SimTempfile, SimTime
from sim_machine import World
from sim_os import SimOs
from sim_parquet import PARQUET

import session_mgmt_mcp.core.backup
import session_mgmt_mcp.core.log
from session_mgmt_mcp.adapters.claude_code import capture as hook
from session_mgmt_mcp.core import envelope
from session_mgmt_mcp.core.log.journals import try_lock


def _modules(package: ModuleType) -> dict[str, ModuleType]:
    return {
        found.name: importlib.import_module(f"{package.__name__}.{found.name}")
        for found in pkgutil.iter_modules(package.__path__)
    }


MODULES = _modules(session_mgmt_mcp.core.log)
STAND_INS: dict[str, Callable[[World], object]] = {
    "os": SimOs,
    "fcntl": SimFcntl,
    "time": SimTime,
    "shutil": SimShutil,
    "tempfile": SimTempfile,
}
BACKUP_MODULES = _modules(session_mgmt_mcp.core.backup)
CAPACITY = 4096  # what the simulated log counts in, instead of MiB: journals of 16 KiB, so that they fill up
SCRATCH = "session-mgmt-sim-"
_MEMORY = "/dev/shm"
Bug = Callable[[ExitStack], object]  # takes a rule of the protocol out, until the stack ends


@contextmanager
def simulated(world: World, bug: Bug | None = None) -> Iterator[None]:
    """The real code of the log on this world's disk."""
    with ExitStack() as stack:
        for module in (*MODULES.values(), *BACKUP_MODULES.values(), envelope, hook):
            for name, stand_in in STAND_INS.items():
                if hasattr(module, name):
                    stack.enter_context(mock.patch.object(module, name, stand_in(world)))
            if hasattr(module, "ahead"):  # reads in another thread
                stack.enter_context(mock.patch.object(module, "ahead", iter))
            if hasattr(module, "pq"):
                stack.enter_context(mock.patch.object(module, "pq", PARQUET))
        for name in ("seal", "manifest"):  # what killed sealers left is of another day
            cast(SimTime, MODULES[name].time).later = 0.2
        for name, attribute, value in (
            ("frame", "MIB", CAPACITY),
            ("journals", "MIB", CAPACITY),
            ("journals", "JOURNAL_MIB", 4),
            ("journals", "ZEROS_BYTES", 2048),
            ("frame", "ZEROS_BYTES", 2048),
            ("compact", "_GROWTH", 1.3),  # so that few and unequal segments are worth it
            ("appender", "boot_id", lambda: world.boot),
            ("folder", "file_system_of", lambda path: "tmpfs"),  # asked at every opening
        ):
            stack.enter_context(mock.patch.object(MODULES[name], attribute, value))
        stack.enter_context(mock.patch.object(BACKUP_MODULES["running"], "boot_id", lambda: world.boot))
        stack.enter_context(mock.patch.object(hook, "spawn_maintenance", lambda folder: None))
        if bug is not None:
            bug(stack)
        yield


@contextmanager
def locked(world: World, folder: str) -> Iterator[bool]:
    """The maintenance lock, where nobody has it."""
    lock = try_lock(folder + "/maintenance.lock")
    yield lock is not None
    if lock is not None:
        SimOs(world).close(lock)


def scratch_base() -> str:
    """Where scratch folders are made: in memory where the system has such a place."""
    return _MEMORY if os.access(_MEMORY, os.W_OK) else tempfile.gettempdir()


def scratch_folder() -> str:
    """A folder for simulated disks, named by this process."""
    return tempfile.mkdtemp(prefix=f"{SCRATCH}{os.getpid()}-", dir=scratch_base())

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

from sim_calls import SimFcntl, SimTime
from sim_os import SimOs, World
from sim_parquet import PARQUET

import session_mgmt_mcp.core.log
from session_mgmt_mcp.adapters.claude_code import capture as hook
from session_mgmt_mcp.core import envelope
from session_mgmt_mcp.core.log.journals import try_lock

_LOG = session_mgmt_mcp.core.log
MODULES: dict[str, ModuleType] = {
    found.name: importlib.import_module(f"{_LOG.__name__}.{found.name}")
    for found in pkgutil.iter_modules(_LOG.__path__)
}
CAPACITY = 4096  # what the simulated log counts in, instead of MiB: journals of 16 KiB, so that they fill up
SCRATCH = "session-mgmt-sim-"
_MEMORY = "/dev/shm"
Bug = Callable[[ExitStack], object]  # takes a rule of the protocol out, until the stack ends


@contextmanager
def simulated(world: World, bug: Bug | None = None) -> Iterator[None]:
    """The real code of the log on this world's disk."""
    with ExitStack() as stack:
        for module in (*MODULES.values(), envelope, hook):
            for name, stand_in in (("os", SimOs), ("fcntl", SimFcntl), ("time", SimTime)):
                if hasattr(module, name):
                    stack.enter_context(mock.patch.object(module, name, stand_in(world)))
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
            ("appender", "boot_id", lambda: world.boot),
            ("folder", "file_system_of", lambda path: "tmpfs"),  # asked at every opening
        ):
            stack.enter_context(mock.patch.object(MODULES[name], attribute, value))
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

"""Who is at work in a backup: marks that keep those who collect objects away from those who add them (FORMAT.md).

Each puts its own mark first and looks for others' marks then, so of two that begin at once at least one sees the other.
"""

import contextlib
import os
import random
import re
import time
from collections.abc import Iterator

from session_mgmt_mcp.core.backup.store import ObjectStore
from session_mgmt_mcp.core.envelope import now_us
from session_mgmt_mcp.core.errors import DestinationError
from session_mgmt_mcp.core.log.durable import boot_id, sha256

GRACE_US = 86_400 * 1_000_000  # a mark of another machine counts no longer than this
WAIT_S = 600.0
_POLL_S = 0.2
_MINE: set[str] = set()  # of this process; another with its process id is another process
_BACKUP, _COLLECT = "backup", "collect"
_MARK = re.compile(r"running/(\d{20})-(backup|collect)-([0-9a-f]{16})-(\d+)-[0-9a-f]{8}(\.[0-9a-f]+\.tmp)?")


@contextlib.contextmanager
def adding(store: ObjectStore) -> Iterator[None]:
    """While this lasts nobody removes objects. Raises DestinationError where somebody goes on doing so."""
    with _mark(store, _BACKUP) as mark:
        deadline = time.monotonic() + WAIT_S
        while _others(store, mark, _COLLECT):
            if time.monotonic() > deadline:
                raise DestinationError(
                    f"another process has been cleaning {store.url} for {WAIT_S:g} s; try later"
                )
            time.sleep(_POLL_S)
        yield


@contextlib.contextmanager
def alone(store: ObjectStore, wait_s: float = 10.0) -> Iterator[bool]:
    """Whether nobody else is at work here, and none will begin while this lasts: objects may be removed then."""
    deadline = time.monotonic() + wait_s
    while True:
        with _mark(store, _COLLECT) as mark:
            others = _others(store, mark, "")
            if not others:
                yield True
                return
        if any(f"-{_BACKUP}-" in other for other in others) or time.monotonic() > deadline:
            yield False
            return
        time.sleep(_POLL_S * random.random())


@contextlib.contextmanager
def _mark(store: ObjectStore, kind: str) -> Iterator[str]:
    mark = f"running/{now_us():020}-{kind}-{_machine()}-{os.getpid()}-{os.urandom(4).hex()}"
    _MINE.add(mark)
    try:
        store.put(mark, [b"\n"])
        yield mark
    finally:
        _MINE.discard(mark)
        with contextlib.suppress(DestinationError):  # it stops counting anyhow
            store.delete(mark)


def _others(store: ObjectStore, mine: str, kind: str) -> list[str]:
    """Marks of this kind ("": of any) whose makers may be at work. Those of the dead are removed."""
    out = []
    for stored in store.list("running"):
        found = _MARK.fullmatch(stored.name)
        if found is None or stored.name == mine:
            continue
        if _is_over(found):
            store.delete(stored.name)
        elif kind in ("", found[2]) and not found[5]:  # without its name it does not count yet
            out.append(stored.name)
    return out


def _is_over(mark: re.Match[str]) -> bool:
    if now_us() - int(mark[1]) > GRACE_US:
        return True
    here, there = _machine(), mark[3]
    if there[:8] != here[:8]:
        return False
    if there[8:12] != here[8:12]:
        return True  # its maker went with the power
    if there != here:
        return False
    pid = int(mark[4])
    return mark[0].removesuffix(mark[5] or "") not in _MINE if pid == os.getpid() else not is_alive(pid)


def is_alive(pid: int) -> bool:
    """Whether a process of this machine has this id."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _machine() -> str:
    """16 hex digits: 8 tell this machine from others, 4 this boot of it, 4 this space of process ids."""
    name = os.uname().nodename.encode()
    with contextlib.suppress(OSError), open("/etc/machine-id", "rb") as file:
        name += file.read()
    space = ""
    with contextlib.suppress(OSError):
        space = os.readlink("/proc/self/ns/pid")
    machine, boot, spaces = (sha256(part).hexdigest() for part in (name, boot_id(), space.encode()))
    return machine[:8] + boot[:4] + spaces[:4]

"""Five processes append, two read, one seals, and any of them is killed at any moment (run by tests/log/test_crash.py).

    python crash_harness.py FOLDER SECONDS SEED

Prints one JSON object: kills, acknowledged events, events in the log, and what was wrong (empty where nothing was).
"""

import contextlib
import fcntl
import hashlib
import importlib.util
import json
import os
import random
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from session_mgmt_mcp.core.envelope import Envelope, NewEvent, capture_id
from session_mgmt_mcp.core.log.journals import list_journals, try_lock
from session_mgmt_mcp.core.log.log import FileLog
from session_mgmt_mcp.core.log.seal import seal
from session_mgmt_mcp.core.log.spool import drain
from session_mgmt_mcp.core.log.verify import verify

ROLES = ("writer", "writer", "writer", "writer", "hook", "reader", "reader", "sealer")
REPORT = struct.Struct("<16sQ")  # id, position (0: told only that it was taken)


# -- what the processes do; each runs until it is killed ---------------------------------------------------------


def body_of(name: str, rnd: random.Random) -> bytes:
    """A payload that proves itself: whoever reads it can tell whether it is whole."""
    size = rnd.choice((0, 20, 300, 3000, 3000, 60_000))
    text = f"{name} ".encode() + rnd.randbytes(size).hex().encode()
    return text + b" " + hashlib.sha256(text).hexdigest().encode()


def is_whole(payload: bytes) -> bool:
    text, _, digest = payload.rpartition(b" ")
    return hashlib.sha256(text).hexdigest().encode() == digest


def write(folder: str, index: int, life: int, tell: Callable[[bytes], object]) -> None:
    """Append; begin with what the life before appended last, which must not be stored twice."""
    log, rnd, count = FileLog(folder), random.Random(index * 1000 + life), 0
    envelope = Envelope(f"claude-code/w-{index}", "HookReported", 1, 1, 1, "tool", "hook")

    def new(of_life: int, number: int) -> NewEvent:
        name = f"{index}/{of_life}/{number}"
        return NewEvent(capture_id("crash", name), envelope, body_of(name, random.Random(f"{name}")))

    if life:
        log.append([new(life - 1, number) for number in range(20)])
    while True:
        batch = [new(life, count + k) for k in range(rnd.choice((1, 1, 1, 3, 20)))]
        count += len(batch)
        receipts = log.append(batch, dedupe=rnd.random() < 0.9)
        tell(b"".join(REPORT.pack(e.event_id, r.position) for e, r in zip(batch, receipts, strict=True)))


def hook_token(index: int, life: int, number: int) -> bytes:
    return hashlib.sha256(f"hook/{index}/{life}/{number}".encode()).digest()[:16]


def report_hooks(folder: str, index: int, life: int, tell: Callable[[bytes], object]) -> None:
    """Real hook processes, some of them killed; told of where they ended well."""
    spec = importlib.util.find_spec("session_mgmt_mcp.adapters.claude_code.hook")
    assert spec is not None
    assert spec.origin is not None
    rnd, number = random.Random(index * 1000 + life), 0
    while True:
        token = hook_token(index, life, number)
        number += 1
        payload = {
            "session_id": "h",
            "hook_event_name": "PostToolUse",
            "tool_use_id": f"toolu_{token.hex()}",
        }
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", spec.origin, "--data-dir", folder],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdin is not None
        assert process.stderr is not None
        if rnd.random() < 0.2:
            process.stdin.write(json.dumps(payload).encode())
            process.stdin.close()
            time.sleep(rnd.random() * 0.05)
            process.kill()
            process.wait()
            continue
        _, said = process.communicate(json.dumps(payload).encode())
        if process.returncode == 0 and not said:
            tell(REPORT.pack(token, 0))


def read(folder: str, index: int, life: int, tell: Callable[[bytes], object]) -> None:
    """Read from anywhere to the end, over and over; everything seen is told."""
    log, rnd = FileLog(folder), random.Random(index * 1000 + life)
    while True:
        after = last = rnd.randrange(log.head().position + 1)
        for _ in range(20):
            for batch in log.read(after=last):
                for event in batch:
                    assert event.position == last + 1, f"{event.position} follows {last}"
                    last = event.position
                tell(b"".join(REPORT.pack(e.event_id, e.position) for e in batch))
        assert log.head().position >= last >= after


def seal_on(folder: str, index: int, life: int, tell: Callable[[bytes], object]) -> None:
    """Maintenance: drain, now and then roll, seal."""
    log, rnd = FileLog(folder), random.Random(index * 1000 + life)
    while True:
        lock = try_lock(folder + "/maintenance.lock")
        if lock is not None:
            drain(log)
            if rnd.random() < 0.3:
                log.roll()
            seal(folder, log.log_id)
            os.close(lock)
        time.sleep(rnd.random() * 0.05)


_ACTIONS = {"writer": write, "hook": report_hooks, "reader": read, "sealer": seal_on}


# -- the parent --------------------------------------------------------------------------------------------------


class Worker:
    """One process, its pipe, and what it told."""

    def __init__(self, folder: str, index: int, life: int) -> None:
        self.role, self.index, self.life = ROLES[index], index, life
        self.told = b""
        self.fd, end = os.pipe()
        os.set_blocking(self.fd, False)
        self.pid = os.fork()
        if self.pid == 0:
            try:
                _ACTIONS[self.role](folder, index, life, lambda raw: _write_all(end, raw))
            except BaseException as error:  # noqa: BLE001 - it must not return into the parent's code
                _write_all(2, f"{self.role} {index}/{life}: {error!r}\n".encode())
            os._exit(3)
        os.close(end)

    def listen(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while block := os.read(self.fd, 1 << 20):
                self.told += block

    def kill(self) -> int | None:
        """End it; its exit code where it had ended by itself, which it never should."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        self.listen()
        os.close(self.fd)
        return None if code == -signal.SIGKILL else code

    def reports(self) -> list[tuple[bytes, int]]:
        whole = len(self.told) // REPORT.size * REPORT.size
        return [*REPORT.iter_unpack(self.told[:whole])]


def _write_all(fd: int, raw: bytes) -> None:
    while raw:
        raw = raw[os.write(fd, raw) :]


def run(folder: str, seconds: float, seed: int) -> dict[str, object]:
    """The whole test; see the module's docstring."""
    FileLog(folder, create=True).close()
    rnd, wrong = random.Random(seed), []
    workers = [Worker(folder, k, 0) for k in range(len(ROLES))]
    done: list[Worker] = []
    kills = dict.fromkeys(ROLES, 0)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pause = time.monotonic() + rnd.uniform(0.02, 0.2)
        while time.monotonic() < pause:
            for worker in workers:
                worker.listen()
            time.sleep(0.005)
        index = rnd.randrange(len(ROLES))
        ended = workers[index].kill()
        if ended is not None:
            wrong.append(f"a {ROLES[index]} ended by itself with {ended}")
        kills[ROLES[index]] += 1
        if rnd.random() < 0.05:  # as if the machine had lost its hint
            Path(folder, "tail.shm").unlink(missing_ok=True)
        done.append(workers[index])
        workers[index] = Worker(folder, index, workers[index].life + 1)
    for worker in workers:
        worker.kill()
    done += workers
    return {"kills": sum(kills.values()), "by_role": kills, **_judge(folder, done, wrong)}


def _judge(folder: str, workers: list[Worker], wrong: list[str]) -> dict[str, object]:
    """Compare what everybody was told with what is in the log now."""
    lock = os.open(folder + "/maintenance.lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    log = FileLog(folder)
    drain(log)
    journals = len(list_journals(folder))
    seal(folder, log.log_id)
    found = [event for batch in log.read() for event in batch]
    verified = verify(folder, log.log_id)
    if [e.position for e in found] != list(range(1, len(found) + 1)):
        wrong.append("positions have gaps")
    if verified.events != len(found):
        wrong.append(f"verified {verified.events} events, read {len(found)}")
    if len({e.event_id for e in found}) != len(found):
        wrong.append("an event is stored twice")
    ids = [b"", *(e.event_id for e in found)]
    tokens: dict[str, int] = {}
    for event in found:
        payload = event.payload or b""
        if event.envelope.session == "h":
            token = json.loads(payload)["tool_use_id"]
            tokens[token] = tokens.get(token, 0) + 1
        elif not is_whole(payload):
            wrong.append(f"the payload at {event.position} is not whole")
    acknowledged = seen = 0
    for worker in workers:
        for event_id, position in worker.reports():
            if worker.role == "reader":
                seen += 1
            else:
                acknowledged += 1
            if worker.role == "hook":
                times = tokens.get(f"toolu_{event_id.hex()}", 0)
                if times != 1:
                    wrong.append(f"a hook's event is there {times} times")
            elif position >= len(ids) or ids[position] != event_id:
                wrong.append(f"position {position} is not what a {worker.role} was told")
    if any(n != 1 for n in tokens.values()):
        wrong.append("a hook's event is stored twice")
    return {
        "acknowledged": acknowledged,
        "acknowledged_by_hooks": sum(len(w.reports()) for w in workers if w.role == "hook"),
        "seen_by_readers": seen,
        "events": len(found),
        "sealed": log.sealed().position,
        "journals_at_end": journals,
        "quarantined": len(os.listdir(folder + "/quarantine")),
        "wrong": wrong[:20],
    }


if __name__ == "__main__":
    print(json.dumps(run(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]))))

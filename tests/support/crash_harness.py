"""Ten processes append, read, seal, compact and forget, and any of them is killed at any moment (tests/log/test_crash.py).

    python crash_harness.py FOLDER [--seconds 60] [--kills 1000] [--seed 1] [--progress]

Ends after so many seconds or kills, whichever comes first. What the processes were told is kept in FOLDER.told, so a run
that was interrupted or has ended goes on where it was, with the same log. Prints one JSON object: kills, acknowledged
events, events in the log, and what was wrong (empty where nothing was).
"""

import argparse
import contextlib
import ctypes
import fcntl
import hashlib
import importlib.util
import json
import os
import random
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.parquet as pq

from session_mgmt_mcp.core.envelope import Envelope, EventType, NewEvent, capture_id
from session_mgmt_mcp.core.log.compact import compact
from session_mgmt_mcp.core.log.forget import drop_leftovers, finish, forget, tombstones
from session_mgmt_mcp.core.log.journals import list_journals
from session_mgmt_mcp.core.log.log import FileLog
from session_mgmt_mcp.core.log.seal import seal
from session_mgmt_mcp.core.log.spool import drain
from session_mgmt_mcp.core.log.verify import verify

ROLES = (*("writer",) * 4, "hook", *("reader",) * 2, "sealer", "compactor", "forgetter")
MARK = ".forgetting"  # beside the log, while a forgetting is under way
WEIGHTS = [{"forgetter": 1, "compactor": 2}.get(role, 3) for role in ROLES]  # who takes long is killed less
REPORT = struct.Struct("<16sQ")  # id, position (0: told only that it was taken)
PR_SET_PDEATHSIG = 1


# -- what the processes do; each runs until it is killed ---------------------------------------------------------


def body_of(name: str, rnd: random.Random) -> bytes:
    """A payload that proves itself: whoever reads it can tell whether it is whole."""
    size = rnd.choice((0, 20, 100, 300, 300, 1500)) if rnd.random() < 0.98 else 30_000
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
        with maintaining(folder):
            drain(log)
            complete(log)
            if rnd.random() < 0.3:
                log.roll()
            seal(folder, log.log_id)
        time.sleep(rnd.random() * 0.05)


def compact_on(folder: str, index: int, life: int, tell: Callable[[bytes], object]) -> None:
    log, rnd = FileLog(folder), random.Random(index * 1000 + life)
    while True:
        with maintaining(folder):
            compact(folder, log.log_id)
        time.sleep(rnd.random() * 0.05)


def forget_on(folder: str, index: int, life: int, tell: Callable[[bytes], object]) -> None:
    """Forget a few events now and then; told of those that are gone."""
    log, rnd = FileLog(folder), random.Random(index * 1000 + life)
    while True:
        head = log.head().position
        wanted = log.get(rnd.randint(1, head) for _ in range(3)) if head else {}
        chosen = {p: e for p, e in wanted.items() if e.envelope.event_type != EventType.PAYLOAD_FORGOTTEN}
        if chosen:
            with maintaining(folder):
                Path(folder + MARK).touch()
                forget(log, chosen, lambda _: [], "of a test")
                Path(folder + MARK).unlink()
                tell(b"".join(REPORT.pack(e.event_id, p) for p, e in chosen.items()))
        time.sleep(rnd.random() * 0.2)


def complete(log: FileLog) -> None:
    """As maintenance does it: after a forgetting that was killed, what it had published anew is removed too.

    The mark says that there was one (`tools.forget_finish.begin`); without it nothing may be left.
    """
    finish(log)
    mark = Path(log.folder + MARK)
    if mark.exists():
        drop_leftovers(log)
        mark.unlink()


@contextlib.contextmanager
def maintaining(folder: str) -> Iterator[None]:
    """Hold maintenance.lock, however long others do."""
    lock = os.open(folder + "/maintenance.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


_ACTIONS = {
    "writer": write,
    "hook": report_hooks,
    "reader": read,
    "sealer": seal_on,
    "compactor": compact_on,
    "forgetter": forget_on,
}


# -- the parent --------------------------------------------------------------------------------------------------


class Worker:
    """One process, its pipe, and what it told; kept in a file when it has ended."""

    def __init__(self, folder: str, index: int, life: int) -> None:
        self.role, self.index = ROLES[index], index
        self.kept = f"{folder}.told/{index}-{life}"
        self.told = b""
        self.fd, end = os.pipe()
        os.set_blocking(self.fd, False)
        self.pid = os.fork()
        if self.pid == 0:
            try:
                if sys.platform.startswith("linux"):  # not to outlive a harness that was killed
                    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
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
        Path(self.kept + ".tmp").write_bytes(self.told[: len(self.told) // REPORT.size * REPORT.size])
        os.rename(self.kept + ".tmp", self.kept)
        return None if code == -signal.SIGKILL else code


def _write_all(fd: int, raw: bytes) -> None:
    while raw:
        raw = raw[os.write(fd, raw) :]


def reports(folder: str) -> Iterator[tuple[str, list[tuple[bytes, int]]]]:
    """(role, reports) of each process that has ended, of earlier runs too."""
    for path in sorted(Path(folder + ".told").iterdir()):
        if path.suffix != ".tmp":
            yield ROLES[int(path.name.partition("-")[0])], [*REPORT.iter_unpack(path.read_bytes())]


def _next_lives(folder: str) -> list[int]:
    """For each role's place the number after the last process that had it: those killed with the harness count too."""
    lives = [0] * len(ROLES)
    for path in Path(folder + ".told").iterdir():
        index, life = map(int, path.stem.split("-"))
        lives[index] = max(lives[index], life + 2)
    return lives


def run(folder: str, seconds: float, kills_max: int, seed: int, progress: bool = False) -> dict[str, object]:
    """The whole test; see the module's docstring."""
    Path(folder + ".told").mkdir(parents=True, exist_ok=True)
    FileLog(folder, create=True).close()
    lives = _next_lives(folder)
    rnd, wrong = random.Random(f"{seed} {lives}"), []
    workers = [Worker(folder, k, life) for k, life in enumerate(lives)]
    kills = dict.fromkeys(ROLES, 0)
    end = time.monotonic() + seconds
    while time.monotonic() < end and sum(kills.values()) < kills_max:
        pause = time.monotonic() + rnd.uniform(0.01, 0.1)
        while (left := pause - time.monotonic()) > 0:
            ready = select.select([w.fd for w in workers], [], [], left)[0]
            for worker in workers:
                if worker.fd in ready:
                    worker.listen()
        index = rnd.choices(range(len(ROLES)), WEIGHTS)[0]
        ended = workers[index].kill()
        if ended is not None:
            wrong.append(f"a {ROLES[index]} ended by itself with {ended}")
        kills[ROLES[index]] += 1
        if rnd.random() < 0.05:  # as if the machine had lost its hint
            Path(folder, "tail.shm").unlink(missing_ok=True)
        lives[index] += 1
        workers[index] = Worker(folder, index, lives[index])
        if progress and sum(kills.values()) % 50 == 0:
            print(f"{sum(kills.values())} kills, {end - time.monotonic():.0f} s left", file=sys.stderr)
    for worker in workers:
        worker.kill()
    return {"kills": sum(kills.values()), "by_role": kills, **_judge(folder, wrong)}


def _judge(folder: str, wrong: list[str]) -> dict[str, object]:
    """Compare what everybody was told with what is in the log now."""
    lock = os.open(folder + "/maintenance.lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    log = FileLog(folder)
    drain(log)
    complete(log)
    journals = len(list_journals(folder))
    seal(folder, log.log_id)
    gone = {p for t in tombstones(log) for p in t.positions}
    ids, tokens = _read_all(log, gone, wrong)
    wrong += _left_of(gone, folder)
    verified = verify(folder, log.log_id)
    if verified.events != len(ids) - 1:
        wrong.append(f"verified {verified.events} events, read {len(ids) - 1}")
    if verified.forgotten != len(gone):
        wrong.append(f"verified {verified.forgotten} forgotten payloads of {len(gone)}")
    if len(set(ids)) != len(ids):
        wrong.append("an event is stored twice")
    if any(n != 1 for n in tokens.values()):
        wrong.append("a hook's event is stored twice")
    told = dict.fromkeys(ROLES, 0)
    forgotten_hooks = sum(1 for p in gone if ids[p][6] >> 4 == 7)  # a UUIDv7: its token is forgotten with it
    missing = 0
    for role, found in reports(folder):
        told[role] += len(found)
        for event_id, position in found:
            if role == "hook":
                missing += f"toolu_{event_id.hex()}" not in tokens
            elif position >= len(ids) or ids[position] != event_id:
                wrong.append(f"position {position} is not what a {role} was told")
            elif role == "forgetter" and position not in gone:
                wrong.append(f"position {position} was said to be forgotten")
    if missing > forgotten_hooks:
        wrong.append(f"{missing} events of hooks are missing, only {forgotten_hooks} were forgotten")
    return {
        "acknowledged": told["writer"] + told["hook"],
        "acknowledged_by_hooks": told["hook"],
        "seen_by_readers": told["reader"],
        "forgotten": told["forgetter"],
        "events": len(ids) - 1,
        "sealed": log.sealed().position,
        "segments": len(log.reader.manifest().segments),
        "journals_at_end": journals,
        "quarantined": len(os.listdir(folder + "/quarantine")),
        "wrong": wrong[:20],
    }


def _read_all(log: FileLog, gone: set[int], wrong: list[str]) -> tuple[list[bytes], dict[str, int]]:
    """The ids by position, and how often each hook's token is there; payloads are whole, or gone where they should."""
    ids, tokens = [b""], dict[str, int]()
    for batch in log.read():
        for event in batch:
            if event.position != len(ids):
                wrong.append(f"position {event.position} follows {len(ids) - 1}")
            ids.append(event.event_id)
            if (event.payload is None) != (event.position in gone):
                wrong.append(
                    f"the payload at {event.position} is {'gone' if event.payload is None else 'there'}"
                )
            elif event.payload is None or event.envelope.event_type == EventType.PAYLOAD_FORGOTTEN:
                continue
            elif event.envelope.session == "h":
                token = json.loads(event.payload)["tool_use_id"]
                tokens[token] = tokens.get(token, 0) + 1
            elif not is_whole(event.payload):
                wrong.append(f"the payload at {event.position} is not whole")
    return ids, tokens


def _left_of(gone: set[int], folder: str) -> list[str]:
    """Files that still hold a forgotten payload, named by the manifest or not."""
    out = []
    for path in Path(folder, "segments").iterdir():
        if path.suffix == ".parquet":
            table = pq.read_table(path, columns=["position", "payload_salt"])
            pairs = zip(table["position"].to_pylist(), table["payload_salt"].to_pylist(), strict=True)
            out += [f"{path.name} holds {p}" for p, salt in pairs if p in gone and salt is not None]
    return out


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--kills", type=int, default=1 << 60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--progress", action="store_true")
    given = parser.parse_args()
    print(json.dumps(run(given.folder, given.seconds, given.kills, given.seed, given.progress)))

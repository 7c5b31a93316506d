"""Interpretation in processes beside this one, which hold a few hundred megabytes in all and end with it.

A worker gets chunks on stdin and answers on stdout, each message pickled behind its length. It is started without a
copy of this process, so threads and locks here do not matter, and in a session of its own, so Ctrl-C reaches only us;
when this process ends, however, its stdin ends too. Where workers cannot be started, or one fails, the work is done here.
"""

import contextlib
import os
import pickle
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from typing import Any, BinaryIO, Self

from session_mgmt_mcp.core.ports import EventLog
from session_mgmt_mcp.projections.interpreting import Batch, Chunk, batches, chunks_of, interpret_batch
from session_mgmt_mcp.projections.tombstones import Tombstones

EVENTS_MIN = 20_000  # below, starting processes takes longer than they save
WORKERS_MAX = 8
AHEAD = 2  # chunks a worker has in hand or done, but not taken
_START = "from session_mgmt_mcp.projections.workers import serve; serve()"


def interpreted(log: EventLog, after: int, upto: int, tombstones: Tombstones) -> Iterator[Batch]:
    """The sealed events after < position <= upto interpreted, in order; by several processes where that pays."""
    chunks = chunks_of(log, after, upto) if upto - after >= EVENTS_MIN else None
    if not chunks:
        yield from batches(log, after, upto, tombstones)
        return
    with contextlib.ExitStack() as stack:
        workers = _start(stack, tombstones)
        turns = _in_turn(workers, chunks, after) if workers else iter(())
        for chunk in chunks:
            batch = next(turns, None)
            if batch is None:  # whatever became of the worker: the errors of the log itself are raised here
                events = chunk.events(after)
                batch = interpret_batch(events, tombstones) if events else None
            if batch is not None:
                yield batch


def worker_count() -> int:
    """As many as there are processors for this process; none where there is one."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(usable, WORKERS_MAX) if usable > 1 else 0


def _start(stack: contextlib.ExitStack, tombstones: Tombstones) -> "list[_Worker]":
    try:
        return [stack.enter_context(_Worker(tombstones)) for _ in range(worker_count())]
    except OSError:
        return []


def _in_turn(workers: "list[_Worker]", chunks: list[Chunk], after: int) -> Iterator[Batch | None]:
    """The batches in order of the chunks; None for a chunk that a worker failed at."""
    waiting = deque(chunks)
    for _ in range(AHEAD):
        for worker in workers:
            if waiting:
                worker.ask(waiting.popleft(), after)
    for i in range(len(chunks)):
        worker = workers[i % len(workers)]
        batch = worker.answer()
        if waiting:
            worker.ask(waiting.popleft(), after)
        yield batch


class _Worker:
    """One process. After a failure it answers None to everything."""

    def __init__(self, tombstones: Tombstones) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _START],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._failed = False
        self._send(tombstones)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        self._process.wait()

    def ask(self, chunk: Chunk, after: int) -> None:
        self._send((chunk, after))

    def _send(self, value: Any) -> None:
        assert self._process.stdin is not None
        try:
            _write(self._process.stdin, value)
        except OSError:
            self._failed = True

    def answer(self) -> Batch | None:
        assert self._process.stdout is not None
        if self._failed:
            return None
        try:
            batch: Batch | None = _read(self._process.stdout)
        except (OSError, EOFError, pickle.UnpicklingError):
            batch = None
        self._failed = batch is None
        return batch


def _write(pipe: BinaryIO | Any, value: Any) -> None:
    raw = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    pipe.write(len(raw).to_bytes(8, "little"))
    pipe.write(raw)
    pipe.flush()


def _read(pipe: BinaryIO | Any) -> Any:
    """Raises EOFError where the other end is gone."""
    head = pipe.read(8)
    raw = pipe.read(int.from_bytes(head, "little")) if len(head) == 8 else b""
    if not raw:
        raise EOFError
    return pickle.loads(raw)


def serve() -> None:
    """The worker's side: tombstones first, then chunks, until stdin ends. A chunk it cannot do ends it."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not get between the answers
    with contextlib.suppress(EOFError):
        tombstones = _read(sys.stdin.buffer)
        while True:
            chunk, after = _read(sys.stdin.buffer)
            _write(answers, interpret_batch(chunk.events(after), tombstones))

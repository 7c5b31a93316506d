"""Work in processes beside this one, which hold a few hundred megabytes in all and end with it.

A worker gets a job and then its tasks on stdin, and answers on stdout, each message pickled behind its length. It is
started without a copy of this process, so threads and locks here do not matter, and in a session of its own, so Ctrl-C
reaches only us; when this process ends, however, its stdin ends too. Where workers cannot be started, or one fails, the
work is done here.
"""

import contextlib
import os
import pickle
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from queue import SimpleQueue
from threading import Thread
from typing import Any, BinaryIO, Protocol, Self, TypeVar

WORKERS_MAX = 8
AHEAD = 2  # tasks a worker has in hand or done, but not taken
_START = "from session_mgmt_mcp.projections.workers import serve; serve()"
Task_contra = TypeVar("Task_contra", contravariant=True)
Result_co = TypeVar("Result_co", covariant=True)
Task = TypeVar("Task")
Result = TypeVar("Result")


class Job(Protocol[Task_contra, Result_co]):
    """Something that can be pickled and does tasks that can, one independently of the other."""

    def do(self, task: Task_contra) -> Result_co: ...


def results(job: Job[Task, Result], tasks: Sequence[Task], *, here: bool = False) -> Iterator[Result]:
    """What the job makes of each task, in order; `here`: in this process, since others do not pay.

    Raises what the job does.
    """
    with contextlib.ExitStack() as stack:
        workers = [] if here else _start(stack, job)
        turns: Iterator[Any] = _in_turn(workers, tasks) if workers else iter(())
        for task in tasks:
            done = next(turns, None)
            yield job.do(task) if done is None else done[0]


def worker_count() -> int:
    """As many as there are processors for this process; none where there is one."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(usable, WORKERS_MAX) if usable > 1 else 0


def _start(stack: contextlib.ExitStack, job: Job[Any, Any]) -> "list[_Worker]":
    try:
        return [stack.enter_context(_Worker(job)) for _ in range(worker_count())]
    except OSError:
        return []


def _in_turn(workers: "list[_Worker]", tasks: Sequence[Any]) -> Iterator[tuple[Any] | None]:
    """The results in order of the tasks; None for a task that a worker failed at."""
    waiting = deque(tasks)
    for _ in range(AHEAD):
        for worker in workers:
            if waiting:
                worker.ask(waiting.popleft())
    for i in range(len(tasks)):
        worker = workers[i % len(workers)]
        answer = worker.answer()
        if waiting:
            worker.ask(waiting.popleft())
        yield answer


class _Worker:
    """One process. After a failure it answers None to everything."""

    def __init__(self, job: Job[Any, Any]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _START],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._failed = False
        self._send(job)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        self._process.wait()

    def ask(self, task: Any) -> None:
        self._send(task)

    def _send(self, value: Any) -> None:
        assert self._process.stdin is not None
        try:
            _write(self._process.stdin, value)
        except OSError:
            self._failed = True

    def answer(self) -> tuple[Any] | None:
        assert self._process.stdout is not None
        if not self._failed:
            try:
                return (_read(self._process.stdout),)
            except (OSError, EOFError, pickle.UnpicklingError):
                self._failed = True
        return None


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
    """The worker's side: the job first, then tasks, until stdin ends. A task it cannot do ends it."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not get between the answers
    tasks: SimpleQueue[Any] = SimpleQueue()
    # Apart from the work: whoever asks waits for no answer meanwhile, so it must not have to wait here either.
    Thread(target=_receive, args=(tasks,), daemon=True).start()
    try:
        job = tasks.get()
        while job is not None and (task := tasks.get()) is not None:
            _write(answers, job.do(task))
    finally:
        os._exit(0)  # the thread may be waiting for stdin, which cannot be taken from it


def _receive(tasks: "SimpleQueue[Any]") -> None:
    with contextlib.suppress(EOFError):
        while True:
            tasks.put(_read(sys.stdin.buffer))
    tasks.put(None)

"""A load test from its plan to its report: a check that the service answers, the load, everything looked up."""

import asyncio
import secrets
import signal
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

import msgspec

from session_mgmt_mcp.core.errors import InputError
from session_mgmt_mcp.tools.load.calls import Caller, ToolError, Unanswered
from session_mgmt_mcp.tools.load.http import Connection, Place, RequestFailed, place_of
from session_mgmt_mcp.tools.load.tally import Figures, Tally
from session_mgmt_mcp.tools.load.worker import FINDINGS_MAX, Worker

CLIENTS_MAX: Final = 200
SECONDS_MAX: Final = 3600.0
MIX: Final = {"remember": 3, "search": 6, "timeline": 1}
SEARCHED_MAX: Final = 500  # notes that are also searched at the end; all are read
MEMORY_METRIC: Final = 'session_mgmt_memory_bytes{kind="anonymous"}'
_MEMORY_SAMPLES_MAX: Final = 600
_METRICS_S_MAX: Final = 5.0
_FIRST_S: Final = 20.0  # for the first answer

Report = Callable[[str, int, int], None]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to do. `url`: of the service's /mcp; `metrics`: of its /metrics, "" for none; `health`: GET /health instead."""

    url: str
    clients: int = 10
    seconds: float = 30.0
    calls: int = 0  # of each client at most; 0: as many as the time allows
    mix: Mapping[str, int] = msgspec.field(default_factory=lambda: dict(MIX))
    keys: tuple[str, ...] = ()  # handed round
    ca_file: str | None = None
    queries: tuple[str, ...] = ()
    metrics: str = ""
    health: bool = False
    seed: int = 1
    timeout_s: float = 60.0
    retry_s: float = 30.0


class LoadReport(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it. Memory in MB (10^6 bytes) as the service tells it, [] where it does not: (second, MB)."""

    url: str
    clients: int
    seconds: float
    answers: int
    per_s: float
    tools: dict[str, Figures]
    errors: dict[str, int]  # tries without a good answer, by kind
    retried: int  # calls answered at a later try
    unanswered: int  # calls never answered
    longest_wait_s: float
    acknowledged: int
    looked_up: int  # how often a note was looked up, during the load and after
    wrong: int  # what was acknowledged and is missing or different
    findings: list[str]
    memory_mb: list[tuple[float, float]]
    interrupted: bool

    @property
    def is_good(self) -> bool:
        """Whether every call was answered in the end, and everything acknowledged was there."""
        return not self.wrong and not self.unanswered


class LoadTest:
    """One run. `tally` may be looked at while it goes on."""

    def __init__(self, plan: Plan, report: Report) -> None:
        """Raises InputError for what cannot be run."""
        _check(plan)
        self.tally = Tally()
        self._after = Tally()
        self._plan, self._report = plan, report
        self._place = place_of(plan.url, plan.ca_file)
        self._stop = asyncio.Event()
        self._interrupted = False
        self._memory: list[tuple[float, float]] = []
        run = secrets.token_hex(4)
        self._workers = [
            Worker(run, i, self._caller(i), self.tally, mix=plan.mix, queries=plan.queries, seed=plan.seed)
            for i in range(plan.clients)
        ]

    async def run(self) -> LoadReport:
        """Raises InputError where the service does not answer at all. SIGINT ends the load; what was stored is looked up."""
        plan = self._plan
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, self._interrupt)
        try:
            if not plan.health:
                await self._first_answer()
            began = time.perf_counter()
            lives = [self._health(began) for _ in range(plan.clients)] if plan.health else self._lives(began)
            beside = asyncio.create_task(self._watch(began))
            await asyncio.gather(*lives)
            seconds = time.perf_counter() - began
            beside.cancel()
            await asyncio.wait([beside])
            await self._sample_memory(began)
            self._stop.clear()  # another SIGINT ends the looking up too
            await self._look_up()
        finally:
            loop.remove_signal_handler(signal.SIGINT)
            await asyncio.gather(*(worker.close() for worker in self._workers))
        return self._result(seconds)

    def stop(self) -> None:
        """End the load; what was stored is looked up."""
        self._stop.set()

    def _interrupt(self) -> None:
        self._interrupted = True
        self._stop.set()

    def over_time(self, seconds: float, parts: int) -> dict[str, list[tuple[float, float, float, float]]]:
        """By tool: (second, answers/s, p50 ms, p99 ms) of so many parts of the load."""
        return {tool: self.tally.over_time(tool, seconds, parts) for tool in self.tally.tools}

    def _caller(self, number: int) -> Caller:
        plan = self._plan
        key = plan.keys[number % len(plan.keys)] if plan.keys else None
        return Caller(
            self._place, key, timeout_s=plan.timeout_s, retry_s=plan.retry_s, failed=self.tally.failed
        )

    async def _first_answer(self) -> None:
        """Raises InputError: a wrong address or key is not load."""
        plan = self._plan
        said: list[str] = []
        caller = Caller(
            self._place,
            plan.keys[0] if plan.keys else None,
            timeout_s=_FIRST_S,
            retry_s=_FIRST_S / 2,
            failed=said.append,
        )
        try:
            await caller.call("search", {"query": "load test", "limit": 1})
        except (ToolError, Unanswered) as error:
            raise InputError(
                f"{plan.url} does not answer as the service does ({said[-1] if said else error}): "
                "check --url, and --key-file where it wants keys"
            ) from error
        finally:
            await caller.close()

    def _lives(self, began: float) -> list[Awaitable[None]]:
        async def live(worker: Worker) -> None:
            calls = 0
            while self._goes_on(began) and not (self._plan.calls and calls == self._plan.calls):
                await worker.step(began)
                calls += 1

        return [live(worker) for worker in self._workers]

    def _goes_on(self, began: float) -> bool:
        return not self._stop.is_set() and time.perf_counter() - began < self._plan.seconds

    async def _health(self, began: float) -> None:
        """One connection that asks /health again and again."""
        connection = Connection(self._place, self._plan.timeout_s)
        while self._goes_on(began):
            asked = time.perf_counter()
            try:
                answer = await connection.ask("GET", "/health", {})
            except RequestFailed as error:
                self.tally.failed(error.kind)
                await asyncio.sleep(0.05)
                continue
            now = time.perf_counter()
            if answer.status == 200:
                self.tally.answered("health", now - began, now - asked, now - asked, 1)
            else:
                self.tally.failed(f"http {answer.status}")
        await connection.close()

    async def _watch(self, began: float) -> None:
        """Show how far it is; ask the service for its memory now and then."""
        plan = self._plan
        while True:
            at_s = time.perf_counter() - began
            self._report("load", min(int(at_s), int(plan.seconds)), int(plan.seconds))
            await self._sample_memory(began)
            await asyncio.sleep(max(1.0, plan.seconds / _MEMORY_SAMPLES_MAX))

    async def _sample_memory(self, began: float) -> None:
        plan = self._plan
        if plan.metrics:
            found = await _memory(place_of(plan.metrics, plan.ca_file), plan.keys)
            if found is not None:
                self._memory.append((round(time.perf_counter() - began, 1), found))

    async def _look_up(self) -> None:
        """Read every acknowledged note by its position, then search some."""
        total = sum(len(worker.notes) for worker in self._workers)
        step = max(1, total // SEARCHED_MAX)
        began, done = time.perf_counter(), 0

        async def look(worker: Worker) -> None:  # a connection serves one call at a time: each its own notes
            nonlocal done
            worker.tally = self._after
            for number, note in enumerate(worker.notes):
                if self._stop.is_set():
                    return
                await worker.read_back(note, began)
                if number % step == 0:
                    await worker.search_back(note, began)
                done += 1
                self._report("looking up", done, total)

        await asyncio.gather(*(look(worker) for worker in self._workers))

    def _result(self, seconds: float) -> LoadReport:
        tally, workers = self.tally, self._workers
        tools = tally.figures(seconds)
        answers = sum(found.answers for found in tools.values())
        return LoadReport(
            url=self._plan.url,
            clients=self._plan.clients,
            seconds=round(seconds, 2),
            answers=answers,
            per_s=round(answers / seconds, 1),
            tools=tools,
            errors=dict(tally.errors.most_common()),
            retried=tally.retried,
            unanswered=tally.unanswered + self._after.unanswered,
            longest_wait_s=round(tally.longest_wait_s, 3),
            acknowledged=sum(len(worker.notes) for worker in workers),
            looked_up=sum(worker.looked_up for worker in workers),
            wrong=sum(worker.wrong for worker in workers),
            findings=[said for worker in workers for said in worker.findings][:FINDINGS_MAX],
            memory_mb=self._memory,
            interrupted=self._interrupted,
        )


def _check(plan: Plan) -> None:
    """Raise InputError for what cannot be run."""
    if not 1 <= plan.clients <= CLIENTS_MAX:
        raise InputError(f"--clients {plan.clients}: give a number from 1 to {CLIENTS_MAX}")
    if not 0 < plan.seconds <= SECONDS_MAX:
        raise InputError(f"--seconds {plan.seconds:g}: give a number up to {SECONDS_MAX:g}")
    if not plan.mix or set(plan.mix) - set(MIX) or min(plan.mix.values()) < 0 or not any(plan.mix.values()):
        raise InputError(f"--mix: give shares of {', '.join(MIX)}, as in remember=3,search=6")


async def _memory(place: Place, keys: Sequence[str]) -> float | None:
    """The service's own memory in MB; None where it does not tell."""
    headers = {"authorization": f"Bearer {keys[0]}"} if keys else {}
    connection = Connection(place, _METRICS_S_MAX)
    try:
        answer = await connection.ask("GET", place.path, headers)
    except RequestFailed:
        return None
    finally:
        await connection.close()
    for line in answer.body.decode("utf-8", "replace").splitlines():
        if line.startswith(MEMORY_METRIC):
            return round(float(line.rpartition(" ")[2]) / 1e6, 1)
    return None

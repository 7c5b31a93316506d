"""A bound on the service's own memory: caches go first, then new work waits, and nothing else is lost."""

import contextlib
import signal
import threading
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
from service_process import Answer, ServiceProcess, request

from session_mgmt_mcp.core.access import AccessError
from session_mgmt_mcp.projections.scoped_views import ScopedViews
from session_mgmt_mcp.tools.app import App
from session_mgmt_mcp.tools.memory_guard import Memory, MemoryGuard, give_back, memory_now

LIMIT = 100 << 20


class Machine:
    """Memory as a test says; dropping caches brings it to `after`."""

    def __init__(self, used: int, after: int) -> None:
        self.used, self.after = used, after

    def memory(self) -> Memory:
        return Memory(self.used, 0)

    def trim(self) -> None:
        self.used = self.after


def at_once(work: Callable[[], None]) -> None:
    work()


@pytest.fixture
def app(tmp_path: Path):  # type: ignore[no-untyped-def]
    with App.open(tmp_path / "data", create=True) as opened:
        yield opened


def guard_of(app: App, machine: Machine, limit: int = LIMIT) -> MemoryGuard:
    return MemoryGuard(limit, app.views, memory=machine.memory, trim=machine.trim, beside=at_once)


def test_below_the_bound_nothing_is_dropped_and_all_is_admitted(app: App) -> None:
    guard = guard_of(app, Machine(LIMIT, 0))
    guard.check()
    guard.admit()
    assert (guard.dropped, guard.over) == (0, False)


def test_without_a_thread_to_drop_them_new_work_is_refused_until_there_is_one(app: App) -> None:
    threads = [False, True]

    def beside(work: Callable[[], None]) -> None:
        if not threads.pop(0):
            raise RuntimeError("can't start new thread")
        work()

    machine = Machine(LIMIT + 1, LIMIT - 1)
    guard = MemoryGuard(LIMIT, app.views, memory=machine.memory, trim=machine.trim, beside=beside)
    guard.check()
    with pytest.raises(AccessError):
        guard.admit()
    guard.check()
    guard.admit()


def test_above_it_caches_are_dropped_and_work_goes_on_where_that_was_enough(app: App) -> None:
    app.remember("dates are UTC")
    assert app.views.search("dates")
    guard = guard_of(app, Machine(LIMIT + 1, LIMIT - 1))
    guard.check()
    guard.admit()
    assert guard.dropped == 1
    assert app.views.search("dates")  # opened anew


def test_nothing_holds_on_to_what_searches_opened(app: App) -> None:
    app.remember("dates are UTC")
    assert app.views.search("dates")
    assert app.views.scoped(("/nowhere",), ScopedViews).search("dates") == []
    opened = [
        weakref.ref(app.views._meaning()),
        weakref.ref(app.views._search),
        weakref.ref(app.views._reader),
    ]
    MemoryGuard(LIMIT, app.views, memory=Machine(2 * LIMIT, 0).memory, beside=at_once).check()
    assert [what() for what in opened] == [None, None, None]


def test_where_that_is_not_enough_new_work_is_refused_until_memory_is_below_again(app: App) -> None:
    machine = Machine(2 * LIMIT, 2 * LIMIT)
    guard = guard_of(app, machine)
    guard.check()
    with pytest.raises(AccessError, match="MAX_MEMORY_MB") as refused:
        guard.admit()
    assert (refused.value.status, refused.value.reason) == (503, "busy")
    assert refused.value.retry_after_s
    assert app.remember("what is recorded is recorded all the same").appended
    machine.used = LIMIT
    guard.check()
    guard.admit()


def test_caches_are_dropped_once_at_a_time_however_long_a_question_holds_them(app: App) -> None:
    waiting: list[Callable[[], None]] = []
    machine = Machine(2 * LIMIT, 0)
    guard = MemoryGuard(LIMIT, app.views, memory=machine.memory, trim=machine.trim, beside=waiting.append)
    guard.check()
    guard.check()
    assert len(waiting) == 1
    waiting.pop()()
    machine.used = 2 * LIMIT
    guard.check()
    assert len(waiting) == 1


def test_a_failure_to_drop_leaves_the_guard_at_work(app: App) -> None:
    machine = Machine(2 * LIMIT, 0)
    broken = [RuntimeError("no")]

    def trim() -> None:
        if broken:
            raise broken.pop()
        machine.trim()

    guard = MemoryGuard(LIMIT, app.views, memory=machine.memory, trim=trim, beside=at_once)
    guard.check()
    assert guard.dropped == 0
    guard.check()
    assert guard.dropped == 1


def test_without_a_bound_nothing_is_looked_at(app: App) -> None:
    def looked() -> Memory:
        raise AssertionError("memory was looked at")

    guard = MemoryGuard(0, app.views, memory=looked)
    guard.check()
    guard.admit()


def test_checking_does_not_wait_for_a_question_that_holds_the_views(app: App) -> None:
    app.remember("dates are UTC")
    machine = Machine(2 * LIMIT, 0)
    guard = MemoryGuard(LIMIT, app.views, memory=machine.memory, trim=machine.trim)
    with app.views.reading():
        checking = threading.Thread(target=guard.check)
        checking.start()
        checking.join(timeout=60)
        assert not checking.is_alive()
        assert guard.dropped == 0
    dropping = [thread for thread in threading.enumerate() if thread.name == "drop-caches"]
    for thread in dropping:
        thread.join(timeout=60)
    assert guard.dropped == 1


def test_memory_that_is_its_own_is_told_from_mapped_files() -> None:
    before = memory_now()
    if before.anonymous is None:
        pytest.skip("this system does not tell a process's own memory")
    block = bytearray(b"\1" * (64 << 20))
    grown = memory_now().anonymous
    assert grown is not None and grown - before.anonymous >= 48 << 20
    del block
    give_back()
    left = memory_now().anonymous
    assert left is not None and left < grown


@pytest.mark.slow
def test_a_running_service_over_its_bound_refuses_work_and_loses_nothing(tmp_path: Path) -> None:
    settings = tmp_path / "data.config" / "session-mgmt-mcp" / "config.toml"
    settings.parent.mkdir(parents=True)

    def bound(mib: int) -> None:
        settings.write_text(f"max_memory_mb = {mib}\n")
        service.process.send_signal(signal.SIGHUP)
        service.until("READY=1")

    def until_ready_is(status: int) -> Answer:
        with contextlib.closing(service.connection()) as connection:
            while (answer := request(connection, "GET", "/ready")).status != status:
                pass  # asked anew until the test's guard ends the service
        return answer

    with ServiceProcess(tmp_path / "data") as service:
        before = service.call("remember", {"text": "dates are UTC"})
        assert before.status == 200
        bound(16)
        assert until_ready_is(503).json["checks"]["memory"] != "ok"
        refused = service.call("remember", {"text": "while it is over"})
        assert refused.status == 503 and refused.headers["retry-after"]
        assert service.ask("GET", "/health").status == 200
        assert b"session_mgmt_memory_limit_bytes 1.6777216e+07" in service.ask("GET", "/metrics").body
        bound(0)
        until_ready_is(200)
        assert "UTC" in service.call("search", {"query": "dates"}).text
        assert service.stop() == 0

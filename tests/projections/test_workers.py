"""Work in other processes: in order, whatever its size, and done here where they fail."""

from types import SimpleNamespace

import pytest

from session_mgmt_mcp.projections import workers

BIG = [bytes([65 + i]) * (1 << 20) for i in range(9)]  # more than a pipe takes, as task and as result


@pytest.fixture(autouse=True)
def two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "worker_count", lambda: 2)


def test_results_come_in_order_and_large_ones_block_nobody() -> None:
    job = SimpleNamespace(do=bytes.lower)
    assert list(workers.results(job, BIG)) == [task.lower() for task in BIG]


def test_a_result_of_nothing_is_a_result() -> None:
    assert list(workers.results(SimpleNamespace(do={}.get), [1, 2, 3])) == [None, None, None]


def test_what_a_worker_fails_at_is_tried_here_and_raises_here() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        list(workers.results(SimpleNamespace(do=int), ["1", "x", "3"]))


def test_without_workers_the_work_is_done_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_START", "raise SystemExit(1)")
    assert list(workers.results(SimpleNamespace(do=int), ["1", "2", "3"])) == [1, 2, 3]
    monkeypatch.setattr(workers.sys, "executable", "/nonexistent/python")
    assert list(workers.results(SimpleNamespace(do=int), ["1", "2"])) == [1, 2]


def test_workers_end_when_nobody_wants_the_rest() -> None:
    started = []
    made = workers._Worker

    class Recorded(made):  # type: ignore[valid-type, misc]
        def __init__(self, job: object) -> None:
            super().__init__(job)
            started.append(self._process)

    workers._Worker, before = Recorded, workers._Worker  # type: ignore[misc]
    try:
        found = workers.results(SimpleNamespace(do=int), ["1", "2", "3"])
        assert next(found) == 1
        found.close()  # type: ignore[attr-defined]
    finally:
        workers._Worker = before  # type: ignore[misc]
    assert len(started) == 2
    assert all(process.returncode is not None for process in started)

"""`bench`: figures of search on this log, without a trace in it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from session_mgmt_mcp.tools import bench
from session_mgmt_mcp.tools.app import App
from session_mgmt_mcp.tools.cli import main

pytestmark = pytest.mark.slow

Run = Callable[..., Any]


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "COLD_RUNS": 1,
        "READ_S": 0.05,
        "EMBED_S": 0.05,
        "WARM_UP": 2,
        "QUERIES_MAX": 60,
    }.items():
        monkeypatch.setattr(bench, name, value)


def _files(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path): (path.stat().st_mtime_ns, path.stat().st_size)
        for path in folder.rglob("*")
        if path.is_file() and path.name != "tail.shm"
    }


def test_bench_measures_search_and_leaves_the_data_folder_as_it_was(
    imported: dict[str, Any], run: Run, data: Path, short: None
) -> None:
    run("maintain", "--once")
    before = _files(data)
    found = run("bench", "--seconds", "1")
    assert _files(data) == before
    assert found["events"] > 0 and found["actions"] > 0 and found["sessions"] > 0
    for name in ("search_ms", "cold_ms", "cold_cpu_ms"):
        times = found[name]
        assert 0 < times["p50"] <= times["p95"] <= times["p99"] <= times["max"]
    assert found["search_ms"]["p50"] < found["cold_ms"]["p50"]
    assert found["bytes"]["lexical view"] > 0 and found["bytes"]["query view"] > 0
    assert found["rates"]["log_events_s"] > 0


def test_no_query_is_shown(
    imported: dict[str, Any], data: Path, short: None, capsys: pytest.CaptureFixture[str]
) -> None:
    with App.open(data) as app:
        queries = bench.own_queries(app)
    capsys.readouterr()
    assert main(["bench", "--seconds", "0.2"]) == 0
    shown = "".join(capsys.readouterr())
    assert "cold ms" in shown
    assert [query for query in queries if len(query.split()) > 2 and query in shown] == []


def test_queries_are_stretches_of_what_was_said_the_same_for_the_same_log(
    imported: dict[str, Any], data: Path
) -> None:
    with App.open(data) as app:
        queries, again = bench.own_queries(app), bench.own_queries(app)
        with app.views.reading() as files:
            texts = [" ".join(bench._WORD.findall(text)) for (text,) in files.fetch("SELECT text FROM shown")]
    assert queries == again
    assert len(queries) == len(set(queries)) > 10
    assert [query for query in queries if not any(query in text for text in texts)] == []
    assert {len(query.split()) for query in queries} >= {1, 2, 3, 5}


def test_a_log_without_anything_to_search_is_refused(
    run: Run, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    App.open(data, create=True).close()
    assert main(["bench"]) == 2
    assert "import or capture some sessions first" in capsys.readouterr().err


def test_percentiles_are_values_that_were_measured() -> None:
    values = [float(n) for n in range(1, 201)]
    assert bench.percentiles(values[::-1]) == {"p50": 101.0, "p95": 191.0, "p99": 199.0, "max": 200.0}
    assert bench.percentiles([7.0]) == {"p50": 7.0, "p95": 7.0, "p99": 7.0, "max": 7.0}


@pytest.mark.skipif(
    not Path("/proc/self/smaps_rollup").exists(), reason="memory by kind is known on Linux only"
)
def test_resident_memory_is_told_apart_by_who_pays_for_it() -> None:
    kept = bytearray(64 << 20)
    kept[::4096] = b"x" * len(kept[::4096])  # touches every page
    found = bench.memory()
    assert found["anonymous"] > 67
    assert found["resident"] == pytest.approx(found["anonymous"] + found["file"])
    assert found["peak"] >= found["resident"] * 0.99


def test_a_measuring_process_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="no log"):
        bench.probe(tmp_path / "nothing", ["word"])

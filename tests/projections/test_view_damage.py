"""A query view that was cut or changed: readers do without it and answer as before, maintenance makes it anew."""

import contextlib
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

import duckdb
import pytest
from action_log import prompt, reply
from memory_log import MemoryLog

from session_mgmt_mcp.core.errors import ViewDamagedError
from session_mgmt_mcp.projections import query_base
from session_mgmt_mcp.projections.protocol import views_folder
from session_mgmt_mcp.projections.publish import update
from session_mgmt_mcp.projections.query_files import QueryFiles, load_state
from session_mgmt_mcp.projections.views import Views

ROWS = 240
BLOCK = 1 << 18  # what DuckDB reads, and checks, at once
QUESTIONS: dict[str, Callable[[Views], Any]] = {
    "search": lambda views: [m.position for m in views.search("marker123", limit=1)],
    "filters": lambda views: [m.excerpt for m in views.search("actor:user", limit=20)],
    "pattern": lambda views: [m.excerpt for m in views.search("re:marker21[0-9]")],
    "timeline": lambda views: views.timeline(session="s-2"),
    "sessions": lambda views: views.sessions(),
    "rows": lambda views: list(views.session_rows("s-1")),
    "status": lambda views: views.status().kinds,
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[MemoryLog, Path]:
    """A log, and a folder whose query view is a base of several blocks."""
    log, random, folder = MemoryLog(), Random(0), tmp_path_factory.mktemp("made")
    log.append(
        [
            (prompt if n % 2 else reply)(
                f"s-{n % 4}", f"r-{n}", f"marker{n} {random.randbytes(5000).hex()}", n
            )
            for n in range(ROWS)
        ]
    )
    log.seal()
    with mock.patch.object(query_base, "DELTA_ROWS_FREE", 0):
        update(log, folder)
    return log, folder


@pytest.fixture
def log(made: tuple[MemoryLog, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MemoryLog:
    """Of `made`, which has a copy in `tmp_path`."""
    monkeypatch.setattr(query_base, "DELTA_ROWS_FREE", 0)
    shutil.copytree(made[1], tmp_path, dirs_exist_ok=True)
    return made[0]


def base_of(folder: Path) -> Path:
    (base,) = (views_folder(folder) / "query").glob("base-*.duckdb")
    return base


def cut(folder: Path) -> None:
    base = base_of(folder)
    base.write_bytes(base.read_bytes()[: base.stat().st_size // 2])


def scribble(folder: Path) -> None:
    """Change a block that texts alone are in: opening the base does not meet it."""
    base, state = base_of(folder), load_state(views_folder(folder))
    assert state is not None
    sound = base.read_bytes()
    for at in range(BLOCK // 2, len(sound), BLOCK):
        base.write_bytes(sound[:at] + bytes(64) + sound[at + 64 :])
        with contextlib.suppress(duckdb.Error):
            files = QueryFiles(views_folder(folder), state)
            files.sessions()
            files.forgotten()
            try:
                files.fetch("SELECT max(text) FROM shown")
            except duckdb.Error:
                return
            finally:
                files.close()
    raise AssertionError("no block has texts alone")


def answers(log: MemoryLog, folder: Path) -> dict[str, Any]:
    views = Views(log, folder)
    out = {name: ask(views) for name, ask in QUESTIONS.items()}
    views.close()
    return out


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_damaged_base_changes_no_answer(log: MemoryLog, question: str, tmp_path: Path) -> None:
    views = Views(log, tmp_path)
    sound = QUESTIONS[question](views)
    views.close()
    scribble(tmp_path)
    assert QUESTIONS[question](views) == sound
    views.close()


def test_half_a_base_changes_no_answer(log: MemoryLog, tmp_path: Path) -> None:
    sound = answers(log, tmp_path)
    cut(tmp_path)
    assert answers(log, tmp_path) == sound


def test_it_is_removed_with_a_warning_and_made_anew(
    log: MemoryLog, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = answers(log, tmp_path)
    base = base_of(tmp_path)
    scribble(tmp_path)
    with caplog.at_level(logging.WARNING):
        assert answers(log, tmp_path) == before
    assert not base.exists()
    assert f"{base} is damaged and was removed" in caplog.text
    update(log, tmp_path)
    assert base_of(tmp_path) != base
    assert answers(log, tmp_path) == before


def test_a_longer_read_ends_with_an_error_and_the_next_is_whole(log: MemoryLog, tmp_path: Path) -> None:
    scribble(tmp_path)
    views = Views(log, tmp_path)

    def rows() -> int:
        with views.reading() as files:
            return sum(1 for _ in files.shown_rows())

    with pytest.raises(ViewDamagedError, match="ask again"):
        rows()
    assert rows() == log.head().position
    views.close()


def test_maintenance_that_meets_damage_removes_it_and_the_next_run_is_whole(
    log: MemoryLog, tmp_path: Path
) -> None:
    before = answers(log, tmp_path)
    scribble(tmp_path)
    log.append([prompt("s-9", f"n-{n}", f"another {n}", ROWS + n) for n in range(ROWS)])
    log.seal()
    with pytest.raises(ViewDamagedError, match="run maintenance again"):
        update(log, tmp_path)
    update(log, tmp_path)
    assert answers(log, tmp_path)["rows"] == before["rows"]


def test_an_error_that_is_no_damage_leaves_a_base_as_it_is(log: MemoryLog, tmp_path: Path) -> None:
    views = Views(log, tmp_path)
    with pytest.raises(duckdb.Error), views.reading() as files:
        files.fetch("SELECT no_such_column FROM shown")
    assert base_of(tmp_path).is_file()
    assert views.search("marker123")
    views.close()

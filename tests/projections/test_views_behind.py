"""A long log whose views are missing, or of another version: nobody reads it into memory, and what is there serves on."""

from pathlib import Path
from typing import Any

import pytest
from action_log import prompt, reply
from memory_log import MemoryLog

from session_mgmt_mcp.core.errors import ViewsBehindError
from session_mgmt_mcp.projections import rows, tail
from session_mgmt_mcp.projections.lexical_writer import LexicalProjection
from session_mgmt_mcp.projections.publish import update
from session_mgmt_mcp.projections.views import Views

TAIL_MAX = 6


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail, "TAIL_EVENTS_MAX", TAIL_MAX)


@pytest.fixture
def log() -> MemoryLog:
    """Longer than what is read into memory, and sealed."""
    log = MemoryLog()
    for n in range(TAIL_MAX):
        log.append([prompt("s-1", f"u-{n}", f"ask{n} for pears", n), reply("s-1", f"a-{n}", f"pear{n}", n)])
    log.seal()
    return log


def newer(monkeypatch: pytest.MonkeyPatch) -> None:
    """This program's interpretation of events is another one from now on."""
    monkeypatch.setattr(rows.interpretation, "INTERPRETATION_VERSION", 1_000_000)


def found(views: Views, words: str) -> list[str]:
    return [moment.excerpt for moment in views.search(words, limit=5)]


def test_without_views_a_long_log_is_refused_and_the_views_are_asked_for_once(
    log: MemoryLog, tmp_path: Path
) -> None:
    asked: list[int] = []
    views = Views(log, tmp_path, behind=lambda: asked.append(1))
    for ask in (lambda: views.search("pears"), views.sessions, views.timeline, views.status, views.projects):
        with pytest.raises(ViewsBehindError, match="0 of 12 events"):
            ask()
    assert asked == [1]


def test_it_is_answered_as_soon_as_the_views_are_there(log: MemoryLog, tmp_path: Path) -> None:
    views = Views(log, tmp_path)
    with pytest.raises(ViewsBehindError):
        views.search("pear3")
    update(log, tmp_path)
    assert "pear3" in found(views, "pear3")[0]


def test_a_short_log_needs_no_views(tmp_path: Path) -> None:
    log = MemoryLog()
    log.append([prompt("s-1", "u-1", "ask for pears", 1)])
    assert found(Views(log, tmp_path), "pears")


def test_where_words_are_not_indexed_yet_lists_are_answered_and_search_says_why(
    log: MemoryLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KeyboardInterrupt), monkeypatch.context() as killed:
        killed.setattr(LexicalProjection, "update", _interrupt)
        update(log, tmp_path)
    views = Views(log, tmp_path)
    assert [s.session for s in views.sessions()] == ["s-1"]
    for _ in range(2):
        with pytest.raises(ViewsBehindError):
            views.search("pears")
    update(log, tmp_path)
    assert found(views, "pear2")


def test_who_has_them_open_does_not_read_a_long_import_into_memory(log: MemoryLog, tmp_path: Path) -> None:
    update(log, tmp_path)
    asked: list[int] = []
    views = Views(log, tmp_path, behind=lambda: asked.append(1))
    assert found(views, "pear3")
    for n in range(TAIL_MAX + 1):
        log.append([prompt("s-2", f"u-late-{n}", f"ask for plum{n}", 50 + n)])
    for ask in (lambda: views.search("pears"), views.sessions):
        with pytest.raises(ViewsBehindError):
            ask()
    assert asked == [1]
    log.seal()
    update(log, tmp_path)
    assert "plum3" in found(views, "plum3")[0]


def test_views_of_another_version_serve_until_they_are_made_anew(
    log: MemoryLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    update(log, tmp_path)
    newer(monkeypatch)
    log.append([prompt("s-2", "u-late", "ask for plums", 50)])
    views = Views(log, tmp_path)
    assert "pear3" in found(views, "pear3")[0] and found(views, "plums")
    log.seal()
    update(log, tmp_path)
    assert "pear3" in found(views, "pear3")[0] and found(views, "plums")
    assert views.status().query_watermark == log.head().position


def test_who_has_them_open_searches_on_while_only_half_of_the_new_ones_is_there(
    log: MemoryLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    update(log, tmp_path)
    newer(monkeypatch)
    views = Views(log, tmp_path)
    assert found(views, "pear3")
    with pytest.raises(KeyboardInterrupt), monkeypatch.context() as killed:
        killed.setattr(LexicalProjection, "update", _interrupt)
        update(log, tmp_path)
    log.append([prompt("s-2", "u-late", "ask for plums", 50)])
    assert found(views, "pear4") and found(views, "plums")
    update(log, tmp_path)
    assert found(views, "pear5") and found(views, "plums")


def _interrupt(*_: Any, **__: Any) -> int:
    raise KeyboardInterrupt

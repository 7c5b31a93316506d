"""An interrupted rebuild keeps what it has; the next one ends where an uninterrupted one does, and readers notice nothing."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from action_log import call, forgotten, hook_prompt, prompt, reply, returned
from memory_log import MemoryLog

from session_mgmt_mcp.core.errors import InputError
from session_mgmt_mcp.core.log.log import FileLog
from session_mgmt_mcp.projections import (
    facts,
    interpreting,
    lexical_groups,
    lexical_writer,
    query_base,
    rebuild,
    workers,
)
from session_mgmt_mcp.projections.checking import UNREADABLE, check
from session_mgmt_mcp.projections.publish import digest, purge, replay, update
from session_mgmt_mcp.projections.views import Views

pytestmark = pytest.mark.slow  # whole processes or whole replays each

SESSIONS = 3
TURNS = 3


def turns(session: str, n: int) -> list[Any]:
    at = n * 10
    return [
        hook_prompt(session, "try again", at),
        prompt(session, f"u-{session}-{n}", "try again", at),
        call(session, f"c-{session}-{n}", f"t-{session}-{n}", "Bash", {"command": f"make step{n}"}, at + 1),
        returned(session, f"r-{session}-{n}", f"t-{session}-{n}", f"step{n} was made", at + 2),
        reply(session, f"a-{session}-{n}", f"Step {n} of {session} is done.", at + 3),
    ]


def story(log: Any) -> Any:
    """Sessions that take turns, so that every part of a rebuild holds rows of each."""
    for n in range(TURNS):
        for s in range(SESSIONS):
            log.append(turns(f"s-{s}", n))
    return log


@pytest.fixture
def log() -> MemoryLog:
    made: MemoryLog = story(MemoryLog())
    made.seal()
    return made


class _Killed(BaseException):
    """Ends a rebuild where kill -9 would."""


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Checkpoints after every few rows, a base however few there are."""
    monkeypatch.setattr("memory_log.BATCH", 7)
    monkeypatch.setattr(rebuild, "CHECKPOINT_ROWS", 10)
    monkeypatch.setattr(query_base, "DELTA_ROWS_FREE", 0)
    monkeypatch.setattr(lexical_writer, "CHECKPOINT_ROWS", 1)
    monkeypatch.setattr(lexical_groups, "ROWS_AT_ONCE", 1)
    yield


def die_at(call_number: int) -> Callable[[str, int, int], None]:
    """A progress callback that ends the process, so to speak, when it is called for the n-th time."""
    calls = 0

    def progress(*_: object) -> None:
        nonlocal calls
        calls += 1
        if calls == call_number:
            raise _Killed

    return progress


def calls_of(log: Any, folder: Path) -> int:
    count = 0

    def progress(*_: object) -> None:
        nonlocal count
        count += 1

    replay(log, folder, progress=progress)
    return count


@pytest.mark.parametrize(
    "steps", [(3, 5, 9), pytest.param(tuple(range(1, 11)), marks=pytest.mark.slow)], ids=["some", "all"]
)
def test_a_replay_interrupted_anywhere_and_resumed_holds_what_an_uninterrupted_one_does(
    log: MemoryLog, tmp_path: Path, steps: tuple[int, ...]
) -> None:
    update(log, tmp_path)
    expected = digest(tmp_path)
    for step in steps:
        with pytest.raises(_Killed):
            replay(log, tmp_path, progress=die_at(step))
        assert digest(tmp_path) == expected  # the published ones were not touched
        assert replay(log, tmp_path) == expected
        assert not list((tmp_path / "views").rglob("rebuilding"))


@pytest.mark.slow
def test_a_replay_interrupted_again_and_again_gets_to_the_end(log: MemoryLog, tmp_path: Path) -> None:
    update(log, tmp_path)
    expected = digest(tmp_path)
    tries = 0
    while True:
        tries += 1
        try:
            assert replay(log, tmp_path, ["query"], die_at(3)) == {"query": expected["query"]}
            break
        except _Killed:
            assert tries < 10
    assert tries > 2


def test_a_resumed_replay_does_not_read_again_what_it_has(log: MemoryLog, tmp_path: Path) -> None:
    update(log, tmp_path)
    seen: list[int] = []
    with pytest.raises(_Killed):
        replay(log, tmp_path, ["query"], die_at(6))
    replay(log, tmp_path, ["query"], lambda name, at, end: seen.append(at) if name == "query" else None)
    assert min(seen) > 35


@pytest.mark.slow
def test_what_an_interrupted_replay_had_finished_is_not_built_again(log: MemoryLog, tmp_path: Path) -> None:
    update(log, tmp_path)
    expected = digest(tmp_path)
    with pytest.raises(_Killed):
        replay(log, tmp_path, progress=die_at(calls_of(log, tmp_path) - 1))  # within the lexical index
    seen: list[str] = []
    assert replay(log, tmp_path, progress=lambda name, at, end: seen.append(name)) == expected
    assert set(seen) == {"lexical"}
    replay(log, tmp_path, progress=lambda name, at, end: seen.append(name))
    assert set(seen) == {"query", "lexical"}


@pytest.mark.slow
def test_more_events_between_interruption_and_replay_are_taken_in(log: MemoryLog, tmp_path: Path) -> None:
    update(log, tmp_path)
    for step in (5, calls_of(log, tmp_path) - 1):  # within the query view, within the lexical index
        with pytest.raises(_Killed):
            replay(log, tmp_path, progress=die_at(step))
        log.append([*turns("s-0", 90 + step), *turns(f"s-new-{step}", 1)])
        log.seal()
        update(log, tmp_path)
        expected = digest(tmp_path)
        assert replay(log, tmp_path) == expected


def test_what_was_rebuilt_of_another_interpretation_is_not_used(
    log: MemoryLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(_Killed):
        replay(log, tmp_path, progress=die_at(6))
    monkeypatch.setattr("session_mgmt_mcp.projections.rows.interpretation.INTERPRETATION_VERSION", 1_000_000)
    seen: list[int] = []
    replay(log, tmp_path, ["query"], lambda name, at, end: seen.append(at) if name == "query" else None)
    assert min(seen) == 7


def test_the_old_views_serve_while_new_ones_are_built(log: MemoryLog, tmp_path: Path) -> None:
    update(log, tmp_path)
    views = Views(log, tmp_path)
    expected = views.timeline(limit=1000).turns
    found = views.search("step3")
    assert found
    served = 0

    def progress(name: str, at: int, end: int) -> None:
        nonlocal served
        served += 1
        fresh = Views(log, tmp_path)
        for reader in (views, fresh):
            assert reader.timeline(limit=1000).turns == expected
            assert [m.position for m in reader.search("step3")] == [m.position for m in found]
        fresh.close()

    replay(log, tmp_path, progress=progress)
    assert served > 8
    assert views.timeline(limit=1000).turns == expected


def test_forgetting_after_an_interruption_leaves_nothing_in_what_was_rebuilt(
    log: MemoryLog, tmp_path: Path
) -> None:
    log.append([prompt("s-9", "u-9", "the word is xylophonesesame")])
    log.seal()
    update(log, tmp_path)
    position = log.head().position
    for names, step in ((["query"], 6), (["lexical"], 3)):
        with pytest.raises(_Killed):
            replay(log, tmp_path, names, die_at(step))
    log.forget(position)
    log.append([forgotten((), (position,))])
    log.seal()
    purge(log, tmp_path, [position])
    assert not list((tmp_path / "views").rglob("rebuilding"))
    assert Views(log, tmp_path).search("xylophonesesame") == []


def test_an_update_with_live_views_leaves_what_was_rebuilt_to_the_next_replay(
    log: MemoryLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    update(log, tmp_path)
    with pytest.raises(_Killed):
        replay(log, tmp_path, progress=die_at(5))
    update(log, tmp_path)
    assert list((tmp_path / "views").rglob("rebuilding"))
    monkeypatch.setattr(rebuild, "LEFTOVER_AGE_S", -1)
    update(log, tmp_path)
    assert not list((tmp_path / "views").rglob("rebuilding"))


def test_sessions_given_up_for_memory_are_loaded_again(
    log: MemoryLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    update(log, tmp_path)
    expected = digest(tmp_path)
    monkeypatch.setattr(facts, "SESSIONS_ROWS_MAX", 15)
    assert replay(log, tmp_path, ["query"])["query"] == expected["query"]


def test_worker_processes_and_this_one_give_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with FileLog(tmp_path, create=True) as log:
        story(log)
        log.roll()
        from session_mgmt_mcp.core.log.seal import seal

        seal(log.folder, log.log_id)
        update(log, tmp_path)
        expected = digest(tmp_path)
        monkeypatch.setattr(interpreting, "EVENTS_MIN", 1)
        monkeypatch.setattr(lexical_writer, "ROWS_MIN", 1)
        monkeypatch.setattr(workers, "worker_count", lambda: 2)
        assert replay(log, tmp_path) == expected
        monkeypatch.setattr(workers, "_START", "raise SystemExit(1)")
        assert replay(log, tmp_path) == expected


def test_check_finds_views_that_hold_something_else_and_changes_nothing(
    log: MemoryLog, tmp_path: Path
) -> None:
    assert {name: c.published for name, c in check(log, tmp_path).items()} == {
        "query": "",
        "lexical": "",
        "vector": "",
    }
    update(log, tmp_path)
    log.append(turns("s-0", 50))
    log.seal()  # further than the views: they are compared where they are
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    assert all(checked.same for checked in check(log, tmp_path).values())
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before
    log.forget(2)  # behind the views' back
    found = check(log, tmp_path)
    assert {name: checked.same for name, checked in found.items()} == {
        "query": False,
        "lexical": False,
        "vector": True,  # nothing was embedded
    }
    for path in (tmp_path / "views" / "lexical").rglob("meta.json"):
        path.write_bytes(b"{")
    assert check(log, tmp_path, ["lexical"])["lexical"].published == UNREADABLE
    with pytest.raises(InputError, match="no projection 'vectors'"):
        check(log, tmp_path, ["vectors"])

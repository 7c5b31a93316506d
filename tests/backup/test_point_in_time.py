"""Restoring up to a moment: exactly the events up to it, as a fork whose origin can be proved."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from backup_kit import fill, memory_store, restored, sealed_and_open
from log_kit import NOON, content, event, seal_all

from session_mgmt_mcp.adapters.objects.store import FsspecStore
from session_mgmt_mcp.core.backup.create import create
from session_mgmt_mcp.core.backup.cut import choose
from session_mgmt_mcp.core.backup.layout import list_snapshots
from session_mgmt_mcp.core.backup.restore import Point
from session_mgmt_mcp.core.envelope import Event, EventType, NewEvent
from session_mgmt_mcp.core.errors import InputError
from session_mgmt_mcp.core.events import LogForked
from session_mgmt_mcp.core.interpret import interpret
from session_mgmt_mcp.core.log.folder import read_format
from session_mgmt_mcp.core.log.journals import first_chain
from session_mgmt_mcp.core.log.log import FileLog
from session_mgmt_mcp.core.log.verify import verify


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[FileLog, FsspecStore, list[Event]]]:
    """36 events in frames of three: 12 and 12 in segments, 12 in the journal; and its backup."""
    store = memory_store()
    with sealed_and_open(tmp_path_factory.mktemp("source") / "data") as log:
        create(log, store)
        yield log, store, content(log)


def _fork_of(event: Event) -> LogForked:
    assert event.envelope.event_type == EventType.LOG_FORKED
    return msgspec.json.decode(event.payload or b"", type=LogForked)


@pytest.mark.parametrize("position", [1, 3, 5, 12, 13, 23, 24, 25, 26, 27, 36])
def test_a_cut_holds_exactly_the_events_up_to_it(
    source: tuple[FileLog, FsspecStore, list[Event]], tmp_path: Path, position: int
) -> None:
    log, store, before = source
    done, events = restored(store, tmp_path / "fork", Point(position=position))
    assert events[:-1] == before[:position]
    fork = _fork_of(events[-1])
    assert (fork.log_id, fork.origin, fork.position) == (log.log_id, log.log_id, position)
    assert fork.whole_position == position - position % 3
    assert bytes.fromhex(fork.whole_chain) == log.chain_at(fork.whole_position)
    assert done.log_id != log.log_id
    assert (done.position, done.forked_from, done.events) == (position, log.log_id, position + 1)


def test_a_fork_goes_on_from_its_origins_first_chain(
    source: tuple[FileLog, FsspecStore, list[Event]], tmp_path: Path
) -> None:
    log, store, _ = source
    done, _ = restored(store, tmp_path / "fork", Point(position=14))
    found = read_format(str(tmp_path / "fork"))
    assert (found.log_id, found.origin) == (done.log_id, log.log_id)
    with FileLog(tmp_path / "fork") as fork:
        assert fork.chain_at(0) == first_chain(log.log_id)
        assert fork.chain_at(12) == log.chain_at(12)
        assert fork.append([event(b"after the fork")])[0].position == 16
        seal_all(fork)
        assert verify(fork.folder, fork.log_id).events == 16


def test_importing_again_after_a_cut_appends_only_what_was_cut_off(
    source: tuple[FileLog, FsspecStore, list[Event]], tmp_path: Path
) -> None:
    _, store, before = source
    restored(store, tmp_path / "fork", Point(position=14))
    with FileLog(tmp_path / "fork") as fork:
        again = [NewEvent(e.event_id, e.envelope, e.payload or b"") for e in before]
        receipts = fork.append(again)
    assert [r.appended for r in receipts] == [False] * 14 + [True] * 22
    assert not any(r.changed for r in receipts)


def test_a_fork_of_a_fork_keeps_the_first_origin_and_backs_up_to_a_place_of_its_own(
    source: tuple[FileLog, FsspecStore, list[Event]], tmp_path: Path
) -> None:
    log, store, before = source
    restored(store, tmp_path / "fork", Point(position=14))
    other = memory_store()
    with FileLog(tmp_path / "fork") as fork:
        fill(fork, 1)
        with pytest.raises(InputError, match="another log"):
            create(fork, store)
        create(fork, other)
    _, events = restored(other, tmp_path / "second", Point(position=16))
    assert events[:14] == before[:14]
    assert _fork_of(events[14]).log_id == log.log_id
    assert _fork_of(events[-1]).origin == read_format(str(tmp_path / "second")).origin == log.log_id


def test_a_fork_shows_in_the_history(
    source: tuple[FileLog, FsspecStore, list[Event]], tmp_path: Path
) -> None:
    log, store, _ = source
    _, events = restored(store, tmp_path / "fork", Point(position=2))
    [action] = interpret(events[-1])
    assert log.log_id in action.text


@pytest.mark.parametrize("position", [-1, 0, 37])
def test_a_position_that_is_not_there_is_refused(
    source: tuple[FileLog, FsspecStore, list[Event]], tmp_path: Path, position: int
) -> None:
    with pytest.raises(InputError, match="1 to 36"):
        restored(source[1], tmp_path / "fork", Point(position=position))
    assert list(tmp_path.iterdir()) == []


def test_an_older_snapshot_is_restored_by_its_id(tmp_path: Path) -> None:
    store = memory_store()
    with sealed_and_open(tmp_path / "data") as log:
        create(log, store)
        fill(log, 1)
        create(log, store)
    old = list_snapshots(store)[0]
    done, events = restored(store, tmp_path / "old", snapshot=old.id)
    assert (done.position, len(events)) == (36, 36)
    with pytest.raises(InputError, match="2 snapshots match '3'"):
        restored(store, tmp_path / "other", snapshot="3")


# -- by time -----------------------------------------------------------------------------------------------------


def _timed(log: FileLog, *minutes: int) -> None:
    """One frame of events recorded so many minutes after noon."""
    new = [event(b"at %d" % minute) for minute in minutes]
    log.append(
        [
            NewEvent(
                e.event_id,
                msgspec.structs.replace(e.envelope, recorded_at=NOON + minute * 60_000_000),
                e.payload,
            )
            for e, minute in zip(new, minutes, strict=True)
        ]
    )


@pytest.mark.parametrize(("minute", "position"), [(0, 1), (1, 2), (5, 4), (7, 6), (8, 7), (99, 8)])
def test_a_time_cuts_before_the_first_event_recorded_after_it(
    tmp_path: Path, minute: int, position: int
) -> None:
    store = memory_store()
    with FileLog(tmp_path / "data", create=True) as log:
        _timed(log, 0, 1, 2)
        seal_all(log)
        _timed(log, 3, 6, 7)
        _timed(log, 8, 9)
        create(log, store)
    done, events = restored(store, tmp_path / "fork", Point(time_us=NOON + minute * 60_000_000))
    assert done.position == position
    assert len(events) == position + 1
    assert done.chosen is not None
    assert done.chosen.position == position


def test_a_time_before_the_first_event_is_refused(tmp_path: Path) -> None:
    store = memory_store()
    with FileLog(tmp_path / "data", create=True) as log:
        _timed(log, 5)
        create(log, store)
    with pytest.raises(InputError, match="nothing in the snapshot"):
        restored(store, tmp_path / "fork", Point(time_us=NOON))


def test_where_the_clock_went_back_the_events_behind_are_counted_not_taken() -> None:
    stamps = [10, 20, 90, 30, 40, 95]
    chosen = choose(enumerate(stamps, 1), 50)
    assert (chosen.position, chosen.recorded_at, chosen.next_at, chosen.later) == (2, 20, 90, 2)

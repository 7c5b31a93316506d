"""Tombstones: read in every version, of bounded size, finished when interrupted, applied to a restored log."""

import shutil
from pathlib import Path

import msgspec
import pytest
from forget_kit import PLAIN, left_in
from log_kit import event, payloads, seal_all

from session_mgmt_mcp.core.envelope import Envelope, Event, EventType, NewEvent, uuid7
from session_mgmt_mcp.core.errors import InputError, LogCorruptError
from session_mgmt_mcp.core.events import PayloadForgotten, ranges_of
from session_mgmt_mcp.core.interpret import interpret
from session_mgmt_mcp.core.log import forget as core
from session_mgmt_mcp.core.log.forget import apply_tombstones, finish, forget, tombstones, unfinished
from session_mgmt_mcp.core.log.log import FileLog
from session_mgmt_mcp.core.log.verify import verify
from session_mgmt_mcp.core.upcast import STEPS, upcast

SAID = b'{"said": "' + PLAIN.encode() + b'"}'


@pytest.fixture
def log(tmp_path: Path) -> FileLog:
    return FileLog(tmp_path / "data", create=True)


def no_keys(_: object) -> list[str]:
    return []


def tombstone_1(positions: list[int], ids: list[str]) -> bytes:
    """As version 1 wrote it."""
    old = {"positions": positions, "event_ids": ids, "action_keys": ["prompt:x"], "reason": "asked"}
    return msgspec.json.encode(old)


def as_event(payload: bytes | None, version: int) -> Event:
    envelope = Envelope("session-mgmt/log", EventType.PAYLOAD_FORGOTTEN, version, 5, 5, "user", "command")
    return Event(9, bytes(16), envelope, payload)


def test_positions_become_ranges_and_back() -> None:
    assert ranges_of([5, 1, 2, 3, 2, 9]) == ((1, 3), (5, 5), (9, 9))
    assert PayloadForgotten(((1, 3), (5, 5)), (), ()).positions == (1, 2, 3, 5)


def test_a_tombstone_of_version_1_reads_as_version_2() -> None:
    found = upcast(as_event(tombstone_1([4, 5, 9], ["aa", "bb", "cc"]), 1))
    assert found.envelope.schema_version == 2
    assert msgspec.json.decode(found.payload or b"", type=PayloadForgotten) == PayloadForgotten(
        ((4, 5), (9, 9)), ("aa", "bb", "cc"), ("prompt:x",), "asked"
    )


def test_what_is_current_newer_or_forgotten_is_left_as_it_is() -> None:
    for unchanged in (as_event(b"{}", 2), as_event(b"{}", 7), as_event(None, 1)):
        assert upcast(unchanged) is unchanged


def test_every_step_leads_on_from_its_version_without_changing_its_input() -> None:
    payload = tombstone_1([1], ["aa"])
    assert set(STEPS) == {("PayloadForgotten", 1)}
    assert STEPS["PayloadForgotten", 1](payload) == STEPS["PayloadForgotten", 1](payload)
    assert payload == tombstone_1([1], ["aa"])


@pytest.mark.parametrize("version", [1, 2])
def test_both_versions_hide_the_same_facts(version: int) -> None:
    current = PayloadForgotten(((4, 5),), ("aa", "bb"), ("prompt:x",), "asked")
    payload = tombstone_1([4, 5], ["aa", "bb"]) if version == 1 else msgspec.json.encode(current)
    [action] = interpret(as_event(payload, version))
    assert (action.positions, action.action_keys, action.text) == ((4, 5), ("prompt:x",), "asked")  # type: ignore[attr-defined]


def test_a_log_with_a_version_1_tombstone_is_read_finished_and_verifies(log: FileLog) -> None:
    log.append([event(SAID), event(b"{}")])
    first = log.get([1])[1].event_id.hex()
    wrapped = as_event(tombstone_1([1], [first]), 1)
    log.append([NewEvent(uuid7(), wrapped.envelope, wrapped.payload or b"")])
    assert [t.ranges for t in tombstones(log)] == [((1, 1),)]
    assert unfinished(log) == [1]
    assert finish(log) == [1]
    assert left_in(Path(log.folder)) == []
    assert verify(log.folder, log.log_id).forgotten == 1


def test_many_events_make_several_tombstones_that_together_name_them_all(
    log: FileLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core, "CHUNK_EVENTS", 10)
    monkeypatch.setattr(core, "FRAME_BYTES", 1_500)
    log.append([event(b'{"n": %d}' % k) for k in range(35)])
    asked: list[list[int]] = []

    def keys(positions: object) -> list[str]:
        asked.append(list(positions))  # type: ignore[call-overload]
        return ["k"]

    forget(log, range(1, 36), keys, "all of it")
    found = tombstones(log)
    assert [t.ranges for t in found] == [((1, 10),), ((11, 20),), ((21, 30),), ((31, 35),)]
    assert asked == [list(t.positions) for t in found]
    assert [len(t.event_ids) for t in found] == [10, 10, 10, 5]
    assert payloads(log)[:35] == [None] * 35
    assert verify(log.folder, log.log_id).forgotten == 35


def test_tombstones_in_segments_and_in_the_journal_are_both_found(log: FileLog) -> None:
    log.append([event(SAID), event(SAID)])
    forget(log, [1], no_keys, "one")
    forget(log, [2], no_keys, "two")
    wrapped = as_event(msgspec.json.encode(PayloadForgotten((), (), ("k",), "three")), 2)
    log.append([NewEvent(uuid7(), wrapped.envelope, wrapped.payload or b"")])
    assert [t.reason for t in tombstones(log)] == ["one", "two", "three"]


def test_a_tombstone_that_does_not_decode_stops_with_its_position(log: FileLog) -> None:
    wrapped = as_event(b"[]", 2)
    log.append([NewEvent(uuid7(), wrapped.envelope, b"[]")])
    with pytest.raises(LogCorruptError, match="position 1 does not say what was forgotten"):
        tombstones(log)


def test_a_position_that_is_not_there_changes_nothing(log: FileLog) -> None:
    log.append([event(SAID)])
    for wrong in ([0], [2], []):
        with pytest.raises(InputError):
            forget(log, wrong, no_keys)
    assert log.head().position == 1


def test_a_segment_that_rotted_is_not_given_a_new_checksum(log: FileLog) -> None:
    log.append([event(SAID), event(b"x" * 4000)])
    seal_all(log)
    [segment] = Path(log.folder, "segments").glob("*.parquet")
    raw = bytearray(segment.read_bytes())
    raw[len(raw) // 2] ^= 1
    segment.chmod(0o600)
    segment.write_bytes(raw)
    with pytest.raises(LogCorruptError, match="is not what the manifest says"):
        forget(log, [1], no_keys)


# -- a restored log ----------------------------------------------------------------------------------------------


@pytest.fixture
def restored(log: FileLog, tmp_path: Path) -> FileLog:
    """A copy of the log from before the secret at position 2 was forgotten and before position 4 was appended."""
    log.append([event(b'{"n": 1}'), event(SAID), event(b'{"n": 3}')])
    seal_all(log)
    shutil.copytree(log.folder, tmp_path / "older")
    log.append([event(SAID)])
    forget(log, [2, 4], lambda _: ["prompt:x"], "a leaked place")
    return FileLog(tmp_path / "older")


def test_what_was_forgotten_since_is_taken_out_of_an_older_copy(log: FileLog, restored: FileLog) -> None:
    absent = log.get([4])[4].event_id.hex()
    apply_tombstones(restored, tombstones(log))
    assert left_in(Path(restored.folder)) == []
    [mine] = tombstones(restored)
    assert (mine.ranges, mine.reason, mine.action_keys) == (((2, 2),), "a leaked place", ("prompt:x",))
    assert mine.event_ids == (log.get([2])[2].event_id.hex(), absent)
    assert verify(restored.folder, restored.log_id).forgotten == 1


def test_applying_them_again_changes_nothing(log: FileLog, restored: FileLog) -> None:
    apply_tombstones(restored, tombstones(log))
    head = restored.head()
    assert apply_tombstones(restored, tombstones(log)) is None
    assert restored.head() == head


def test_an_event_that_is_another_one_at_that_position_is_kept(log: FileLog, tmp_path: Path) -> None:
    log.append([event(SAID)])
    forget(log, [1], no_keys)
    other = FileLog(tmp_path / "other", create=True)
    other.append([event(b"another history")])
    apply_tombstones(other, tombstones(log))
    assert payloads(other)[0] == b"another history"


def test_an_interrupted_application_goes_on(
    log: FileLog, restored: FileLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(core, "put_segment", lambda *_: (_ for _ in ()).throw(OSError("gone")))
        with pytest.raises(OSError, match="gone"):
            apply_tombstones(restored, tombstones(log))
    apply_tombstones(restored, tombstones(log))
    assert left_in(Path(restored.folder)) == []
    assert verify(restored.folder, restored.log_id).forgotten == 1

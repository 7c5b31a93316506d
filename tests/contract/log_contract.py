"""What every backend of `core.ports.EventLog` must do. A backend's test module subclasses `LogContract` and gives it a
`Backend`; nothing here knows files.
"""

import threading
from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import pytest
from contract_kit import NOON, Backend, chains, everything, in_threads, new, numbered

from session_mgmt_mcp.core.envelope import Event, Receipt, capture_id
from session_mgmt_mcp.core.errors import InputError
from session_mgmt_mcp.core.ports import EventLog, Head


class LogContract:
    """The suite. Subclasses define a fixture `backend`."""

    @pytest.fixture
    def log(self, backend: Backend) -> EventLog:
        return backend.open()

    # -- order and positions -------------------------------------------------------------------------------------

    def test_an_empty_log_has_nothing_and_says_so(self, log: EventLog) -> None:
        assert everything(log) == []
        assert log.get([0, 1, -1]) == {}
        assert log.head() == log.sealed() == Head(0, chains(log.log_id, [], {})[0])
        assert log.chain_at(0) == log.head().chain
        assert log.chain_at(1) is None
        assert len(bytes.fromhex(log.log_id)) == 16

    def test_events_come_back_as_given_in_the_order_of_appending(self, log: EventLog) -> None:
        first, second = numbered(0, 3), numbered(3, 2)
        assert log.append(first) == [
            Receipt(1, True, False),
            Receipt(2, True, False),
            Receipt(3, True, False),
        ]
        assert log.append(second) == [Receipt(4, True, False), Receipt(5, True, False)]
        assert [e[1:] for e in everything(log)] == [tuple(e) for e in (*first, *second)]
        assert [e.position for e in everything(log)] == [1, 2, 3, 4, 5]

    def test_an_order_of_times_is_no_order_of_events(self, log: EventLog) -> None:
        times = [NOON, 0, NOON + 10**15, NOON - 10**15, -5]
        log.append([new(recorded_at=time, occurred_at=time) for time in times])
        assert [e.envelope.recorded_at for e in everything(log)] == times

    def test_every_field_of_the_envelope_and_any_bytes_come_back(self, log: EventLog) -> None:
        payloads = [b"", b"\0", bytes(range(256)), "Zoë 日本 \U0001f600".encode(), b"\xff\xfe{", b"\r\n" * 9]
        given = [new(payload) for payload in payloads]
        given += [
            new(stream="claude-code/Zoë 日本 \U0001f600\n", actor="agent:ü", source="record"),
            new(event_type="NotYetKnown", schema_version=70_000, recorded_at=2**62, occurred_at=0),
            new(correlation_id=b"c" * 16, causation_id=b"\0" * 16),
            new(event_id=bytes(16)),
            new(event_id=b"\xff" * 16),
        ]
        log.append(given, dedupe=False)
        assert [e[1:] for e in everything(log)] == [tuple(e) for e in given]

    def test_nothing_appended_is_nothing_changed(self, log: EventLog) -> None:
        log.append(numbered(0, 2))
        before = log.head()
        assert log.append([]) == log.append([], dedupe=False) == []
        assert log.head() == before

    def test_large_payloads_and_many_events_in_one_append_come_back_whole(self, log: EventLog) -> None:
        large = [new(bytes([k]) * (3 << 20)) for k in range(4)]
        many = numbered(0, 3000)
        log.append(large)
        log.append(many)
        assert [e.payload for e in everything(log)] == [e.payload for e in (*large, *many)]
        assert log.head().position == 3004

    # -- receipts and duplicates ---------------------------------------------------------------------------------

    def test_an_id_that_is_there_is_left_out_and_its_position_told(
        self, backend: Backend, log: EventLog
    ) -> None:
        one, two = numbered(0, 2)
        log.append([one])
        assert log.append([two, one]) == [Receipt(2, True, False), Receipt(1, False, False)]
        backend.seal(log)
        other = backend.open()
        assert other.append([one, two]) == [Receipt(1, False, False), Receipt(2, False, False)]
        assert other.head().position == 2

    def test_the_same_id_with_another_payload_is_called_changed_and_the_first_stays(
        self, backend: Backend, log: EventLog
    ) -> None:
        one = new(b"as first read")
        log.append([one])
        again = one._replace(payload=b"as read later")
        assert log.append([again]) == [Receipt(1, False, True)]
        backend.seal(log)
        assert log.append([again, one]) == [Receipt(1, False, True), Receipt(1, False, False)]
        assert [e.payload for e in everything(log)] == [b"as first read"]

    def test_an_id_twice_in_one_append_is_stored_once(self, log: EventLog) -> None:
        one = new(b"a")
        receipts = log.append([one, new(b"between"), one, one._replace(payload=b"b")])
        assert receipts == [
            *(Receipt(1, True, False), Receipt(2, True, False)),
            *(Receipt(1, False, False), Receipt(1, False, True)),
        ]
        assert [e.payload for e in everything(log)] == [b"a", b"between"]

    def test_without_dedupe_every_event_is_appended(self, log: EventLog) -> None:
        one = new(b"a")
        assert [r.position for r in log.append([one, one], dedupe=False)] == [1, 2]
        assert log.append([one], dedupe=False) == [Receipt(3, True, False)]
        assert log.append([one])[0].appended is False

    def test_what_was_acknowledged_is_there_after_reopening(self, backend: Backend, log: EventLog) -> None:
        given = numbered(0, 5)
        log.append(given)
        head = log.head()
        backend.close(log)
        again = backend.open()
        assert again.log_id == log.log_id
        assert again.head() == head
        assert [e[1:] for e in everything(again)] == [tuple(e) for e in given]
        assert again.append(given)[4] == Receipt(5, False, False)
        assert again.append(numbered(5, 1)) == [Receipt(6, True, False)]

    def test_a_refused_append_leaves_nothing_of_its_batch(self, log: EventLog) -> None:
        log.append(numbered(0, 1))
        before = log.head()
        with pytest.raises(InputError, match="16 bytes"):
            log.append([new(), new(), new(event_id=b"short")])
        assert log.head() == before
        assert log.append(numbered(1, 1)) == [Receipt(2, True, False)]

    # -- reading -------------------------------------------------------------------------------------------------

    def test_reading_begins_after_and_ends_at_any_position(self, backend: Backend, log: EventLog) -> None:
        for k in range(0, 12, 3):
            log.append(numbered(k, 3))
            if k == 3:
                backend.seal(log)
        for after in range(14):
            for upto in (None, *range(14)):
                expected = list(range(after + 1, min(12 if upto is None else upto, 12) + 1))
                assert [e.position for e in everything(log, after, upto)] == expected

    def test_no_batch_is_empty(self, log: EventLog) -> None:
        log.append(numbered(0, 700))
        batches = [len(batch) for batch in log.read()]
        assert sum(batches) == 700 and all(batches)
        assert list(log.read(after=700)) == []

    def test_single_events_are_got_in_any_order_and_absent_ones_left_out(
        self, backend: Backend, log: EventLog
    ) -> None:
        log.append(numbered(0, 600))
        backend.seal(log)
        log.append(numbered(600, 3))
        found = log.get([602, 1, 9999, 1, 0, -3, 600, 601, 603, 604])
        assert {p: e.payload for p, e in found.items()} == {
            p: b"event %d" % (p - 1) for p in (1, 600, 601, 602, 603)
        }
        assert all(e.position == p for p, e in found.items())
        assert log.get([]) == {}

    def test_another_handle_reads_what_was_appended_at_once(self, backend: Backend, log: EventLog) -> None:
        reader = backend.open()
        assert everything(reader) == []
        for k in range(5):
            log.append(numbered(k, 1))
            assert reader.head() == log.head()
            assert [e.payload for e in everything(reader, after=k)] == [b"event %d" % k]

    def test_a_reading_that_is_under_way_goes_on_over_what_is_appended_and_sealed(
        self, backend: Backend, log: EventLog
    ) -> None:
        log.append(numbered(0, 600))
        reader = backend.open()
        batches = reader.read(upto=600)
        found = list(next(batches))
        log.append(numbered(600, 10))
        backend.seal(log)
        for batch in batches:
            found += batch
        assert [e.payload for e in found] == [b"event %d" % k for k in range(600)]

    def test_ids_are_looked_up_wherever_they_lie_forgotten_ones_too(
        self, backend: Backend, log: EventLog
    ) -> None:
        given = numbered(0, 4)
        log.append(given[:2])
        backend.forget(log, [2])
        log.append(given[2:])
        wanted = [e.event_id for e in given]
        for handle in (log, backend.open()):
            found = handle.positions_of([*wanted, bytes(16), wanted[0]])
            assert found == {e.event_id: e.position for e in everything(handle) if e.event_id in wanted}
            assert found[wanted[1]] == 2
            assert handle.positions_of([]) == {}

    # -- head, sealed, chain -------------------------------------------------------------------------------------

    def test_the_chain_is_the_one_the_format_defines(self, backend: Backend, log: EventLog) -> None:
        known = new(b"known")
        for batch in ([known], numbered(0, 3), [known, *numbered(3, 1)], [known], numbered(4, 2)):
            log.append(batch)
        expected = chains(log.log_id, self._frames(log, [1, 3, 1, 2]), backend.salts(log))
        for handle in (log, backend.open()):
            assert handle.head() == Head(7, expected[7])
            assert {p: handle.chain_at(p) for p in range(-1, 9)} == {p: expected.get(p) for p in range(-1, 9)}
        backend.seal(log)
        for handle in (log, backend.open()):
            assert handle.head() == handle.sealed() == Head(7, expected[7])
            assert {p: handle.chain_at(p) for p in range(9)} == {p: expected.get(p) for p in range(9)}

    def _frames(self, log: EventLog, sizes: Sequence[int]) -> list[list[Event]]:
        events = iter(everything(log))
        return [[next(events) for _ in range(size)] for size in sizes]

    def test_sealed_is_a_position_the_head_has_passed_with_its_own_chain(
        self, backend: Backend, log: EventLog
    ) -> None:
        log.append(numbered(0, 2))
        before = log.head()
        assert log.sealed().position == 0
        backend.seal(log)
        log.append(numbered(2, 2))
        assert log.sealed() == before
        assert log.chain_at(2) == before.chain != log.head().chain
        assert log.head().position == 4
        reader = backend.open()
        assert (reader.sealed(), reader.head()) == (log.sealed(), log.head())

    def test_salts_differ_so_that_equal_payloads_cannot_be_told_by_their_hashes(
        self, backend: Backend, log: EventLog
    ) -> None:
        log.append([new(b"same") for _ in range(50)])
        salts = backend.salts(log)
        assert sorted(salts) == list(range(1, 51))
        assert {len(salt) for salt in salts.values()} == {16}
        assert len(set(salts.values())) == 50

    # -- forgetting ----------------------------------------------------------------------------------------------

    def test_a_forgotten_payload_reads_as_none_and_nothing_else_changes(
        self, backend: Backend, log: EventLog
    ) -> None:
        given = [new(b"event %d" % k, capture_id("contract", str(k))) for k in range(5)]
        log.append(given)
        before, reader = log.head(), backend.open()
        assert [e.payload for e in everything(reader)] == [e.payload for e in given]
        own = backend.forget(log, [2, 4])
        for handle in (log, reader, backend.open()):
            found = everything(handle, upto=5)
            assert [e.payload for e in found] == [b"event 0", None, b"event 2", None, b"event 4"]
            assert [(e.event_id, e.envelope) for e in found] == [(e.event_id, e.envelope) for e in given]
            assert handle.get([2, 3])[2].payload is None
            assert handle.chain_at(5) == before.chain
            assert handle.head().position == 5 + own
        assert {2, 4}.isdisjoint(backend.salts(log))

    def test_what_was_forgotten_is_not_stored_again(self, backend: Backend, log: EventLog) -> None:
        given = numbered(0, 2)
        log.append(given)
        own = backend.forget(log, [1])
        for handle in (log, backend.open()):
            assert handle.append(given) == [Receipt(1, False, False), Receipt(2, False, False)]
            assert handle.append([given[0]._replace(payload=b"other")]) == [Receipt(1, False, False)]
            assert handle.head().position == 2 + own

    # -- at once -------------------------------------------------------------------------------------------------

    def test_appends_of_many_handles_and_threads_are_each_whole_and_none_is_lost(
        self, backend: Backend
    ) -> None:
        handles = [backend.open(), backend.open()]
        told: dict[bytes, int] = {}

        def write(log: EventLog, name: int) -> None:
            for k in range(25):
                batch = [new(b"%d/%d/%d/%d" % (name, k, i, k % 4 + 1)) for i in range(k % 4 + 1)]
                receipts = log.append(batch)
                assert all(r.appended for r in receipts)
                told.update(zip((e.event_id for e in batch), (r.position for r in receipts), strict=True))

        in_threads(*(partial(write, handles[n % 2], n) for n in range(4)))
        found = everything(backend.open())
        assert [e.position for e in found] == list(range(1, len(told) + 1))
        assert {e.event_id: e.position for e in found} == told
        parts = [tuple(map(int, (e.payload or b"").split(b"/"))) for e in found]
        for (name, k, i, size), following in pairwise(parts):
            assert i + 1 == size or following == (name, k, i + 1, size)  # a batch lies together, in order
        for writer in range(4):
            assert [p[1:3] for p in parts if p[0] == writer] == [
                (k, i) for k in range(25) for i in range(k % 4 + 1)
            ]

    def test_an_id_appended_by_many_at_once_is_stored_once_and_all_are_told_where(
        self, backend: Backend
    ) -> None:
        shared = numbered(0, 40)
        handles = [backend.open() for _ in range(3)]
        told: list[list[Receipt]] = []

        def write(log: EventLog) -> None:
            told.extend([log.append(shared[k : k + 4]) for k in range(0, 40, 4)])

        in_threads(*(partial(write, log) for log in handles))
        found = {e.event_id: e.position for e in everything(backend.open())}
        assert len(found) == 40
        receipts = [receipt for batch in told for receipt in batch]
        assert sum(r.appended for r in receipts) == 40
        assert {r.position for r in receipts} == set(found.values()) == set(range(1, 41))

    def test_a_reader_sees_only_whole_appends_and_never_fewer_than_before(self, backend: Backend) -> None:
        writer, reader = backend.open(), backend.open()
        done = threading.Event()

        def write() -> None:
            try:
                for k in range(60):
                    size = k % 5 + 1
                    writer.append([new(b"%d/%d" % (i, size) + b"." * (k * 97)) for i in range(size)])
                    if k % 20 == 10:
                        backend.seal(writer)
            finally:
                done.set()

        def read() -> None:
            last, finished = 0, False
            while not finished:
                finished = done.is_set()
                head = reader.head()
                found = everything(reader, after=last)
                assert [e.position for e in found] == list(range(last + 1, last + len(found) + 1))
                last += len(found)
                assert last >= head.position
                for event in (found[-1:], list(reader.get([head.position]).values())):
                    ends = [(e.payload or b"").rstrip(b".").split(b"/") for e in event]
                    assert all(int(i) + 1 == int(size) for i, size in ends)
            assert last == 180

        in_threads(write, read)

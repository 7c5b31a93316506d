"""The log against a list: whatever is appended, sealed, merged, forgotten, torn, killed or reopened, under whatever clock, a
reader sees what the list says.
"""

import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from log_kit import content, event, frames_of, journal_paths

from session_mgmt_mcp.core.envelope import Envelope, EventType, encode_envelope
from session_mgmt_mcp.core.log import compact as compaction
from session_mgmt_mcp.core.log.forget import finish, forget, tombstones
from session_mgmt_mcp.core.log.frame import FRAME, HEADER, encode_frame
from session_mgmt_mcp.core.log.log import FileLog
from session_mgmt_mcp.core.log.seal import seal
from session_mgmt_mcp.core.log.verify import verify
from session_mgmt_mcp.core.upcast import upcast

IDS = [bytes([k]) * 16 for k in range(24)]


class Stored(NamedTuple):
    event_id: bytes
    envelope: Envelope
    payload: bytes | None


# Few ids, so that duplicates are common; a payload is never empty (FORMAT.md section 4: an empty one looks forgotten).
_one = st.tuples(st.sampled_from(IDS), st.binary(min_size=1, max_size=40), st.integers(1, 40))
_batches = st.lists(_one, max_size=6)
_which = st.integers(0, 1)


class LogModel(RuleBasedStateMachine):
    """Two open logs of one folder, as two processes have them, and the list they must agree with."""

    @initialize()
    def create(self) -> None:
        self.base = Path(tempfile.mkdtemp(prefix="log-model-"))
        self.folder = self.base / "data"
        self.logs = [FileLog(self.folder, create=True), FileLog(self.folder)]
        self.model: list[Stored] = []
        self.sealed = 0
        self.gone: set[int] = set()  # positions whose payload was forgotten

    def teardown(self) -> None:
        mock.patch.stopall()  # the clock, before anything can fail: it is that of every later test too
        if hasattr(self, "base"):
            self.logs[0].append([])  # cuts what a torn append left: until then `verify` is red
            for log in self.logs:
                assert verify(log.folder, log.log_id).events == len(self.model)
                log.close()
            shutil.rmtree(self.base)

    # -- appending -----------------------------------------------------------------------------------------------

    @rule(which=_which, batch=_batches)
    def append(self, which: int, batch: list[tuple[bytes, bytes, int]]) -> None:
        new = [event(payload * times, event_id=event_id) for event_id, payload, times in batch]
        receipts = self.logs[which].append(new)
        for given, receipt in zip(new, receipts, strict=True):
            known = next((k for k, s in enumerate(self.model) if s.event_id == given.event_id), None)
            if known is None:
                self.model.append(Stored(*given))
                assert receipt == (len(self.model), True, False)
            else:
                stored = self.model[known].payload
                assert receipt == (known + 1, False, stored is not None and stored != given.payload)

    @rule(which=_which, kilobytes=st.sampled_from([255, 256, 1024, 9 * 1024]))
    def append_large(self, which: int, kilobytes: int) -> None:
        new = event(os.urandom(16) * (kilobytes * 64))
        [receipt] = self.logs[which].append([new], dedupe=False)
        self.model.append(Stored(*new))
        assert receipt.position == len(self.model)

    @precondition(lambda self: self.model)
    @rule(which=_which, data=st.data())
    def forget_as_version_1_did(self, which: int, data: st.DataObject) -> None:
        """An event of the old schema version, appended by an older program that died right after; it reads as today's."""
        allowed = [p for p in self._allowed() if p not in self.gone]
        if not allowed:
            return
        positions = sorted(data.draw(st.sets(st.sampled_from(allowed), min_size=1, max_size=3)))
        ids = [self.model[p - 1].event_id.hex() for p in positions]
        old = {"positions": positions, "event_ids": ids, "action_keys": ["own:1"], "reason": "old"}
        envelope = Envelope("session-mgmt/log", "PayloadForgotten", 1, 1, 1, "user", "command")
        new = event(msgspec.json.encode(old))._replace(envelope=envelope)
        self.logs[which].append([new])
        self.model.append(Stored(*new))
        self.logs[which].roll()
        finish(self.logs[which])
        self._forgotten(positions)
        [stored] = content(self.logs[1 - which], after=len(self.model) - 1)
        assert upcast(stored).envelope.schema_version == 2
        assert tombstones(self.logs[which])[-1].positions == tuple(positions)

    def _allowed(self) -> list[int]:
        tombstone = EventType.PAYLOAD_FORGOTTEN.value
        return [k + 1 for k, s in enumerate(self.model) if s.envelope.event_type != tombstone]

    def _forgotten(self, positions: "set[int] | list[int]") -> None:
        for position in positions:
            self.model[position - 1] = self.model[position - 1]._replace(payload=None)
        self.gone.update(positions)
        self.sealed = int(journal_paths(self.folder)[-1].stem) - 1

    # -- what processes and maintenance do -----------------------------------------------------------------------

    @rule(which=_which)
    def reopen(self, which: int) -> None:
        self.logs[which].close()
        self.logs[which] = FileLog(self.folder)

    @rule(which=_which)
    def roll(self, which: int) -> None:
        assert self.logs[which].roll() == len(self.model)

    @rule(which=_which)
    def seal(self, which: int) -> None:
        expected = int(journal_paths(self.folder)[-1].stem) - 1 if journal_paths(self.folder) else 0
        assert seal(str(self.folder), self.logs[which].log_id).last == expected
        self.sealed = expected

    @precondition(lambda self: self.model)
    @rule(which=_which, data=st.data())
    def forget(self, which: int, data: st.DataObject) -> None:
        allowed = self._allowed()
        if not allowed:
            return
        positions = data.draw(st.sets(st.sampled_from(allowed), min_size=1, max_size=3))
        forget(self.logs[which], positions, lambda _: ["own:1"])
        [tombstone] = content(self.logs[which], after=len(self.model))
        self.model.append(Stored(*tombstone[1:]))
        self._forgotten(positions)

    @rule(which=_which)
    def compact(self, which: int) -> None:
        with mock.patch.object(compaction, "_GROWTH", 1):  # any two are worth it
            manifest = compaction.compact(str(self.folder), self.logs[which].log_id)
        assert (manifest.last, len(manifest.segments)) == (self.sealed, 1 if self.sealed else 0)

    @rule(years=st.sampled_from([-50, -1, 0, 1, 5000]))
    def change_the_clock(self, years: int) -> None:
        """Position is the order, whatever time it is."""
        mock.patch.stopall()
        real = time.time_ns
        mock.patch.object(time, "time_ns", lambda: real() + years * 31_557_600 * 10**9).start()

    @rule(which=_which, payload=st.binary(min_size=1, max_size=300), data=st.data())
    def die_in_the_middle_of_an_append(self, which: int, payload: bytes, data: st.DataObject) -> None:
        """Nobody was told of it: only a part of the frame reached the file, and both processes are gone."""
        self.logs[which].append([])
        path = journal_paths(self.folder)[-1]
        header, _, frames = frames_of(path)
        end = frames[-1].end if frames else HEADER.size
        durable = frames[-1].durable_upto if frames else HEADER.size
        new = event(payload)
        entry = (new.event_id, b"s" * 16, encode_envelope(new.envelope), payload)
        frame = encode_frame(header, end, len(self.model) + 1, durable, b"c" * 32, [entry])
        cut = data.draw(st.integers(1, len(frame) - 1))
        if not frame[cut:].strip(b"\0"):
            return  # what is missing is zero: the frame is whole
        if end + len(frame) + FRAME.size > header.capacity:
            return
        with path.open("r+b") as file:
            file.seek(end)
            file.write(frame[:cut])
        for k in (0, 1):
            self.logs[k].close()
            self.logs[k] = FileLog(self.folder)

    # -- what happens to files -----------------------------------------------------------------------------------

    @rule()
    def lose_the_hint(self) -> None:
        (self.folder / "tail.shm").unlink(missing_ok=True)

    @rule(noise=st.binary(min_size=1, max_size=64), at=st.integers(0, 600))
    def damage_the_hint(self, noise: bytes, at: int) -> None:
        path = self.folder / "tail.shm"
        if path.exists():
            with path.open("r+b") as file:
                file.seek(at)
                file.write(noise)

    @precondition(lambda self: journal_paths(self.folder))
    @rule(noise=st.binary(min_size=1, max_size=200).filter(lambda b: b[0] != 0))
    def tear_the_tail(self, noise: bytes) -> None:
        """A writer that died in the middle of its write."""
        path = journal_paths(self.folder)[-1]
        _, _, frames = frames_of(path)
        end = frames[-1].end if frames else 128
        with path.open("r+b") as file:
            file.seek(end)
            file.write(noise)

    # -- what must hold ------------------------------------------------------------------------------------------

    @rule(which=_which, data=st.data())
    def read_from_anywhere(self, which: int, data: st.DataObject) -> None:
        after = data.draw(st.integers(0, len(self.model)))
        upto = data.draw(st.none() | st.integers(after, len(self.model) + 2))
        found = [e for batch in self.logs[which].read(after, upto) for e in batch]
        last = len(self.model) if upto is None else min(upto, len(self.model))
        assert [e.position for e in found] == list(range(after + 1, last + 1))
        assert [e[1:] for e in found] == [tuple(s) for s in self.model[after:upto]]

    @rule(which=_which, data=st.data())
    def get(self, which: int, data: st.DataObject) -> None:
        wanted = data.draw(st.lists(st.integers(-1, len(self.model) + 2), max_size=5))
        found = self.logs[which].get(wanted)
        assert {p: e[1:] for p, e in found.items()} == {
            p: tuple(self.model[p - 1]) for p in wanted if 0 < p <= len(self.model)
        }

    @invariant()
    def both_agree_where_the_log_ends(self) -> None:
        if not hasattr(self, "logs"):
            return
        heads = [log.head() for log in self.logs]
        assert heads[0] == heads[1]
        assert heads[0].position == len(self.model)
        assert [log.sealed().position for log in self.logs] == [self.sealed, self.sealed]
        assert self.logs[0].chain_at(self.sealed) == self.logs[0].sealed().chain


_SETTINGS = settings(
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)


class TestLogModel(LogModel.TestCase):  # type: ignore[name-defined,misc]
    settings = settings(_SETTINGS, max_examples=6, stateful_step_count=25)


@pytest.mark.slow
class TestLogModelAtLength(LogModel.TestCase):  # type: ignore[name-defined,misc]
    settings = settings(_SETTINGS, max_examples=150, stateful_step_count=80)

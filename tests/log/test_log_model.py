"""The log against a list: whatever is appended, sealed, forgotten, torn or reopened, a reader sees what the list says."""

import os
import shutil
import tempfile
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from log_kit import content, event, frames_of, journal_paths

from session_mgmt_mcp.core.envelope import Envelope, EventType
from session_mgmt_mcp.core.log.forget import forget
from session_mgmt_mcp.core.log.log import FileLog
from session_mgmt_mcp.core.log.seal import seal
from session_mgmt_mcp.core.log.verify import verify

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

    def teardown(self) -> None:
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
        allowed = [
            k + 1
            for k, s in enumerate(self.model)
            if s.envelope.event_type != EventType.PAYLOAD_FORGOTTEN.value
        ]
        if not allowed:
            return
        positions = data.draw(st.sets(st.sampled_from(allowed), min_size=1, max_size=3))
        forget(self.logs[which], positions, lambda _: ["own:1"])
        [tombstone] = content(self.logs[which], after=len(self.model))
        self.model.append(Stored(*tombstone[1:]))
        for position in positions:
            self.model[position - 1] = self.model[position - 1]._replace(payload=None)
        self.sealed = len(self.model)

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
    settings = settings(_SETTINGS, max_examples=12, stateful_step_count=25)


@pytest.mark.slow
class TestLogModelAtLength(LogModel.TestCase):  # type: ignore[name-defined,misc]
    settings = settings(_SETTINGS, max_examples=150, stateful_step_count=80)

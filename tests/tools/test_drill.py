"""The drill a careful user would do: back up while writers are at work, restore elsewhere, verify, replay, compare."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from session_mgmt_mcp.core.envelope import Event, EventType
from session_mgmt_mcp.core.log.log import FileLog
from session_mgmt_mcp.core.log.verify import verify
from session_mgmt_mcp.core.ports import EventLog, Head
from session_mgmt_mcp.projections import publish

WRITERS = 4
MORE = 25  # events each writer appends after the backup
WRITER = Path(__file__).parents[1] / "support" / "drill_writer.py"
Run = Any


class Upto:
    """A log as it was when it ended at `position`."""

    def __init__(self, log: EventLog, position: int) -> None:
        chain = log.chain_at(position)
        assert chain is not None
        self._log, self._end = log, Head(position, chain)
        self.log_id = log.log_id

    def read(self, after: int = 0, upto: int | None = None) -> Iterator[list[Event]]:
        return self._log.read(after, min(upto or self._end.position, self._end.position))

    def get(self, positions: Iterable[int]) -> dict[int, Event]:
        return self._log.get(p for p in positions if p <= self._end.position)

    def chain_at(self, position: int) -> bytes | None:
        return self._log.chain_at(position) if position <= self._end.position else None

    def head(self) -> Head:
        return self._end

    def sealed(self) -> Head:
        return self._end

    def positions_of(self, event_ids: Any) -> dict[bytes, int]:
        return {i: p for i, p in self._log.positions_of(event_ids).items() if p <= self._end.position}

    def append(self, events: Any, *, dedupe: bool = True) -> Any:
        raise AssertionError("nothing is appended to the past")


@contextmanager
def writers(folder: Path) -> Iterator[list[subprocess.Popen[str]]]:
    """Four processes that append until they are told to stop."""
    started = [
        subprocess.Popen(
            [sys.executable, str(WRITER), str(folder), f"writer-{k}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for k in range(WRITERS)
    ]
    try:
        yield started
    finally:
        for process in started:
            process.communicate()


def wait_for(process: "subprocess.Popen[str]", events: int) -> int:
    """Read `events` more acknowledgements; the number of the last."""
    assert process.stdout is not None
    return [int(process.stdout.readline()) for _ in range(events)][-1]


def events_of(log: EventLog, upto: int | None = None) -> list[Event]:
    return [event for batch in log.read(0, upto) for event in batch]


def prompts(events: list[Event], writer: int) -> list[int]:
    """The numbers of this writer's events, in order."""
    mine = [e for e in events if e.envelope.stream == f"claude-code/writer-{writer}" and e.payload]
    return [int(json.loads(e.payload or b"")["prompt"].split()[1]) for e in mine]


@pytest.mark.slow
def test_a_backup_made_under_four_writers_restores_to_exactly_what_it_held(
    run: Run, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.environ.get("SESSION_MGMT_REAL_DATA")
    if not real:
        pytest.skip("SESSION_MGMT_REAL_DATA is not set: there are no real sessions to import")
    sessions = sorted(Path(real, "sessions", "claude-code").rglob("*.jsonl"))[::8]
    assert run("import", *map(str, sessions), code=1 if _odd_lines(sessions) else 0)["appended"] > 1000
    run("maintain", "--once", "--force")

    with writers(data) as running:
        told = [wait_for(process, MORE) for process in running]
        backup = run("backup", str(tmp_path / "backup"))
        for process in running:
            wait_for(process, MORE)
    position = backup["position"]

    restored = run(
        "restore", str(tmp_path / "backup"), "--to", str(tmp_path / "restored"), "--live", str(data)
    )
    assert (restored["position"], restored["chain"]) == (position, backup["chain"])
    with FileLog(data) as log:
        before = events_of(log, position)
        assert log.head().position > position
        digests = publish.replay(Upto(log, position), tmp_path / "past")
    for k, number in enumerate(told):  # what was acknowledged before the backup began is in it, without a gap
        found = prompts(before, k)
        assert found == list(range(len(found)))
        assert len(found) > number

    monkeypatch.setenv("SESSION_MGMT_DATA_DIR", str(tmp_path / "restored"))
    assert run("audit", "verify")["events"] == position
    run("maintain", "--once", "--force")
    with FileLog(tmp_path / "restored") as log:
        assert events_of(log) == before
    assert run("replay")["digests"] == digests

    _to_a_moment_within_a_session(run, tmp_path, before)


def _odd_lines(paths: list[Path]) -> bool:
    """Whether the import has malformed lines to report."""

    def odd(line: bytes) -> bool:
        try:
            return not isinstance(json.loads(line), dict)
        except ValueError:
            return True

    return any(odd(line) for path in paths for line in path.read_bytes().splitlines() if line.strip())


def _to_a_moment_within_a_session(run: Run, tmp_path: Path, before: list[Event]) -> None:
    longest = max({e.envelope.stream for e in before}, key=[e.envelope.stream for e in before].count)
    positions = [e.position for e in before if e.envelope.stream == longest]
    moment = positions[len(positions) // 2]
    forked = run(
        "restore", str(tmp_path / "backup"), "--to", str(tmp_path / "moment"), "--position", str(moment)
    )
    assert forked["position"] == moment
    with FileLog(tmp_path / "moment") as log:
        events = events_of(log)
        assert events[:moment] == before[:moment]
        assert [e.envelope.event_type for e in events[moment:]] == [EventType.LOG_FORKED]
        assert verify(log.folder, log.log_id).events == moment + 1

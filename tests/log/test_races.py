"""Real processes in each other's way: stopped holders of locks, forks, races of maintenance, readers beside it."""

import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from log_child import Child, ToldError
from log_kit import content, journal_paths

from session_mgmt_mcp.adapters.claude_code import hook
from session_mgmt_mcp.core.log.log import FileLog
from session_mgmt_mcp.core.log.manifest import load_manifest, versions
from session_mgmt_mcp.core.log.spool import spooled
from session_mgmt_mcp.core.log.verify import verify

HOOK = b'{"session_id":"s-1","hook_event_name":"PostToolUse","tool_use_id":"toolu_1"}'
Start = Callable[[], Child]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    FileLog(folder, create=True).close()
    return folder


@pytest.fixture
def start(folder: Path) -> Iterator[Start]:
    """Starts children; whatever still runs at the end is killed."""
    children: list[Child] = []

    def one_more() -> Child:
        children.append(Child(folder))
        return children[-1]

    yield one_more
    for child in children:
        child.kill()


def run_hook(folder: Path) -> None:
    """The registered script, whole; it must end by itself, well and silent."""
    command = [sys.executable, "-I", "-S", str(hook.__file__), "--data-dir", str(folder)]
    done = subprocess.run(command, input=HOOK, capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")


def check(folder: Path, names: "set[str | None]") -> None:
    """The log verifies, has no gaps, and holds exactly these, each once."""
    with FileLog(folder) as log:
        found = content(log)
        assert verify(log.folder, log.log_id).events == len(found)
    assert [e.position for e in found] == list(range(1, len(found) + 1))
    payloads = [e.payload and e.payload.rstrip(b".").decode() for e in found]
    assert sorted(map(str, payloads)) == sorted(map(str, names))


# -- stopped holders ---------------------------------------------------------------------------------------------


def test_others_time_out_beside_a_stopped_writer_and_go_on_after_it(folder: Path, start: Start) -> None:
    stopped, other = start(), start()
    other.do("append", "before")
    stopped.do("stop_before", "pwrite", ".journal")
    stopped.begin("append", "stopped")
    stopped.wait_stopped()
    with pytest.raises(
        ToldError, match=r"LockTimeoutError: .*append\.lock was held by another process for 0\.01 s"
    ):
        other.do("append", "refused", timeout_s=0.01)
    assert other.do("read") == [[1, "before"]]  # readers need no lock
    run_hook(folder)
    assert len(spooled(str(folder))) == 1
    stopped.go_on()
    assert stopped.answer() == [[2, True]]
    assert other.do("append", "after") == [[3, True]]
    assert other.do("maintain", "drain") == 1
    check(folder, {"before", "stopped", "after", HOOK.decode()})


def test_a_writer_stopped_between_write_and_sync_holds_nobody_up(folder: Path, start: Start) -> None:
    stopped, other = start(), start()
    stopped.do("append", "one")
    stopped.do("stop_before", "fdatasync", ".journal")
    stopped.begin("append", "stopped")
    stopped.wait_stopped()
    assert other.do("append", "after") == [[3, True]]
    run_hook(folder)
    assert spooled(str(folder)) == []
    stopped.go_on()
    assert stopped.answer() == [[2, True]]
    check(folder, {"one", "stopped", "after", HOOK.decode()})


@pytest.mark.parametrize("call", ["rename", "link", "unlink"])
def test_appends_go_on_beside_a_stopped_sealer_and_other_maintenance_is_told(
    folder: Path, start: Start, call: str
) -> None:
    stopped, other = start(), start()
    other.do("append", "one")
    other.do("roll")
    stopped.do("stop_before", call)
    stopped.begin("maintain", "seal")
    stopped.wait_stopped()
    assert other.do("append", "two") == [[2, True]]
    assert other.do("roll") == 2
    assert other.do("maintain", "seal", wait=False) == -1
    assert other.do("read") == [[1, "one"], [2, "two"]]
    run_hook(folder)
    stopped.go_on()
    assert stopped.answer() >= 1
    other.do("maintain", "seal")
    assert load_manifest(str(folder)).last == 2
    check(folder, {"one", "two", HOOK.decode()})


def test_a_writer_killed_while_it_held_the_lock_is_cut_and_others_go_on(folder: Path, start: Start) -> None:
    other = start()
    other.do("append", "one")
    for call in ("pwrite", "fdatasync"):
        dying = start()
        dying.do("append", f"before {call}")
        dying.do("die_before", call, ".journal")
        dying.begin("append", f"unacknowledged {call}")
        with pytest.raises(AssertionError, match="the child ended"):
            dying.answer()
        assert dying.wait() == -9
        assert other.do("append", f"after {call}")[0][1]
    with FileLog(folder) as log:
        found = {str(e.payload and e.payload.decode()) for e in content(log)}
        assert verify(log.folder, log.log_id).events == len(found)
    assert {f"{when} {call}" for when in ("before", "after") for call in ("pwrite", "fdatasync")} <= found
    assert "unacknowledged pwrite" not in found


# -- forks, hints, clocks ----------------------------------------------------------------------------------------


def test_a_process_that_forks_with_the_log_open_appends_in_both(folder: Path, start: Start) -> None:
    forking, other = start(), start()
    forking.do("append", "before")
    other.begin("append_each", "o", 40)
    assert len(forking.do("append_in_both", "", 40)) == 40
    other.answer()
    check(folder, {"before", *(f"{who}{k}" for who in "pco" for k in range(40))})


def test_the_hint_may_be_lost_foreign_or_noise_at_any_time(folder: Path, start: Start) -> None:
    """The file is damaged in place, as writers have it mapped, and removed under them."""
    writers, rnd = [start() for _ in range(3)], random.Random(5)
    names: set[str | None] = set()
    told: dict[str, int] = {}
    hint = folder / "tail.shm"
    for turn in range(24):
        for k, writer in enumerate(writers):
            writer.begin("append_each", f"{turn}/{k}/", 3)
        damage = turn % 4
        if damage == 0:
            hint.unlink(missing_ok=True)
        elif hint.exists():
            with hint.open("r+b") as file:
                file.seek({1: 8, 2: rnd.randrange(700), 3: 0}[damage])
                file.write(rnd.randbytes({1: 16, 2: 60, 3: 4096}[damage]))  # 1: of another boot
        for k, writer in enumerate(writers):
            for i, position in enumerate(writer.answer()):
                told[f"{turn}/{k}/{i}"] = position
    names.update(told)
    check(folder, names)
    with FileLog(folder) as log:
        assert {str(e.payload and e.payload.decode()): e.position for e in content(log)} == told


@pytest.mark.parametrize("shift", [-40 * 365 * 86_400, 7_000 * 365 * 86_400])
def test_positions_stay_the_order_whatever_the_clock_says(folder: Path, start: Start, shift: int) -> None:
    shifted, other = start(), start()
    other.do("append", "1")
    shifted.do("shift_clock", shift)
    assert shifted.do("append", "2") == [[2, True]]
    assert other.do("append", "3") == [[3, True]]
    shifted.do("roll")
    shifted.do("maintain", "seal")
    assert shifted.do("append", "1", "4") == [[1, False], [4, True]]
    shifted.do("maintain", "forget", [2])
    assert other.do("append", "2", "5") == [[2, False], [6, True]]
    assert shifted.do("verify") == other.do("verify") == 6
    with FileLog(folder) as log:
        found = content(log)
    assert [e.payload for e in found if e.position != 5] == [b"1", None, b"3", b"4", b"5"]
    times = [e.envelope.recorded_at for e in found]
    assert (times != sorted(times)) and abs(times[0] - times[3]) > 30 * 365 * 86_400 * 10**6


# -- maintenance against itself ----------------------------------------------------------------------------------


@pytest.mark.parametrize("locked", [True, False])
def test_two_sealers_and_two_compactors_lose_nothing_and_agree(
    folder: Path, start: Start, locked: bool
) -> None:
    """With the lock as they should, and without it: what one publishes first, the other starts over from."""
    writer, racers = start(), [start() for _ in range(4)]
    count = 0
    for _ in range(4):
        for _ in range(3):
            writer.do("append_each", f"{count}/", 5, size=500)
            writer.do("roll")
            count += 1
        for k, racer in enumerate(racers):
            racer.begin("maintain" if locked else "unlocked", ("seal", "compact")[k % 2])
        for racer in racers:
            try:
                racer.answer()
            except ToldError as error:
                assert not locked
                assert "FileNotFoundError" in str(error) or "another process" in str(error)
    writer.do("maintain", "seal")
    check(folder, {f"{n}/{k}" for n in range(count) for k in range(5)})
    assert len(journal_paths(folder)) == 1
    assert load_manifest(str(folder)).last == count * 5
    assert versions(str(folder))[-1] == load_manifest(str(folder)).version


def test_readers_see_each_event_or_its_absence_while_segments_are_merged_and_forgotten(
    folder: Path, start: Start
) -> None:
    writer, readers = start(), [start(), start()]
    for k in range(1, 41):
        assert writer.do("append", str(k), size=2000) == [[k, True]]
        if k % 4 == 0:
            writer.do("roll")
            writer.do("maintain", "seal")
    for reader in readers:
        reader.begin("read_until", "end")
    gone = [3, 17, 38]
    for position in gone:
        writer.do("maintain", "compact")
        writer.do("maintain", "forget", [position])
    writer.do("append", "end")
    assert all(reader.answer() > 0 for reader in readers)
    for reader in readers:
        seen = dict(reader.do("read"))
        assert all(seen[position] is None for position in gone)
    with FileLog(folder) as log:
        assert verify(log.folder, log.log_id).forgotten == 3


def test_a_server_stays_usable_when_every_other_process_was_killed(folder: Path, start: Start) -> None:
    server = start()
    for turn in range(6):
        others = [start() for _ in range(2)]
        others[0].begin("append_each", f"{turn}/", 10_000)
        others[1].begin("maintain", "seal")
        position = server.do("append", f"server {turn}")[0][0]
        server.do("roll")
        for other in others:
            assert other.kill() == -9
        assert server.do("append", f"server {turn}") == [[position, False]]
    server.do("maintain", "seal")
    assert server.do("verify") == server.do("head")[0]
    assert os.path.isfile(folder / "FORMAT.json")

"""kill -9 while events are appended, published and embedded: nothing is wrong or missing afterwards, and little is redone."""

import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import vector_victim
from vector_kit import HashEmbedder, assert_complete, passages_shown, stored

from session_mgmt_mcp.core.log.log import FileLog
from session_mgmt_mcp.projections import vector_state
from session_mgmt_mcp.projections.checking import check
from session_mgmt_mcp.projections.protocol import views_folder
from session_mgmt_mcp.projections.publish import digest, replay
from session_mgmt_mcp.projections.vector_index import VectorIndex
from session_mgmt_mcp.projections.vector_rebuild import in_ranges
from session_mgmt_mcp.projections.vector_state import read_state
from session_mgmt_mcp.projections.views import Views

KILLS = 50
STEPS_MAX = 90  # of a life, before it is ended


@pytest.fixture
def victims() -> Iterator["subprocess.Popen[bytes]"]:
    command = [sys.executable, vector_victim.__file__]
    where = os.pathsep.join([str(Path(vector_victim.__file__).parent), *sys.path])
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
        env={**os.environ, "PYTHONPATH": where},
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


def live(victims: "subprocess.Popen[bytes]", folder: Path, round_: int, steps: int) -> bool:
    """One life of so many steps; whether it was killed."""
    assert victims.stdin is not None and victims.stdout is not None
    victims.stdin.write(f"{folder} {round_}\n".encode())
    process_id, seen = int(victims.stdout.readline()), 0
    while (byte := victims.stdout.read(1)) == b".":
        seen += 1
        if seen == steps:
            os.kill(process_id, signal.SIGKILL)
    assert byte == b"!"  # it has ended
    return seen >= steps


def look(folder: Path, before: vector_state.Ranges) -> vector_state.Ranges:
    """What is published is right, and what the log holds is found; the rows that are covered."""
    embedder = HashEmbedder()
    with FileLog(folder) as log:
        views = Views(log, folder)
        words = {e.position: round_ for round_, e in enumerate(_word_events(log))}
        for position, round_ in list(words.items())[-3:]:
            assert [m.position for m in views.search(vector_victim.word(round_))] == [position]
        views.close()
        state = read_state(views_folder(folder))
        if state is None or not state.model_id:
            return ()
        assert in_ranges(np.array([low for low, _ in before]), state.covered).all()
        pairs, vectors = stored(folder)
        index = VectorIndex(log, views_folder(folder))
        index.refresh()
        assert index.count == len(vectors)
        shown = passages_shown(log, folder)
        for row_id, number in pairs:
            assert np.array_equal(vectors[number], embedder.vector(shown[row_id, number]).astype(np.float16))
        for text in list(shown.values())[::40]:
            numbers, _ = index.nearest(embedder.vector(text), 1)
            found = shown.get(next(pair for pair in pairs if pair[1] == numbers[0]))
            assert found == text or text not in {shown[pair] for pair in pairs}
        covered = np.array([pair[0] for pair in shown])
        inside = in_ranges(covered, state.covered)
        assert {pair for pair, is_in in zip(shown, inside, strict=True) if is_in} <= pairs
        return state.covered


def _word_events(log: FileLog) -> list:  # type: ignore[type-arg]
    return [e for batch in log.read() for e in batch if e.payload and b'"qx' in e.payload]


@pytest.mark.slow
def test_killed_fifty_times_in_the_middle_nothing_is_wrong_or_missing_or_begun_anew(
    tmp_path: Path, victims: "subprocess.Popen[bytes]"
) -> None:
    folder, chance = tmp_path / "data", random.Random(7)
    kills = round_ = 0
    covered: vector_state.Ranges = ()
    while kills < KILLS:
        kills += live(victims, folder, round_, chance.randint(1, STEPS_MAX))
        covered = look(folder, covered) if (folder / "FORMAT.json").exists() else ()
        round_ += 1
    assert not live(victims, folder, round_, 1_000_000)
    with FileLog(folder) as log:
        assert_complete(log, folder, HashEmbedder())
        assert all(found.same for found in check(log, folder).values())
        done = digest(folder)
        assert replay(log, folder) == done
    raw = Path(f"{folder}.embedded").read_bytes()
    times = Counter(raw[k : k + 8] for k in range(0, len(raw), 8))
    again = sum(times.values()) - len(times)
    assert len(times) > 200
    assert again <= kills * vector_victim.CHUNK_PASSAGES

"""In whatever order things happen, every shown passage gets its vector; and the arithmetic of ranges and windows."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from action_log import forgotten, hook_prompt, prompt
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from memory_log import MemoryLog
from vector_kit import (
    Failing,
    HashEmbedder,
    assert_complete,
    embed_all,
    fill,
    flip,
    passages_shown,
    small_files,
    state_of,
    stored,
    without_words,
)

from session_mgmt_mcp.projections import (
    passages,
    vector_rebuild,
    vector_state,
)
from session_mgmt_mcp.projections.checking import check
from session_mgmt_mcp.projections.protocol import views_folder
from session_mgmt_mcp.projections.publish import digest, purge, replay, update
from session_mgmt_mcp.projections.vector_blocks import ALIGNMENT
from session_mgmt_mcp.projections.vector_state import (
    gaps,
    vector_folder,
    with_range,
    without_range,
)
from session_mgmt_mcp.projections.vector_writer import VectorWriter


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    small_files(monkeypatch)
    without_words(monkeypatch)


# -- ranges ------------------------------------------------------------------------------------------------------------

LIMIT = 24
bounds = st.tuples(st.integers(0, LIMIT), st.integers(0, LIMIT))


def ids(ranges: vector_state.Ranges) -> set[int]:
    return {i for low, high in ranges for i in range(low, high)}


@given(st.lists(st.tuples(st.booleans(), bounds)))
def test_ranges_hold_what_sets_of_ids_do(steps: list[tuple[bool, tuple[int, int]]]) -> None:
    ranges: vector_state.Ranges = ()
    model: set[int] = set()
    for adds, (low, high) in steps:
        ranges = with_range(ranges, low, high) if adds else without_range(ranges, low, high)
        model = model | set(range(low, high)) if adds else model - set(range(low, high))
        assert ids(ranges) == model
        assert all(low < high for low, high in ranges)
        assert all(a[1] < b[0] for a, b in pairwise(ranges))
        assert ids(gaps(ranges, 0, LIMIT)) == set(range(LIMIT)) - model


@given(st.sets(st.integers(1, 60)), st.sets(st.integers(1, 60)))
def test_covered_are_long_runs_of_rows_that_lack_nothing(present: set[int], lacking: set[int]) -> None:
    found = np.array(sorted(present | lacking), np.int64)
    has = np.array([i not in lacking for i in found], bool)
    covered = ids(vector_rebuild.complete_runs(found, has, 64))
    assert covered.isdisjoint(lacking)
    if not lacking:
        assert covered == set(range(64))
    for low, high in vector_rebuild.complete_runs(found, has, 64):
        assert not lacking or len(present & set(range(low, high)) - lacking) >= vector_rebuild.RUN_ROWS_MIN


# -- in any order ----------------------------------------------------------------------------------------------------

STEPS = ("append", "update", "embed", "interrupt", "replay", "forget", "damage")


@pytest.mark.slow
@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 99)), min_size=3, max_size=20))
def test_in_whatever_order_things_happen_every_shown_passage_gets_its_vector(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    play(tmp_path_factory.mktemp("steps"), steps)


def play(folder: Path, steps: list[tuple[str, int]]) -> None:
    log, embedder = fill(MemoryLog(), 0, 4), HashEmbedder()
    update(log, folder)
    for step, n in steps:
        if step == "append":
            log.append(
                [hook_prompt("s-1", f"question {n % 9}", n), prompt("s-1", f"x-{n}", f"question {n % 9}", n)]
            )
            fill(log, n, 3)
        elif step == "update":
            update(log, folder)
        elif step == "embed":
            writer = VectorWriter(log, views_folder(folder), embedder)
            writer.chunk(1 + n % 7)
            writer.close()
        elif step == "interrupt":
            with pytest.raises(KeyboardInterrupt):
                embed_all(log, folder, Failing(1 + n % 3, KeyboardInterrupt()), 5)
                raise KeyboardInterrupt  # there was too little to do
        elif step == "replay":
            replay(log, folder, ["vector"])
        elif step == "forget":
            texts = [e.position for b in log.read() for e in b if e.payload and "record" in e.envelope.source]
            position = texts[n % len(texts)]
            log.forget(position)
            log.append([forgotten((), (position,))])
            log.seal()
            purge(log, folder, [position])
            shown = {number for _, number in passages_shown(log, folder)}
            assert set(stored(folder)[1]) <= shown
        elif step == "damage" and (blocks := state_of(folder).vectors):
            block = blocks[n % len(blocks)]
            flip(vector_folder(views_folder(folder)) / block.name, ALIGNMENT + n % (block.bytes - ALIGNMENT))
            writer = VectorWriter(log, views_folder(folder), embedder)
            writer.check()
            writer.close()
        stored(folder)
    update(log, folder)
    embed_all(log, folder, embedder)
    assert_complete(log, folder, embedder)
    done = digest(folder)["vector"]
    assert replay(log, folder, ["vector"])["vector"] == done
    assert check(log, folder, ["vector"])["vector"].same


# -- passages ----------------------------------------------------------------------------------------------------------


def test_long_texts_have_windows_and_no_short_last_one() -> None:
    text = "".join(chr(0x4E00 + k) for k in range(5000))
    whole = passages._windows(text)
    assert len(whole) == passages.WINDOWS_MAX
    assert whole[1] == text[900:1900]
    assert passages._windows(text[:1149]) == [text[:1000]]
    assert passages._windows(text[:1150]) == [text[:1000], text[900:1150]]
    assert passages._windows("") == []

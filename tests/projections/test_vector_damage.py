"""Damaged vectors are found, dropped and made anew; the log and the vectors are compared."""

from pathlib import Path

import pytest
from memory_log import MemoryLog
from vector_kit import (
    HashEmbedder,
    assert_complete,
    embed_all,
    fill,
    flip,
    small_files,
    state_of,
    stored,
    without_words,
)

from session_mgmt_mcp.projections import (
    vector_store,
)
from session_mgmt_mcp.projections.checking import UNREADABLE, check
from session_mgmt_mcp.projections.protocol import views_folder
from session_mgmt_mcp.projections.publish import update
from session_mgmt_mcp.projections.vector_blocks import ALIGNMENT
from session_mgmt_mcp.projections.vector_state import (
    vector_folder,
)
from session_mgmt_mcp.projections.vector_writer import VectorWriter


@pytest.fixture
def log() -> MemoryLog:
    return fill(MemoryLog())


@pytest.fixture
def embedder() -> HashEmbedder:
    return HashEmbedder()


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    small_files(monkeypatch)
    without_words(monkeypatch)


# -- damage ----------------------------------------------------------------------------------------------------------


PARTS = ("header", "numbers", "codes", "ids", "map numbers", "gone", "cut")


def _aligned(offset: int) -> int:
    return -(-offset // ALIGNMENT) * ALIGNMENT


def _offset(part: str, count: int) -> int:
    """A byte in the middle of a part of a file of `count` entries of 64 dimensions."""
    numbers = ALIGNMENT
    codes = _aligned(numbers + 8 * count)
    vectors = _aligned(codes + 8 * count)
    return {
        "header": 20,
        "numbers": numbers + 4 * count,
        "codes": codes + 4 * count,
        "vectors": vectors + 64 * count,
        "ids": numbers + 4 * count,
        "map numbers": codes + 4 * count,
    }[part]


@pytest.mark.parametrize(
    "part",
    ["vectors", *(pytest.param(part, marks=pytest.mark.slow) for part in PARTS)],
)
def test_a_damaged_file_is_found_dropped_and_made_anew(
    log: MemoryLog, tmp_path: Path, embedder: HashEmbedder, part: str
) -> None:
    update(log, tmp_path)
    embed_all(log, tmp_path, embedder, 9)
    state, where = state_of(tmp_path), vector_folder(views_folder(tmp_path))
    block = state.maps[0] if part in ("ids", "map numbers") else state.vectors[0]
    path = where / block.name
    if part == "gone":
        path.unlink()
    elif part == "cut":
        path.write_bytes(path.read_bytes()[:-1])
    else:
        flip(path, _offset(part, block.count))
    assert check(log, tmp_path, ["vector"])["vector"].published == UNREADABLE
    embedder.texts.clear()
    writer = VectorWriter(log, views_folder(tmp_path), embedder)
    assert any(block.name in reason for reason in writer.check())
    writer.close()
    stored(tmp_path)  # nothing refers to what is gone
    embed_all(log, tmp_path, embedder, 9)
    assert len(embedder.texts) == (0 if block in state.maps else block.count)
    assert_complete(log, tmp_path, embedder)
    assert check(log, tmp_path, ["vector"])["vector"].same


@pytest.mark.slow
def test_damaged_vectors_are_not_merged_into_sound_files(
    log: MemoryLog, tmp_path: Path, embedder: HashEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vector_store, "FULL_PASSAGES", 1000)
    update(log, tmp_path)
    embed_all(log, tmp_path, embedder)
    [block] = state_of(tmp_path).vectors
    flip(vector_folder(views_folder(tmp_path)) / block.name, _offset("vectors", block.count))
    fill(log, 100, 30)
    update(log, tmp_path)
    embed_all(log, tmp_path, embedder)
    assert_complete(log, tmp_path, embedder)


def test_a_check_finds_pairs_the_log_does_not_have(
    log: MemoryLog, tmp_path: Path, embedder: HashEmbedder
) -> None:
    update(log, tmp_path)
    embed_all(log, tmp_path, embedder)
    assert check(log, tmp_path, ["vector"])["vector"].same
    log.forget(2)  # behind the views' back
    assert not check(log, tmp_path, ["vector"])["vector"].same

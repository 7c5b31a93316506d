"""Damaged vectors are found, dropped and made anew; the log and the vectors are compared."""

from pathlib import Path

import pytest
from action_log import forgotten
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
from session_mgmt_mcp.projections.publish import purge, update
from session_mgmt_mcp.projections.vector_blocks import ALIGNMENT
from session_mgmt_mcp.projections.vector_state import STATE_FILE, vector_folder
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


# -- state.json ------------------------------------------------------------------------------------------------------

NAMED, OTHER = "0123456789abcdef" * 2, "fedcba9876543210" * 2  # as ids of models are


def without_state(folder: Path, left: bytes | None) -> None:
    path = vector_folder(views_folder(folder)) / STATE_FILE
    path.unlink()
    if left is not None:
        path.write_bytes(left)


@pytest.mark.parametrize("left", [None, b"", b'{"log_id": 3}'])
@pytest.mark.parametrize("mender", ["maintenance", "embedding"])
def test_vectors_outlive_their_state(log: MemoryLog, tmp_path: Path, left: bytes | None, mender: str) -> None:
    embedder = HashEmbedder(NAMED)
    update(log, tmp_path)
    embed_all(log, tmp_path, embedder, 9)
    without_state(tmp_path, left)
    if mender == "maintenance":
        fill(log, 100, 1)
        update(log, tmp_path)
        assert state_of(tmp_path).vectors
    embedder.texts.clear()
    embed_all(log, tmp_path, embedder, 9)
    assert len(embedder.texts) <= (3 if mender == "maintenance" else 0)  # what is new
    assert_complete(log, tmp_path, embedder)
    assert check(log, tmp_path, ["vector"])["vector"].same


def test_without_a_state_a_damaged_file_and_one_that_is_there_twice_are_left_out(
    log: MemoryLog, tmp_path: Path
) -> None:
    embedder = HashEmbedder(NAMED)
    update(log, tmp_path)
    embed_all(log, tmp_path, embedder, 9)
    where = vector_folder(views_folder(tmp_path))
    largest, *_, smallest = sorted(state_of(tmp_path).vectors, key=lambda block: -block.count)
    (where / f"{'0' * 16}.vectors").write_bytes((where / largest.name).read_bytes())
    flip(where / smallest.name, _offset("numbers", smallest.count))
    without_state(tmp_path, b"torn")
    embedder.texts.clear()
    embed_all(log, tmp_path, embedder, 9)
    assert len(embedder.texts) == smallest.count
    assert_complete(log, tmp_path, embedder)


def test_without_a_state_vectors_of_another_model_are_not_taken(log: MemoryLog, tmp_path: Path) -> None:
    update(log, tmp_path)
    embed_all(log, tmp_path, HashEmbedder(NAMED))
    without_state(tmp_path, None)
    embedder = HashEmbedder(OTHER)
    embed_all(log, tmp_path, embedder)
    assert state_of(tmp_path).model_id == OTHER
    assert_complete(log, tmp_path, embedder)


def test_without_a_state_what_is_forgotten_leaves_no_vector_and_the_rest_keeps_theirs(
    log: MemoryLog, tmp_path: Path
) -> None:
    embedder = HashEmbedder(NAMED)
    update(log, tmp_path)
    embed_all(log, tmp_path, embedder, 9)
    gone = embedder.vector("question 0").astype("<f2").tobytes()
    where = vector_folder(views_folder(tmp_path))
    assert any(gone in path.read_bytes() for path in where.iterdir())
    without_state(tmp_path, None)
    log.forget(1)
    log.append([forgotten((), (1,))])
    log.seal()
    purge(log, tmp_path, [1])
    assert not any(gone in path.read_bytes() for path in where.iterdir())
    embedder.texts.clear()
    embed_all(log, tmp_path, embedder)
    assert embedder.texts == []
    assert_complete(log, tmp_path, embedder)

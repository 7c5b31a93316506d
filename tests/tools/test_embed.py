"""`embed`, what starts it behind, and what status and doctor say of vectors."""

from pathlib import Path
from typing import Any

import pytest
from vector_kit import Failing, HashEmbedder, flip, state_of, stored

from session_mgmt_mcp.projections import embedding, vector_shards
from session_mgmt_mcp.projections.protocol import views_folder
from session_mgmt_mcp.projections.vector_state import embed_lock, vector_folder
from session_mgmt_mcp.tools import embedding as job
from session_mgmt_mcp.tools.cli import main

pytestmark = pytest.mark.slow


@pytest.fixture
def embedder(monkeypatch: pytest.MonkeyPatch) -> HashEmbedder:
    """In place of the model; under its name, so that nothing takes its vectors for another's."""
    made = HashEmbedder(embedding.open_folder().model_id())
    monkeypatch.setattr(embedding.Embedder, "open", lambda *_, **__: made)
    return made


@pytest.fixture
def spawned(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The commands that were started behind, of which none is run."""
    words: list[tuple[str, ...]] = []

    def spawn(folder: str, *command: str) -> int:
        words.append(command)
        return 0

    monkeypatch.setattr(job, "spawn", spawn)
    monkeypatch.setattr(job.os, "waitpid", lambda *_: (0, 0))
    monkeypatch.setenv(job.SWITCH, "on")
    return words


def test_embed_gives_every_passage_a_vector_and_does_nothing_the_second_time(
    imported: dict[str, Any], run: Any, data: Path, embedder: HashEmbedder
) -> None:
    waiting = run("status")["views"]["vectors"]["waiting"]
    first = run("embed")
    assert waiting > 0
    assert first["embedded"] == first["vectors"] == len(set(embedder.texts)) == len(stored(data)[1])
    assert (first["left"], run("embed")["embedded"]) == (0, 0)
    vectors = run("status")["views"]["vectors"]
    assert (vectors["passages"], vectors["waiting"]) == (first["vectors"], 0)
    assert run("replay", "--check")["vector"]["same"]


def test_a_limit_is_kept_and_the_next_run_goes_on(
    imported: dict[str, Any], run: Any, data: Path, embedder: HashEmbedder
) -> None:
    assert 5 <= run("embed", "--limit", "5")["embedded"] <= 12
    run("embed")
    assert len(embedder.texts) == len(set(embedder.texts))


@pytest.mark.parametrize("words", [("--limit", "0"), ("--workers", "-1")])
def test_a_number_below_one_is_refused(imported: dict[str, Any], run: Any, words: tuple[str, ...]) -> None:
    assert "at least 1" in run("embed", *words, code=2)["error"]["message"]


def test_an_interrupted_run_exits_130_and_keeps_what_it_has(
    imported: dict[str, Any], data: Path, monkeypatch: pytest.MonkeyPatch, embedder: HashEmbedder
) -> None:
    failing = Failing(2, KeyboardInterrupt())
    failing.model_id = embedder.model_id
    with monkeypatch.context() as patch:
        patch.setattr("session_mgmt_mcp.projections.vector_writer.SLICE_PASSAGES", 3)
        patch.setattr(embedding.Embedder, "open", lambda *_, **__: failing)
        assert main(["embed"]) == 130
    assert 0 < len(failing.texts) == state_of(data).count
    assert main(["embed"]) == 0
    assert set(embedder.texts).isdisjoint(failing.texts)


def test_behind_it_gives_way_to_another_process(
    imported: dict[str, Any], data: Path, embedder: HashEmbedder
) -> None:
    with embed_lock(views_folder(data)):
        assert main(["embed", "--behind"]) == 0
    assert embedder.texts == []
    assert main(["embed", "--behind"]) == 0
    assert embedder.texts


def test_maintenance_and_import_start_it_behind_while_rows_wait(
    spawned: list[tuple[str, ...]], imported: dict[str, Any], run: Any, embedder: HashEmbedder
) -> None:
    assert spawned == [("embed", "--behind")]
    run("maintain", "--once")
    assert len(spawned) == 2
    run("embed")
    run("maintain", "--once")
    assert len(spawned) == 2  # nothing waits


@pytest.mark.parametrize("why", ["off", "no model", "held"])
def test_nothing_is_started_behind_where_it_cannot_or_shall_not(
    spawned: list[tuple[str, ...]],
    imported: dict[str, Any],
    data: Path,
    tmp_path: Path,
    why: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spawned.clear()
    if why == "off":
        monkeypatch.setenv(job.SWITCH, "off")
    if why == "no model":
        monkeypatch.setenv("EMBEDDING_MODEL_PATH", str(tmp_path / "nowhere"))
    if why == "held":
        with embed_lock(views_folder(data)):
            assert not job.start(str(data))
    else:
        assert not job.start(str(data))
    assert spawned == []


def test_a_model_that_is_not_there_is_said_by_status_doctor_and_embed(
    imported: dict[str, Any], run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMBEDDING_MODEL_PATH", str(tmp_path / "nowhere"))
    assert any("by meaning" in finding for finding in run("status", code=1)["findings"])
    found = [f for f in run("doctor", code=1)["findings"] if f["check"] == "vectors"]
    assert any("nowhere" in f["what"] and "EMBEDDING_MODEL_PATH" in f["mend"] for f in found)
    assert main(["embed"]) not in (0, 1)


def test_doctor_says_how_many_passages_wait_and_where_a_file_is_damaged(
    imported: dict[str, Any], run: Any, data: Path, embedder: HashEmbedder
) -> None:
    [note] = [f for f in run("doctor")["findings"] if f["check"] == "vectors"]
    assert "no vector yet" in note["what"]
    run("embed")
    assert not [f for f in run("doctor")["findings"] if f["check"] == "vectors"]
    block = state_of(data).vectors[0]
    flip(vector_folder(views_folder(data)) / block.name, 70)
    [found] = [f for f in run("doctor", code=1)["findings"] if f["check"] == "vectors"]
    assert block.name in found["what"]
    assert "embed" in found["mend"]
    assert block.name in run("embed")["damaged"][0]
    assert not [f for f in run("doctor")["findings"] if f["check"] == "vectors"]


def test_without_hnswlib_status_and_doctor_say_that_vectors_are_scanned_where_graphs_were_asked_for(
    imported: dict[str, Any], run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "hnswlib", None)
    assert vector_shards.unavailable()
    assert not run("status")["views"]["vectors"]["scanned"]
    monkeypatch.setenv("VECTOR_MEMORY_MB", "128")
    assert "scanned" in run("status")["views"]["vectors"]["scanned"]
    assert any("scanned" in f["what"] and "hnswlib" in f["mend"] for f in run("doctor")["findings"])


def test_a_forgotten_session_leaves_no_vector_and_a_replay_says_what_waits(
    imported: dict[str, Any], run: Any, data: Path, embedder: HashEmbedder
) -> None:
    waiting = run("replay", "vector")["passages_waiting"]
    assert waiting > 0
    run("embed")
    assert run("replay", "vector")["passages_waiting"] == 0
    before = stored(data)[1].keys()
    session = run("sessions")["sessions"][0]["session"]
    run("forget", "--session", session, "--yes")
    pairs, vectors = stored(data)
    assert vectors.keys() < before
    assert {number for _, number in pairs} == vectors.keys()
    embedded = len(embedder.texts)
    assert run("embed")["embedded"] == len(embedder.texts) - embedded == 0
    assert run("replay", "--check", "vector")["vector"]["same"]

"""Every passage of a shown row gets its vector, once; whatever happens on the way, nothing published is wrong."""

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from action_log import forgotten, prompt, reply
from memory_log import MemoryLog
from vector_kit import (
    Failing,
    HashEmbedder,
    assert_complete,
    embed_all,
    fill,
    small_files,
    state_of,
    stored,
    without_words,
)

from session_mgmt_mcp.core.errors import LockTimeoutError
from session_mgmt_mcp.projections import (
    rows,
    vector_state,
    vector_store,
)
from session_mgmt_mcp.projections.passages import number_of_passage
from session_mgmt_mcp.projections.protocol import views_folder
from session_mgmt_mcp.projections.publish import digest, purge, replay, update
from session_mgmt_mcp.projections.vector_state import (
    embed_lock,
    vector_folder,
)
from session_mgmt_mcp.projections.vector_writer import VectorWriter

SECRET = "the password is xylophonesesame"


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


# -- embedding ---------------------------------------------------------------------------------------------------------


def test_every_passage_is_embedded_once_whatever_rows_have_it(
    log: MemoryLog, tmp_path: Path, embedder: HashEmbedder
) -> None:
    update(log, tmp_path)
    embed_all(log, tmp_path, embedder, 7)
    assert_complete(log, tmp_path, embedder)
    assert len(embedder.texts) == len(set(embedder.texts)) == 15 + 5 + 7
    fill(log, 100, 5)
    update(log, tmp_path)
    embed_all(log, tmp_path, embedder, 7)
    assert_complete(log, tmp_path, embedder)
    assert len(embedder.texts) == len(set(embedder.texts)) == 20 + 5 + 7


def test_the_newest_rows_are_embedded_first(log: MemoryLog, tmp_path: Path, embedder: HashEmbedder) -> None:
    update(log, tmp_path)
    writer = VectorWriter(log, views_folder(tmp_path), embedder)
    writer.chunk(8)
    [(_, high)] = state_of(tmp_path).covered
    assert high == state_of(tmp_path).end
    fill(log, 100, 1)
    update(log, tmp_path)
    writer.chunk(3)
    writer.close()
    assert "question 100" in embedder.texts[8:]
    assert "question 5" not in embedder.texts


def test_files_are_merged_and_stay_few(tmp_path: Path, embedder: HashEmbedder) -> None:
    log = fill(MemoryLog(), 0, 24)
    update(log, tmp_path)
    chunks = embed_all(log, tmp_path, embedder, 1)
    state = state_of(tmp_path)
    assert chunks > 20
    assert len(state.vectors) <= 5
    assert len(state.maps) <= 6
    assert all(block.count <= vector_store.FULL_PASSAGES for block in state.vectors)
    names = {block.name for block in (*state.vectors, *state.maps)} | {"state.json"}
    assert {path.name for path in vector_folder(views_folder(tmp_path)).iterdir()} == names
    assert_complete(log, tmp_path, embedder)


def test_full_files_are_not_written_again(log: MemoryLog, tmp_path: Path, embedder: HashEmbedder) -> None:
    update(log, tmp_path)
    embed_all(log, tmp_path, embedder, 8)
    full = {b for b in state_of(tmp_path).vectors if b.count == vector_store.FULL_PASSAGES}
    assert full
    fill(log, 100, 24)
    update(log, tmp_path)
    embed_all(log, tmp_path, embedder, 8)
    assert full <= set(state_of(tmp_path).vectors)


def test_what_was_embedded_before_ctrl_c_is_kept(
    log: MemoryLog, tmp_path: Path, embedder: HashEmbedder
) -> None:
    update(log, tmp_path)
    interrupted = Failing(4, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        embed_all(log, tmp_path, interrupted)
    assert len(interrupted.texts) >= 12
    assert set(stored(tmp_path)[1]) == {number_of_passage(text) for text in interrupted.texts}
    embed_all(log, tmp_path, embedder)
    assert set(embedder.texts).isdisjoint(interrupted.texts)
    assert_complete(log, tmp_path, embedder)


def test_a_chunk_that_fails_leaves_what_was_published(
    log: MemoryLog, tmp_path: Path, embedder: HashEmbedder
) -> None:
    update(log, tmp_path)
    failing = Failing(6, OSError("out of memory"))
    with pytest.raises(OSError, match="out of memory"):
        embed_all(log, tmp_path, failing, 8)
    assert len(stored(tmp_path)[1]) >= 8
    embed_all(log, tmp_path, embedder)
    assert_complete(log, tmp_path, embedder)


def test_two_processes_do_not_write_at_once(log: MemoryLog, tmp_path: Path, embedder: HashEmbedder) -> None:
    update(log, tmp_path)
    writer = VectorWriter(log, views_folder(tmp_path), embedder)
    with embed_lock(views_folder(tmp_path)), pytest.raises(LockTimeoutError, match="another process"):
        writer.chunk(wait_s=0)
    assert not embedder.texts


# -- with the other projections ------------------------------------------------------------------------------------


def test_a_replay_keeps_the_vectors_and_holds_the_same(
    log: MemoryLog, tmp_path: Path, embedder: HashEmbedder
) -> None:
    update(log, tmp_path)
    before = digest(tmp_path)["vector"]
    embed_all(log, tmp_path, embedder, 7)
    done = digest(tmp_path)["vector"]
    assert done != before
    embedder.texts.clear()
    assert replay(log, tmp_path)["vector"] == done
    embed_all(log, tmp_path, embedder)
    assert embedder.texts == []
    assert_complete(log, tmp_path, embedder)


def test_a_replay_of_what_is_half_done_leaves_the_rest_to_the_job(
    log: MemoryLog, tmp_path: Path, embedder: HashEmbedder
) -> None:
    update(log, tmp_path)
    writer = VectorWriter(log, views_folder(tmp_path), embedder)
    writer.chunk(20)
    writer.close()
    replay(log, tmp_path, ["vector"])
    assert len(stored(tmp_path)[1]) == len(embedder.texts)
    embed_all(log, tmp_path, embedder)
    assert len(embedder.texts) == len(set(embedder.texts))
    assert_complete(log, tmp_path, embedder)


def test_nothing_of_a_forgotten_text_is_left(log: MemoryLog, tmp_path: Path, embedder: HashEmbedder) -> None:
    log.append([prompt("s-9", "p-secret", SECRET), reply("s-9", "r-secret", "answer 1")])
    fill(log, 200, 3)
    position = log.head().position - 13
    update(log, tmp_path)
    embed_all(log, tmp_path, embedder, 9)
    secret = embedder.vector(SECRET).astype("<f2").tobytes()
    number = number_of_passage(SECRET)
    traces = (secret, number.to_bytes(8, "little"), (position << rows.ORDINAL_BITS).to_bytes(8, "little"))
    assert all(any(trace in raw for raw in _files(tmp_path)) for trace in traces)
    log.forget(position)
    log.append([forgotten((), (position,))])
    log.seal()
    embedder.texts.clear()
    purge(log, tmp_path, [position])
    assert not any(trace in raw for raw in _files(tmp_path) for trace in traces)
    embed_all(log, tmp_path, embedder)
    assert embedder.texts == []
    assert_complete(log, tmp_path, embedder)


def _files(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in vector_folder(views_folder(folder)).rglob("*") if path.is_file()]


def test_a_forgotten_text_that_is_being_embedded_elsewhere_is_not_kept(
    log: MemoryLog, tmp_path: Path
) -> None:
    log.append([prompt("s-9", "p-secret", SECRET)])
    log.seal()
    update(log, tmp_path)
    position = log.head().position
    purging = threading.Thread(target=lambda: purge(log, tmp_path, [position]))

    class Meanwhile(HashEmbedder):
        """While it embeds the text, that is forgotten."""

        def embed_passages(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
            if SECRET in texts:
                log.forget(position)
                log.append([forgotten((), (position,))])
                log.seal()
                purging.start()
                purging.join(0.05)
                assert purging.is_alive()  # it waits for embed.lock
            return super().embed_passages(texts)

    embedder = Meanwhile()
    writer = VectorWriter(log, views_folder(tmp_path), embedder)
    writer.chunk(4)
    writer.close()
    purging.join()
    assert SECRET in embedder.texts
    assert number_of_passage(SECRET) not in stored(tmp_path)[1]
    embed_all(log, tmp_path, HashEmbedder())
    assert_complete(log, tmp_path, embedder)
    assert number_of_passage(SECRET) not in stored(tmp_path)[1]


def test_what_was_forgotten_while_nothing_was_purged_goes_before_more_is_embedded(
    log: MemoryLog, tmp_path: Path, embedder: HashEmbedder
) -> None:
    log.append([prompt("s-9", "p-secret", SECRET)])
    log.seal()
    update(log, tmp_path)
    embed_all(log, tmp_path, embedder)
    before = vector_folder(views_folder(tmp_path)) / "state.json"
    kept = before.read_bytes()
    position = log.head().position
    log.forget(position)
    log.append([forgotten((), (position,))])
    log.seal()
    with embed_lock(views_folder(tmp_path)), pytest.MonkeyPatch.context() as patch:
        patch.setattr("session_mgmt_mcp.projections.vector_publish.embed_lock", _busy)
        with pytest.raises(LockTimeoutError):
            update(log, tmp_path)  # killed, so to speak, when the query view was done
    assert before.read_bytes() == kept
    embed_all(log, tmp_path, embedder)
    assert number_of_passage(SECRET) not in stored(tmp_path)[1]


def _busy(*_: object) -> None:
    raise LockTimeoutError("another process is embedding")


def test_vectors_of_another_model_are_made_anew(
    log: MemoryLog, tmp_path: Path, embedder: HashEmbedder
) -> None:
    update(log, tmp_path)
    embed_all(log, tmp_path, embedder)
    before = digest(tmp_path)["vector"]
    other = HashEmbedder("other", 128)
    embed_all(log, tmp_path, other, 9)
    assert_complete(log, tmp_path, other)
    state = state_of(tmp_path)
    assert (state.model_id, state.dimension) == ("other", 128)
    assert digest(tmp_path)["vector"] != before


@pytest.mark.parametrize(
    "version", [(rows.interpretation, "INTERPRETATION_VERSION"), (vector_state, "PASSAGES_VERSION")]
)
def test_what_another_version_made_is_looked_at_anew_and_its_vectors_are_kept(
    log: MemoryLog,
    tmp_path: Path,
    embedder: HashEmbedder,
    version: tuple[object, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    update(log, tmp_path)
    embed_all(log, tmp_path, embedder)
    embedder.texts.clear()
    monkeypatch.setattr(*version, 1_000_000)
    assert digest(tmp_path)["vector"] == ""
    update(log, tmp_path)
    embed_all(log, tmp_path, embedder)
    assert embedder.texts == []
    assert_complete(log, tmp_path, embedder)


def test_views_of_another_log_serve_nothing_and_their_vectors_are_kept(
    log: MemoryLog, tmp_path: Path, embedder: HashEmbedder
) -> None:
    update(log, tmp_path)
    embed_all(log, tmp_path, embedder)
    embedder.texts.clear()
    other = fill(MemoryLog("f" * 32), 1, 15)
    assert vector_state.load_state(views_folder(tmp_path), other) is None
    update(other, tmp_path)
    embed_all(other, tmp_path, embedder)
    assert embedder.texts == ["question 15"]
    assert_complete(other, tmp_path, embedder)
    assert number_of_passage("question 0") not in stored(tmp_path)[1]

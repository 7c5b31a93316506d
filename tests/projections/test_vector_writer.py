"""Every passage of a shown row gets its vector, once; whatever happens on the way, nothing published is wrong."""

import threading
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from action_log import call, forgotten, hook_prompt, prompt, reply, returned
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from memory_log import MemoryLog
from vector_kit import HashEmbedder, assert_complete, embed_all, passages_shown, state_of, stored

from session_mgmt_mcp.core.errors import LockTimeoutError
from session_mgmt_mcp.projections import (
    passages,
    publish,
    rows,
    vector_rebuild,
    vector_state,
    vector_store,
    vector_writer,
)
from session_mgmt_mcp.projections.checking import UNREADABLE, check
from session_mgmt_mcp.projections.passages import number_of_passage
from session_mgmt_mcp.projections.protocol import views_folder
from session_mgmt_mcp.projections.publish import digest, purge, replay, update
from session_mgmt_mcp.projections.vector_blocks import ALIGNMENT
from session_mgmt_mcp.projections.vector_state import (
    embed_lock,
    gaps,
    vector_folder,
    with_range,
    without_range,
)
from session_mgmt_mcp.projections.vector_writer import VectorWriter

SECRET = "the password is xylophonesesame"


def fill(log: MemoryLog, first: int = 0, n: int = 15) -> MemoryLog:
    """Prompts that differ, replies and calls that repeat, results that have no passage."""
    for k in range(first, first + n):
        log.append(
            [
                prompt(f"s-{k % 3}", f"p-{k}", f"question {k}", k),
                reply(f"s-{k % 3}", f"r-{k}", f"answer {k % 5}", k),
                call(f"s-{k % 3}", f"c-{k}", f"t-{k}", "Bash", {"command": f"make step{k % 7}"}, k),
                returned(f"s-{k % 3}", f"o-{k}", f"t-{k}", f"made step{k % 7}", k),
            ]
        )
    log.seal()
    return log


@pytest.fixture
def log() -> MemoryLog:
    return fill(MemoryLog())


@pytest.fixture
def embedder() -> HashEmbedder:
    return HashEmbedder()


class NoIndex:
    """In place of the lexical index, which takes most of the time and has its own tests."""

    def __init__(self, views: Path) -> None:
        (views / "lexical").mkdir(exist_ok=True)

    def update(self, *_: object) -> int:
        return 0


@pytest.fixture(autouse=True)
def without_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish, "_open_lexical", lambda _, views, *__: NoIndex(views))


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows, slices and full files of a few rows."""
    monkeypatch.setattr(vector_writer, "WINDOW_POSITIONS", 16)
    monkeypatch.setattr(vector_writer, "SLICE_PASSAGES", 4)
    monkeypatch.setattr(vector_rebuild, "RUN_ROWS_MIN", 8)
    monkeypatch.setattr(vector_store, "FULL_PASSAGES", 24)
    monkeypatch.setattr(vector_store, "FULL_PAIRS", 64)


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


class Failing(HashEmbedder):
    """Raises at the n-th call."""

    def __init__(self, calls: int, error: BaseException) -> None:
        super().__init__()
        self._left = calls
        self._error = error

    def embed_passages(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        self._left -= 1
        if self._left == 0:
            raise self._error
        return super().embed_passages(texts)


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


# -- damage ----------------------------------------------------------------------------------------------------------


PARTS = ("header", "numbers", "codes", "ids", "map numbers", "gone", "cut")


def _flip(path: Path, offset: int) -> None:
    raw = bytearray(path.read_bytes())
    raw[offset] ^= 4
    path.unlink()
    path.write_bytes(raw)


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
        _flip(path, _offset(part, block.count))
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
    _flip(vector_folder(views_folder(tmp_path)) / block.name, _offset("vectors", block.count))
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


# -- in any order ----------------------------------------------------------------------------------------------------

STEPS = ("append", "update", "embed", "interrupt", "replay", "forget", "damage")


@pytest.mark.slow
@settings(
    max_examples=25,
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
            _flip(vector_folder(views_folder(folder)) / block.name, ALIGNMENT + n % (block.bytes - ALIGNMENT))
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

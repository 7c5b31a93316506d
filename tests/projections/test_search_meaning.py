"""Searches by meaning: what no word leads to is found, filters hold, and without vectors words go on alone."""

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from action_log import NOON, call, prompt, reply
from memory_log import MemoryLog
from vector_kit import HashEmbedder, embed_all

from session_mgmt_mcp.adapters.generic.importer import new_event
from session_mgmt_mcp.core.errors import EmbeddingError
from session_mgmt_mcp.core.interpret.generic_record import Entry
from session_mgmt_mcp.projections.publish import update
from session_mgmt_mcp.projections.ranking import Weights
from session_mgmt_mcp.projections.views import Views

CONCEPTS = {
    "automobile": "car",
    "vehicle": "car",
    "garage": "car",
    "felines": "cat",
    "kitten": "cat",
    "whiskers": "cat",
}


class Concepts(HashEmbedder):
    """Texts are near to each other where their words mean the same."""

    def vector(self, text: str) -> npt.NDArray[np.float32]:
        words = [word.strip(".,?!'").lower() for word in text.split()]
        parts = [super(Concepts, self).vector(CONCEPTS.get(word, word)) for word in words if len(word) > 3]
        found = np.sum(parts, axis=0) if parts else super().vector(text)
        return (found / np.linalg.norm(found)).astype(np.float32)

    def embed_query(self, text: str) -> npt.NDArray[np.float32]:
        self.texts.append(text)
        return self.vector(text)


STORY = [
    prompt("s-1", "u-1", "please repair the automobile", 0),
    reply("s-1", "a-1", "The engine runs again.", 1),
    prompt("s-2", "u-2", "the kitten sleeps", 2, cwd="/home/u/zoo"),
    reply("s-2", "a-2", "Let it sleep then.", 3, cwd="/home/u/zoo"),
    call("s-2", "a-3", "t-1", "Edit", {"file_path": "/home/u/app/dates.py", "new_string": "x"}, 4),
]


@pytest.fixture
def embedder() -> Concepts:
    return Concepts()


@pytest.fixture
def log(tmp_path: Path, embedder: Concepts) -> MemoryLog:
    """The story, published and embedded."""
    log = MemoryLog()
    log.append(STORY)
    log.seal()
    update(log, tmp_path)
    embed_all(log, tmp_path, embedder)
    embedder.texts.clear()
    return log


@pytest.fixture
def views(log: MemoryLog, tmp_path: Path, embedder: Concepts) -> Iterator[Views]:
    opened = Views(log, tmp_path, lambda: embedder)
    yield opened
    opened.close()


def records(views: Views, query: str, **filters: str) -> list[str]:
    return [moment.record for moment in views.search(query, **filters)]


def test_what_no_word_leads_to_is_found_by_meaning_alone(
    log: MemoryLog, tmp_path: Path, views: Views
) -> None:
    assert records(Views(log, tmp_path), "vehicle garage") == []
    assert records(views, "vehicle garage")[0] == "u-1"


def test_a_moment_found_by_meaning_says_so_and_shows_the_passage(views: Views) -> None:
    moment = views.search("vehicle")[0]
    assert moment.why == "matched: by meaning"
    assert (moment.excerpt, moment.marks) == ("please repair the automobile", ())


def test_words_and_meaning_are_both_told_and_the_words_marked(views: Views) -> None:
    moment = views.search("repair the vehicle")[0]
    assert moment.why == "matched: repair · in prompt · by meaning"
    assert [moment.excerpt[a:b] for a, b in moment.marks] == ["repair"]


def test_filters_hold_for_what_is_found_by_meaning(views: Views) -> None:
    assert "u-1" not in records(views, "vehicle", project="/home/u/zoo")
    assert records(views, "felines", project="/home/u/zoo")[0] == "u-2"
    assert "u-1" not in records(views, "vehicle", kind="reply")
    assert "u-1" not in records(views, "vehicle -repair")


def test_a_phrase_is_demanded_of_what_is_found_by_meaning(views: Views) -> None:
    assert records(views, 'vehicle "repair the automobile"') == ["u-1"]
    assert records(views, 'vehicle "repair the kitten"') == []


def test_what_was_just_appended_is_found_by_words_beside_the_vectors(log: MemoryLog, views: Views) -> None:
    assert records(views, "vehicle")[0] == "u-1"
    log.append([prompt("s-3", "u-9", "zebra crossing for the vehicle", 9)])
    assert set(records(views, "zebra vehicle")[:2]) == {"u-9", "u-1"}


def test_embedded_later_it_is_found_by_meaning(
    log: MemoryLog, tmp_path: Path, views: Views, embedder: Concepts
) -> None:
    log.append([prompt("s-3", "u-9", "brushing whiskers", 9)])
    log.seal()
    assert "u-9" not in records(views, "felines")
    update(log, tmp_path)
    embed_all(log, tmp_path, embedder)
    assert "u-9" in records(views, "felines")[:2]


def test_vectors_of_another_model_are_not_compared(log: MemoryLog, tmp_path: Path) -> None:
    views = Views(log, tmp_path, lambda: Concepts("another"))
    assert records(views, "vehicle") == []
    assert records(views, "kitten")[0] == "u-2"


def test_without_vectors_no_model_is_loaded(tmp_path: Path) -> None:
    def load() -> Concepts:
        raise AssertionError("loaded")

    log = MemoryLog()
    log.append(STORY)
    log.seal()
    update(log, tmp_path)
    assert records(Views(log, tmp_path, load), "kitten")[0] == "u-2"


def test_where_the_model_cannot_be_had_words_go_on_alone(log: MemoryLog, tmp_path: Path) -> None:
    tries = []

    def load() -> Concepts:
        tries.append(1)
        raise EmbeddingError("model.onnx is missing")

    views = Views(log, tmp_path, load)
    assert records(views, "kitten")[0] == "u-2"
    assert records(views, "vehicle") == []
    assert len(tries) == 1


def test_who_said_it_is_no_part_of_what_is_meant(
    tmp_path: Path, embedder: Concepts, entry: "Callable[..., None]", chat: MemoryLog
) -> None:
    entry("D1:1", "Caroline", "the kitten is ill")
    entry("D1:2", "Melanie", "the automobile is broken")
    chat.seal()
    update(chat, tmp_path)
    embed_all(chat, tmp_path, embedder)
    embedder.texts.clear()
    views = Views(chat, tmp_path, lambda: embedder)
    assert records(views, "What about Caroline's felines?")[0] == "D1:1"
    assert embedder.texts == ["What about felines?"]
    assert records(views, "Melanie")[0] == "D1:2"


@pytest.fixture
def chat() -> MemoryLog:
    return MemoryLog()


@pytest.fixture
def entry(chat: MemoryLog) -> Callable[[str, str, str], None]:
    def append(record: str, actor: str, text: str) -> None:
        line = Entry(session="c-1", record=record, actor=actor, text=text, time=NOON)
        chat.append([new_event(line, msgspec.json.encode(line))])

    return append


def test_what_filters_leave_out_still_tells_which_session_is_meant(tmp_path: Path) -> None:
    edit = {"file_path": "/home/u/app/dates.py", "old_string": "a", "new_string": "b"}
    log = MemoryLog()
    log.append(
        [prompt("s-1", "u-1", "the flaky test of dates", 0), call("s-1", "a-1", "t-1", "Edit", edit, 1)]
    )
    log.append([prompt("s-2", "u-2", "raise the version", 2)])
    log.append([call("s-2", "a-2", "t-2", "Edit", {**edit, "new_string": "c"}, 3)])
    weights = Weights(session_document=0.0, lexical_previous=0.0)
    views = Views(log, tmp_path, weights=weights)
    assert records(views, "flaky dates.py", kind="edit") == ["a-1", "a-2"]

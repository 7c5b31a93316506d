"""Patterns are looked for in the newest rows first, for a bounded time, and an answer says how far it got."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from action_log import NOON, SECOND, call, prompt
from memory_log import MemoryLog

from session_mgmt_mcp.core.errors import InputError
from session_mgmt_mcp.projections import narrowing, regex_search
from session_mgmt_mcp.projections.filters import Filters
from session_mgmt_mcp.projections.publish import update
from session_mgmt_mcp.projections.query_language import QueryError
from session_mgmt_mcp.projections.regex_search import TimeLimit, all_found, check_pattern, found_rows
from session_mgmt_mcp.projections.views import Views

ROWS = 40


class Clock:
    """Seconds that pass with every look at it."""

    def __init__(self, step: float = 0.0) -> None:
        self.now = 0.0
        self.step = step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Views]:
    """Half published, half in the tail; looked through in stretches of about four rows."""
    log, folder = MemoryLog(), tmp_path_factory.mktemp("views")
    events = [prompt("s-1", f"u-{n}", f"step {n}:\nError {n % 4} café", n) for n in range(ROWS)]
    log.append(events[: ROWS // 2])
    log.seal()
    update(log, folder)
    log.append(events[ROWS // 2 :])
    opened = Views(log, folder)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(regex_search, "CHUNK_ROWS_MIN", 4)
        yield opened
    opened.close()


def pattern(text: str) -> Filters:
    return Filters(patterns=((text,),))


def test_the_newest_rows_are_found_first_in_the_tail_and_in_what_is_published(views: Views) -> None:
    found = views.search("re:Error.[02]", limit=25)
    times = [moment.occurred_at for moment in found]
    assert times == [NOON + n * SECOND for n in range(ROWS - 2, -1, -2)]
    assert found.note == ""


def test_stretches_of_time_cover_every_row_once(views: Views) -> None:
    with views.reading() as files:
        parts = list(found_rows(files, pattern("."), TimeLimit()))
        ids = [i for part in parts for _, i in part.found]
        assert len(parts) >= 8 and len(ids) == len(set(ids)) == ROWS
        assert ids == [
            row[0] for row in files.fetch("SELECT id FROM shown ORDER BY occurred_at DESC, id DESC")
        ]


def test_the_newest_are_first_also_where_history_was_captured_out_of_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(regex_search, "CHUNK_ROWS_MIN", 4)
    log = MemoryLog()
    times = [(n * 17) % 40 for n in range(40)]
    log.append([prompt("s", f"u-{at}", f"word {at}", at) for at in times])
    views = Views(log, tmp_path)
    for limit in (1, 3, 12, 100):
        found = [moment.record for moment in views.search("re:word", limit=limit)]
        assert found == [f"u-{at}" for at in range(39, -1, -1)][:limit]


def test_rows_of_one_or_no_time_are_looked_through(tmp_path: Path) -> None:
    log = MemoryLog()
    log.append([prompt("s", f"u-{n}", f"word {n}", 0) for n in range(9)])
    views = Views(log, tmp_path)
    assert len(views.search("re:word", limit=20)) == 9
    assert Views(MemoryLog(), tmp_path / "none").search("re:word") == []


def test_when_the_time_is_up_the_answer_has_what_was_found_and_says_how_far_it_got(views: Views) -> None:
    clock = Clock(step=0.5)
    found = views.search("re:Error", limit=1000, time_limit=TimeLimit(2.0, clock))
    times = [moment.occurred_at for moment in found]
    assert 0 < len(times) < ROWS // 2
    assert times == [NOON + (ROWS - 1 - n) * SECOND for n in range(len(times))]
    assert (
        "stopped after 2 s" in found.note
        and f"{len(times)} of 40 rows" in found.note
        and "after:" in found.note
    )


def test_words_rank_what_a_pattern_found_before_the_time_was_up(views: Views) -> None:
    every = views.search("step re:Error.1", limit=1000)
    some = views.search("step re:Error.1", limit=1000, time_limit=TimeLimit(2.0, Clock(step=0.5)))
    assert len(every) == ROWS // 4 and not every.note
    assert {m.record for m in some} < {m.record for m in every}
    assert "stopped after" in some.note


def test_a_running_query_is_interrupted_when_its_time_is_up(views: Views) -> None:
    endless = "SELECT sum(a.range * b.range) FROM range(10000000) AS a, range(10000000) AS b"
    with views.reading() as files:
        assert regex_search._within(files, endless, [], TimeLimit(0.05)) is None
        assert files.fetch("SELECT 1") == [(1,)]


def test_an_interruption_by_the_user_is_no_end_of_time(views: Views, monkeypatch: pytest.MonkeyPatch) -> None:
    with views.reading() as files:

        def interrupted(*_: object) -> None:
            raise RuntimeError("Query interrupted")

        monkeypatch.setattr(files, "fetch", interrupted)
        with pytest.raises(RuntimeError, match="Query interrupted"):
            regex_search._within(files, "SELECT 1", [], TimeLimit())


def test_too_many_rows_for_words_to_rank_are_cut_and_the_answer_says_so(
    views: Views, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(regex_search, "IDS_MAX", 10)
    with views.reading() as files:
        ids, note = all_found(files, pattern("Error"), TimeLimit())
    assert len(ids) == 10 and "more than 10 rows" in note
    assert "more than 10 rows" in views.search("step re:Error", limit=50).note


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("(a", "missing )"),
        ("[a", "missing ]"),
        ("a**", "bad repetition operator: **"),
        (r"\q", r"\q"),
        ("(?<=a)b", "(?<"),
    ],
)
def test_a_pattern_that_is_none_is_refused_with_the_reason_and_the_place(
    views: Views, text: str, reason: str
) -> None:
    with pytest.raises(InputError) as refused:
        check_pattern(text)
    assert reason in str(refused.value) and "(?m)" not in str(refused.value)
    with pytest.raises(QueryError) as shown:
        views.search(f'error re:"{text}"')
    assert reason in str(shown.value) and str(shown.value).endswith("      " + "^" * (len(text) + 5))


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("re:^Error", ROWS),  # at lines
        ("re:^step.*1$", 0),  # a colon ends the first line
        ("re:step.*Error", 0),  # . stops at a line's end
        ("re:error", 0),
        ("re:(?i)ERROR", ROWS),
        ("re:caf.$", ROWS),
        (r're:"step 1\d:"', 10),
        ("re:step.7: re:step.8:", 2),
        ("-re:Error.[012]", ROWS // 4),
        ("re:Error -re:Error.[012]", ROWS // 4),
        ("re:Error before:2000", 0),
    ],
)
def test_patterns_mean_what_they_mean_in_a_terminal(views: Views, query: str, count: int) -> None:
    assert len(views.search(query, limit=1000)) == count


def test_few_rows_are_read_themselves_with_the_same_result(
    views: Views, monkeypatch: pytest.MonkeyPatch
) -> None:
    questions = [
        "re:Error.[02] after:2026-02-02T02:40:05Z",
        '-re:Error.[02] "error 1" session:s-1',
        '"1:" "->" kind:prompt',
        "step re:Error.3 kind:prompt",
        "re:^step kind:call",
    ]
    read = [views.search(q, limit=1000) for q in questions]
    monkeypatch.setattr(narrowing, "NARROW_MAX", 0)
    scanned = [views.search(q, limit=1000) for q in questions]
    assert [[m.record for m in found] for found in read] == [[m.record for m in found] for found in scanned]
    assert [len(found) for found in read] == [17, 10, 0, 10, 0]


@pytest.mark.parametrize(
    ("query", "count"),
    [('"error 1"', 10), ('error -"error 1"', 30), ('error -"error 1" -"error 2"', 20), ('step -"step"', 0)],
)
def test_a_phrase_that_few_of_many_rows_have_is_looked_for_in_the_texts(
    views: Views, monkeypatch: pytest.MonkeyPatch, query: str, count: int
) -> None:
    monkeypatch.setattr(narrowing, "PAGE_ROWS_MIN", 2)
    monkeypatch.setattr(narrowing, "LOOKED_AT_MAX", 4)
    found = views.search(query, limit=1000)
    assert len(found) == count and not found.note


def test_an_excerpt_shows_what_the_pattern_found(tmp_path: Path) -> None:
    log = MemoryLog()
    text = "lorem ipsum " * 500 + "id=4711 " + "dolor " * 500
    log.append([prompt("s", "u-1", text), call("s", "a-1", "t-1", "Edit", {"file_path": "/a", "old_string": "x",
                "new_string": text.replace("4711", "4712")}, 1)])  # fmt: skip
    found = {moment.record: moment for moment in Views(log, tmp_path).search(r"re:id=\d+")}
    assert "id=4711" in found["u-1"].excerpt and "id=4712" in found["a-1"].excerpt
    assert all("pattern" in moment.why for moment in found.values())

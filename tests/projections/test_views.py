"""What is in the log is found, whether it is published or only just appended, and each fact once."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from action_log import (
    NOON,
    SECOND,
    call,
    hook,
    hook_prompt,
    hook_return,
    prompt,
    reply,
    returned,
    summary,
)
from memory_log import MemoryLog

from session_mgmt_mcp.core.envelope import NewEvent
from session_mgmt_mcp.core.errors import InputError
from session_mgmt_mcp.projections.publish import update
from session_mgmt_mcp.projections.results import Turn
from session_mgmt_mcp.projections.views import Views

STORY = [
    prompt("s-1", "u-1", "why does the login test fail", 0),
    reply("s-1", "a-1", "The cache_key in session_store.py is stale after invalidation.", 1),
    call("s-1", "a-2", "t-1", "Bash", {"command": "pytest tests/test_login.py"}, 2),
    returned("s-1", "u-2", "t-1", "1 failed: KeyError token", 3),
    prompt("s-2", "u-3", "bump the version of parseConfigFile", 10, cwd="/home/u/app/web"),
    reply("s-2", "a-3", "Done, it is 0.4.4 now.", 11, cwd="/home/u/app/web"),
    prompt("s-3", "u-4", "キャッシュを消す方法", 20, cwd="/home/u/application"),
]


@pytest.fixture(params=["tail", "published", "half"])
def views(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Views]:
    """The story read from the log's tail, from published files, and from both."""
    log = MemoryLog()
    cut = {"tail": 0, "published": len(STORY), "half": 3}[request.param]
    log.append(STORY[:cut])
    log.seal()
    if cut:
        update(log, tmp_path)
    log.append(STORY[cut:])
    opened = Views(log, tmp_path)
    yield opened
    opened.close()


def from_log(tmp_path: Path, *events: NewEvent) -> tuple[MemoryLog, Views]:
    log = MemoryLog()
    log.append(list(events))
    return log, Views(log, tmp_path)


def texts(turns: tuple[Turn, ...]) -> list[str]:
    return [turn.text for turn in turns]


def test_a_moment_says_where_when_and_why(views: Views) -> None:
    moment = views.search("stale cache")[0]
    assert (moment.session, moment.record, moment.kind) == ("s-1", "a-1", "AssistantReplied")
    assert (moment.position, moment.occurred_at) == (2, NOON + SECOND)
    assert moment.project == "/home/u/app"
    assert "cache_key in session_store.py is stale" in moment.excerpt
    assert "stale" in moment.why and "reply" in moment.why


@pytest.mark.parametrize(
    ("query", "record"),
    [
        ("logins", "u-1"),  # stems
        ("session_store.py", "a-1"),  # a file, whole
        ("store", "a-1"),  # a part of it
        ("config file", "u-3"),  # camelCase
        ("KeyError", "u-2"),  # results
        ("test_login", "a-2"),  # commands
        ("キャッシュ", "u-4"),  # no spaces between words
        ("消す", "u-4"),
    ],
)
def test_words_names_paths_and_cjk_are_found(views: Views, query: str, record: str) -> None:
    assert record in [m.record for m in views.search(query)[:2]]


@pytest.mark.parametrize(
    "query",
    [
        '"',
        "a AND OR (",
        "title:x^9 [1 TO",
        "🙂",
        "\0",
        "*",
        "~!@#$%^&*()",
        "é" * 5,
        "x" * 10_000,
        "fail " * 2000,
        "\ud800",
    ],
)
def test_no_free_text_raises(views: Views, query: str) -> None:
    assert isinstance(views.search(query), list)


@pytest.mark.parametrize("query", ["", "  \n\t"])
def test_an_empty_query_is_refused(views: Views, query: str) -> None:
    with pytest.raises(InputError, match="empty"):
        views.search(query)


def test_filters_narrow_the_search(views: Views) -> None:
    every = {m.session for m in views.search("login test version cache 消")}
    assert every == {"s-1", "s-2", "s-3"}
    search = views.search
    assert {m.session for m in search("login version", session="s-2")} == {"s-2"}
    assert {m.session for m in search("login version 消", project="/home/u/app/")} == {"s-1", "s-2"}
    assert {m.session for m in search("login version", project="/home/u/app/web")} == {"s-2"}
    assert {m.kind for m in search("login test", kind="ToolCalled")} == {"ToolCalled"}
    assert search("login version", assistant="codex") == []
    assert {m.session for m in search("login version", after=NOON + 10 * SECOND)} == {"s-2"}
    assert {m.record for m in search("login version", before=NOON + SECOND)} == {"u-1"}


def test_a_project_filter_does_not_match_a_longer_name(views: Views) -> None:
    assert [s.session for s in views.sessions(project="/home/u/app")] == ["s-2", "s-1"]


def test_a_session_is_found_by_the_beginning_of_its_id(views: Views) -> None:
    assert views.session("s-2").title == "bump the version of parseConfigFile"
    with pytest.raises(InputError, match="s-1, s-2, s-3"):
        views.session("s-")
    with pytest.raises(InputError, match=r"no session 'zz'.*s-3"):
        views.session("zz")


def test_a_summary_counts_what_happened(views: Views) -> None:
    found = views.session("s-1")
    assert (found.prompts, found.tool_calls, found.actions) == (1, 1, 4)
    assert (found.started_at, found.ended_at) == (NOON, NOON + 3 * SECOND)
    assert (found.first_position, found.last_position) == (1, 4)


def test_a_timeline_goes_on_with_its_cursors(views: Views) -> None:
    first = views.timeline(session="s-1", limit=3)
    assert [t.record for t in first.turns] == ["u-1", "a-1", "a-2"]
    assert first.earlier == ""
    second = views.timeline(cursor=first.later, limit=3)
    assert [t.record for t in second.turns] == ["u-2"]
    assert second.later == ""
    assert [t.record for t in views.timeline(cursor=second.earlier, limit=2).turns] == ["a-1", "a-2"]


def test_a_result_names_the_tool_it_came_from(views: Views) -> None:
    assert [t.tool for t in views.timeline(around=4, before=0, after=0).turns] == ["Bash"]


def test_around_a_position_lie_the_turns_before_and_after(views: Views) -> None:
    page = views.timeline(around=3, before=1, after=1)
    assert [t.position for t in page.turns] == [2, 3, 4]
    with pytest.raises(InputError, match="99"):
        views.timeline(around=99)


def test_the_newest_turns_of_all_sessions_are_the_default(views: Views) -> None:
    page = views.timeline(limit=3)
    assert [t.record for t in page.turns] == ["u-3", "a-3", "u-4"]
    assert [t.record for t in views.timeline(cursor=page.earlier, limit=2).turns] == ["a-2", "u-2"]
    assert page.later == ""


@pytest.mark.parametrize("cursor", ["x", "🙂", "AAAA", "kQ"])
def test_a_cursor_that_is_none_is_refused(views: Views, cursor: str) -> None:
    with pytest.raises(InputError, match="cursor"):
        views.timeline(cursor=cursor)


def test_status_counts_kinds(views: Views) -> None:
    status = views.status()
    assert (status.log_position, status.sessions, status.actions) == (7, 3, 7)
    assert status.kinds == {"AssistantReplied": 2, "PromptSubmitted": 3, "ToolCalled": 1, "ToolReturned": 1}


def test_threads_share_one_view(views: Views) -> None:
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda: found.append(len(views.search("login")) + len(views.sessions())))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1 and len(found) == 8


def test_an_appended_event_is_found_by_the_next_search(tmp_path: Path) -> None:
    log, views = from_log(tmp_path, *STORY)
    assert views.search("zebra") == []
    log.append([prompt("s-9", "u-9", "paint the zebra")])
    assert [m.record for m in views.search("zebra")] == ["u-9"]
    log.seal()
    update(log, tmp_path)
    assert [m.record for m in views.search("zebra")] == ["u-9"]
    assert views.status().query_watermark == 8


def test_a_hook_and_its_transcript_are_shown_once_as_the_transcript_says(tmp_path: Path) -> None:
    hooks = [
        hook_prompt("s-1", "make it green", 1),
        hook_return("s-1", "t-1", "Bash", "2 passed", 2),
        hook("s-1", "Stop", 3, last_assistant_message="All green."),
    ]
    records = [
        prompt("s-1", "u-1", "make it green", 1),
        call("s-1", "a-1", "t-1", "Bash", {"command": "make test"}, 2),
        returned("s-1", "u-2", "t-1", "2 passed", 2),
        reply("s-1", "a-2", "All green.", 3),
    ]
    log, views = from_log(tmp_path, *hooks)
    before = views.timeline(session="s-1").turns
    assert [t.position for t in before] == [1, 2, 2, 3]
    log.append(records)
    after = views.timeline(session="s-1").turns
    assert texts(after) == texts(before)
    assert [t.position for t in after] == [4, 5, 6, 7]
    assert [m.position for m in views.search("green", kind="PromptSubmitted")] == [4]
    log.seal()
    update(log, tmp_path)
    assert views.timeline(session="s-1").turns == after
    assert [m.position for m in views.search("green", kind="PromptSubmitted")] == [4]


def test_a_position_that_was_superseded_leads_to_the_better_report(tmp_path: Path) -> None:
    _, views = from_log(tmp_path, hook_prompt("s-1", "go"), prompt("s-1", "u-1", "go"))
    assert [t.position for t in views.timeline(around=1).turns] == [2]


def test_a_hook_not_yet_in_the_transcript_stands_at_its_place_by_time(tmp_path: Path) -> None:
    _, views = from_log(
        tmp_path,
        hook_prompt("s-1", "between", 5),
        prompt("s-1", "u-1", "first", 1),
        reply("s-1", "a-1", "last", 9),
        hook_prompt("s-1", "newest", 20),
    )
    assert texts(views.timeline(session="s-1").turns) == ["first", "between", "last", "newest"]


def test_a_custom_title_wins_over_an_ai_title_and_a_first_prompt(tmp_path: Path) -> None:
    log, views = from_log(tmp_path, prompt("s-1", "u-1", "please do it"))
    assert views.session("s-1").title == "please do it"
    log.append([summary("other-file", "Fixing the cache", "u-1")])
    assert views.session("s-1").title == "Fixing the cache"
    log.append([hook("s-1", "SessionStart", 9, session_title="My own title")])
    assert views.session("s-1").title == "My own title"


def test_copies_of_one_text_are_folded(tmp_path: Path) -> None:
    _, views = from_log(tmp_path, *[prompt(f"s-{i}", f"u-{i}", "repeat the ritual", i) for i in range(5)])
    found = views.search("ritual")
    assert len(found) == 1
    assert found[0].copies == 5


def test_edits_of_one_file_are_different_moments_and_the_same_edit_is_one(tmp_path: Path) -> None:
    def edit(uuid: str, new: str) -> NewEvent:
        arguments = {"file_path": "/app/gate.py", "old_string": "closed", "new_string": new}
        return call("s-1", uuid, f"t-{uuid}", "Edit", arguments)

    read = call("s-1", "a-9", "t-9", "Read", {"file_path": "/app/gate.py"})
    _, views = from_log(tmp_path, edit("a-1", "open"), edit("a-2", "ajar"), edit("a-3", "open"), read)
    found = views.search("gate.py")
    assert sorted((m.tool, m.copies) for m in found) == [("Edit", 1), ("Edit", 2), ("Read", 1)]


def test_what_was_asked_of_the_memory_and_what_it_recalled_is_not_found_again(tmp_path: Path) -> None:
    tool = "mcp__session-mgmt__search"
    log, views = from_log(
        tmp_path,
        prompt("s-1", "u-1", "paint the zebra"),
        call("s-2", "a-1", "t-1", tool, {"query": "zebra"}),
        returned("s-2", "u-2", "t-1", "1 moment: paint the zebra"),
    )
    assert [m.record for m in views.search("zebra")] == ["u-1"]
    log.seal()
    update(log, tmp_path)
    assert [m.record for m in views.search("zebra")] == ["u-1"]
    assert len(views.timeline(session="s-2").turns) == 2


def test_an_excerpt_is_one_bounded_line_around_the_match(tmp_path: Path) -> None:
    text = "lorem ipsum\n" * 500 + "the needle is here\n" + "dolor sit\n" * 500
    _, views = from_log(tmp_path, prompt("s-1", "u-1", text))
    found = views.search("needle")[0].excerpt
    assert "needle" in found and "\n" not in found
    assert len(found) <= 240


def test_a_limit_below_one_is_refused(views: Views) -> None:
    with pytest.raises(InputError, match="limit"):
        views.search("login", limit=0)


def test_importing_views_loads_no_engine() -> None:
    import subprocess
    import sys

    code = (
        "import sys; import session_mgmt_mcp.projections.views; "
        "print([m for m in ('duckdb', 'tantivy', 'pyarrow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

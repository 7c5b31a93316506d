"""Statistics: sums that agree with what was imported, narrowed as asked, and a plot that covers the time."""

import io
import json
import time
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from claude_events import assistant, text

from session_mgmt_mcp.projections.statistics import Day, Lengths, Statistics
from session_mgmt_mcp.tools.cli import main
from session_mgmt_mcp.tools.stats_view import duration, periods, print_statistics
from session_mgmt_mcp.tools.terminal import Output, _console

Run = Callable[..., Any]
NONE = Lengths(median=0, p90=0, longest=0)


def entry(session: str, record: int, when: str, **fields: Any) -> dict[str, Any]:
    return {"session": session, "record": record, "time": when, "actor": "user", "text": "x", **fields}


HISTORY = [
    entry("a", 1, "2026-03-01T10:00:00Z", project="/shop"),
    entry("a", 2, "2026-03-01T10:01:00Z", project="/shop", kind="call", tool="Edit", files=["t.py"], edit="e", call=1),
    entry("a", 3, "2026-03-01T10:02:00Z", project="/shop", kind="result", call=1, is_error=True),
    entry("a", 4, "2026-03-01T10:03:00Z", project="/shop", kind="call", tool="Read", files=["r.py"], call=2),
    entry("b", 1, "2026-03-02T10:00:00Z", project="/shop/till", kind="call", tool="Edit", files=["t.py"], edit="e"),
    entry("b", 2, "2026-03-02T10:00:30Z", project="/shop/till"),
    entry("c", 1, "2026-03-09T23:59:00Z", project="/elsewhere", assistant="aider"),
    {"session": "c", "record": 2, "actor": "user", "text": "without a time", "assistant": "aider"},
]  # fmt: skip


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with the history above; nothing here writes to it."""
    folder = tmp_path_factory.mktemp("stats")
    path = folder / "history.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in HISTORY))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SESSION_MGMT_DATA_DIR", str(folder / "data"))
        assert main(["import", str(path), "--no-views"]) == 0
    return folder / "data"


@pytest.fixture
def told(
    data: Path, history: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The folder with the history, in use."""
    monkeypatch.setenv("SESSION_MGMT_DATA_DIR", str(history))
    capsys.readouterr()


def turns(session: str, uuid: str, message: str, output: int, model: str = "m-1") -> dict[str, Any]:
    record = assistant(text(f"said {uuid}"))
    usage = {"input_tokens": 10, "output_tokens": output, "cache_read_input_tokens": 5}
    return {
        **record,
        "uuid": uuid,
        "sessionId": session,
        "timestamp": "2026-03-01T10:00:00Z",
        "message": {**record["message"], "id": message, "model": model, "usage": usage},
    }


def test_sums_agree_with_what_was_imported(told: None, run: Run) -> None:
    found = run("stats")
    assert (found["sessions"], found["prompts"], found["tool_calls"], found["actions"]) == (3, 4, 3, 8)
    assert (found["first_at"], found["last_at"]) == ("2026-03-01T10:00:00.000Z", "2026-03-09T23:59:00.000Z")
    assert found["tools"] == [
        {"tool": "Edit", "calls": 2, "failed": 1},
        {"tool": "Read", "calls": 1, "failed": 0},
    ]
    assert found["files"] == [{"file": "t.py", "edits": 2, "sessions": 2}]
    assert [(p["name"], p["sessions"], p["actions"]) for p in found["projects"]] == [
        ("/shop", 1, 4),
        ("/shop/till", 1, 2),
        ("/elsewhere", 1, 1),
    ]
    assert [(a["name"], a["actions"]) for a in found["assistants"]] == [("generic", 6), ("aider", 2)]
    assert found["session_actions"] == {"median": 2, "p90": 4, "longest": 4}
    assert found["session_seconds"] == {"median": 30, "p90": 180, "longest": 180}


def test_days_are_those_of_this_machines_clock(told: None, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    days = run("stats")["days"]
    assert [(d["day"], d["actions"], d["prompts"], d["sessions"]) for d in days] == [
        ("2026-03-01", 4, 1, 1),
        ("2026-03-02", 2, 1, 1),
        ("2026-03-09", 1, 1, 1),
    ]
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    assert [d["day"] for d in run("stats")["days"]] == ["2026-03-01", "2026-03-02", "2026-03-10"]


@pytest.mark.parametrize(
    ("words", "actions", "sessions"),
    [
        (["--project", "/shop"], 6, 2),
        (["--project", "till"], 2, 1),
        (["--after", "2026-03-02"], 3, 2),
        (["--before", "2026-03-02"], 4, 1),
        (["--project", "/shop", "--after", "2026-03-02", "--before", "2026-03-09"], 2, 1),
        (["--project", "/nowhere"], 0, 0),
    ],
)
def test_statistics_are_of_what_is_asked_for(
    words: list[str], actions: int, sessions: int, told: None, run: Run
) -> None:
    found = run("stats", *words)
    assert (found["actions"], found["sessions"]) == (actions, sessions)
    assert sum(day["actions"] for day in found["days"]) == actions
    assert sum(project["actions"] for project in found["projects"]) == actions


def test_what_commands_append_is_no_session(data: Path, run: Run) -> None:
    run("remember", "dates are always UTC")
    run("keys", "create", "mira", "--role", "reader", "--all-projects")
    assert run("sessions")["sessions"] == []
    assert (run("stats")["sessions"], run("stats")["actions"], run("stats")["assistants"]) == (0, 0, [])
    assert run("status")["views"]["sessions"] == 0


def test_tokens_of_a_message_count_once_as_its_last_report_has_them(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "session.jsonl"
    records = [turns("s", "u-1", "m", 1), turns("s", "u-2", "m", 7), turns("s", "u-3", "n", 2, "m-2")]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    run("import", str(path), "--no-views")
    for words in ([], ["--after", "2026-03-01"]):
        tokens = run("stats", *words)["tokens"]
        said = [
            (t["model"], t["messages"], t["input_tokens"], t["output_tokens"], t["cache_read_tokens"])
            for t in tokens
        ]
        assert said == [("m-1", 1, 10, 7, 5), ("m-2", 1, 10, 2, 5)]
    assert run("stats", "--before", "2026-03-01")["tokens"] == []


def test_only_as_many_as_asked_for_are_listed_the_most_used_first(told: None, run: Run) -> None:
    found = run("stats", "--top", "1")
    assert [tool["tool"] for tool in found["tools"]] == ["Edit"]
    assert len(found["projects"]) == len(found["files"]) == 1
    assert run("stats", "--top", "0", code=2)["error"]["kind"] == "input"


def test_people_see_the_same_numbers(told: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stats"]) == 0
    text = capsys.readouterr().out
    assert "3 sessions · 4 prompts · 3 tool calls · 8 actions" in text
    for line in (r"Edit", "/shop/till", "t.py", "aider", "actions a day", "2026-03-01"):
        assert line in text


def test_nothing_to_count_is_said_and_no_error(
    data: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    run("pause")
    run("resume")
    assert main(["stats", "--project", "/nowhere"]) == 0
    said = capsys.readouterr()
    assert (said.out, "nothing to count" in said.err) == ("", True)


# the plot ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("days", "unit", "bars"),
    [
        (1, "day", 1),
        (30, "day", 30),
        (31, "week", 5),
        (200, "week", 29),
        (900, "month", 30),
        (2000, "year", 6),
    ],
)
def test_the_smallest_unit_that_fits_covers_the_time_and_loses_nothing(
    days: int, unit: str, bars: int
) -> None:
    first = date(2020, 1, 1)
    counts = [(first + timedelta(days=n), n + 1) for n in range(days)]
    found, sums = periods(counts, 30)
    assert (found, len(sums)) == (unit, bars)
    assert sum(count for _, count in sums) == sum(count for _, count in counts)
    starts = [start for start, _ in sums]
    assert starts == sorted(set(starts))


def test_times_at_both_ends_of_the_calendar_are_plotted_by_years() -> None:
    unit, sums = periods([(date.min, 1), (date(2026, 1, 1), 2), (date.max, 3)], 30)
    assert (unit, sums[-1], len(sums)) == ("year", (date(9999, 1, 1), 3), 30)


def test_the_bars_of_a_plot_are_as_high_as_what_they_stand_for() -> None:
    days = [
        Day(day=f"2026-03-0{n}", actions=count, prompts=0, sessions=1)
        for n, count in ((1, 480), (2, 240), (4, 1))
    ]
    found = Statistics(
        sessions=1, prompts=0, tool_calls=0, actions=721, first_at=0, last_at=0, days=days, projects=[], assistants=[],
        tools=[], files=[], tokens=[], session_actions=NONE, session_prompts=NONE, session_seconds=NONE,
    )  # fmt: skip
    file = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    print_statistics(found, Output(_console(file, False), False))
    file.seek(0)
    plot = file.read().split("actions a day\n")[1].splitlines()[:7]
    assert plot[0] == "     480 ████"
    assert plot[5] == "       0 ████████    ▁▁▁▁"
    heights = [sum(line[9 + column : 10 + column] == "█" for line in plot[:6]) for column in (0, 4, 8)]
    assert heights == [6, 3, 0]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (59, "59 s"), (90, "1.5 min"), (3600, "1.0 h"), (864_000, "10 d")]
)
def test_durations_are_said_in_the_largest_unit(seconds: int, text: str) -> None:
    assert duration(seconds) == text

"""What people see: coloured, paged and short on a terminal, plain and the same everywhere in a pipe."""

import json
import os
import pty
import re
import select
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from session_mgmt_mcp.projections.results import Moment, Turn
from session_mgmt_mcp.tools import render
from session_mgmt_mcp.tools.cli import main
from session_mgmt_mcp.tools.terminal import Output, _console, printable, shown

pytestmark = pytest.mark.slow

Run = Callable[..., Any]
Capture = pytest.CaptureFixture[str]
ESCAPE = "\x1b"
DAY_S = 86_400
HISTORY = [
    {"session": "till/1", "record": 1, "time": "2026-03-01T10:00:00Z", "actor": "Ann", "text": "open the \x1b[31mtill\x1b[0m"},
    {"session": "till/1", "record": 2, "actor": "assistant", "text": "the till\x07 is open", "project": "/a/b"},
    {"session": "till/1", "record": 3, "actor": "tool", "text": "\x1b]0;owned\x07fine\r\nall", "is_error": True},
    {"session": "shop/2", "record": 1, "time": "2026-03-02T10:00:00Z", "actor": "user", "text": "count the till"},
]  # fmt: skip


@pytest.fixture(autouse=True)
def plain_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "PAGER", "LESS", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with the history above; nothing here writes to it."""
    folder = tmp_path_factory.mktemp("people")
    path = folder / "history.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in HISTORY))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SESSION_MGMT_DATA_DIR", str(folder / "data"))
        assert main(["import", str(path), "--no-views"]) == 0
    return folder / "data"


@pytest.fixture
def told(data: Path, history: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> Path:
    """The folder with the history, in use."""
    monkeypatch.setenv("SESSION_MGMT_DATA_DIR", str(history))
    capsys.readouterr()
    return history


def said(capsys: Capture, *words: str) -> str:
    assert main(list(words)) == 0
    return capsys.readouterr().out


def on_terminal(data: Path, *words: str, columns: int = 90, **environment: str) -> tuple[str, int]:
    """What a command writes to a terminal of its own, and its exit code."""
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, columns))
    process = subprocess.Popen(
        [sys.executable, "-m", "session_mgmt_mcp", *words],
        stdin=slave,
        stdout=slave,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "SESSION_MGMT_DATA_DIR": str(data), **environment},
        start_new_session=True,
    )
    os.close(slave)
    parts = []
    while select.select([master], [], [], 60)[0]:
        try:
            parts.append(os.read(master, 1 << 16))
        except OSError:  # the last one closed it
            break
    os.close(master)
    return b"".join(parts).decode(), process.wait(60)


# terminal or pipe --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [["search", "till"], ["show", "till/1"], ["timeline"], ["sessions"], ["stats"]],
    ids=lambda w: w[0],
)
def test_what_goes_into_a_pipe_is_plain_and_independent_of_the_terminal(
    words: list[str], told: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = said(capsys, *words)
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("PAGER", "false")
    assert said(capsys, *words) == first
    assert first.strip()
    assert [c for c in first if not c.isprintable() and c != "\n"] == []


def test_colours_are_for_terminals_unless_they_are_forced_or_forbidden(
    told: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = said(capsys, "search", "till")
    monkeypatch.setenv("FORCE_COLOR", "1")
    coloured = said(capsys, "search", "till")
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == plain != coloured
    monkeypatch.setenv("NO_COLOR", "1")
    assert said(capsys, "search", "till") == plain


def test_a_terminal_gets_colours_marks_and_lines_of_its_width(told: Path) -> None:
    text, code = on_terminal(told, "search", "till", "--no-pager", columns=50, PAGER="echo paged")
    assert code == 0
    assert re.search(r"\x1b\[[0-9;]+mtill\x1b\[0m", text)
    assert "ago" in text and "2026-03-0" in text
    lines = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text).splitlines()
    assert max(map(len, lines)) <= 50
    assert "owned" not in text and "paged" not in text


def test_without_colours_there_are_no_escape_codes_and_without_its_pager_none_is_used(told: Path) -> None:
    text, code = on_terminal(told, "show", "till/1", NO_COLOR="1", PAGER="/nowhere/pager")
    assert (code, "Ann · prompt" in text) == (0, True)
    assert ESCAPE not in text


def test_a_terminal_is_paged_by_the_pager_of_ones_choice_and_leaving_it_early_is_no_error(
    told: Path, tmp_path: Path
) -> None:
    pager = tmp_path / "pager"
    pager.write_text('#!/bin/sh\necho "paged by $1"\nhead -n 1\n')
    pager.chmod(0o700)
    text, code = on_terminal(told, "timeline", PAGER=f"{pager} me")
    assert code == 0
    assert "paged by me" in text
    assert len(text.splitlines()) == 2


# what is shown -----------------------------------------------------------------------------------------------


def test_control_characters_that_were_recorded_are_shown_not_obeyed(told: Path, capsys: Capture) -> None:
    text = said(capsys, "show", "till/1")
    assert "open the till\n" in text
    assert "the till␇ is open" in text
    assert "         fine\n         all\n" in text
    assert said(capsys, "search", "open").count(ESCAPE) == 0


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("plain, ünïcode 日本", "plain, ünïcode 日本"),
        ("a\x1b[1;31mred\x1b[0m", "ared"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("cut \x1b", "cut ␛"),
        ("tab\tand\nline", "tab\tand\nline"),
        ("a\r\nb\rc", "a\nb␍c"),
        ("\x9b31m \u202egpj.exe", "\ufffd31m \ufffdgpj.exe"),
    ],
)
def test_text_for_a_terminal_holds_nothing_it_would_obey(raw: str, text: str) -> None:
    assert printable(raw) == text
    assert len(shown(raw)) == len(raw)


def test_matching_words_are_marked_where_the_search_says() -> None:
    moment = Moment(
        session="s", position=1, record="r", occurred_at=0, project="", assistant="a", actor="user", score=1.0,
        kind="PromptSubmitted", excerpt="\x07 the till is open", marks=((6, 10),), why="matched: till",
    )  # fmt: skip
    assert marked(moment) == ["till"]


def marked(moment: Moment) -> list[str]:
    """The stretches of an excerpt that stand out, as they are printed in colour."""
    import io

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FORCE_COLOR", "1")
        file = io.StringIO()
        render.print_moments([moment], Output(_console(file, False), False))
    excerpt = file.getvalue().splitlines()[1]
    return re.findall(r"\x1b\[[0-9;]+m(.*?)\x1b\[0m", excerpt)


@pytest.mark.parametrize(
    ("passed_s", "text"),
    [
        (5, "just now"), (-30, "just now"), (-DAY_S, "in the future"), (60, "1 min ago"), (3 * 3600, "3 h ago"),
        (DAY_S, "1 day ago"), (6 * DAY_S, "6 days ago"), (7 * DAY_S, "1 week ago"), (59 * DAY_S, "1 month ago"),
        (800 * DAY_S, "2 years ago"),
    ],
)  # fmt: skip
def test_how_long_ago_is_said_in_the_largest_unit_that_fits(passed_s: int, text: str) -> None:
    now_s = 1_772_452_800.0
    assert render.ago(int((now_s - passed_s) * 1e6), now_s) == text
    assert render.ago(0, now_s) == ""


def test_paths_are_shortened_to_what_tells_them_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    paths = ("/home/ann/shop", "/home/ann", "/home/anna/shop", "/srv/a/very/long/way/to/the/shop/till", "")
    assert [render.short_path(path) for path in paths] == [
        "~/shop",
        "~",
        "/home/anna/shop",
        "…/shop/till",
        "",
    ]


def test_a_uuid_is_shortened_and_an_id_whose_beginning_says_little_is_not() -> None:
    assert render.short_session("0f5c9a1e-1111-4222-8333-944444444444") == "0f5c9a1e"
    assert render.short_session("conv-26/session_1") == "conv-26/session_1"


# timeline ----------------------------------------------------------------------------------------------------


def test_the_newest_of_all_sessions_are_walked_back_page_by_page(told: Path, run: Run) -> None:
    last = run("timeline", "--limit", "2")
    assert [turn["position"] for turn in last["turns"]] == [3, 4]
    before = run("timeline", "--cursor", last["earlier"], "--limit", "2")
    assert [turn["position"] for turn in before["turns"]] == [1, 2]
    again = run("timeline", "--cursor", before["later"], "--limit", "2")
    assert [turn["position"] for turn in again["turns"]] == [3, 4]


def test_a_timeline_is_of_a_session_or_around_a_position(told: Path, run: Run) -> None:
    assert [turn["session"] for turn in run("timeline", "till")["turns"]] == ["till/1"] * 3
    around = run("timeline", "--around", "2", "--limit", "3")["turns"]
    assert [turn["position"] for turn in around] == [1, 2, 3]


def test_a_timeline_of_several_sessions_says_where_each_begins(told: Path, capsys: Capture) -> None:
    text = said(capsys, "timeline")
    assert text.index("session till/1") < text.index("Ann · prompt") < text.index("session shop/2")


def test_a_timeline_names_the_command_for_the_next_page(told: Path, capsys: Capture) -> None:
    assert main(["timeline", "--limit", "1"]) == 0
    named = re.search(r"earlier: session-mgmt-mcp (.*)", capsys.readouterr().err)
    assert named is not None
    assert "till" in said(capsys, *named[1].split())


def test_a_timeline_that_cannot_be_shown_is_refused(told: Path, run: Run) -> None:
    for words in (["nothing"], ["--around", "99"], ["--cursor", "zzz"], ["--limit", "0"]):
        assert run("timeline", *words, code=2)["error"]["kind"] == "input"


def test_a_speaker_of_a_chat_keeps_the_name(told: Path, run: Run) -> None:
    turns: list[dict[str, Any]] = run("timeline", "till")["turns"]
    assert turns[0]["actor"] == "Ann"


def test_turns_say_who_did_what_and_what_failed(capsys: Capture) -> None:
    turn = Turn(
        session="s", position=7, record="r", occurred_at=0, project="", assistant="a", actor="tool",
        kind="ToolReturned", tool="Bash", is_error=True, text="x" * 2000,
    )  # fmt: skip
    render.print_turns([turn], Output(_console(sys.stdout, False), False))
    text = capsys.readouterr().out
    assert "tool · result Bash failed" in text
    assert len(text.splitlines()[1]) < 700


def test_what_is_not_searched_for_does_not_wait_for_the_index_of_words(
    told: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened(*_: object) -> None:
        raise AssertionError("the index was opened")

    monkeypatch.setattr("session_mgmt_mcp.projections.search.Search.__init__", opened)
    assert run("sessions")["sessions"] and run("timeline")["turns"] and run("show", "till/1")["turns"]
    assert run("stats")["actions"] == 4
    with pytest.raises(AssertionError, match="was opened"):
        run("search", "till")

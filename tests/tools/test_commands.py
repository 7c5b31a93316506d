"""The commands' contracts: what machines get, exit codes, and that each step finds what the one before stored."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from session_mgmt_mcp.adapters.claude_code import install
from session_mgmt_mcp.tools.app import App
from session_mgmt_mcp.tools.cli import main

HISTORY = Path(install.__file__).parent / "demo" / "projects"
CONTRACT = {
    "session",
    "position",
    "record",
    "occurred_at",
    "project",
    "assistant",
    "actor",
    "excerpt",
    "score",
    "why",
}

Run = Callable[..., Any]


def test_an_imports_counts_add_up(imported: dict[str, Any]) -> None:
    parts = ("appended", "duplicates", "noise", "errors")
    assert imported["read"] == sum(imported[part] for part in parts) > 0
    assert 0 <= imported["unknown"] <= imported["appended"]


def test_importing_again_appends_nothing(imported: dict[str, Any], run: Run) -> None:
    again = run("import", str(HISTORY))
    assert again["appended"] == 0
    assert again["duplicates"] == imported["appended"] + imported["duplicates"]


def test_an_import_with_an_unreadable_line_takes_the_rest_and_exits_1(
    tmp_path: Path, run: Run, data: Path
) -> None:
    path = tmp_path / "session.jsonl"
    path.write_bytes(
        b'{"type":"user","uuid":"u-1","sessionId":"s-1","message":{"role":"user","content":"hello"}}\n{"torn\n'
    )
    report = run("import", str(path), code=1)
    assert (report["appended"], report["errors"]) == (1, 1)


def test_an_import_of_a_missing_path_exits_2_and_makes_nothing(
    tmp_path: Path, run: Run, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = run("import", str(tmp_path / "none"), code=2)
    assert answer["error"]["kind"] == "input"
    assert str(tmp_path / "none") in answer["error"]["message"]
    assert not data.exists()


def test_search_gives_the_contracts_fields_best_first(imported: dict[str, Any], run: Run) -> None:
    results = run("search", "failing date test", "--limit", "5")["results"]
    assert 0 < len(results) <= 5
    for result in results:
        assert result.keys() >= CONTRACT
        assert result["occurred_at"].endswith("Z")
    scores = [result["score"] for result in results]
    assert scores == sorted(scores, reverse=True)


def test_a_project_may_be_named_from_where_one_stands(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = tmp_path / "shop"
    shop.mkdir()
    monkeypatch.chdir(shop)
    run("remember", "the till opens with a key")
    assert run("search", "till", "--project", ".")["results"][0]["project"] == str(shop)
    monkeypatch.chdir(tmp_path)
    assert len(run("search", "till", "--project", "shop")["results"]) == 1
    assert run("search", "till", "--project", "/elsewhere")["results"] == []


def test_a_search_that_finds_nothing_is_empty_and_exits_0(imported: dict[str, Any], run: Run) -> None:
    assert run("search", "zyxwvutsrq")["results"] == []


@pytest.mark.parametrize("words", [["--limit", "0"], ["--limit", "100000"]])
def test_a_limit_out_of_bounds_exits_2(words: list[str], imported: dict[str, Any], run: Run) -> None:
    assert run("search", "date", *words, code=2)["error"]["kind"] == "input"


def test_a_date_that_is_none_is_refused_with_the_form_it_should_have(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["search", "x", "--after", "someday"])
    assert ended.value.code == 2
    assert "2026-03-01" in capsys.readouterr().err


def test_options_and_the_query_language_narrow_a_search_together(imported: dict[str, Any], run: Run) -> None:
    calls = run("search", "kind:call", "--limit", "1000")["results"]
    tool = calls[0]["tool"]
    found = run(
        "search", "--kind", "call", "--tool", tool.upper(), "--after", "2000-01-01", "--limit", "1000"
    )
    assert found["results"] == [call for call in calls if call["tool"] == tool]
    assert found["note"] == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["x", "--kind", "Nope"], "no kind 'Nope'; there are prompt"),
        (["x fil:app.py"], "did you mean file:"),
        (["x", "--regex", "(a"], "missing )"),
        ([], "the query is empty"),
    ],
)
def test_a_malformed_search_exits_2_and_names_the_mend(
    words: list[str], message: str, imported: dict[str, Any], run: Run
) -> None:
    error = run("search", *words, code=2)["error"]
    assert message in error["message"]


def test_a_malformed_query_is_shown_with_the_place(
    imported: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["search", "stale fil:app.py"]) == 2
    assert capsys.readouterr().err.endswith("\n  stale fil:app.py\n        ^^^^\n")


def test_a_found_position_is_shown_with_its_neighbours_and_as_recorded(
    imported: dict[str, Any], run: Run
) -> None:
    position = run("search", "failing date test")["results"][0]["position"]
    turns = run("show", "--around", str(position), "--limit", "6")["turns"]
    assert position in [turn["position"] for turn in turns]
    raw = run("show", "--raw", str(position))
    assert raw["position"] == position
    assert json.loads(raw["payload"])["sessionId"]


def test_a_session_is_listed_and_shown_by_the_beginning_of_its_id_page_by_page(
    imported: dict[str, Any], run: Run
) -> None:
    session = max(run("sessions")["sessions"], key=lambda s: s["actions"])
    page = run("show", session["session"][:8], "--limit", "3")
    assert page["session"]["session"] == session["session"]
    following = run("show", session["session"], "--limit", "3", "--cursor", page["later"])
    shown = [turn["position"] for turn in (*page["turns"], *following["turns"])]
    assert shown == sorted(set(shown))


def test_a_cursor_without_its_session_is_refused(imported: dict[str, Any], run: Run) -> None:
    assert "session" in run("show", "--around", "5", "--cursor", "x", code=2)["error"]["message"]


def test_an_unknown_session_and_an_unknown_position_exit_2(imported: dict[str, Any], run: Run) -> None:
    assert run("show", "no-such-session", code=2)["error"]["kind"] == "input"
    assert run("show", "--raw", "999999", code=2)["error"]["kind"] == "input"


def test_a_reflection_is_found_at_once_and_its_key_stores_it_once(run: Run) -> None:
    first = run("remember", "release branches are cut on Mondays", "--tag", "decision", "--key", "k-1")
    again = run("remember", "release branches are cut on Mondays", "--tag", "decision", "--key", "k-1")
    assert (first["appended"], again["appended"]) == (True, False)
    assert first["position"] == again["position"]
    assert run("search", "release branches")["results"][0]["position"] == first["position"]
    conflict = run("remember", "on Tuesdays", "--key", "k-1", code=2)
    assert conflict["error"]["kind"] == "idempotency_conflict"


def test_replay_gives_the_digest_the_views_had_and_search_goes_on(
    imported: dict[str, Any], run: Run, data: Path
) -> None:
    before = run("replay")
    shutil.rmtree(data / "views")
    assert run("replay")["digests"] == before["digests"]
    assert run("search", "failing date test")["results"]


def test_replay_of_an_unknown_projection_exits_2_and_names_those_there_are(
    imported: dict[str, Any], run: Run
) -> None:
    assert "lexical" in run("replay", "vectors", code=2)["error"]["message"]


def test_status_of_a_sound_log_exits_0_and_of_a_paused_one_1(imported: dict[str, Any], run: Run) -> None:
    state = run("status")
    assert state["position"] == imported["appended"]
    assert state["findings"] == []
    run("pause")
    assert any("paused" in finding for finding in run("status", code=1)["findings"])


def test_status_verifies_a_sound_log_and_exits_4_on_a_changed_byte_naming_the_file(
    imported: dict[str, Any], run: Run, data: Path
) -> None:
    assert run("status", "--verify")["verified"]["events"] == imported["appended"]
    segment = next((data / "segments").glob("*.parquet"))
    segment.chmod(0o600)
    raw = bytearray(segment.read_bytes())
    raw[len(raw) // 2] ^= 1
    segment.write_bytes(raw)
    assert segment.name in run("status", "--verify", code=4)["error"]["message"]


def test_maintain_says_when_another_process_is_at_it(imported: dict[str, Any], run: Run, data: Path) -> None:
    from session_mgmt_mcp.tools.maintenance import maintenance_lock

    with maintenance_lock(str(data), 0):
        assert run("maintain", "--once") == {"busy": True}
    assert run("maintain", "--once")["sealed"] == imported["appended"]


@pytest.mark.parametrize("command", ["search", "sessions", "show", "status", "replay", "maintain", "resume"])
def test_a_command_on_a_folder_without_a_log_exits_3_and_names_setup(
    command: str, run: Run, data: Path
) -> None:
    words = {"search": ["x"], "show": ["x"], "maintain": ["--once"]}.get(command, [])
    error = run(command, *words, code=3)["error"]
    assert str(data) in error["message"] and "setup" in error["message"]
    assert not data.exists()


def test_tables_for_people_name_what_machines_get(
    imported: dict[str, Any], run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    session = run("sessions")["sessions"][0]["session"]
    found = run("search", "failing date test")["results"][0]
    for words in (["sessions"], ["show", session], ["search", "failing date test"], ["status"]):
        assert main(words) == 0
    said = capsys.readouterr().out
    assert session[:8] in said
    assert f"position {found['position']}" in said


class _AtOnce:
    """A Timer for which no time passes."""

    def __init__(self, _: float, function: Callable[..., None], args: list[str]) -> None:
        self.start = lambda: function(*args)


def test_services_of_the_mcp_server_answer_from_the_same_log(
    imported: dict[str, Any], data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from session_mgmt_mcp.adapters.mcp.caller import own_caller
    from session_mgmt_mcp.tools import mcp_services as composition

    started: list[str] = []
    monkeypatch.setattr(composition.maintenance, "start", started.append)
    monkeypatch.setattr(composition, "Timer", _AtOnce)
    services = composition.McpServices.open()
    everything: dict[str, Any] = dict.fromkeys(("session", "project", "assistant", "kind", "after", "before"))
    moment = services.search("failing date test", limit=3, **everything)[0]
    event = services.read_event(moment.position)
    assert event is not None and event.payload is not None
    page = services.timeline(session=None, around=moment.position, cursor=None, limit=4)
    assert moment.position in [turn.position for turn in page.turns]
    assert services.sessions(project=None, limit=1)
    assert services.status(own_caller())["position"] == imported["appended"]
    services.close()
    assert started == [str(data)]


def test_an_append_of_a_server_that_fills_the_journal_starts_maintenance(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from session_mgmt_mcp.tools import mcp_services as composition

    started: list[str] = []
    monkeypatch.setattr(composition.maintenance, "start", started.append)
    app = App.open(create=True)
    services = composition.McpServices(app)
    app.log.appender.rolled = True
    services.remember("something", (), None, None, None)
    services.remember("something else", (), None, None, None)
    services.close()
    assert started == [str(data)]

"""`setup`, `pause`, `resume` and `demo` as a user runs them, with a home of their own."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from session_mgmt_mcp.adapters.claude_code import direct_install, install
from session_mgmt_mcp.tools.app import App
from session_mgmt_mcp.tools.cli import main
from session_mgmt_mcp.tools.commands import demo as demo_command

BUNDLED = Path(install.__file__).parent / "demo"
SETTINGS = (
    b'{\n\t"model" : "opus",\n\t"hooks": { "Stop": [ {"hooks":[{"type":"command","command":"true"}]} ] }\n}'
)
SERVERS = b'{"numStartups":3}'
RECORDS = 44


class Home:
    """A user's home with Claude Code in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data" / "log"
        self.settings = folder / ".claude" / "settings.json"
        self.servers = folder / ".claude.json"
        self.projects = folder / ".claude" / "projects"

    def with_claude(self) -> "Home":
        self.settings.parent.mkdir()
        self.settings.write_bytes(SETTINGS)
        self.servers.write_bytes(SERVERS)
        program = self.folder / "bin" / "claude"  # one that does not take the plugin yet
        program.parent.mkdir()
        program.write_text("#!/bin/sh\necho '2.1.100 (Claude Code)'\n")
        program.chmod(0o755)
        return self

    def with_history(self) -> "Home":
        shutil.copytree(BUNDLED / "projects", self.projects)
        return self

    def files(self) -> dict[str, bytes]:
        return {
            str(p.relative_to(self.folder)): p.read_bytes() for p in self.folder.rglob("*") if p.is_file()
        }


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    home = Home(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    monkeypatch.setenv("SESSION_MGMT_DATA_DIR", str(home.data))
    monkeypatch.delenv("CLAUDE_CONFIG_DIR", raising=False)
    return home


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(arguments)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


Run = Callable[..., tuple[int, str, str]]


def position(home: Home) -> int:
    with App.open(home.data) as app:
        return app.log.head().position


def test_without_an_assistant_nothing_changes_and_the_demo_is_offered(home: Home, run: Run) -> None:
    code, out, _ = run("setup")
    assert code == 0
    assert "No assistant was found" in out
    assert "session-mgmt-mcp demo" in out
    assert home.files() == {}


def test_setup_registers_and_imports_the_history(home: Home, run: Run) -> None:
    home.with_claude().with_history()
    code, out, err = run("setup")
    assert code == 0, err
    assert f"3 files, {RECORDS} records: {RECORDS} new, 0 known already" in out
    assert "Found Claude Code 2.1.100" in out
    assert f"edited {home.settings} (as it was: {home.settings}.session-mgmt-backup-" in out
    assert "--data-dir" in home.settings.read_text()
    assert "session-mgmt" in json.loads(home.servers.read_bytes())["mcpServers"]
    code, out, _ = run("search", "faketime half past midnight", "--json")
    assert code == 0
    assert "faketime" in json.loads(out)["results"][0]["excerpt"]


def test_setup_again_changes_nothing_and_appends_nothing(home: Home, run: Run) -> None:
    home.with_claude().with_history()
    run("setup")
    settings, before = home.settings.read_bytes(), position(home)
    code, out, _ = run("setup")
    assert code == 0
    assert "Registered already: no file had to change." in out
    assert f"0 new, {RECORDS} known already" in out
    assert (home.settings.read_bytes(), position(home)) == (settings, before)


def test_a_dry_run_shows_the_diff_and_changes_nothing(home: Home, run: Run) -> None:
    home.with_claude().with_history()
    before = home.files()
    code, out, _ = run("setup", "--dry-run")
    assert code == 0
    assert f"+++ {home.settings}" in out
    assert '"SessionStart"' in out
    assert "nothing was changed" in out
    assert home.files() == before


def test_undo_gives_back_the_files_and_keeps_the_data(home: Home, run: Run) -> None:
    home.with_claude().with_history()
    run("setup")
    code, out, _ = run("setup", "--undo")
    assert code == 0
    assert home.settings.read_bytes() == SETTINGS
    assert home.servers.read_bytes() == SERVERS
    assert f"What was captured stays in {home.data}" in out
    assert position(home) == RECORDS
    assert [p.name for p in home.settings.parent.iterdir() if "backup" in p.name] == []


def test_undo_without_setup_says_so(home: Home, run: Run) -> None:
    home.with_claude()
    before = home.files()
    code, out, _ = run("setup", "--undo")
    assert code == 0
    assert "Nothing of session-mgmt-mcp is registered" in out
    assert home.files() == before


@pytest.mark.parametrize("which", ["settings", "servers"])
def test_a_malformed_settings_file_stops_setup_before_anything_changes(
    home: Home, run: Run, which: str
) -> None:
    home.with_claude().with_history()
    path: Path = getattr(home, which)
    path.write_bytes(b'{"a": 1, // mine\n}')
    before = home.files()
    code, out, err = run("setup")
    assert code == 6
    assert f"{path} is not valid JSON: a comment at line 1, column 10" in err
    assert "Traceback" not in err + out
    assert home.files() == before


def test_a_foreign_data_folder_stops_setup_before_anything_changes(home: Home, run: Run) -> None:
    home.with_claude()
    home.data.mkdir(parents=True)
    (home.data / "thesis.tex").write_text("mine")
    before = home.files()
    code, _, err = run("setup", "--json")
    assert code == 3
    assert str(home.data) in err
    assert home.files() == before


def test_a_data_path_that_is_a_file_stops_setup_before_anything_changes(home: Home, run: Run) -> None:
    home.with_claude()
    home.data.parent.mkdir(parents=True)
    home.data.write_text("mine")
    before = home.files()
    code, _, err = run("setup")
    assert code == 3
    assert str(home.data) in err
    assert home.files() == before


def test_an_interrupted_import_is_completed_by_the_next_setup(
    home: Home, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.with_claude().with_history()
    whole = App.import_claude

    def interrupted(app: App, paths: Any, progress: Any = None) -> Any:
        whole(app, sorted(home.projects.rglob("*.jsonl"))[:1])
        raise KeyboardInterrupt

    monkeypatch.setattr(App, "import_claude", interrupted)
    code, _, err = run("setup")
    assert code == 130
    assert "run it again" in err
    assert "--data-dir" in home.settings.read_text(), "live capture is on already"
    done = position(home)
    assert 0 < done < RECORDS
    monkeypatch.setattr(App, "import_claude", whole)
    code, out, _ = run("setup")
    assert code == 0
    assert f"{RECORDS - done} new, {done} known already" in out


def test_a_file_the_client_rewrites_meanwhile_is_planned_anew(
    home: Home, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.with_claude()
    apply = install.apply
    plans = []

    def disturbed(plan: install.Plan) -> Any:
        plans.append(plan)
        if len(plans) == 1:
            home.servers.write_bytes(b'{"numStartups":4}')
        return apply(plan)

    monkeypatch.setattr(install, "apply", disturbed)
    code, _, _ = run("setup")
    assert (code, len(plans)) == (0, 2)
    servers = json.loads(home.servers.read_bytes())
    assert servers["numStartups"] == 4
    assert "session-mgmt" in servers["mcpServers"]


def test_no_backfill_leaves_the_history_out(home: Home, run: Run) -> None:
    home.with_claude().with_history()
    assert run("setup", "--no-backfill")[0] == 0
    assert position(home) == 0


def test_json_is_one_object_that_says_what_was_done(home: Home, run: Run) -> None:
    home.with_claude().with_history()
    _, out, err = run("setup", "--json")
    report = json.loads(out)
    assert err == ""
    assert report["applied"] is True
    assert [c["path"] for c in report["changes"]] == [str(home.settings), str(home.servers)]
    assert all(Path(c["backup"]).exists() for c in report["changes"])
    backfill = report["backfill"]
    parts = ("appended", "duplicates", "noise", "errors")
    assert backfill["read"] == sum(backfill[part] for part in parts) == RECORDS
    assert report["position"] == RECORDS


def test_damaged_history_is_named_and_the_rest_is_imported(home: Home, run: Run) -> None:
    home.with_claude().with_history()
    damaged = home.projects / "-home-mira-src-teashop" / "damaged.jsonl"
    damaged.write_text('{"type":"user"\n')
    code, out, _ = run("setup")
    assert code == 0
    assert f"{RECORDS} new" in out
    assert f"unreadable: {damaged}, line 1" in out


@pytest.mark.parametrize(("answer", "goes_on"), [("", True), ("y", True), ("n", False), (None, False)])
def test_in_a_terminal_setup_asks_first(
    home: Home, run: Run, monkeypatch: pytest.MonkeyPatch, answer: str | None, goes_on: bool
) -> None:
    home.with_claude()
    before = home.files()

    def reply(_: str) -> str:
        if answer is None:
            raise EOFError
        return answer

    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", reply)
    assert run("setup")[0] == 0
    assert (home.files() != before) is goes_on


def test_pause_and_resume_can_be_said_twice(home: Home, run: Run) -> None:
    first = json.loads(run("pause", "--json")[1])
    again = json.loads(run("pause", "--json")[1])
    assert (first["changed"], again["changed"]) == (True, False)
    assert first["since"] == again["since"] > 0
    assert "was paused already, since 20" in run("pause")[1]
    assert "Capture goes on. It was paused since 20" in run("resume")[1]
    assert run("resume")[1] == "Capture was not paused.\n"
    assert not (home.data / "paused").exists()


def test_setup_says_when_capture_is_paused(home: Home, run: Run) -> None:
    home.with_claude()
    run("pause")
    assert "Capture is paused: `session-mgmt-mcp resume` goes on." in run("setup")[1]


def test_resume_without_a_data_folder_is_an_error_that_says_so(home: Home, run: Run) -> None:
    code, _, err = run("resume")
    assert code == 3
    assert str(home.data) in err


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def test_the_demo_finds_everything_and_leaves_nothing(home: Home, run: Run, temporary: Path) -> None:
    code, out, err = run("demo")
    assert code == 0, out + err
    assert out.count(": yes  [") == 3
    assert "Everything was found." in out
    assert home.files() == {}
    assert list(temporary.iterdir()) == []


def test_the_demo_keeps_its_data_where_asked(home: Home, run: Run, temporary: Path) -> None:
    code, out, _ = run("demo", "--keep", "--json")
    report = json.loads(out)
    assert code == 0
    kept = Path(report["data_dir"])
    assert kept.is_relative_to(temporary)
    with App.open(kept) as app:
        assert app.log.head().position == RECORDS + 3
    assert not home.data.exists()


def test_the_demo_fails_when_a_search_misses_its_record(
    home: Home, run: Run, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    question = demo_command._QUESTIONS[0]._replace(record="another")
    monkeypatch.setattr(demo_command, "_QUESTIONS", (question,))
    code, out, _ = run("demo")
    assert code == 1
    assert "Not everything was found" in out


def test_the_demo_fails_when_the_hook_fails(
    home: Home, run: Run, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(direct_install, "hook_command", lambda target: "echo broken >&2 || :")
    code, _, err = run("demo")
    assert code == 1
    assert "the hook failed: broken" in err
    assert list(temporary.iterdir()) == []

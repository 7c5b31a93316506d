"""The commands where the surroundings are odd: other locales and zones, missing folders, refusals of the system."""

import errno
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from session_mgmt_mcp.adapters.claude_code import install
from session_mgmt_mcp.adapters.mcp.caller import own_caller
from session_mgmt_mcp.core.errors import DataFolderError
from session_mgmt_mcp.core.log.journals import try_lock
from session_mgmt_mcp.core.settings import data_folder
from session_mgmt_mcp.tools import maintenance
from session_mgmt_mcp.tools.app import App
from session_mgmt_mcp.tools.cli import main
from session_mgmt_mcp.tools.mcp_services import McpServices

HISTORY = Path(install.__file__).parent / "demo" / "projects"

Run = Callable[..., Any]


def test_a_record_of_the_first_or_last_day_there_is_breaks_no_listing(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    transcript = tmp_path / "odd.jsonl"
    transcript.write_text(
        "".join(
            json.dumps(
                {
                    "type": "user",
                    "uuid": f"u-{when}",
                    "sessionId": f"s-{when}",
                    "timestamp": when,
                    "message": {"role": "user", "content": "walrus"},
                }
            )
            + "\n"
            for when in ("0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z")
        )
    )
    run("import", str(transcript))
    for zone in ("UTC-9", "UTC+9"):  # east and west
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        assert main(["sessions"]) == 0 and main(["search", "walrus"]) == 0
        out = capsys.readouterr().out
        assert "0001-01-01" in out and "9999-12-31" in out
    monkeypatch.undo()
    time.tzset()


def test_json_is_ascii_so_that_no_locale_breaks_it(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    run("remember", "naïve · 日本")
    capsys.readouterr()
    assert main(["search", "naïve", "--json"]) == 0
    out = capsys.readouterr().out
    assert out.isascii() and "naïve · 日本" in json.loads(out)["results"][0]["excerpt"]


@pytest.mark.parametrize(
    "words", [["search", "wal\udcff"], ["remember", "wal\udcff"], ["sessions", "--project", "wal\udcff"]]
)
def test_a_word_that_is_no_text_is_refused(run: Run, words: list[str]) -> None:
    assert "wal\\udcff" in run(*words, code=2)["error"]["message"]


def test_a_data_folder_whose_name_is_no_text_is_refused(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SESSION_MGMT_DATA_DIR", f"{tmp_path}/x\udcff")
    assert "no UTF-8" in run("import", str(HISTORY), code=3)["error"]["message"]
    assert list(tmp_path.iterdir()) == []


def test_an_import_beside_another_maintenance_reports_what_it_took(
    run: Run, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    App.open(create=True).close()
    held = try_lock(f"{data}/maintenance.lock")
    assert held is not None
    monkeypatch.setattr(App.maintain, "__kwdefaults__", {"force": True, "wait_s": 0})
    assert run("import", str(HISTORY))["appended"] > 0
    os.close(held)


def test_remember_works_in_a_folder_that_was_removed(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert run("remember", "the folder went away")["appended"]


def test_status_survives_the_folders_a_backup_leaves_out(
    imported: dict[str, Any], run: Run, data: Path
) -> None:
    for name in ("spool", "quarantine", "views"):
        shutil.rmtree(data / name)
    assert run("status")["position"] == imported["appended"]


def test_a_data_folder_others_may_read_is_something_to_mend(run: Run, data: Path) -> None:
    App.open(create=True).close()
    data.chmod(0o755)
    assert "chmod 700" in run("status", code=1)["findings"][0]


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [
        (errno.ENOSPC, 5, "free some space"),
        (errno.EACCES, 3, "make it accessible"),
        (errno.ENOENT, 3, "restore it"),
        (errno.EMFILE, 1, "status --verify"),
    ],
)
def test_what_the_system_refuses_names_the_file_and_the_mend(
    imported: dict[str, Any], run: Run, monkeypatch: pytest.MonkeyPatch, number: int, code: int, said: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), "/x/segments")

    monkeypatch.setattr("session_mgmt_mcp.tools.maintenance.seal", refuse)
    error = run("maintain", "--once", "--force", code=code)["error"]
    assert "/x/segments" in error["message"] and said in error["message"]


def test_an_interruption_while_a_command_is_loaded_exits_130(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(_: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("session_mgmt_mcp.tools.cli._load", interrupted)
    assert main(["status"]) == 130
    assert "run it again" in capsys.readouterr().err


def test_every_file_the_program_makes_is_the_users_alone(tmp_path: Path) -> None:
    env = {**os.environ, "SESSION_MGMT_DATA_DIR": str(tmp_path / "data")}
    command = [sys.executable, "-m", "session_mgmt_mcp"]
    subprocess.run([*command, "import", str(HISTORY)], env=env, check=True, capture_output=True, umask=0o022)
    shutil.rmtree(tmp_path / "data" / "views")
    subprocess.run([*command, "maintain", "--once"], env=env, check=True, capture_output=True, umask=0o022)
    made = [tmp_path / "data", *(tmp_path / "data").rglob("*")]
    assert [str(p) for p in made if p.stat().st_mode & 0o077] == []
    assert any(p.suffix == ".parquet" and "views" in p.parts for p in made)


def test_an_interruption_the_engine_reports_in_its_own_way_exits_130_and_other_faults_do_not(
    imported: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = "Query interrupted"  # seen from DuckDB 2.0 when Ctrl-C arrived within `replay`

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError(said)

    monkeypatch.setattr(App, "replay", fail)
    assert main(["replay", "--json"]) == 130
    streams = capsys.readouterr()
    assert streams.out == "" and "run it again" in streams.err
    said = "something else"
    with pytest.raises(RuntimeError):
        main(["replay"])


def test_a_server_whose_data_folder_was_removed_goes_on_with_a_new_log(
    imported: dict[str, Any], data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "start", lambda _: None)
    services = McpServices.open()
    everything: dict[str, Any] = dict.fromkeys(("session", "project", "assistant", "kind", "after", "before"))
    assert services.search("date", limit=3, **everything)
    shutil.rmtree(data)
    assert services.search("date", limit=3, **everything) == []
    assert services.remember("the log began anew", (), None, None, None).position == 1
    assert services.search("began anew", limit=3, **everything)[0].position == 1
    assert services.status(own_caller())["position"] == 1
    services.close()


def test_a_data_folder_made_in_a_folder_that_was_there_is_private_too(run: Run, data: Path) -> None:
    data.mkdir(mode=0o755)
    run("remember", "nobody else reads this")
    assert data.stat().st_mode & 0o077 == 0


def test_without_a_home_the_mend_is_named_and_nothing_is_made_in_the_working_folder(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_entry(_: int) -> None:
        raise KeyError("uid not found")

    for name in ("HOME", "SESSION_MGMT_DATA_DIR", "XDG_DATA_HOME", "CLAUDE_CONFIG_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", no_entry)
    monkeypatch.chdir(tmp_path)
    assert "SESSION_MGMT_DATA_DIR" in run("remember", "homeless", code=3)["error"]["message"]
    assert run("setup")["assistants"] == []
    with pytest.raises(DataFolderError):
        data_folder()  # what a hook asks
    assert list(tmp_path.iterdir()) == []


def test_a_relative_xdg_data_home_does_not_scatter_logs_over_projects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SESSION_MGMT_DATA_DIR", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", "data")
    assert data_folder() == f"{tmp_path}/.local/share/session-mgmt-mcp"

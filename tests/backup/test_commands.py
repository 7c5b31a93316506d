"""The commands `backup` and `restore`, and what `forget` does to the places a log was backed up to."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from backup_kit import fill, sealed_and_open
from log_kit import content, event, files_with

from session_mgmt_mcp.adapters.objects.store import without_password
from session_mgmt_mcp.core.errors import InputError
from session_mgmt_mcp.core.log.forget import forget
from session_mgmt_mcp.core.log.log import FileLog
from session_mgmt_mcp.tools import backups
from session_mgmt_mcp.tools.app import App
from session_mgmt_mcp.tools.cli import main

Run = Callable[..., Any]
SECRET = b"hunter2-the-secret"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command with --json in a data folder of 36 events; what it says."""
    monkeypatch.setenv("SESSION_MGMT_DATA_DIR", str(tmp_path / "data"))
    sealed_and_open(tmp_path / "data").close()

    def call(*words: str, code: int = 0) -> Any:
        assert main([*words, "--json"]) == code
        return json.loads(capsys.readouterr().out)

    return call


def test_a_backup_is_listed_verified_and_restored(run: Run, tmp_path: Path) -> None:
    place = str(tmp_path / "backup")
    done = run("backup", place)
    assert (done["position"], done["new"], done["copied_objects"]) == (36, True, 5)
    [listed] = run("backup", place, "--list")["snapshots"]
    assert (listed["snapshot"], listed["chain"]) == (done["snapshot"], done["chain"])
    assert run("backup", place, "--verify")["objects"] == 5
    assert run("backup", place, "--verify", "--snapshot", done["snapshot"])["chain"] == done["chain"]
    back = run("restore", place, "--to", str(tmp_path / "back"))
    assert (back["position"], back["chain"], back["forked_from"], back["notes"]) == (
        36,
        done["chain"],
        "",
        [],
    )


def test_a_cut_is_told_with_the_position_that_was_chosen(run: Run, tmp_path: Path) -> None:
    place = str(tmp_path / "backup")
    run("backup", place)
    fork = run("restore", place, "--to", str(tmp_path / "fork"), "--position", "14")
    assert (fork["position"], fork["events"]) == (14, 15)
    later = run("restore", place, "--to", str(tmp_path / "later"), "--time", "2030-01-01T00:00+00:00")
    assert later["chosen"]["position"] == later["position"] == 36
    answer = run("restore", place, "--to", str(tmp_path / "none"), "--time", "1999-01-01", code=2)
    assert answer["error"]["kind"] == "input"
    assert not (tmp_path / "none").exists()


def test_people_are_told_what_was_done(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = str(tmp_path / "backup")
    assert main(["backup", place]) == 0
    assert "36 events" in capsys.readouterr().out
    assert main(["backup", place]) == 0
    assert "nothing new" in capsys.readouterr().out
    assert main(["backup", place, "--list"]) == 0
    assert "36 events" in capsys.readouterr().out
    assert main(["restore", place, "--to", str(tmp_path / "back"), "--time", "2030-01-01"]) == 0
    out = capsys.readouterr().out
    assert "that time is position 36" in out
    assert "a fork of log" in out


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("backup", "{data}/inside"), 2),
        (("backup", "{data}"), 2),
        (("backup", "nosuch://place"), 2),
        (("backup", "{tmp}/backup", "--keep", "0"), 2),
        (("backup", "{tmp}/backup", "--snapshot", "1"), 2),
        (("backup", "{tmp}/none", "--verify"), 2),
        (("restore", "{tmp}/none", "--to", "{tmp}/back"), 2),
        (("restore", "{tmp}/none", "--to", "{tmp}/back", "--time", "soon"), 2),
    ],
)
def test_a_wrong_request_exits_2_and_makes_nothing(
    run: Run, tmp_path: Path, words: tuple[str, ...], code: int
) -> None:
    before = sorted(tmp_path.rglob("*"))
    run(*(word.format(data=tmp_path / "data", tmp=tmp_path) for word in words), code=code)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_damaged_backup_exits_4(run: Run, tmp_path: Path) -> None:
    place = tmp_path / "backup"
    run("backup", str(place))
    path = next(path for path in (place / "objects").rglob("*") if path.is_file())
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert path.name in run("backup", str(place), "--verify", code=4)["error"]["message"]
    run("restore", str(place), "--to", str(tmp_path / "back"), code=4)
    assert not (tmp_path / "back").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_place_that_cannot_be_written_exits_5(run: Run, tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    assert run("backup", str(tmp_path / "closed" / "b"), code=5)["error"]["kind"] == "destination"


def test_a_place_that_is_no_folder_exits_5(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert run("backup", str(tmp_path / "file"), code=5)["error"]["kind"] == "destination"


def test_forgetting_reaches_every_place_that_was_backed_up_to(run: Run, tmp_path: Path) -> None:
    with FileLog(tmp_path / "data") as log:
        log.append([event(b"so " + SECRET)])
    places = [str(tmp_path / "one"), "memory://commands-two", str(tmp_path / "gone")]
    for place in places:
        run("backup", place)
    (tmp_path / "gone").rename(tmp_path / "moved")
    with App.open() as app:
        assert [d.url for d in backups.known_destinations(app.folder)] == places
        forget(app.log, [37], lambda _: ())
        lines = backups.after_forget(app)
    assert len(lines) == 3
    assert all(place in line for place, line in zip(places, lines, strict=True))
    assert "1 snapshots rewritten" in lines[0]
    assert "1 snapshots rewritten" in lines[1]
    assert "still holds" in lines[2]
    assert f"session-mgmt-mcp backup {places[2]}" in lines[2]
    assert files_with(tmp_path / "one", [SECRET]) == []
    back = run("restore", "memory://commands-two", "--to", str(tmp_path / "back"))
    assert back["position"] == 37
    assert files_with(tmp_path / "back", [SECRET]) == []


def test_a_restored_older_backup_learns_from_the_live_log_what_was_forgotten(
    run: Run, tmp_path: Path
) -> None:
    with FileLog(tmp_path / "data") as log:
        log.append([event(b"so " + SECRET)])
        run("backup", "memory://commands-live")
        forget(log, [37], lambda _: ())
    run("restore", "memory://commands-live", "--to", str(tmp_path / "back"))
    assert files_with(tmp_path / "back", [SECRET]) == []
    with FileLog(tmp_path / "back") as back:
        assert content(back)[36].payload is None


def test_a_live_log_that_cannot_be_read_is_said_not_passed_over(run: Run, tmp_path: Path) -> None:
    run("backup", "memory://commands-broken")
    (tmp_path / "data" / "FORMAT.json").write_text("{}")
    [note] = run("restore", "memory://commands-broken", "--to", str(tmp_path / "back"))["notes"]
    assert str(tmp_path / "data") in note


def test_the_live_folder_named_must_be_of_the_same_origin(run: Run, tmp_path: Path) -> None:
    run("backup", "memory://commands-origin")
    sealed_and_open(tmp_path / "other").close()
    words = (
        "restore",
        "memory://commands-origin",
        "--to",
        str(tmp_path / "back"),
        "--live",
        str(tmp_path / "other"),
    )
    assert "another log" in run(*words, code=2)["error"]["message"]


def test_retention_is_asked_for_by_number_or_days(run: Run, tmp_path: Path) -> None:
    for number in range(4):
        with FileLog(tmp_path / "data") as log:
            fill(log, 1)
        kept = ("--keep", "2") if number == 3 else ()
        done = run("backup", "memory://commands-keep", *kept)
    assert done["dropped"] == 2
    assert run("backup", "memory://commands-keep", "--keep-days", "1")["dropped"] == 0
    assert len(run("backup", "memory://commands-keep", "--list")["snapshots"]) == 2


def test_who_restores_an_older_snapshot_is_told_of_the_newer(run: Run, tmp_path: Path) -> None:
    first = run("backup", "memory://commands-older")["snapshot"]
    with FileLog(tmp_path / "data") as log:
        fill(log, 1)
    newer = run("backup", "memory://commands-older")["snapshot"]
    [note] = run("restore", "memory://commands-older", "--to", str(tmp_path / "b"), "--snapshot", first)[
        "notes"
    ]
    assert newer in note


def test_a_password_is_neither_shown_nor_kept() -> None:
    assert without_password("sftp://me:hunter2@host:22/b") == "sftp://me@host:22/b"
    assert without_password("s3://bucket/b") == "s3://bucket/b"


def test_a_damaged_list_of_places_is_named(tmp_path: Path) -> None:
    (tmp_path / "backups.json").write_text("{")
    with pytest.raises(InputError, match=r"backups\.json"):
        backups.known_destinations(tmp_path)


@pytest.mark.parametrize(
    ("text", "us"),
    [
        ("2026-01-31T15:00+00:00", 1_769_871_600_000_000),
        ("2026-01-31T15:00:00.000001Z", 1_769_871_600_000_001),
    ],
)
def test_a_time_is_read_to_the_microsecond(text: str, us: int) -> None:
    assert backups.parse_time(text) == us

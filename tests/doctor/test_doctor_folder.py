"""The doctor on the data folder: what is wrong is named with its mend, the safe things are mended, the rest is left."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from session_mgmt_mcp.core.envelope import NewEvent, now_us
from session_mgmt_mcp.core.log.frame import HEADER
from session_mgmt_mcp.core.log.log import FileLog
from session_mgmt_mcp.tools.app import App
from session_mgmt_mcp.tools.cli import main

from log_kit import event, events, frames_of, journal_paths, snapshot  # isort: skip

Doctor = Callable[..., dict[str, Any]]
DAY_S = 86_400


def _to_mend(answer: dict[str, Any]) -> list[dict[str, Any]]:
    return [f for f in answer["findings"] if f["severity"] != "note"]


def _only(answer: dict[str, Any]) -> dict[str, Any]:
    [finding] = _to_mend(answer)
    return finding


def _recorded(payload: bytes, moment: int) -> NewEvent:
    new = event(payload)
    return new._replace(envelope=msgspec.structs.replace(new.envelope, recorded_at=moment))


def _append(data: Path, payload: bytes, moment: int = 0) -> None:
    with FileLog(data) as log:
        log.append([_recorded(payload, moment or now_us())])


def _age(path: Path, days: float) -> None:
    then = time.time() - days * DAY_S
    os.utime(path, (then, then))


def test_a_sound_folder_has_nothing_to_mend_and_is_left_to_the_byte(data: Path, doctor: Doctor) -> None:
    before = snapshot(data)
    answer = doctor(code=0)
    assert answer["ok"] and _to_mend(answer) == []
    assert snapshot(data) == before


def test_a_folder_that_is_not_there_is_named_and_not_made(
    data: Path, doctor: Doctor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SESSION_MGMT_DATA_DIR", str(tmp_path / "none"))
    finding = _only(doctor("--fix", code=3))
    assert finding["where"] == str(tmp_path / "none") and "setup" in finding["mend"]
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    "line", [b"", b"{}", b'{"format": "session-mgmt-mcp log", "version": 99, "log_id": "0"}']
)
def test_a_format_file_that_is_damaged_or_too_new_exits_3_and_nothing_is_touched(
    line: bytes, data: Path, doctor: Doctor
) -> None:
    (data / "FORMAT.json").write_bytes(line)
    before = snapshot(data)
    finding = _only(doctor("--fix", code=3))
    assert finding["check"] == "format" and finding["mend"]
    assert snapshot(data) == before


def test_a_folder_on_a_network_file_system_is_unusable(
    data: Path, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("session_mgmt_mcp.core.log.folder.file_system_of", lambda _: "nfs4")
    assert "nfs4" in _only(doctor(code=3))["what"]


def test_a_folder_others_may_read_is_made_private(data: Path, doctor: Doctor) -> None:
    data.chmod(0o755)
    assert "0755" in _only(doctor(code=1))["what"]
    assert doctor("--fix", code=0)["mended"]
    assert data.stat().st_mode & 0o777 == 0o700


def test_a_nearly_full_disk_is_said(data: Path, doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    full = list(os.statvfs(data))
    full[4] = 1  # f_bavail
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result(full))
    findings = _to_mend(doctor(code=1))
    assert ("disk", "error") in [(f["check"], f["severity"]) for f in findings]


def test_missing_folders_that_held_nothing_of_the_log_are_made(data: Path, doctor: Doctor) -> None:
    for name in ("spool", "quarantine"):
        (data / name).rmdir()
    assert {f["fix"] for f in _to_mend(doctor(code=1))} == {"folders"}
    assert len(doctor("--fix", code=0)["mended"]) == 2
    assert (data / "spool").is_dir() and (data / "quarantine").is_dir()


@pytest.mark.parametrize("name", ["journal", "segments", "manifest"])
def test_a_missing_folder_of_the_log_is_corruption_and_is_not_made(
    name: str, data: Path, doctor: Doctor
) -> None:
    (data / name).rename(data.parent / name)
    answer = doctor("--fix", code=4)
    assert any(f"{name}/ is missing" in f["what"] and "backup" in f["mend"] for f in answer["findings"])
    assert not (data / name).exists()


def test_a_strangers_file_is_named_and_kept(data: Path, doctor: Doctor) -> None:
    (data / "notes.txt").write_text("mine")
    (data / "segments" / "copy of a segment").write_text("mine")
    wheres = {f["where"] for f in _to_mend(doctor("--fix", code=1))}
    assert wheres == {str(data / "notes.txt"), str(data / "segments" / "copy of a segment")}
    assert (data / "notes.txt").read_text() == "mine"


def test_old_leftovers_are_removed_and_young_ones_kept(data: Path, doctor: Doctor) -> None:
    old, young = data / "FORMAT.ab12.tmp", data / "FORMAT.cd34.tmp"
    of_view = data / "views" / "query" / "state.json.ab.tmp"
    for path in (old, young, of_view):
        path.write_bytes(b"x")
    _age(old, 2)
    _age(of_view, 2)
    assert {f["fix"] for f in _to_mend(doctor(code=1))} == {"leftovers"}
    assert len(doctor("--fix", code=0)["mended"]) == 2
    assert (old.exists(), of_view.exists(), young.exists()) == (False, False, True)


# -- journal -----------------------------------------------------------------------------------------------------


def test_a_torn_tail_is_set_aside_by_fix_and_nothing_acknowledged_is_lost(data: Path, doctor: Doctor) -> None:
    _append(data, b"kept")
    [path] = journal_paths(data)
    end = frames_of(path)[2][-1].end
    with path.open("r+b") as file:
        file.seek(end)
        file.write(b"half a frame")
    finding = _only(doctor(code=1))
    assert "torn" in finding["what"] and finding["fix"] == "tail"
    answer = doctor("--fix", code=0)
    assert len(answer["mended"]) == 1
    assert [f["check"] for f in answer["findings"] if f["check"] == "quarantine"] == ["quarantine"]
    with FileLog(data) as log:
        assert log.get([log.head().position])[log.head().position].payload == b"kept"


def test_a_damaged_tail_exits_4_and_is_left_as_it_is(data: Path, doctor: Doctor) -> None:
    for payload in (b"first", b"second", b"third"):
        _append(data, payload)
    [path] = journal_paths(data)
    raw = bytearray(path.read_bytes())
    raw[HEADER.size + 90] ^= 1
    path.write_bytes(raw)
    before = snapshot(data)
    answer = doctor("--fix", code=4)
    assert any("damaged at byte" in f["what"] and f["exit_code"] == 4 for f in answer["findings"])
    assert snapshot(data) == before


def test_a_journal_of_another_log_exits_4(data: Path, doctor: Doctor, tmp_path: Path) -> None:
    with FileLog(tmp_path / "other", create=True) as other:
        other.append(events(b"x"))
    [foreign] = journal_paths(tmp_path / "other")
    [own] = journal_paths(data)
    own.write_bytes(foreign.read_bytes())
    assert any("of log" in f["what"] for f in doctor(code=4)["findings"])


def test_a_journal_whose_header_never_reached_the_disk_is_made_anew(data: Path, doctor: Doctor) -> None:
    [path] = journal_paths(data)
    path.write_bytes(bytes(8 << 20))
    assert _only(doctor(code=1))["fix"] == "tail"
    assert doctor("--fix", code=0)["mended"]
    _append(data, b"goes on")


def test_a_journal_whose_sync_failed_is_left_for_a_new_one(data: Path, doctor: Doctor) -> None:
    _append(data, b"kept")
    [path] = journal_paths(data)
    with open(data / "append.lock", "r+b") as lock:
        lock.write(frames_of(path)[0].salt)
    assert "sync of it failed" in _only(doctor(code=1))["what"]
    inode = path.stat().st_ino
    doctor("--fix", code=0)
    assert path.stat().st_ino != inode


def test_a_hint_that_disagrees_is_mended_and_a_missing_one_is_only_said(data: Path, doctor: Doctor) -> None:
    _append(data, b"one")
    hint = (data / "tail.shm").read_bytes()
    _append(data, b"two")
    (data / "tail.shm").write_bytes(hint)
    assert "the hint says" in _only(doctor(code=1))["what"]
    doctor("--fix", code=0)
    (data / "tail.shm").unlink()
    assert any("hint" in f["what"] for f in doctor(code=0)["findings"])


def test_journals_that_wait_are_sealed_by_fix(data: Path, doctor: Doctor) -> None:
    with FileLog(data) as log:
        for payload in (b"1", b"2"):
            log.append([_recorded(payload, now_us())])
            log.roll()
        last = log.head().position
    assert "2 closed journals wait" in _only(doctor(code=1))["what"]
    doctor("--fix", code=0)
    with FileLog(data) as log:
        assert log.sealed().position == last


def test_an_event_that_waits_for_long_is_sealed_by_fix(data: Path, doctor: Doctor) -> None:
    _append(data, b"old", now_us() - 9 * DAY_S * 1_000_000)
    assert "9 days old" in _only(doctor(code=1))["what"]
    doctor("--fix", code=0)


def test_an_event_from_the_future_points_at_the_clock(data: Path, doctor: Doctor) -> None:
    _append(data, b"x", now_us() + 3 * DAY_S * 1_000_000 + 60_000_000)
    finding = _only(doctor(code=1))
    assert finding["check"] == "clock" and "3 days ahead" in finding["what"]


# -- segments and what is derived --------------------------------------------------------------------------------


def test_a_segment_that_is_missing_or_of_another_size_exits_4_by_name(data: Path, doctor: Doctor) -> None:
    segment = next((data / "segments").glob("*.parquet"))
    raw = segment.read_bytes()
    segment.unlink()
    assert any(f["where"] == str(segment) for f in _to_mend(doctor("--fix", code=4)))
    segment.write_bytes(raw[:-1])
    assert any("bytes, the manifest says" in f["what"] for f in doctor("--fix", code=4)["findings"])


def test_a_manifest_that_does_not_check_exits_4(data: Path, doctor: Doctor) -> None:
    newest = max((data / "manifest").iterdir())
    newest.chmod(0o600)
    newest.write_bytes(newest.read_bytes().replace(b'"last":44', b'"last":45'))
    assert any(newest.name in f["what"] and "backup" in f["mend"] for f in _to_mend(doctor("--fix", code=4)))


def test_a_flipped_byte_is_found_by_deep_and_only_by_deep(data: Path, doctor: Doctor) -> None:
    ids = next((data / "segments").glob("*.ids"))
    ids.chmod(0o600)
    raw = bytearray(ids.read_bytes())
    raw[-3] ^= 1
    ids.write_bytes(raw)
    doctor(code=0)
    assert any(ids.name in f["what"] for f in _to_mend(doctor("--deep", code=4)))


def test_a_sound_log_is_verified_by_deep(data: Path, doctor: Doctor) -> None:
    assert any("every byte of 44 events" in f["what"] for f in doctor("--deep", code=0)["findings"])


def test_old_orphans_are_collected_and_young_ones_left(data: Path, doctor: Doctor) -> None:
    old = data / "segments" / f"{1:020d}-{9:020d}-0badc0de.parquet"
    young = data / "segments" / f"{1:020d}-{8:020d}-0badc0de.parquet"
    for path in (old, young):
        path.write_bytes(b"x")
    _age(old, 2)
    assert _only(doctor(code=1))["fix"] == "maintain"
    doctor("--fix", code=0)
    assert (old.exists(), young.exists()) == (False, True)


def test_missing_and_damaged_views_are_built_anew(data: Path, doctor: Doctor) -> None:
    import shutil

    shutil.rmtree(data / "views" / "query")
    assert "never published" in _only(doctor(code=1))["what"]
    doctor("--fix", code=0)
    for path in (data / "views" / "query").glob("base-*.duckdb"):
        path.write_bytes(b"no database")
    for path in (data / "views" / "query").glob("rows-*.parquet"):
        path.write_bytes(b"no table")
    assert "cannot be opened" in _only(doctor(code=1))["what"]
    doctor("--fix", code=0)
    (data / "views" / "lexical" / "state.json").write_text('{"index": "gone"}')
    assert "lexical" in _only(doctor(code=1))["what"]
    doctor("--fix", code=0)


def test_spooled_events_are_appended_by_fix(data: Path, doctor: Doctor) -> None:
    from session_mgmt_mcp.core.envelope import encode_envelope

    late = event(b"late")
    envelope = encode_envelope(late.envelope)
    path = data / "spool" / f"{late.event_id.hex()}.event"
    path.write_bytes(len(envelope).to_bytes(4, "little") + envelope + late.payload)
    (data / "spool" / "y.bad").write_bytes(b"junk")
    assert "1 events could not be appended" in _only(doctor(code=1))["what"]
    answer = doctor("--fix", code=0)
    assert any("appended 1 spooled" in line for line in answer["mended"])
    assert any(f["check"] == "spool" and "hold no event" in f["what"] for f in answer["findings"])
    with FileLog(data) as log:
        assert log.get([45])[45].payload == b"late"


def test_a_pause_is_said_and_is_the_users_to_end(data: Path, doctor: Doctor) -> None:
    with App.open(data) as app:
        app.pause()
    assert "resume" in _only(doctor("--fix", code=1))["mend"]
    with App.open(data) as app:
        assert app.paused_since is not None


def test_mending_twice_finds_nothing_the_second_time(data: Path, doctor: Doctor) -> None:
    data.chmod(0o711)
    (data / "spool").rmdir()
    (data / "views" / "query" / "state.json").unlink()
    assert len(doctor("--fix", code=0)["mended"]) >= 3
    again = doctor("--fix", code=0)
    assert again["mended"] == [] and again["not_mended"] == []


def test_people_read_what_where_and_the_mend(
    data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data.chmod(0o755)
    assert main(["doctor"]) == 1
    said = capsys.readouterr().out
    assert "warning  folder: others may look into it" in said and "--fix does it" in said
    assert str(data) in said and "1 thing to mend" in said
    assert main(["doctor", "--fix"]) == 0
    said = capsys.readouterr().out
    assert "mended   made" in said and "nothing to mend" in said


def test_a_quota_that_is_nearly_used_up_is_said_by_doctor_and_status(
    data: Path, doctor: Doctor, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["retention", "--quota", "1MB", "--json"]) == 1
    capsys.readouterr()
    assert _only(doctor(code=1))["check"] == "retention"
    assert main(["status"]) == 1
    said = capsys.readouterr().out
    assert "quota" in said and "doctor" in said


def test_a_file_name_that_a_terminal_would_obey_is_shown(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (data / "e\x1b]0;owned\x07vil").write_bytes(b"")
    assert main(["doctor"]) == 1
    said = capsys.readouterr().out
    assert "vil" in said and "\x1b" not in said and "\x07" not in said

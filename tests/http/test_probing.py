"""What the background look finds, and when the service says that it is ready."""

import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from log_kit import event

from session_mgmt_mcp.adapters.mcp.services import Choice
from session_mgmt_mcp.core import live
from session_mgmt_mcp.core.config import ServiceSettings
from session_mgmt_mcp.core.log.folder import read_format
from session_mgmt_mcp.tools import forget_confirm
from session_mgmt_mcp.tools.app import App
from session_mgmt_mcp.tools.backups import back_up
from session_mgmt_mcp.tools.doctor.finding import Patient
from session_mgmt_mcp.tools.doctor.folder import contents
from session_mgmt_mcp.tools.probing import DEAD_S, PROBE_FILE, STALE_S, Prober

SETTINGS = ServiceSettings()


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    with App.open(tmp_path / "data", create=True) as opened:
        yield opened


def prober_of(app: App, **settings: int) -> Prober:
    return Prober(app, lambda: msgspec.structs.replace(SETTINGS, **settings))


def test_an_empty_log_is_ready_and_behind_in_nothing(app: App) -> None:
    prober = prober_of(app)
    found = prober.look()
    assert found.problems == {}
    assert (found.position, found.lag_events, found.lag_s, found.vectors_behind) == (0, 0, 0.0, 0)
    assert prober.ready().ok, prober.ready()


def test_before_the_first_look_it_is_not_ready(app: App) -> None:
    ready = prober_of(app).ready()
    assert not ready.ok
    assert "not looked at yet" in ready.checks["log"]


def test_what_is_appended_is_a_lag_until_it_is_published(app: App) -> None:
    prober = prober_of(app)
    app.log.append([event(b'{"a":1}'), event(b'{"a":2}')])
    found = prober.look()
    assert (found.position, found.lag_events, found.published) == (2, 2, {"query": 0, "lexical": 0})
    assert found.lag_s is not None and found.lag_s >= 0
    app.maintain()
    found = prober.look()
    assert (found.lag_events, found.lag_s, found.published) == (0, 0.0, {"query": 2, "lexical": 2})
    assert (found.segments, found.vectors_behind) == (1, 2)
    app.log.append([event(b'{"a":3}')])
    assert prober.look().lag_events == 1


def test_the_lag_in_seconds_is_the_age_of_the_oldest_event_that_is_not_published(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.log.append([event(b'{"a":1}')])
    recorded = app.log.get([1])[1].envelope.recorded_at / 1e6
    prober = prober_of(app)
    monkeypatch.setattr("session_mgmt_mcp.tools.probing.time.time", lambda: recorded + 100)
    app.log.append([event(b'{"a":2}')])
    assert prober.look().lag_s == pytest.approx(100, abs=0.01)


def test_too_many_unpublished_events_are_a_reason_not_to_be_ready(app: App) -> None:
    app.log.append([event(b'{"a":1}'), event(b'{"a":2}')])
    prober = prober_of(app, ready_lag_events=1)
    prober.look()
    ready = prober.ready()
    assert not ready.ok
    assert "ready_lag_events" in ready.checks["views"] and ready.checks["log"] == "ok"
    assert prober.holds() == {"log": True, "views": False, "memory": True, "draining": True}


def test_events_that_wait_too_long_are_one_too(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    app.log.append([event(b'{"a":1}')])
    recorded = app.log.get([1])[1].envelope.recorded_at / 1e6
    monkeypatch.setattr("session_mgmt_mcp.tools.probing.time.time", lambda: recorded + 3700)
    prober = prober_of(app)
    prober.look()
    assert "ready_lag_s" in prober.ready().checks["views"]


def test_a_damaged_view_counts_as_unpublished_and_breaks_no_look(app: App) -> None:
    app.log.append([event(b'{"a":1}')])
    app.maintain()
    prober = prober_of(app)
    assert prober.look().lag_events == 0
    (app.folder / "views" / "query" / "state.json").write_bytes(b"{")
    assert prober.look().lag_events == 1
    for path in (app.folder / "views" / "lexical").rglob("meta.json"):
        path.write_bytes(b"nonsense")
    found = prober.look()
    assert "views" in found.problems and found.position == 1
    assert not prober.ready().ok


def test_views_that_were_deleted_are_a_lag_and_nothing_worse(app: App) -> None:
    app.log.append([event(b'{"a":1}')])
    app.maintain()
    prober = prober_of(app)
    prober.look()
    shutil.rmtree(app.folder / "views")
    found = prober.look()
    assert (found.problems, found.lag_events) == ({}, 1)


def test_a_write_that_cannot_be_made_durable_is_told_and_counted(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[float | None] = []
    prober = Prober(app, lambda: SETTINGS, synced=heard.append)
    prober.look()

    def fails(fd: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("session_mgmt_mcp.tools.probing.sync_file", fails)
    found = prober.look()
    assert found.sync_s is None and "Input/output error" in found.problems["write"]
    assert len(heard) == 2 and heard[0] is not None and heard[1] is None
    assert "durable" in prober.ready().checks["log"]


def test_ready_tells_nobody_where_the_data_lies(app: App, caplog: pytest.LogCaptureFixture) -> None:
    prober = prober_of(app)
    (app.folder / PROBE_FILE).mkdir()
    (app.folder / "journal").rename(app.folder / "elsewhere")
    found = prober.look()
    assert {"write", "log"} <= set(found.problems)
    ready = prober.ready()
    assert not ready.ok and str(app.folder) not in str(ready)
    assert str(app.folder) in caplog.text  # who runs it finds it in the log


def test_a_folder_that_is_gone_is_not_ready(app: App, tmp_path: Path) -> None:
    prober = prober_of(app)
    prober.look()
    app.folder.rename(tmp_path / "elsewhere")
    prober.look()
    assert not prober.ready().ok
    (tmp_path / "elsewhere").rename(app.folder)
    prober.look()
    assert prober.ready().ok


def test_the_probe_file_is_private_known_to_doctor_and_follows_no_link(app: App, tmp_path: Path) -> None:
    prober = prober_of(app)
    target = tmp_path / "target"
    target.write_bytes(b"mine")
    (app.folder / PROBE_FILE).symlink_to(target)
    assert "write" in prober.look().problems
    assert target.read_bytes() == b"mine"
    (app.folder / PROBE_FILE).unlink()
    assert prober.look().problems == {}
    assert os.stat(app.folder / PROBE_FILE).st_mode & 0o777 == 0o600
    assert list(contents(Patient(str(app.folder), read_format(str(app.folder)), 0))) == []


def test_a_disk_without_room_is_not_ready(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    prober = prober_of(app)
    found = prober.look()
    prober.reading = msgspec.structs.replace(found, disk_free_bytes=1 << 20)
    assert "free" in prober.ready().checks["log"]


def test_a_look_that_does_not_come_back_makes_the_service_first_unready_then_dead(app: App) -> None:
    clock, looked, release = Clock(), threading.Event(), threading.Event()

    def hangs(seconds: float | None) -> None:
        looked.set()
        release.wait()

    prober = Prober(app, lambda: SETTINGS, clock=clock, synced=hangs)
    prober.start()
    try:
        assert looked.wait(60)
        assert prober.is_alive()
        prober.reading = Prober(app, lambda: SETTINGS).look()  # as if one had come back before
        assert prober.ready().ok
        clock.now += STALE_S + 1
        assert "has not answered" in prober.ready().checks["log"]
        assert prober.is_alive()
        clock.now += DEAD_S
        assert not prober.is_alive()
    finally:
        release.set()
        prober.stop()


def test_the_thread_looks_at_once_and_ends_when_it_is_told(app: App) -> None:
    looked = threading.Event()
    prober = Prober(app, lambda: SETTINGS, synced=lambda seconds: looked.set())
    prober.start()
    assert looked.wait(60)
    assert prober.is_alive()
    prober.stop()
    assert not prober.is_alive()


def test_checks_of_others_and_the_end_are_asked_when_it_is_asked(app: App) -> None:
    model = [False, "the model is being loaded"]
    prober = Prober(app, lambda: SETTINGS, checks={"model": lambda: (bool(model[0]), str(model[1]))})
    prober.look()
    assert not prober.ready().ok
    model[:] = [True, "missing: nothing is found by meaning"]  # announced, and no reason to wait
    assert prober.ready().ok
    prober.draining = True
    assert "stopping" in prober.ready().checks["draining"] and not prober.ready().ok


def test_what_lies_aside_is_counted(app: App) -> None:
    for name in ("a.event", "b.event", "c.bad"):
        (app.folder / "spool" / name).touch()
    (app.folder / "quarantine" / "x.torn").touch()
    found = prober_of(app).look()
    assert (found.spooled, found.rejected) == (2, {"spool": 1, "quarantine": 1})


def test_sessions_whose_process_is_gone_are_not_at_work(app: App) -> None:
    at_work = live.Live("s-1")
    at_work.process = live.assistant_process(os.getpid())
    live.write(str(app.folder), at_work)
    gone = live.Live("s-2")
    gone.process = live.Process(
        at_work.process.pid, at_work.process.born + 1, at_work.process.boot, at_work.process.space
    )
    live.write(str(app.folder), gone)
    assert prober_of(app).look().live_sessions == 1


def test_the_last_backup_is_known_and_a_damaged_note_of_it_hurts_nothing_else(
    app: App, tmp_path: Path
) -> None:
    prober = prober_of(app)
    assert prober.look().last_backup_at is None
    app.remember("dates are UTC")
    back_up(app, str(tmp_path / "backup"))
    found = prober.look()
    assert found.last_backup_at is not None and abs(found.last_backup_at - found.taken_at) < 3600
    (app.folder / "backups.json").write_bytes(b"{")
    assert set(prober.look().problems) == {"backups"}
    assert prober.ready().ok


def test_forgotten_payloads_are_counted_where_they_were_taken_out(app: App) -> None:
    app.remember("a word of mine")
    app.maintain()
    assert prober_of(app).look().forgotten == 0
    choice = Choice(positions=(1,))
    forget_confirm.confirmed(app, choice, forget_confirm.preview(app, choice).code, "")
    assert prober_of(app).look().forgotten == 1


def test_secrets_taken_out_of_what_is_remembered_are_counted(app: App) -> None:
    app.remember("nothing secret")
    assert app.redactions == 0
    app.remember("the token is ghp_" + "a1B2" * 9)
    assert app.redactions == 1

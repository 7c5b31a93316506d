"""What the service does beside answering."""

import os
from pathlib import Path
from threading import Event
from types import SimpleNamespace

import pytest

from session_mgmt_mcp.adapters.claude_code.capture import MAINTAINED
from session_mgmt_mcp.core.errors import LogCorruptError, ViewsBehindError
from session_mgmt_mcp.projections.meaning import LOADED, UNNEEDED
from session_mgmt_mcp.tools import maintenance, service_upkeep
from session_mgmt_mcp.tools.service_upkeep import (
    BUILDING,
    MAINTAIN_S,
    MISSING,
    UNSEARCHABLE,
    Upkeep,
    maintenance_is_due,
    reap_orphans,
)

NOW = 1_800_000_000.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data folder whose maintenance last began at NOW, with a journal written to right after."""
    (tmp_path / "journal").mkdir()
    (tmp_path / "views").mkdir()
    for path, at in ((f"{tmp_path}{MAINTAINED}", NOW), (f"{tmp_path}/journal/1.journal", NOW + 1)):
        Path(path).touch()
        os.utime(path, (at, at))
    return tmp_path


def test_maintenance_is_due_a_while_after_the_last_where_something_was_appended(folder: Path) -> None:
    assert not maintenance_is_due(folder, NOW + MAINTAIN_S - 1)
    assert maintenance_is_due(folder, NOW + MAINTAIN_S)


def test_a_log_that_nobody_appends_to_is_left_alone(folder: Path) -> None:
    os.utime(folder / "journal" / "1.journal", (NOW - 1, NOW - 1))
    assert not maintenance_is_due(folder, NOW + 10 * MAINTAIN_S)


def test_maintenance_is_due_where_the_clock_was_put_back(folder: Path) -> None:
    assert maintenance_is_due(folder, NOW - 3600)


def test_maintenance_that_never_ran_is_due(folder: Path) -> None:
    os.unlink(f"{folder}{MAINTAINED}")
    assert maintenance_is_due(folder, NOW)


def test_orphans_are_reaped_and_none_is_waited_for() -> None:
    """A container's first process gets the children that others leave behind."""
    stdin, going_on = os.pipe()
    over = os.posix_spawnp("true", ["true"], os.environ)
    at_work = os.posix_spawnp(
        "cat", ["cat"], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, stdin, 0)]
    )  # until its input ends
    os.waitid(os.P_PID, over, os.WEXITED | os.WNOWAIT)  # it is over, and nobody has waited for it
    reap_orphans()
    with pytest.raises(ChildProcessError):
        os.waitpid(over, 0)
    os.close(going_on)
    os.close(stdin)
    assert os.waitpid(at_work, 0) == (at_work, 0)
    reap_orphans()  # there are none


class Views:
    """Answers a search from the given outcome on."""

    def __init__(self, *outcomes: Exception | None, model: str = LOADED) -> None:
        self._outcomes = list(outcomes)
        self._model = model
        self.answered = Event()

    def search(self, *_: object, **__: object) -> None:
        outcome = self._outcomes.pop(0) if self._outcomes else None
        if outcome is not None:
            raise outcome
        self.answered.set()

    def model(self) -> str:
        return self._model if self.answered.is_set() else ""


class App:
    def __init__(self, views: Views, events: int = 0) -> None:
        self.views = views
        self.folder = Path("/nowhere")
        self.log = SimpleNamespace(log_id="a log", head=lambda: SimpleNamespace(position=events))


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Folders maintenance was started for."""
    folders: list[str] = []
    monkeypatch.setattr(maintenance, "start", folders.append)
    monkeypatch.setattr(service_upkeep, "AGAIN_S", 0.001)
    return folders


def test_opening_is_tried_again_until_a_search_is_answered(
    started: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    broken = LogCorruptError("segment 3 does not check: restore it from a backup")
    views = Views(broken, broken, RuntimeError("insides"))
    upkeep = Upkeep(App(views))  # type: ignore[arg-type]
    assert upkeep.check_views() == (False, "opening")
    assert upkeep.check_model() == (False, "opening")
    upkeep.start()
    assert views.answered.wait(30)
    upkeep.stop()
    upkeep._thread.join(30)
    assert upkeep.check_views() == (True, "ok")
    assert upkeep.check_model() == (True, "ok")
    assert started == ["/nowhere"]
    assert [record.message for record in caplog.records] == [
        "the views cannot be searched: segment 3 does not check: restore it from a backup",
        "the views cannot be searched: RuntimeError",
    ]


def test_views_that_can_be_searched_no_more_are_noticed(
    started: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_upkeep, "EVERY_S", 0.001)
    noticed = Event()
    broken = ViewsBehindError("0 of 60,000 events")

    class Deleted(Views):
        """Answers twice, then no more."""

        def search(self, *_: object, **__: object) -> None:
            if upkeep.check_views() == (False, BUILDING):
                noticed.set()
            super().search()

    upkeep = Upkeep(App(Deleted(None, None, *[broken] * 1000)))  # type: ignore[arg-type]
    upkeep.start()
    assert noticed.wait(30)
    upkeep.stop()
    upkeep._thread.join(30)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ViewsBehindError("60000 events of /home/mira/log are not published"), BUILDING),
        (LogCorruptError("/home/mira/log/segments/3 does not check"), UNSEARCHABLE),
    ],
)
def test_what_anybody_may_ask_names_no_paths(started: list[str], error: Exception, said: str) -> None:
    upkeep = Upkeep(App(Views(error)))  # type: ignore[arg-type]
    assert not upkeep._open()
    assert upkeep.check_views() == (False, said)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (LOADED, "ok"),
        (UNNEEDED, UNNEEDED),
        ("/home/mira/model cannot be read", MISSING),
    ],
)
def test_a_model_that_cannot_be_had_is_announced_and_keeps_nobody_out(
    started: list[str], model: str, said: str
) -> None:
    views = Views(model=model)
    upkeep = Upkeep(App(views))  # type: ignore[arg-type]
    views.search()
    assert upkeep.check_model() == (True, said)
    views.answered.clear()  # its memory was given back: what was found out stands
    assert upkeep.check_model() == (True, said)


def test_many_events_that_no_view_holds_are_published_before_their_time() -> None:
    few, many = (
        Upkeep(App(Views(), events))._is_much_unpublished()  # type: ignore[arg-type]
        for events in (maintenance.DUE_EVENTS - 1, maintenance.DUE_EVENTS)
    )
    assert (few, many) == (False, True)

"""Killed at any call, a forgetting has done nothing or is completed: by running it again, or by the next maintenance."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from forget_kit import PLAIN, SECRET, hook, left_in, reply, report, transcript, user

from session_mgmt_mcp.core.log import forget as core
from session_mgmt_mcp.core.log.log import FileLog
from session_mgmt_mcp.core.log.verify import verify
from session_mgmt_mcp.tools import forgetting
from session_mgmt_mcp.tools.app import App
from session_mgmt_mcp.tools.forget_match import matcher
from session_mgmt_mcp.tools.forget_select import Selectors
from session_mgmt_mcp.tools.progress import quiet

CALLS = ("rename", "replace", "link", "unlink", "fsync", "fdatasync", "pwrite", "write")
FEW, MANY = 3, 12  # of the calls, spread evenly, that are tried by the fast and by the slow test
# a folder's listing that a killed process was in the middle of
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)


class Killed(BaseException):
    """The process ends here."""


@contextmanager
def killed_at(monkeypatch: pytest.MonkeyPatch, nth: int) -> Iterator[list[str]]:
    """Counts the calls that change files; before the nth of them the process ends."""
    made: list[str] = []

    def counted(name: str, real: Any) -> Any:
        def call(*args: Any, **named: Any) -> Any:
            if len(made) + 1 == nth:
                made.append(name)
                raise Killed
            if len(made) >= nth > 0:
                raise Killed  # what a dying process would clean up is not cleaned up
            made.append(name)
            return real(*args, **named)

        return call

    with monkeypatch.context() as patch:
        for name in CALLS:
            patch.setattr(os, name, counted(name, getattr(os, name)))
        yield made


def forget(folder: Path) -> forgetting.ForgetReport:
    with App.open(folder) as app:
        chosen = Selectors(matcher=matcher(None, PLAIN))
        return forgetting.carry_out(app, chosen, forgetting.plan(app, chosen, quiet), "", quiet, wait_s=0)


@pytest.fixture
def prepared(data: Path, tmp_path: Path) -> Path:
    """A data folder with the secret in segments, journal, views, quarantine and spool."""
    path = transcript(tmp_path, "s-1", user("u-1", SECRET), reply("a-1", "I will not tell."))
    with App.open(data, create=True) as app:
        app.import_claude([path])
        app.maintain()
        app.import_claude([transcript(tmp_path, "s-2", user("u-2", "other work", "s-2"))])
        app.maintain()
        report(data, hook(prompt=SECRET))
        for name in ("quarantine/x.torn", "spool/x.bad", "segments/0123456789ab.tmp"):
            (data / name).write_text(SECRET)
    return data


def steps(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many calls a forgetting makes that is not interrupted."""
    whole = tmp_path / "whole"
    shutil.copytree(prepared, whole)
    with killed_at(monkeypatch, 0) as made:
        assert forget(whole).forgotten == 2
    assert left_in(whole) == []
    return len(made)


def interrupted(prepared: Path, to: Path, monkeypatch: pytest.MonkeyPatch, nth: int) -> Path:
    shutil.copytree(prepared, to)
    with killed_at(monkeypatch, nth), pytest.raises(Killed):
        forget(to)
    return to


def check(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, numbers: list[int]) -> None:
    for nth in numbers:
        again = interrupted(prepared, tmp_path / f"again-{nth}", monkeypatch, nth)
        maintained = tmp_path / f"maintained-{nth}"
        shutil.copytree(again, maintained)
        forget(again)
        assert left_in(again) == [], f"killed at call {nth}, forgotten again"
        with App.open(maintained) as app:
            app.maintain()
            if core.tombstones(app.log):
                assert left_in(maintained) == [], f"killed at call {nth}, maintained"
        for folder in (again, maintained):
            with FileLog(folder) as log:
                verify(log.folder, log.log_id)
                assert core.unfinished(log) == []
            assert not (folder / "forgetting.json").exists() or folder == maintained
            shutil.rmtree(folder)


def spread(count: int, many: int) -> list[int]:
    return sorted({1 + k * (count - 1) // (many - 1) for k in range(many)})


def test_killed_at_some_calls_it_is_completed(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = steps(prepared, tmp_path, monkeypatch)
    assert count > 30
    check(prepared, tmp_path, monkeypatch, spread(count, FEW)[1:-1])


@pytest.mark.slow
def test_killed_at_many_calls_it_is_completed(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = steps(prepared, tmp_path, monkeypatch)
    check(prepared, tmp_path, monkeypatch, spread(count, MANY))

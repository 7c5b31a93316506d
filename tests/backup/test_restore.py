"""Restoring: into an empty place only, whole or not at all, and gone on with after an interruption."""

import os
import shutil
from pathlib import Path

import pytest
from backup_kit import EVERY_STEP, Killed, memory_store, restored, sealed_and_open
from log_kit import content, event, seal_all, snapshot

from session_mgmt_mcp.core.backup import restore as restore_module
from session_mgmt_mcp.core.backup.create import create
from session_mgmt_mcp.core.backup.restore import Point, restore
from session_mgmt_mcp.core.errors import InputError
from session_mgmt_mcp.core.log import durable
from session_mgmt_mcp.core.log.log import FileLog
from session_mgmt_mcp.core.log.verify import verify


def test_a_folder_with_anything_in_it_is_left_as_it_is(tmp_path: Path) -> None:
    store = memory_store()
    with sealed_and_open(tmp_path / "data") as log:
        create(log, store)
        before = snapshot(log.folder)
        with pytest.raises(InputError, match="a log already"):
            restore(store, log.folder)
        assert snapshot(log.folder) == before
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match=r"letter\.txt"):
        restore(store, str(tmp_path / "other"))
    assert snapshot(tmp_path / "other") == {"letter.txt": b"dear"}


def test_a_place_without_a_backup_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no backup"):
        restore(memory_store(), str(tmp_path / "back"))
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_is_taken_and_becomes_private(tmp_path: Path) -> None:
    store = memory_store()
    with sealed_and_open(tmp_path / "data") as log:
        create(log, store)
    (tmp_path / "back").mkdir(mode=0o755)
    restored(store, tmp_path / "back")
    assert (tmp_path / "back").stat().st_mode & 0o777 == 0o700
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "back" / "segments").iterdir()}
    assert modes == {0o400}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back", "data"]


def test_what_is_in_the_way_of_the_work_is_not_removed(tmp_path: Path) -> None:
    store = memory_store()
    with sealed_and_open(tmp_path / "data") as log:
        create(log, store)
    (tmp_path / "back.restoring").mkdir()
    (tmp_path / "back.restoring" / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match="in the way"):
        restore(store, str(tmp_path / "back"))
    assert snapshot(tmp_path / "back.restoring") == {"letter.txt": b"dear"}


def test_a_restored_log_goes_on(tmp_path: Path) -> None:
    store = memory_store()
    with sealed_and_open(tmp_path / "data") as log:
        create(log, store)
    restored(store, tmp_path / "back")
    with FileLog(tmp_path / "back") as back:
        assert back.append([event(b"on")])[0].position == 37
        seal_all(back)
        assert verify(back.folder, back.log_id).events == 37
        assert create(back, store).position == 37  # it continues what is there


@pytest.mark.parametrize("stride", EVERY_STEP)
@pytest.mark.parametrize("point", [None, Point(position=26)])
def test_a_restore_killed_at_any_step_is_finished_by_the_next(
    tmp_path: Path, point: Point | None, stride: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = memory_store()
    with sealed_and_open(tmp_path / "data") as log:
        create(log, store)
        before = content(log)[: point.position if point else None]
    steps = _Steps(monkeypatch, stride if stride == 1 else 3 * stride)
    target = tmp_path / "back"
    while steps.arm_next():
        try:
            restore(store, str(target), point=point)
        except Killed:
            if target.exists():  # switched in: it is whole
                verify(str(target), FileLog(target).log_id)
                with pytest.raises(InputError, match="a log already"):
                    restore(store, str(target), point=point)
            else:
                steps.disarm()
                restored(store, target, point)
        with FileLog(target) as back:
            assert content(back)[: len(before)] == before
        assert sorted(path.name for path in tmp_path.iterdir()) in (
            ["back", "data"],
            ["back", "back.restoring", "data"],
        )
        shutil.rmtree(target)
        shutil.rmtree(tmp_path / "back.restoring", ignore_errors=True)
    assert steps.number > 15


class _Steps:
    """Kills the process under test at its nth rename or sync, each time one later, until it gets through."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, stride: int) -> None:
        self.number, self._stride, self._calls, self._armed = 1 - stride, stride, 1, False
        for module, name in ((os, "rename"), (os, "fsync"), (os, "fdatasync")):
            self._wrap(monkeypatch, module, name)
        assert restore_module.os is os
        assert durable.os is os

    def arm_next(self) -> bool:
        """False once a whole run had fewer calls than the step it was to be killed at."""
        got_through = self._calls < self.number
        self.number, self._calls, self._armed = self.number + self._stride, 0, True
        return not got_through

    def disarm(self) -> None:
        self._armed = False

    def _wrap(self, monkeypatch: pytest.MonkeyPatch, module: object, name: str) -> None:
        original = getattr(module, name)

        def call(*args: object, **kwargs: object) -> object:
            if self._armed:
                self._calls += 1
                if self._calls == self.number:
                    raise Killed
            return original(*args, **kwargs)

        monkeypatch.setattr(module, name, call)

"""The order of syncs and names: nothing counts before what it stands for is on disk (FORMAT.md, Backup and Restore)."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from backup_kit import fill, sealed_and_open

from session_mgmt_mcp.core.backup.create import create
from session_mgmt_mcp.core.backup.local import LocalStore
from session_mgmt_mcp.core.backup.restore import Point, restore
from session_mgmt_mcp.core.log.forget import forget

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads the names of open files from /proc")


class Trace:
    """What was synced, named and removed, in order: ("sync", path), ("name", path), ("remove", path)."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steps: list[tuple[str, str]] = []
        for name in ("fsync", "fdatasync"):
            self._wrap(monkeypatch, name, lambda fd: [("sync", os.readlink(f"/proc/self/fd/{fd}"))])
        for name in ("rename", "link"):
            self._wrap(monkeypatch, name, lambda old, new: [("name", str(new)), ("was", str(old))])
        self._wrap(monkeypatch, "unlink", lambda path, **_: [("remove", str(path))])

    def _wrap(self, monkeypatch: pytest.MonkeyPatch, name: str, told: Callable[..., Any]) -> None:
        original = getattr(os, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            steps = told(*args, **kwargs)
            result = original(*args, **kwargs)
            self.steps += steps
            return result

        monkeypatch.setattr(os, name, call)

    def first(self, kind: str, part: str) -> int:
        """Where a step of this kind first meets a path with `part` in it."""
        return next(at for at, (what, path) in enumerate(self.steps) if what == kind and part in path)

    def named(self, part: str, before: int) -> dict[str, int]:
        """{path: where it was last named} of the files under `part` that were named before a step."""
        return {
            path: at
            for at, (kind, path) in enumerate(self.steps[:before])
            if kind == "name" and part in path and not path.endswith(".tmp")
        }

    def is_synced(self, path: str, after: int, before: int) -> bool:
        return ("sync", path) in self.steps[after:before]


def test_a_snapshot_is_named_after_its_objects_and_their_folders_are_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sealed_and_open(tmp_path / "data") as log:
        trace = Trace(monkeypatch)
        create(log, LocalStore(str(tmp_path / "backup")))
    commit = trace.first("name", "/snapshots/")
    objects = trace.named("/objects/", commit)
    assert len(objects) == 5
    for path, at in objects.items():
        assert trace.steps[at + 1][0] == "was"
        assert trace.is_synced(trace.steps[at + 1][1], 0, at), "synced before it has its name"
        assert trace.is_synced(os.path.dirname(path), at, commit)
        assert trace.is_synced(os.path.dirname(os.path.dirname(path)), at, commit)
    assert trace.is_synced(str(tmp_path / "backup"), 0, commit)
    assert trace.is_synced(str(tmp_path), 0, commit)
    [snapshot] = [path for _, path in trace.steps[commit : commit + 1]]
    assert trace.is_synced(os.path.dirname(snapshot), commit, len(trace.steps))
    # the journal's frames are the last object that is put
    assert trace.first("sync", "/data/journal/") < max(objects.values())


def test_a_purged_snapshot_is_removed_after_its_successor_is_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LocalStore(str(tmp_path / "backup"))
    with sealed_and_open(tmp_path / "data") as log:
        create(log, store)
        fill(log, 1)
        forget(log, [2], lambda _: ())
        trace = Trace(monkeypatch)
        create(log, store)
    successor = trace.first("name", "-0001-")
    removed = next(
        at
        for at, (kind, path) in enumerate(trace.steps)
        if kind == "remove" and "-0000-" in path and not path.endswith(".tmp")
    )
    assert trace.is_synced(str(tmp_path / "backup" / "snapshots"), successor, removed)
    objects = [
        at
        for at, (kind, path) in enumerate(trace.steps)
        if kind == "remove" and "/objects/" in path and not path.endswith(".tmp")
    ]
    assert objects
    assert trace.is_synced(str(tmp_path / "backup" / "snapshots"), removed, min(objects))


@pytest.mark.parametrize("point", [None, Point(position=26)])
def test_a_restored_folder_gets_its_name_after_everything_in_it_is_durable(
    tmp_path: Path, point: Point | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LocalStore(str(tmp_path / "backup"))
    with sealed_and_open(tmp_path / "data") as log:
        create(log, store)
    trace = Trace(monkeypatch)
    restore(store, str(tmp_path / "back"), point=point)
    switch = trace.steps.index(("name", str(tmp_path / "back")))
    staged = str(tmp_path / "back.restoring" / "data")
    hints = {"tail.shm", "append.lock", "maintenance.lock"}
    files = [path for path in (tmp_path / "back").rglob("*") if path.name not in hints]
    assert len(files) > 8
    renamed = {
        new: old for (_, new), (kind, old) in zip(trace.steps, trace.steps[1:], strict=False) if kind == "was"
    }
    for path in files:
        built = f"{staged}/{path.relative_to(tmp_path / 'back')}"
        synced = [
            at
            for at, step in enumerate(trace.steps[:switch])
            if step in (("sync", built), ("sync", renamed.get(built)))
        ]
        assert synced, path
        assert trace.is_synced(os.path.dirname(built), max(synced) if path.is_file() else 0, switch), path
    assert trace.is_synced(str(tmp_path), switch, len(trace.steps))

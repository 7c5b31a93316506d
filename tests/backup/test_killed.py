"""Processes that end in the middle, without a word: the next backup or restore completes what they began."""

import shutil
import subprocess
import sys
from pathlib import Path

import backup_victim
import pytest
from backup_kit import restored, sealed_and_open
from log_kit import content, event, files_with

from session_mgmt_mcp.core.backup.check import check
from session_mgmt_mcp.core.backup.create import create
from session_mgmt_mcp.core.backup.local import LocalStore
from session_mgmt_mcp.core.log.forget import forget

SECRET = b"hunter2-the-secret"


def _died(what: str, tmp_path: Path, step: int) -> bool:
    """Whether the process died at this step; False where it got through."""
    words = [what, *(str(tmp_path / name) for name in ("data", "backup", "back")), str(step)]
    code = subprocess.run([sys.executable, backup_victim.__file__, *words], check=False).returncode
    assert code in (0, backup_victim.DIED)
    return code == backup_victim.DIED


@pytest.mark.slow
def test_a_backup_that_is_killed_is_completed_by_the_next(tmp_path: Path) -> None:
    step = 1
    with sealed_and_open(tmp_path / "data") as log:
        while _died("backup", tmp_path, step):
            store = LocalStore(str(tmp_path / "backup"))
            create(log, store)
            assert check(store).chain == log.head().chain.hex()
            left = [path.name for path in (tmp_path / "backup").rglob("*.tmp")]
            left += [path.name for path in (tmp_path / "backup").glob("running/*")]
            assert [name for name in left if not name.startswith("BACKUP.json")] == []
            shutil.rmtree(tmp_path / "backup")
            step += 5
    assert step > 40


@pytest.mark.slow
def test_a_restore_that_is_killed_is_completed_by_the_next(tmp_path: Path) -> None:
    store = LocalStore(str(tmp_path / "backup"))
    with sealed_and_open(tmp_path / "data") as log:
        create(log, store)
        before = content(log)
    step = 1
    while _died("restore", tmp_path, step):
        if not (tmp_path / "back").exists():
            assert restored(store, tmp_path / "back")[1] == before
            assert not (tmp_path / "back.restoring").exists()
        shutil.rmtree(tmp_path / "back")
        shutil.rmtree(tmp_path / "back.restoring", ignore_errors=True)
        step += 5
    assert step > 40


@pytest.mark.slow
def test_a_purge_that_is_killed_is_completed_by_the_next_backup(tmp_path: Path) -> None:
    place = tmp_path / "backup"
    with sealed_and_open(tmp_path / "data") as log:
        log.append([event(SECRET)])
        create(log, LocalStore(str(place)))
        forget(log, [37], lambda _: ())
        shutil.copytree(place, tmp_path / "kept")
        step = 40  # what comes before is as in any backup
        while _died("backup", tmp_path, step):
            create(log, LocalStore(str(place)))
            for path in (place / "objects").rglob("*"):
                if path.is_file() and path.read_bytes().startswith(b"PAR1"):
                    path.rename(path.with_suffix(".parquet"))
            assert files_with(place, [SECRET]) == []
            assert files_with(tmp_path / "data", [SECRET]) == []
            shutil.rmtree(place)
            shutil.copytree(tmp_path / "kept", place)
            step += 5
    assert step > 50

"""Other boots and other systems: macOS, no boot id, no allocation, Python's several SHA-256 modules."""

import errno
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest
from log_kit import events, journal_paths, payloads, seal_all

from session_mgmt_mcp.core.log import appender, durable, journals
from session_mgmt_mcp.core.log.log import FileLog


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    FileLog(folder, create=True).close()
    return folder


def test_a_hint_of_another_boot_is_not_believed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with FileLog(folder) as log:
        log.append(events(b"one", b"two"))
    hint = (folder / "tail.shm").read_bytes()
    with FileLog(folder) as log:
        log.append(events(b"three"))
    (folder / "tail.shm").write_bytes(hint)  # as an unsynced page would be after a power cut
    monkeypatch.setattr(appender, "boot_id", lambda: b"another boot-id!")
    with FileLog(folder) as log:
        assert log.append(events(b"four"))[0].position == 4
        assert payloads(log) == [b"one", b"two", b"three", b"four"]


def test_without_a_boot_id_every_process_scans_for_itself_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(appender, "boot_id", lambda: bytes(16))
    scans: list[int] = []
    real = journals.recover
    monkeypatch.setattr(journals, "recover", lambda app: (scans.append(1), real(app)))
    with FileLog(folder) as log, FileLog(folder) as other:
        for k in range(4):
            log.append(events(b"%d" % k))
            other.append(events(b"%d" % k))
        assert len(payloads(log)) == 8
    assert len(scans) == 2


def test_macos_syncs_reach_the_medium(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    fake = ModuleType("fcntl")
    fake.F_FULLFSYNC = 51  # type: ignore[attr-defined]
    fake.fcntl = lambda fd, operation: asked.append(operation)  # type: ignore[attr-defined]
    monkeypatch.setattr(durable, "fcntl", fake)
    monkeypatch.setattr(durable, "FULL_SYNC", fake.F_FULLFSYNC)
    with FileLog(folder) as log:
        log.append(events(b"one"))
        before = len(asked)
        log.append(events(b"two"))
        assert len(asked) == before + 1
        seal_all(log)
    assert set(asked) == {51}


@pytest.mark.parametrize("how", ["missing", errno.EOPNOTSUPP, errno.EINVAL])
def test_journals_are_filled_where_the_system_cannot_allocate(
    folder: Path, monkeypatch: pytest.MonkeyPatch, how: object
) -> None:
    if how == "missing":
        monkeypatch.delattr(os, "posix_fallocate")
    else:

        def refuses(*_: object) -> None:
            raise OSError(int(str(how)), os.strerror(int(str(how))))

        monkeypatch.setattr(os, "posix_fallocate", refuses)
    with FileLog(folder) as log:
        log.append(events(b"one"))
        [path] = journal_paths(folder)
        assert path.stat().st_size == 8 << 20
        assert path.stat().st_blocks * 512 >= 8 << 20
        assert payloads(log) == [b"one"]


@pytest.mark.parametrize("absent", [("_sha256",), ("_sha256", "_sha2"), ()])
def test_any_of_pythons_sha256_modules_gives_the_same_digest(
    monkeypatch: pytest.MonkeyPatch, absent: tuple[str, ...]
) -> None:
    import hashlib

    wanted = hashlib.sha256(b"log").hexdigest()
    if absent:
        monkeypatch.delitem(sys.modules, "hashlib")
    for name in absent:
        monkeypatch.setitem(sys.modules, name, None)  # type: ignore[arg-type]
    spec = importlib.util.find_spec("session_mgmt_mcp.core.log.durable")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.sha256(b"log").hexdigest() == wanted

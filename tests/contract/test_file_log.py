"""The log on disk keeps the contract."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from contract_kit import Backend
from log_contract import LogContract
from log_kit import frames_of, journal_paths, seal_all

from session_mgmt_mcp.core.log.forget import forget
from session_mgmt_mcp.core.log.frame import entries_of
from session_mgmt_mcp.core.log.log import FileLog
from session_mgmt_mcp.core.log.manifest import load_manifest
from session_mgmt_mcp.core.ports import EventLog


class Folder:
    """A data folder; every handle is opened as a process of its own would."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.opened: list[FileLog] = []

    def open(self) -> EventLog:
        self.opened.append(FileLog(self.path, create=True))
        return self.opened[-1]

    def close(self, log: EventLog) -> None:
        assert isinstance(log, FileLog)
        self.opened.remove(log)
        log.close()

    def seal(self, log: EventLog) -> None:
        assert isinstance(log, FileLog)
        seal_all(log)

    def forget(self, log: EventLog, positions: Sequence[int]) -> int:
        assert isinstance(log, FileLog)
        before = log.head().position
        forget(log, positions, lambda _: [])
        return log.head().position - before

    def salts(self, log: EventLog) -> dict[int, bytes]:
        """Read from the files, not by the reader: it does not tell salts."""
        found: dict[int, bytes] = {}
        for entry in load_manifest(str(self.path)).segments:
            table = pq.read_table(self.path / "segments" / entry.file)
            columns = (table[name].to_pylist() for name in ("position", "payload_salt"))
            found.update((p, s) for p, s in zip(*columns, strict=True) if s is not None)
        for path in journal_paths(self.path):
            _, raw, frames = frames_of(path)
            for frame in frames:
                for k, (_, salt, _, _) in enumerate(entries_of(frame, memoryview(raw), 0)):
                    found[frame.first + k] = salt
        return found


class TestFileLog(LogContract):
    @pytest.fixture
    def backend(self, tmp_path: Path) -> Iterator[Backend]:
        folder = Folder(tmp_path / "data")
        yield folder
        for log in folder.opened:
            log.close()

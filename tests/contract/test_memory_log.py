"""The in-memory log of the tests keeps the contract, so that what is tested with it holds for a real one."""

from collections.abc import Sequence

import pytest
from contract_kit import Backend
from log_contract import LogContract
from memory_log import MemoryLog

from session_mgmt_mcp.core.ports import EventLog


class Memory:
    """Every handle is the one log: there is nothing to reopen."""

    def __init__(self) -> None:
        self.log = MemoryLog()

    def open(self) -> EventLog:
        return self.log

    def close(self, log: EventLog) -> None:
        assert log is self.log

    def seal(self, log: EventLog) -> None:
        self.log.seal()

    def forget(self, log: EventLog, positions: Sequence[int]) -> int:
        for position in positions:
            self.log.forget(position)
        return 0

    def salts(self, log: EventLog) -> dict[int, bytes]:
        return dict(self.log.salts)


class TestMemoryLog(LogContract):
    @pytest.fixture
    def backend(self) -> Backend:
        return Memory()

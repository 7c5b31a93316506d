"""Tests with real clients: slow, and skipped where there are none."""

from pathlib import Path

import pytest
from claude_client import CLIENTS_VARIABLE, client_folder
from claude_machine import Machine


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = pytest.mark.skip(reason=f"{CLIENTS_VARIABLE} names no folder with real clients in it")
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)
            if client_folder() is None:
                item.add_marker(missing)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)

"""A data folder with two projects and interleaved sessions."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from access_kit import BANK, MILL, WORD, House


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """One that may be written to."""
    yield from _house(tmp_path / "data")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One that is only read."""
    yield from _house(tmp_path_factory.mktemp("shared") / "data")


def _house(folder: Path) -> Iterator[House]:
    made = House(folder)
    for n in range(3):
        made.prompt("mill-1", MILL, f"grind the flour number {n} with the wheel")
        made.prompt("bank-1", BANK, f"{WORD} bullion number {n} with the wheel")
    made.edit("mill-1", MILL, f"{MILL}/wheel.py", "turn the wheel")
    made.edit("bank-1", BANK, f"{BANK}/vault-{WORD}.py", f"{WORD} vault")
    yield made
    made.close()

"""A data folder with two projects and interleaved sessions."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from access_kit import BANK, MILL, House

WORD = "zanzibar"
"""Said in the other project alone."""


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path / "data")
    for n in range(3):
        made.prompt("mill-1", MILL, f"grind the flour number {n} with the wheel")
        made.prompt("bank-1", BANK, f"{WORD} bullion number {n} with the wheel")
    made.edit("mill-1", MILL, f"{MILL}/wheel.py", "turn the wheel")
    made.edit("bank-1", BANK, f"{BANK}/vault-{WORD}.py", f"{WORD} vault")
    yield made
    made.close()

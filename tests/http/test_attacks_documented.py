"""Every attack that deploy/SECURITY.md names has its test."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_attacks_of_the_documentation_are_tests() -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "deploy/SECURITY.md").read_text()))
    there = {
        name
        for folder in ("http", "access")
        for path in (ROOT / "tests" / folder).glob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)
    }
    assert len(named) > 40
    assert named - there == set()


def test_each_row_names_a_test() -> None:
    rows = [line for line in (ROOT / "deploy/SECURITY.md").read_text().splitlines() if line.startswith("| ")]
    assert all("`test_" in row for row in rows if not row.startswith("| attack "))

"""What is looked for in the rules' name is what the rules say."""

from pathlib import Path
from runpy import run_path

import session_mgmt_mcp.core.redact_tables as tables
from session_mgmt_mcp.core import redact_bake
from session_mgmt_mcp.core.redact_rules import KEY_LITERALS, PRIVATE_LITERALS, RULES


def test_the_tables_are_those_of_the_rules() -> None:
    literals, heads = redact_bake.literals_and_heads()

    assert literals == tables.LITERALS
    assert heads == tables.HEADS
    assert redact_bake.anchors() == tables.ANCHORS
    assert (redact_bake.fold_table(), redact_bake.runs_table()) == (tables.FOLD, tables.RUNS)


def test_the_tables_can_be_made_again(tmp_path: Path) -> None:
    file = tmp_path / "tables.py"
    file.write_text(redact_bake.source())
    made = run_path(str(file))

    for name, value in vars(tables).items():
        if name.isupper():
            assert made[name] == value, name


def test_every_literal_of_a_rule_is_looked_for() -> None:
    sought = {*tables.LITERALS, *(literal for rows in tables.HEADS.values() for literal, *_ in rows)}

    assert sought == {literal for rule in RULES for literal in rule[1]} | {*PRIVATE_LITERALS, *KEY_LITERALS}
    anchored = [
        literal for _, *found in tables.ANCHORS for by in found for row in by.values() for _, literal in row
    ]
    assert sorted(anchored) == sorted(tables.LITERALS)

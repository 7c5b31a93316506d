"""Make `redact_tables.py` from the rules: `python -m session_mgmt_mcp.core.redact_bake`, then `ruff format` it.

To be run whenever rules, folds or anchors change; a test compares the file with what the rules give. A hook that had to
make these tables itself would spend more time on that than on its append.
"""

import os
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

from session_mgmt_mcp.core.redact_anchors import ANCHORS, FOLDS
from session_mgmt_mcp.core.redact_names import ASSIGNED, CAPITALS, LOGIN, TOKEN_BYTES, USER
from session_mgmt_mcp.core.redact_rules import KEY_LITERALS, PRIVATE_LITERALS, RULES

RUN_BYTES_MIN = 20  # of token bytes: what begins a run shorter than this is looked for by itself
FILE = Path(__file__).with_name("redact_tables.py")
_HEAD = '''"""What `redact` looks for, made from the rules by `redact_bake`: data, because a hook has no time to make it.

Change the rules, never this file.
"""

ASSIGNED, CAPITALS, LOGIN, USER = {asked}
PRIVATE_LITERALS = {private}
KEY_LITERALS = {keys}
RUN_BYTES_MIN = {run_bytes_min}

TYPE_CHECKING = False
if TYPE_CHECKING:
    Found = dict[bytes, tuple[tuple[int, bytes], ...]]

# upper case to lower, then each byte to the first of its group
FOLD = bytes.maketrans({fold_from!r}, {fold_to!r})
# token bytes to x, all others to blanks
RUNS = {runs}
# literals that begin a long run of token bytes, by their first three: with the rule's order and the run's least length
HEADS: "dict[bytes, tuple[tuple[bytes, int, int], ...]]" = {heads}
# all other literals: with the orders of the rules that look for them, and what these ask for next
LITERALS: "dict[bytes, tuple[tuple[int, int | bytes], ...]]" = {literals}
# Folded bytes, and the literals that hold them by how much they begin before them; found by three bytes of the literal,
# from the anchor on or from one before it: one look tells most false ones.
ANCHORS: "tuple[tuple[bytes, Found, Found], ...]" = {anchors}
'''


def fold_table() -> bytes:
    """256 bytes: upper case to lower, then each byte to the first of its group."""
    table = bytearray(bytes(range(256)).lower())
    for group in FOLDS:
        for byte in group + group.upper():
            table[byte] = group[0]
    return bytes(table)


def runs_table() -> bytes:
    """256 bytes: what stands in tokens to x, all others to blanks."""
    return bytes(0x78 if byte in TOKEN_BYTES + b"." else 0x20 for byte in range(256))


def _is_headed(literal: bytes, follows: int | bytes) -> bool:
    """Whether a rule's match is one long run of token bytes that begins with its literal."""
    return (
        isinstance(follows, int)
        and follows > 0
        and not literal.translate(None, TOKEN_BYTES + b".")
        and (len(literal) + follows >= RUN_BYTES_MIN)
    )


def literals_and_heads() -> tuple[dict[bytes, tuple[Any, ...]], dict[bytes, tuple[Any, ...]]]:
    """{literal: (order of a rule that looks for it, what it asks for next), …}, empty for the rules that span lines; and
    {first three bytes: (literal, order, least length of the run), …} of the literals that begin a long run.
    """
    rules: dict[bytes, tuple[Any, ...]] = dict.fromkeys(PRIVATE_LITERALS + KEY_LITERALS, ())
    heads: dict[bytes, tuple[Any, ...]] = {}
    for order, (_, literals, _, follows) in enumerate(RULES):
        for literal in literals:
            if isinstance(follows, int) and _is_headed(literal, follows):
                start = literal[:3]
                heads[start] = (*heads.get(start, ()), (literal, order, len(literal) + follows))
            else:
                rules[literal] = (*rules.get(literal, ()), (order, follows))
    return rules, heads


def anchors() -> tuple[tuple[bytes, dict[bytes, tuple[Any, ...]], dict[bytes, tuple[Any, ...]]], ...]:
    """Each anchor, and the literals it stands for: {three bytes: (offset of the anchor, literal), …}, twice."""
    fold = fold_table()
    table: dict[bytes, tuple[dict[bytes, Any], dict[bytes, Any]]] = {}
    for literal in literals_and_heads()[0]:
        folded = literal.translate(fold)
        anchor = next((anchor for anchor in ANCHORS if anchor in folded), folded)
        offset = folded.index(anchor)
        after, before = table.setdefault(anchor, ({}, {}))
        by, start = (after, offset) if len(literal) >= offset + 3 else (before, offset - 1)
        key = literal[start : start + 3]
        by[key] = (*by.get(key, ()), (offset, literal))
    return tuple((anchor, after, before) for anchor, (after, before) in table.items())


def source() -> str:
    """The file's text, not yet formatted."""
    fold = fold_table()
    changed = bytes(byte for byte in range(256) if fold[byte] != byte)
    runs = runs_table()
    starts = [0, *(at for at in range(1, 256) if runs[at] != runs[at - 1]), 256]
    pieces = [f"{runs[a : a + 1]!r} * {b - a}" for a, b in pairwise(starts)]
    literals, heads = literals_and_heads()
    return _HEAD.format(
        asked=(ASSIGNED, CAPITALS, LOGIN, USER),
        private=PRIVATE_LITERALS,
        keys=KEY_LITERALS,
        run_bytes_min=RUN_BYTES_MIN,
        fold_from=changed,
        fold_to=changed.translate(fold),
        runs="(" + " + ".join(pieces) + ")",
        heads=heads,
        literals=literals,
        anchors=anchors(),
    )


def main() -> int:
    """Write the file."""
    temporary = FILE.with_suffix(".tmp")
    temporary.write_text(source(), encoding="utf-8")
    os.replace(temporary, FILE)
    return 0


if __name__ == "__main__":
    sys.exit(main())

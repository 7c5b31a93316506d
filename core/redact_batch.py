"""Redact many payloads at once, for importers: one search over all of them finds the few that need a closer look."""

from array import array
from collections.abc import Callable
from functools import cache
from itertools import accumulate

from session_mgmt_mcp.core.redact import LITERALS, redact
from session_mgmt_mcp.core.redact_names import ASSIGNED, LOGIN, USER
from session_mgmt_mcp.core.redact_rules import RULES

# below this the search costs more to prepare (about 1 ms) than it saves
_BYTES_MIN = 65_536
_RUN_MAX = 12
# what `redact_rules` asks for after a literal, and as much or more is let through
_GO_ON = {
    ASSIGNED: r"[0-9a-z_-]*[\\\"'`\s]{0,24}[=:][=>:\\\"'`\s]{0,24}[^\s]{8}",
    LOGIN: r"[\\/]*[^\s\"/@]*:[^\s\"/@]*@",
    USER: r"[\\\"'`\s]*[^\s:]+:",
}


def redact_many(
    payloads: list[bytes], also: tuple[str, Callable[[bytes], bytes]] | None = None
) -> list[bytes]:
    """`redact` of each, in the same order. Several times as fast on clean payloads, from some hundred KiB on.

    `also`: a pattern (RE2, whatever the case) for more suspects, and what is then done to all of them instead.
    """
    more, mend = also or ("", redact)
    size = sum(map(len, payloads))
    if size < _BYTES_MIN or size >= 1 << 31:
        return [mend(payload) for payload in payloads]
    import pyarrow as pa  # its search reads for all literals in one pass over the bytes
    import pyarrow.compute as pc

    ends = array("i", accumulate(map(len, payloads), initial=0))
    column = pa.Array.from_buffers(
        pa.binary(), len(payloads), [None, pa.py_buffer(ends), pa.py_buffer(b"".join(payloads))]
    )
    suspects = pc.indices_nonzero(pc.match_substring_regex(column, _suspicion(more))).to_pylist()
    result = list(payloads)
    for index in suspects:
        result[index] = mend(payloads[index])
    return result


@cache
def _suspicion(more: str = "") -> str:
    """A pattern (RE2, no look-around) that every payload with something to redact matches, and few others do."""
    bounded: dict[str, None] = {}
    free: dict[str, None] = {}
    for literal, orders in LITERALS.items():
        sure = "".join(chr(byte) if chr(byte).isalnum() else f"\\x{byte:02x}" for byte in literal)
        for follows in {RULES[order][3] for order in orders} or {0}:
            if isinstance(follows, int):
                pattern = f"{sure}[0-9a-z_.-]{{{min(_RUN_MAX, abs(follows))}}}"
                (bounded if follows > 0 else free)[pattern] = None
            else:
                free[sure + _GO_ON.get(follows, "")] = None
    start = r"(?:^|[^0-9a-z]|\\[nrtbf]|\\u[0-9a-f]{4})"
    return f"(?i){start}(?:{'|'.join(bounded)})|{'|'.join(free)}{more and '|' + more}"

"""Take secrets out of a payload before it is appended: what was never written needs no forgetting.

Called for every event, in hooks too, where every import is time the user waits: a payload without a secret costs searches
for literals and imports nothing. A payload is JSON or plain text. In JSON only bytes within one string are replaced, so
the result is JSON of the same structure. Rules are data (`redact_rules`), and so is what is looked for in their name
(`redact_tables`); what is found is judged and taken out by `redact_spans`.
"""

from session_mgmt_mcp.core.redact_tables import (
    ANCHORS,
    ASSIGNED,
    CAPITALS,
    FOLD,
    HEADS,
    KEY_LITERALS,
    LITERALS,
    LOGIN,
    PRIVATE_LITERALS,
    RUN_BYTES_MIN,
    RUNS,
    USER,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    # Offset and order of each rule that may match there, in the order they are to be tried; whether there may be private
    # passages, whether private keys.
    Suspicion = tuple[list[tuple[int, int]], bool, bool]

_PIECES = bytes.maketrans(b"_-.", b"   ")
_LONG_RUN = b"x" * RUN_BYTES_MIN
_TOKEN_BYTES = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
_QUOTES = b"\\\"'` \t"
_DIGITS = b"0123456789"
_PRINTABLE_ESCAPES = (b"\\u002", b"\\u003", b"\\u004", b"\\u005", b"\\u006", b"\\u007")


def redact(payload: bytes) -> bytes:
    """The payload with `[redacted:<rule>]` in place of each secret. Redacting again changes nothing. Never raises."""
    return redact_counted(payload)[0]


def redact_counted(payload: bytes) -> "tuple[bytes, dict[str, int]]":
    """As `redact`, with how many secrets each rule took out; an empty dict where the payload is unchanged."""
    plain = payload
    if any(escape in payload for escape in _PRINTABLE_ESCAPES):
        from session_mgmt_mcp.core.redact_spans import plainly_written

        plain = plainly_written(payload)
    suspected = _suspicion(plain)
    if suspected is None:
        return payload, {}
    from session_mgmt_mcp.core.redact_spans import taken_out  # needs `re`: 9 ms

    redacted, counts = taken_out(plain, suspected, _suspicion)
    return (redacted, counts) if counts else (payload, counts)


def _suspicion(payload: bytes) -> "Suspicion | None":
    """What is to be looked at more closely; None: nothing. Cheap, and without `re`."""
    lowered = payload.lower()
    found = _heads_in(payload, lowered)
    private = keys = False
    for at, literal in sorted(_literals_in(payload, lowered)):
        for order, follows in LITERALS[literal]:
            if _may_be(payload, at, literal, follows):
                found.append((at, order))
        private = private or literal in PRIVATE_LITERALS
        keys = keys or literal in KEY_LITERALS
    return (found, private, keys) if found or private or keys else None


def _heads_in(payload: bytes, lowered: bytes) -> "list[tuple[int, int]]":
    """Where which rule's literal begins a run of token bytes that is long enough for it, whatever its case."""
    runs = payload.translate(RUNS)
    found: list[tuple[int, int]] = []
    at = runs.find(_LONG_RUN)
    while at >= 0:
        end = runs.find(b" ", at + RUN_BYTES_MIN)
        end = len(runs) if end < 0 else end
        starts = [at]
        if at and payload[at - 1] == 0x5C:  # perhaps the `n` of `\n`, the `u000a` of `\u000a`
            starts.append(at + (5 if lowered[at] == 0x75 else 1))
        start = at
        for piece in payload[at : end - RUN_BYTES_MIN + 1].translate(_PIECES).split(b" ")[:-1]:
            start += len(piece) + 1
            starts.append(start)
        for start in starts:
            for literal, order, size in HEADS.get(lowered[start : start + 3], ()):
                if end - start >= size and lowered.startswith(literal, start):
                    found.append((start, order))
        at = runs.find(_LONG_RUN, end)
    return found


def _literals_in(payload: bytes, lowered: bytes) -> "list[tuple[int, bytes]]":
    """Where which of the other rules' literals stands, whatever its case."""
    folded = payload.translate(FOLD)
    found: list[tuple[int, bytes]] = []
    for sought, after, before in ANCHORS:
        at = folded.find(sought)
        while at >= 0:
            for offset, literal in after.get(lowered[at : at + 3], ()):
                if at >= offset and lowered.startswith(literal, at - offset):
                    found.append((at - offset, literal))
            for offset, literal in before.get(lowered[at - 1 : at + 2], ()):
                if at >= offset and lowered.startswith(literal, at - offset):
                    found.append((at - offset, literal))
            at = folded.find(sought, at + 1)
    return found


def _may_be(payload: bytes, at: int, literal: bytes, follows: "int | bytes") -> bool:
    """Whether what the rule asks for follows the literal. Cheap, and without `re`."""
    start = at + len(literal)
    if isinstance(follows, bytes):
        if follows == CAPITALS:
            return payload[at:start].isupper() and _may_go_on(payload[start : start + 160], ASSIGNED)
        return _may_go_on(payload[start : start + 160], follows)
    if follows == 0:
        return True
    if follows < 0:
        follows = -follows
    else:
        before = payload[at - 1 : at] if at else b""
        if before.isalnum() and not _ends_escape(payload, at):
            return False
    run = payload[start : start + follows]
    return len(run) == follows and run.translate(None, b"_-.").isalnum()


def _may_go_on(near: bytes, follows: bytes) -> bool:
    """Whether the bytes after a literal are what a rule asks for in words."""
    if follows == ASSIGNED:
        near = near.lstrip(_TOKEN_BYTES).lstrip(_QUOTES)
        value = near[1:].lstrip(b"=>" + _QUOTES)[:48]
        return (
            near[:1] in (b"=", b":") and len(value) >= 8 and len(value.translate(None, _DIGITS)) < len(value)
        )
    near = near[:96]
    if follows == LOGIN:
        user, at_sign, _ = near.lstrip(b"\\/").partition(b"@")
        return bool(at_sign) and b":" in user and not any(byte in user for byte in b'/ "')
    if follows == USER:
        user, colon, password = near.lstrip(_QUOTES).partition(b":")
        return bool(user and colon) and b" " not in user and not password[:4].isspace()
    return follows in near.lower() if len(follows) > 4 else any(byte in near for byte in follows)


def _ends_escape(payload: bytes, at: int) -> bool:
    r"""Whether the letter before `at` belongs to an escape: `\n`, `\u000a`."""
    return (payload[at - 2 : at - 1] == b"\\" and payload[at - 1] in b"nrtbf") or payload[
        max(0, at - 6) : at - 4
    ] == b"\\u"

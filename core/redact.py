"""Take secrets out of a payload before it is appended: what was never written needs no forgetting.

Called for every event, in hooks too, where every import is time the user waits: a payload without a secret costs searches
for literals and imports nothing. A payload is JSON or plain text. In JSON only bytes within one string are replaced, so
the result is JSON of the same structure. Rules are data (`redact_rules`); `<private>…</private>` and private keys, which
span lines, are here.
"""

from session_mgmt_mcp.core.redact_anchors import ANCHORS, FOLDS
from session_mgmt_mcp.core.redact_names import ASSIGNED, CAPITALS, LOGIN, USER, is_secret
from session_mgmt_mcp.core.redact_rules import CONTEXT, KEY_LITERALS, PRIVATE_LITERALS, RULES

TYPE_CHECKING = False
if TYPE_CHECKING:
    import re

PRIVATE = "private"
PRIVATE_KEY = "private-key"
_PRIVATE_MARKED = b"<private>[redacted]</private>"

# start, end, order of the rule, its name, replacement
_Span = tuple[int, int, int, str, bytes]

_compiled: dict[bytes, "re.Pattern[bytes]"] = {}

_TAG = rb"(?i:(?<!\\)(?:<|\\+u003c)(?P<close>\\*/)?private\s*(?:>|\\+u003e))"
_PEM_BEGIN = rb"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
_PEM_END = rb"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
_PEM_MATERIAL = rb"(?=[a-z0-9+/]{0,64}[A-Z])[A-Za-z0-9+/]{24,}"
_PEM_BYTES = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=\\\r\n"
_KEY_BYTES_MAX = 16_384  # one of 16,384 bits in PEM has 12,700
_TOKEN_BYTES = _PEM_BYTES[:62] + b"_-"
_RUN_BYTES_MIN = 20
_LONG_RUN = b"x" * _RUN_BYTES_MIN
_QUOTES = b"\\\"'` \t"
_DIGITS = b"0123456789"
PRINTABLE_ESCAPES = tuple(b"\\u00%d" % digit for digit in range(2, 8))


def redact(payload: bytes) -> bytes:
    """The payload with `[redacted:<rule>]` in place of each secret. Redacting again changes nothing. Never raises."""
    return redact_counted(payload)[0]


def redact_counted(payload: bytes) -> tuple[bytes, dict[str, int]]:
    """As `redact`, with how many secrets each rule took out; an empty dict where the payload is unchanged."""
    counts: dict[str, int] = {}
    plain = _plainly_written(payload)
    # what stands beside a mark may only now look like a secret, so go on until nothing does; each round shortens the rest
    for _ in range(8):
        spans = _spans(plain)
        if not spans:
            break
        plain = _replace(plain, spans, counts)
    return plain if counts else payload, counts


def _plainly_written(payload: bytes) -> bytes:
    """JSON with letters, digits and punctuation as themselves that may be written `\\u0067`: a rule looks for `g`."""
    if not any(escape in payload for escape in PRINTABLE_ESCAPES):
        return payload
    escaped = _pattern(rb"\\(?:u00(2[013-9a-fA-F]|[3467][0-9a-fA-F]|5[0-9abABd-fD-F])|.)")

    def written(match: "re.Match[bytes]") -> bytes:
        code = int(match[1], 16) if match[1] else 0x7F
        return bytes((code,)) if code < 0x7F else match[0]

    return escaped.sub(written, payload)


def _fold_table() -> bytes:
    """256 bytes: upper case to lower, then each byte to the first of its group."""
    table = bytearray(bytes(range(256)).lower())
    for group in FOLDS:
        for byte in group + group.upper():
            table[byte] = group[0]
    return bytes(table)


def _is_headed(literal: bytes, follows: int | bytes) -> bool:
    """Whether a rule's match is one long run of token bytes that begins with its literal."""
    return (
        isinstance(follows, int)
        and follows > 0
        and not literal.translate(None, _TOKEN_BYTES + b".")
        and (len(literal) + follows >= _RUN_BYTES_MIN)
    )


def _rules_by_literal() -> tuple[dict[bytes, list[int]], dict[bytes, list[tuple[bytes, int, int]]]]:
    """The orders of the rules that look for each literal (none for those of the rules that span lines), and the literals
    that begin a long run, with their rules and its least length, by their first three bytes.
    """
    rules: dict[bytes, list[int]] = {literal: [] for literal in PRIVATE_LITERALS + KEY_LITERALS}
    heads: dict[bytes, list[tuple[bytes, int, int]]] = {}
    for order, rule in enumerate(RULES):
        for literal in rule[1]:
            if _is_headed(literal, rule[3]):
                heads.setdefault(literal[:3], []).append((literal, order, len(literal) + int(rule[3])))
            else:
                rules.setdefault(literal, []).append(order)
    return rules, heads


class _Anchor:
    """What a few folded bytes may stand for: the literals that hold them, and by how much these begin before them."""

    __slots__ = ("after", "anchor", "before")

    def __init__(self, anchor: bytes) -> None:
        self.anchor = anchor
        # by three bytes of the literal, from the anchor on or from one before it: one look tells most false ones
        self.after: dict[bytes, list[tuple[int, bytes]]] = {}
        self.before: dict[bytes, list[tuple[int, bytes]]] = {}

    def add(self, literal: bytes, offset: int) -> None:
        if len(literal) >= offset + 3:
            self.after.setdefault(literal[offset : offset + 3], []).append((offset, literal))
        else:
            self.before.setdefault(literal[offset - 1 : offset + 2], []).append((offset, literal))


def _anchor_table() -> list[_Anchor]:
    anchors: dict[bytes, _Anchor] = {}
    for literal in LITERALS:
        folded = literal.translate(_FOLD)
        anchor = next((anchor for anchor in ANCHORS if anchor in folded), folded)
        anchors.setdefault(anchor, _Anchor(anchor)).add(literal, folded.index(anchor))
    return list(anchors.values())


_FOLD = _fold_table()
_RUNS = bytes(0x78 if byte in _TOKEN_BYTES + b"." else 0x20 for byte in range(256))
_PIECES = bytes(0x20 if byte in b"_-." else 0x78 for byte in range(256))
LITERALS, _HEADS = _rules_by_literal()
_ANCHORS = _anchor_table()


def _heads_in(payload: bytes, lowered: bytes) -> list[tuple[int, int]]:
    """Where which rule's literal begins a run of token bytes that is long enough for it, whatever its case."""
    runs = payload.translate(_RUNS)
    found: list[tuple[int, int]] = []
    at = runs.find(_LONG_RUN)
    while at >= 0:
        end = runs.find(b" ", at + _RUN_BYTES_MIN)
        end = len(runs) if end < 0 else end
        starts = [at]
        if at and payload[at - 1] == 0x5C:  # perhaps the `n` of `\n`, the `u000a` of `\u000a`
            starts.append(at + (5 if lowered[at] == 0x75 else 1))
        start = at
        for piece in payload[at : end - _RUN_BYTES_MIN + 1].translate(_PIECES).split(b" ")[:-1]:
            start += len(piece) + 1
            starts.append(start)
        for start in starts:
            for literal, order, size in _HEADS.get(lowered[start : start + 3], ()):
                if end - start >= size and lowered.startswith(literal, start):
                    found.append((start, order))
        at = runs.find(_LONG_RUN, end)
    return found


def _literals_in(payload: bytes, lowered: bytes) -> list[tuple[int, bytes]]:
    """Where which of the other rules' literals stands, whatever its case."""
    folded = payload.translate(_FOLD)
    found: list[tuple[int, bytes]] = []
    for anchor in _ANCHORS:
        sought, after, before = anchor.anchor, anchor.after, anchor.before
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


def _spans(payload: bytes) -> list[_Span]:
    spans: list[_Span] = []
    private = keys = False
    done: dict[int, int] = {}  # where the last match of a rule ends: within it there is nothing more to find
    lowered = payload.lower()
    for at, order in _heads_in(payload, lowered):
        if at >= done.get(order, 0):
            done[order] = _try_rule(order, payload, at, spans)
    for at, literal in sorted(_literals_in(payload, lowered)):
        for order in LITERALS[literal]:
            if at >= done.get(order, 0) and _may_be(payload, at, literal, RULES[order][3]):
                done[order] = _try_rule(order, payload, at, spans)
        private = private or literal in PRIVATE_LITERALS
        keys = keys or literal in KEY_LITERALS
    if private:
        _private_spans(payload, spans)
    if keys:
        _key_spans(payload, spans)
    return spans


def _may_be(payload: bytes, at: int, literal: bytes, follows: int | bytes) -> bool:
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


def _pattern(source: bytes) -> "re.Pattern[bytes]":
    pattern = _compiled.get(source)
    if pattern is None:
        import re  # 9 ms that a payload without a secret never pays

        pattern = _compiled[source] = re.compile(source)
    return pattern


def _try_rule(order: int, payload: bytes, at: int, spans: list[_Span]) -> int:
    """Add the span of the rule that a literal at `at` calls for. Where what matched ends, 0 where nothing did."""
    name, _, source, follows = RULES[order]
    start = at
    if isinstance(follows, int) and follows < 0:
        head = payload[max(0, at - 4096) : at]
        start -= len(head) - len(head.rstrip(_TOKEN_BYTES))
        if start and payload[start - 1] == 0x5C:  # not the `n` of `\n`, not the `u000a` of `\u000a`
            letter = payload[start : start + 1]
            start += 5 if letter == b"u" else letter in (b"n", b"r", b"t", b"b", b"f")
    if name in CONTEXT and CONTEXT[name] not in payload[max(0, at - 400) : at].lower():
        return 0
    match = _pattern(source).match(payload, start)
    if match is None or not is_secret(name, match):
        return 0
    group = str(match.lastgroup) if match.lastgroup else 0
    spans.append((match.start(group), match.end(group), order, name, b"[redacted:" + name.encode() + b"]"))
    return match.end()


def _replace(payload: bytes, spans: list[_Span], counts: dict[str, int]) -> bytes:
    """The spans replaced; of spans that overlap the first gives the mark, and all of them go."""
    spans.sort(key=lambda span: (span[0], span[2]))
    parts: list[bytes] = []
    done = 0
    for index, (start, end, _, name, mark) in enumerate(spans):
        if index and start < done:
            done = max(done, end)
            continue
        parts += (payload[done:start], mark)
        counts[name] = counts.get(name, 0) + 1
        done = end
    parts.append(payload[done:])
    return b"".join(parts)


def _private_spans(payload: bytes, spans: list[_Span]) -> None:
    """`<private>` up to its `</private>`, nested ones counted; unclosed, to the end of its string."""
    tags = list(_pattern(_TAG).finditer(payload))
    strings = _is_json(payload) if tags else False
    done = limit = 0
    for index, tag in enumerate(tags):
        if tag["close"] or tag.start() < done:
            continue
        if tag.end() > limit:
            limit = _string_end(payload, tag.end()) if strings else len(payload)
        body_end = done = limit
        depth = 1
        for following in range(index + 1, len(tags)):
            other = tags[following]
            if other.end() > limit:
                break
            depth += -1 if other["close"] else 1
            if depth == 0:
                body_end, done = other.start(), other.end()
                break
        if depth or payload[tag.end() : body_end] != b"[redacted]":
            spans.append((tag.start(), done, -2, PRIVATE, _PRIVATE_MARKED))


def _key_spans(payload: bytes, spans: list[_Span]) -> None:
    """Private keys in PEM form; also torn ones, whose end or beginning is missing. A header alone is no key."""
    mark = b"[redacted:" + PRIVATE_KEY.encode() + b"]"
    material = _pattern(_PEM_MATERIAL)
    begins, ends = list(_pattern(_PEM_BEGIN).finditer(payload)), list(_pattern(_PEM_END).finditer(payload))
    strings = _is_json(payload) if begins else False
    done = limit = following = 0
    for begin in begins:
        if begin.start() < done:
            continue
        if begin.end() > limit:
            limit = _string_end(payload, begin.end()) if strings else len(payload)
        while following < len(ends) and ends[following].start() < begin.end():
            following += 1
        end = ends[following] if following < len(ends) and ends[following].end() <= limit else None
        # without an end, the key has to start right away: code that only mentions the header goes on with other things
        until = end.start() if end else min(limit, begin.end() + 96)
        if material.search(payload, begin.end(), until):
            done = end.end() if end else limit
            spans.append((begin.start(), done, -1, PRIVATE_KEY, mark))
    for end in ends:
        head = payload[max(0, end.start() - _KEY_BYTES_MAX) : end.start()]
        start = end.start() - len(head) + len(head.rstrip(_PEM_BYTES))
        if material.search(payload, start, end.start()):
            spans.append((start, end.end(), -1, PRIVATE_KEY, mark))


def _is_json(payload: bytes) -> bool:
    """Whether quotes mean ends of strings in it. A torn line of JSON is text: nothing is left of it to keep valid."""
    if not payload.lstrip()[:1] in (b"{", b"[", b'"'):
        return False
    import json  # only for payloads that hold a span rule's literal

    try:
        json.loads(payload, parse_int=str, parse_float=str)
    except RecursionError:
        return True
    except ValueError:
        return False
    return True


def _string_end(payload: bytes, at: int) -> int:
    """Where the JSON string that holds offset `at` ends: its closing quote, or the end of the payload."""
    while True:
        quote = payload.find(b'"', at)
        if quote < 0:
            return len(payload)
        slashes = quote - len(payload[at:quote].rstrip(b"\\")) - at
        if slashes % 2 == 0:
            return quote
        at = quote + 1

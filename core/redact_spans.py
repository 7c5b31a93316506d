r"""Judge what `redact` suspects by the rules' patterns, and take out what is secret. Imported where something is suspected.

`<private>…</private>` and private keys, which span lines, are here; all other rules are data (`redact_rules`).
"""

import re
from functools import cache

from session_mgmt_mcp.core.redact_names import TOKEN_BYTES, is_secret
from session_mgmt_mcp.core.redact_rules import CONTEXT, RULES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Suspicion = tuple[list[tuple[int, int]], bool, bool]  # see `redact`

PRIVATE = "private"
PRIVATE_KEY = "private-key"
_PRIVATE_MARKED = b"<private>[redacted]</private>"
_ROUNDS_MAX = 8

# start, end, order of the rule, its name, replacement
_Span = tuple[int, int, int, str, bytes]

_TAG = rb"(?i:(?<!\\)(?:<|\\+u003c)(?P<close>\\*/)?private\s*(?:>|\\+u003e))"
_PEM_BEGIN = rb"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
_PEM_END = rb"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
_PEM_MATERIAL = rb"(?=[a-z0-9+/]{0,64}[A-Z])[A-Za-z0-9+/]{24,}"
_PEM_BYTES = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=\\\r\n"
_KEY_BYTES_MAX = 16_384  # one of 16,384 bits in PEM has 12,700


def plainly_written(payload: bytes) -> bytes:
    r"""JSON with letters, digits and punctuation as themselves that may be written `\u0067`: a rule looks for `g`."""
    escaped = _pattern(rb"\\(?:u00(2[013-9a-fA-F]|[3467][0-9a-fA-F]|5[0-9abABd-fD-F])|.)")

    def written(match: re.Match[bytes]) -> bytes:
        code = int(match[1], 16) if match[1] else 0x7F
        return bytes((code,)) if code < 0x7F else match[0]

    return escaped.sub(written, payload)


def taken_out(
    payload: bytes, suspected: "Suspicion | None", suspicion: "Callable[[bytes], Suspicion | None]"
) -> tuple[bytes, dict[str, int]]:
    """The payload without what is secret in it, and how many secrets each rule took out.

    `suspected`: what `suspicion` says of the payload.
    """
    counts: dict[str, int] = {}
    # what stands beside a mark may only now look like a secret, so go on until nothing does; each round shortens the rest
    for _ in range(_ROUNDS_MAX):
        spans = _spans(payload, *suspected) if suspected else []
        if not spans:
            break
        payload = _replace(payload, spans, counts)
        suspected = suspicion(payload)
    return payload, counts


def _spans(payload: bytes, found: list[tuple[int, int]], private: bool, keys: bool) -> list[_Span]:
    spans: list[_Span] = []
    done: dict[int, int] = {}  # where the last match of a rule ends: within it there is nothing more to find
    for at, order in found:
        if at >= done.get(order, 0):
            done[order] = _try_rule(order, payload, at, spans)
    if private:
        _private_spans(payload, spans)
    if keys:
        _key_spans(payload, spans)
    return spans


@cache
def _pattern(source: bytes) -> re.Pattern[bytes]:
    return re.compile(source)


def _try_rule(order: int, payload: bytes, at: int, spans: list[_Span]) -> int:
    """Add the span of the rule that a literal at `at` calls for. Where what matched ends, 0 where nothing did."""
    name, _, source, follows = RULES[order]
    start = at
    if isinstance(follows, int) and follows < 0:
        head = payload[max(0, at - 4096) : at]
        start -= len(head) - len(head.rstrip(TOKEN_BYTES))
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

r"""Secrets that no issuer's letters tell: random values given to a name that says so. For importers, servers, maintenance.

Not for hooks: every candidate costs `re` and some arithmetic. So what a hook has stored already stays as it was stored;
README.md says so. A value counts where all of this holds:

- it is assigned (`=`, `:`, `=>`, `:=`) to a name with `key`, `token`, `secret`, `passw`, `pwd`, `cred` or `auth` in it as a
  word of its own, and without a word that says it is none (`public`, `cache`, `hash`, `count`, `path`, …),
- it is 16 to 512 letters, digits and `+/=_.~-`, of which two are digits, or one where capitals and small letters are mixed;
  it is no UUID, no path, no version,
  no date, no assistant's id (`toolu_…`, `msg_…`) and no name in words,
- its Shannon entropy per character is that of random text of its alphabet: `HEX_BITS_MIN` for hexadecimal digits,
  `MIXED_BITS_MIN` for others. The limits are those of detect-secrets (3.0 and 4.5), the second one less for the short
  values that log₂ of their length bounds; benchmarks/redaction.py counts what they take out of real sessions.

Bare strings of high entropy are left alone: in sessions of programmers they are commit hashes, checksums, integrity fields
of lock files, ids and images, far more often than secrets.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator

from session_mgmt_mcp.core.redact import redact
from session_mgmt_mcp.core.redact_batch import redact_many

NAME = "assigned"
HEX_BITS_MIN = 3.0
MIXED_BITS_MIN = 4.5
_MARK = b"[redacted:" + NAME.encode() + b"]"

_QUOTE = rb"(?:\\{0,8}[\"'`])"
_STEMS = (b"key", b"token", b"secret", b"passw", b"pwd", b"cred", b"auth")
_SOUGHT = (*_STEMS, b"_pat")
_ANY_STEM = b"|".join(_STEMS)
_CANDIDATE = re.compile(
    rb"(?i:(?:"
    + _ANY_STEM
    + rb")[A-Za-z0-9_-]{0,24}|_pat)"
    + _QUOTE
    + rb"{0,2}[ \t]{0,4}(?::=|=>|=|:)[ \t]{0,4}"
    rb"(?i:bearer |basic |token )?"
    + _QUOTE
    + rb"{0,2}(?P<value>[A-Za-z0-9+/_.~-]{16,512}={0,2})(?![\w+/(\[.~-])"
)
# the same for the batch search of RE2, where as much or more is let through
SUSPICION = (
    r"(?:(?:" + _ANY_STEM.decode() + r")[a-z0-9_-]{0,24}|_pat)[\\\"'` \t]{0,24}[=:][=>\\\"'` \t]{0,24}"
    r"(?:bearer |basic |token )?[\\\"'`]{0,20}[a-z0-9+/_.~-]{16}"
)
_WORD = re.compile(rb"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+")
_SECRET_WORDS = frozenset(
    b"key keys apikey accesskey secretkey privatekey token tokens authtoken secret secrets passwd password passwords passphrase "
    b"pwd cred creds credential credentials auth pat".split()
)
_OTHER_WORDS = frozenset(
    b"public pub cache primary foreign sort partition idempotency index hash digest checksum sha sha1 sha256 sha512 md5 "
    b"fingerprint integrity commit id ids uuid count total size limit max min input output usage path file dir name names "
    b"type url uri endpoint host version expires expiry ttl length prefix suffix pattern format row column shard object map "
    b"lookup next page cursor continuation bucket blob artifact etag query group dedupe dedup action react widget translation "
    b"i18n locale special pad eos bos unk mask stop tokenizer time date storage session".split()
)
_UUID = re.compile(rb"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_HEX = re.compile(rb"(?:0x)?[0-9a-fA-F]+")
_KNOWN_ID = re.compile(
    rb"(?:toolu|msg|req|call|fc|rs|resp|chatcmpl|run|thread|asst|file|sess|srvtoolu|agent)[_-]|sha(?:1|256|384|512)[-:]|"
    rb"[0-9]{4}-[0-9]{2}-[0-9]{2}|v?[0-9]+\.[0-9]+\.|/|\.\.?/|~/|data:"
)
_NAME_BYTES_MAX = 40


def redact_thorough(payload: bytes) -> bytes:
    """`redact`, and then what only a name and its randomness tell. Redacting again changes nothing. Never raises."""
    return assigned(redact(payload))[0]


def redact_text(text: str) -> str:
    """`redact_thorough` of a text that is to be shown before it is read back from the log."""
    return redact_thorough(text.encode("utf-8", "surrogatepass")).decode("utf-8", "surrogatepass")


def redact_thorough_many(payloads: list[bytes]) -> list[bytes]:
    """`redact_thorough` of each, in the same order; one search over all of them finds the few to look at closely."""
    return redact_many(payloads, also=(SUSPICION, lambda payload: assigned(payload)[0]))


def assigned(payload: bytes) -> tuple[bytes, int]:
    """The payload without random values given to names that say they are secret; how many those were."""
    parts: list[bytes] = []
    done = count = 0
    for match in _candidates(payload):
        start, end = match.span("value")
        if start < done or not (_is_secret_name(_name(payload, match)) and looks_random(match["value"])):
            continue
        parts += (payload[done:start], _MARK)
        done, count = end, count + 1
    if not count:
        return payload, 0
    parts.append(payload[done:])
    return b"".join(parts), count


def _candidates(payload: bytes) -> "Iterator[re.Match[bytes]]":
    """`_CANDIDATE.finditer`, but its words are looked for by themselves: ten times as fast as `re` alone."""
    lowered = payload.lower()
    places = []
    for word in _SOUGHT:
        at = lowered.find(word)
        while at >= 0:
            places.append(at)
            at = lowered.find(word, at + 1)
    end = 0
    for place in sorted(places):
        if place >= end and (match := _CANDIDATE.match(payload, place)):
            end = match.end()
            yield match


def _name(payload: bytes, match: "re.Match[bytes]") -> bytes:
    """The whole name: the match begins in its midst."""
    start = match.start()
    before = re.search(
        rb"(?:\\+[nrtbf])?([A-Za-z0-9_.-]*)\Z", payload[max(0, start - _NAME_BYTES_MAX) : start]
    )
    after = re.match(rb"[A-Za-z0-9_-]*", match[0])
    return (before[1] if before else b"") + (after[0] if after else b"")


def _is_secret_name(name: bytes) -> bool:
    words = {word.lower() for word in _WORD.findall(name.rsplit(b".", 1)[-1])}
    return bool(words & _SECRET_WORDS) and not words & _OTHER_WORDS


def looks_random(value: bytes) -> bool:
    """Whether a value is as random as a key, and none of the things that are random and no key."""
    bare = value.rstrip(b"=")
    digits = sum(byte in b"0123456789" for byte in bare)
    if (
        digits < (1 if re.search(rb"[a-z]", bare) and re.search(rb"[A-Z]", bare) else 2)
        or _UUID.fullmatch(bare)
        or _KNOWN_ID.match(bare)
    ):
        return False
    bits = entropy(bare)
    if _HEX.fullmatch(bare):
        return bits >= HEX_BITS_MIN and any(byte in b"abcdefABCDEF" for byte in bare)
    if _in_words(bare):
        return False
    return bits >= min(MIXED_BITS_MIN, 0.83 * math.log2(len(bare)))


def _in_words(value: bytes) -> bool:
    """Whether separators part it into words and numbers, as in `linux-node-modules-v1` or `cache-uv-linux-gnu-<digest>`."""
    pieces = re.split(rb"[-_./~+]+", value)
    if sum(bool(re.fullmatch(rb"[A-Za-z]?[a-z]{2,}", piece)) for piece in pieces) >= 3:
        return True
    plain = [
        piece
        for piece in pieces
        if re.fullmatch(rb"[A-Za-z]?[a-z]*|[A-Z]+|[0-9]{1,4}|[a-z]+[0-9]{1,2}", piece)
    ]
    return sum(map(len, plain)) >= 0.6 * sum(map(len, pieces))


def entropy(value: bytes) -> float:
    """Shannon entropy in bits per byte; 0 for nothing."""
    size = len(value)
    return -sum(n / size * math.log2(n / size) for n in Counter(value).values()) if size else 0.0

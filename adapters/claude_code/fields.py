"""Strings of a hook's payload without a JSON parser, which would cost a hook more than all else it does."""

STRING_CHARS_MAX = 4096
_ESCAPES = {b"n": "\n", b"t": "\t", b"r": "\r", b"b": "\b", b"f": "\f"}


def string_of(raw: bytes, name: bytes, chars_max: int = STRING_CHARS_MAX) -> str:
    """The string that follows the first key `name`, or its beginning; "" if there is none.

    Within a string a quote is escaped, so what looks like a key there never is one.
    """
    key = b'"' + name + b'"'
    at = raw.find(key)
    while at >= 0:
        at = _past_space(raw, at + len(key))
        if raw[at : at + 1] == b":":
            at = _past_space(raw, at + 1)
            return _unescaped(raw, at + 1, chars_max) if raw[at : at + 1] == b'"' else ""
        at = raw.find(key, at)
    return ""


def escaped(text: str) -> bytes:
    """Text as the inside of a JSON string, in UTF-8."""
    text = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    if not text.isprintable():
        text = "".join(c if c >= " " else f"\\u{ord(c):04x}" for c in text)
    return text.encode("utf-8", "replace")


def _past_space(raw: bytes, at: int) -> int:
    while raw[at : at + 1] in (b" ", b"\n", b"\t", b"\r"):
        at += 1
    return at


def _unescaped(raw: bytes, at: int, chars_max: int) -> str:
    out = ""
    while len(out) < chars_max:
        quote, slash = raw.find(b'"', at), raw.find(b"\\", at, at + 4 * chars_max)
        end = quote if quote >= 0 else len(raw)
        if 0 <= slash < end:
            end = slash
        out += raw[at : min(end, at + 4 * chars_max)].decode("utf-8", "replace")
        if end != slash:
            break
        text, at = _escape(raw, slash)
        out += text
    return out[:chars_max]


def _escape(raw: bytes, at: int) -> "tuple[str, int]":
    """What the escape at a backslash means, and where it ends."""
    code = raw[at + 1 : at + 2]
    if code != b"u":
        return _ESCAPES.get(code, code.decode("ascii", "replace")), at + 2
    unit, end = _unit(raw, at), at + 6
    if (
        0xD800 <= unit < 0xDC00
        and raw[end : end + 2] == b"\\u"
        and 0xDC00 <= (low := _unit(raw, end)) < 0xE000
    ):
        return chr(0x10000 + (unit - 0xD800 << 10) + low - 0xDC00), end + 6
    return ("\ufffd" if unit < 0 or 0xD800 <= unit < 0xE000 else chr(unit)), end


def _unit(raw: bytes, at: int) -> int:
    try:
        return int(raw[at + 2 : at + 6], 16)
    except ValueError:
        return -1

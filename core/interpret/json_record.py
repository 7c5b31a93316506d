"""Reading JSON that is nearly right: assistants do not always write what a strict decoder takes."""

import json
from typing import TypeVar

import msgspec

T = TypeVar("T")

_BOM = b"\xef\xbb\xbf"
# What a decoder raises for bytes it refuses.
UNDECODABLE = (msgspec.MsgspecError, ValueError, RecursionError)


class NotAnObjectError(ValueError):
    """The bytes are no JSON object; the message says why."""


def read_object(raw: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """`raw` as the decoder's type.

    Takes what a strict decoder refuses but whose meaning is clear: a byte order mark, NUL bytes around the
    object, lone surrogates and broken UTF-8 (both become U+FFFD), control characters inside strings, NaN
    (becomes null). Raises NotAnObjectError.
    """
    try:
        return decoder.decode(raw)
    except UNDECODABLE:
        pass
    try:
        return decoder.decode(repaired(raw))
    except UNDECODABLE as error:
        raise NotAnObjectError(str(error) or type(error).__name__) from None


def repaired(raw: bytes) -> bytes:
    """The same object as JSON every decoder takes. Raises ValueError, RecursionError."""
    text = raw.removeprefix(_BOM).strip(b"\0 \t\r\n").decode("utf-8", "replace")
    value = json.loads(text, strict=False, parse_constant=lambda _: None)
    if not isinstance(value, dict):
        raise NotAnObjectError("not a JSON object")
    # Through UTF-16, two halves of a surrogate pair that were written apart become one character again.
    dumped = json.dumps(value, ensure_ascii=False).encode("utf-16", "surrogatepass")
    return dumped.decode("utf-16", "replace").encode()

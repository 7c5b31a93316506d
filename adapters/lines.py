"""Reading JSON lines one by one, as bytes, in bounded memory."""

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

# A frame of the log holds 64 MiB; a line beyond half of that is reported, not read.
LINE_BYTES_MAX = 32 << 20


class Line(NamedTuple):
    """One line that is not blank."""

    number: int  # from 1
    raw: bytes  # without its line end; empty where `too_long`
    end: int  # offset of the byte after it
    complete: bool  # ends in a newline
    too_long: bool


def lines(file: BinaryIO, *, offset: int = 0, number: int = 0, limit: int = LINE_BYTES_MAX) -> Iterator[Line]:
    """The lines from `offset` on, where `number` lines lie before it; `limit` is in bytes.

    Without an offset nothing is sought: a pipe will do.
    """
    if offset:
        file.seek(offset)
    while raw := file.readline(limit):
        number += 1
        offset += len(raw)
        complete, too_long = raw.endswith(b"\n"), False
        while not complete and len(raw) == limit:
            too_long = True
            raw = file.readline(limit)
            offset += len(raw)
            complete = raw.endswith(b"\n")
        if too_long:
            yield Line(number, b"", offset, complete, True)
            continue
        body = raw.removesuffix(b"\n").removesuffix(b"\r")
        if body and not body.isspace():
            yield Line(number, body, offset, complete, False)

"""The client's ends of stdin and stdout, which carry the protocol and nothing else."""

import fcntl
import os
from typing import IO, NamedTuple


class Wire(NamedTuple):
    """The client's ends of stdin and stdout, out of reach of everything else in the process."""

    reader: IO[bytes]
    writer: IO[bytes]


def claim() -> Wire:
    """Move the wire away from descriptors 0 and 1: reading 0 then gives the end, writing 1 goes to stderr.

    Called before other imports, so that no library, extension or child process can write into the protocol.
    """
    reader = os.fdopen(fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, 3), "rb")
    writer = os.fdopen(fcntl.fcntl(1, fcntl.F_DUPFD_CLOEXEC, 3), "wb")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    try:
        os.dup2(2, 1)
    except OSError:  # started without stderr
        os.dup2(null, 1)
    os.close(null)
    return Wire(reader, writer)

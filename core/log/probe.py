"""Whether a blob is in the log already, asked by a hook: no index is loaded, nothing heavy imported.

What is overlooked is stored twice, which costs space and nothing else; what is found is there.
"""

import mmap
import os
import struct

from session_mgmt_mcp.core.log.frame import FRAME, HEADER
from session_mgmt_mcp.core.log.journals import list_journals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from session_mgmt_mcp.core.log.appender import Appender

_FAN_OUT = 4097
_IDS_HEAD = 16 + 4 * _FAN_OUT
_ID_ROW = 32


def probe(app: "Appender", ids: "list[bytes]") -> "dict[bytes, int]":
    """{id: 0} of those that are in the log; at which position is not looked up. Called under the append lock."""
    left = set(ids)
    for raw in _journals(app):
        left -= {event_id for event_id in left if _in_journal(raw, event_id)}
        if not left:
            break
    for path in _id_files(app.folder) if left else ():
        left -= _in_ids(path, left).keys()
    return {event_id: 0 for event_id in ids if event_id not in left}


def forgotten(folder: str, ids: "list[bytes]") -> "set[bytes]":
    """Those whose payload was forgotten. Needs no lock: what is forgotten is sealed."""
    found: set[bytes] = set()
    for path in _id_files(folder):
        found.update(event_id for event_id, length in _in_ids(path, set(ids)).items() if not length)
    return found


def _id_files(folder: str) -> "list[str]":
    base = folder + "/segments"
    names = os.listdir(base) if os.path.isdir(base) else []
    return [f"{base}/{name}" for name in names if name.endswith(".ids")]


def _journals(app: "Appender") -> "list[bytes]":
    """What the open journal and the closed ones hold."""
    out = [os.pread(app.fd, app.end, 0)]
    for first, path in list_journals(app.folder):
        if first != app.header.first:
            try:
                with open(path, "rb") as file:
                    out.append(file.read())
            except FileNotFoundError:
                pass  # sealed since
    return out


def _in_journal(raw: bytes, event_id: bytes) -> bool:
    """Whether the id stands where a frame lists its ids; in a payload it means nothing."""
    hit = raw.find(event_id)
    if hit < 0:
        return False
    at = HEADER.size
    while at < hit and raw[at : at + 8].strip(b"\0"):
        size, count = struct.unpack_from("<I4xI", raw, at + 4)
        ids = at + FRAME.size
        if raw.find(event_id, ids, ids + 16 * count) >= 0:
            return True
        at = ids + size
    return False


def _in_ids(path: str, wanted: "set[bytes]") -> "dict[bytes, int]":
    """{id: bytes of its payload, 0 where forgotten} of those a segment's id file lists (FORMAT.md section 4)."""
    found = {}
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as raw:
            for event_id in wanted:
                bucket = int.from_bytes(event_id[14:], "big") & 0xFFF
                first, last = struct.unpack_from("<II", raw, 16 + 4 * bucket)
                for row in range(first, last):
                    at = _IDS_HEAD + _ID_ROW * row
                    if raw[at : at + 16] == event_id:
                        found[event_id] = int.from_bytes(raw[at + 28 : at + 32], "little")
    except (OSError, ValueError, struct.error):
        pass  # replaced or damaged: others report that
    return found

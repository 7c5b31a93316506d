"""Large strings that nobody searches (images, whole files as they were before an edit), stored once by their content.

They are cut out of a payload and become events of their own, type `BlobStored`, whose id is made of the content
(FORMAT.md section 5): the log's own lookup of ids keeps each once, and verification, backup and forgetting need to know
nothing of them. Where one was cut out the payload says `"session-mgmt:blob:<event id, 32 hex>:<bytes>"`. `expand` is the
exact inverse of `split`. Imported by hooks: kept light.
"""

from session_mgmt_mcp.core.log.durable import sha256
from session_mgmt_mcp.core.log.frame import BLOB_BYTES_MIN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from session_mgmt_mcp.core.ports import EventLog

STREAM = "session-mgmt/blobs"
EVENT_TYPE = "BlobStored"
_REFERENCE = b'"session-mgmt:blob:'
_REFERENCE_BYTES_MAX = len(_REFERENCE) + 32 + 1 + 10 + 1
# Of these keys any long string is a blob; in valid JSON these bytes stand nowhere but before a key's value, since quotes
# within a string are escaped.
_KEYS = tuple(
    b'"' + name + b'":' + space
    for name in (b"originalFile", b"originalFileContents", b"base64", b"image_url", b"data")
    for space in (b'"', b' "')
)
_HEX = frozenset(b"0123456789abcdef")
_BASE64 = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=-_")


def blob_id(content: bytes) -> bytes:
    """The event id of this content: `capture_id("session-mgmt", "blob", SHA-256 of the content)`."""
    parts = (b"session-mgmt", b"blob", sha256(content).digest())
    joined = b"".join(len(part).to_bytes(4, "little") + part for part in parts)
    return bytes(sha256(b"capture\0" + joined).digest()[:16])


def split(
    payload: bytes, forgotten: "Callable[[list[bytes]], Collection[bytes]] | None" = None
) -> "tuple[bytes, list[tuple[bytes, bytes]]]":
    """The payload with references in place of its blobs, and the blobs: (event id, content as it stood, JSON escapes
    and all).

    `forgotten(event ids)` names those whose content was forgotten: what is captured anew with it keeps it whole, since
    the log would take the blob for one it has.
    """
    if len(payload) < BLOB_BYTES_MIN:
        return payload, []
    spans = sorted(_spans(payload))
    if not spans:
        return payload, []
    contents = {span: payload[slice(*span)] for span in spans}
    ids = {span: blob_id(content) for span, content in contents.items()}
    whole = forgotten(list(ids.values())) if forgotten is not None else ()
    out: list[bytes] = []
    blobs: list[tuple[bytes, bytes]] = []
    at = 0
    for start, end in spans:
        event_id, content = ids[start, end], contents[start, end]
        if event_id in whole:
            continue
        blobs.append((event_id, content))
        out += (payload[at : start - 1], _REFERENCE, event_id.hex().encode(), b":%d" % len(content), b'"')
        at = end + 1
    out.append(payload[at:])
    return b"".join(out), blobs


def _spans(payload: bytes) -> "list[tuple[int, int]]":
    """(start, end) of the long strings to cut out, without their quotes."""
    found = []
    for key in _KEYS:
        at = payload.find(key)
        while at >= 0:
            start = at + len(key)
            end = _string_end(payload, start)
            if end < 0:
                break
            if end - start >= BLOB_BYTES_MIN and (
                not key.startswith(b'"data"') or _is_base64(payload, start)
            ):
                found.append((start, end))
            at = payload.find(key, end)
    return found


def _string_end(payload: bytes, start: int) -> int:
    """Where the JSON string that begins at `start` ends: its closing quote; -1 if it does not."""
    end = payload.find(b'"', start)
    while end >= 0:
        escapes = end
        while escapes > start and payload[escapes - 1] == 92:  # a backslash
            escapes -= 1
        if (end - escapes) % 2 == 0:
            return end
        end = payload.find(b'"', end + 1)
    return -1


def _is_base64(payload: bytes, start: int) -> bool:
    head = payload[start : start + 256]
    return head.startswith(b"data:") or _BASE64.issuperset(head)


def references(payload: bytes) -> "list[tuple[int, int, bytes, int]]":
    """(start, end, event id, bytes) of the references in a payload, quotes included in the span."""
    found = []
    at = payload.find(_REFERENCE)
    while at >= 0:
        end = payload.find(b'"', at + 1) + 1
        parts = payload[at + 1 : end - 1].split(b":") if 0 < end <= at + _REFERENCE_BYTES_MAX else []
        if len(parts) == 4 and len(parts[2]) == 32 and _HEX.issuperset(parts[2]) and parts[3].isdigit():
            found.append((at, end, bytes.fromhex(parts[2].decode()), int(parts[3])))
        at = payload.find(_REFERENCE, at + 1)
    return found


def as_captured(payload: bytes, log: "EventLog") -> bytes:
    """The payload with the blobs put back that the log holds; byte for byte what was captured."""

    def find(event_ids: "list[bytes]") -> "dict[bytes, bytes]":
        places = log.positions_of(event_ids)
        events = log.get(places.values())
        found = {event_id: events[position] for event_id, position in places.items() if position in events}
        return {
            event_id: event.payload
            for event_id, event in found.items()
            if event.payload is not None and event.envelope.event_type == EVENT_TYPE
        }

    return expand(payload, find)


def expand(payload: bytes, find: "Callable[[list[bytes]], dict[bytes, bytes]]") -> bytes:
    """The payload as it was before `split`. `find` returns the contents of those event ids that are blobs in the log;
    what it does not find (it was forgotten) stays a reference.
    """
    found = references(payload)
    if not found:
        return payload
    contents = find(list({event_id for _, _, event_id, _ in found}))
    out: list[bytes] = []
    at = 0
    for start, end, event_id, size in found:
        content = contents.get(event_id)
        if content is not None and len(content) == size:
            out += (payload[at : start + 1], content, b'"')
            at = end
    out.append(payload[at:])
    return b"".join(out)

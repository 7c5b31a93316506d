"""Journal headers and frames, byte by byte as FORMAT.md section 3 has them. Pure; imported by hooks, so kept light."""

import struct
from zlib import crc32

TYPE_CHECKING = False  # a hook does not pay for typing
if TYPE_CHECKING:
    from collections.abc import Sequence

    from session_mgmt_mcp.core.errors import LogCorruptError

FORMAT_VERSION = 1
FORMAT_PREFIX = b'{"format": "session-mgmt-mcp log", "version": 1, '  # of FORMAT.json
MIB = 1 << 20
JOURNAL_MIB = 8
FRAME_BYTES_MAX = 64 * MIB
ZEROS_BYTES = 128 << 10
BLOB_BYTES_MIN = 8192  # shorter strings stay in their payload: an event of their own costs about 200 bytes
MAGIC = b"SMJRNL01"
HEADER = struct.Struct("<8sII16s16sQ32s36xI")
FRAME = struct.Struct("<4sIIIQQ32s")
ZERO8 = bytes(8)
_PLACE = struct.Struct("<QI")
_CHECKED = struct.Struct(
    "<IQQ32s"
)  # what the crc covers of a frame's header: count, first, durable_upto, chain
_LENGTHS = struct.Struct("<II")  # of a body, and its crc; of an event's envelope and payload


class JournalHeader:
    """What a journal says of itself. `seed` starts the crc of its frames."""

    __slots__ = ("capacity", "chain", "first", "log_id", "salt", "seed")

    def __init__(self, capacity: int, log_id: bytes, salt: bytes, first: int, chain: bytes) -> None:
        self.capacity = capacity  # bytes
        self.log_id = log_id
        self.salt = salt
        self.first = first
        self.chain = chain  # before the first event
        self.seed = crc32(salt)

    def encode(self) -> bytes:
        raw = HEADER.pack(
            MAGIC, FORMAT_VERSION, self.capacity // MIB, self.log_id, self.salt, self.first, self.chain, 0
        )
        return raw[:-4] + crc32(raw[:-4]).to_bytes(4, "little")


def decode_header(raw: bytes, path: str) -> JournalHeader:
    """Raises LogCorruptError or FormatTooNewError, naming `path`."""
    if len(raw) < HEADER.size or crc32(raw[: HEADER.size - 4]) != int.from_bytes(raw[124:128], "little"):
        raise _corrupt(f"{path}: the journal's header does not check; restore it from a backup")
    magic, version, capacity, log_id, salt, first, chain, _ = HEADER.unpack_from(raw)
    if magic != MAGIC:
        raise _corrupt(f"{path}: not a journal of this program; move it out of the data folder")
    if version > FORMAT_VERSION:
        from session_mgmt_mcp.core.errors import FormatTooNewError

        raise FormatTooNewError(
            f"{path}: written in format {version}, this program reads up to {FORMAT_VERSION}; upgrade session-mgmt-mcp"
        )
    return JournalHeader(capacity * MIB, log_id, salt, first, chain)


class Frame:
    """A frame found by `scan`: where it lies and what it carries. `count` 0 is a closing frame."""

    __slots__ = ("chain", "count", "durable_upto", "end", "first", "offset")

    def __init__(
        self, offset: int, end: int, first: int, count: int, durable_upto: int, chain: bytes
    ) -> None:
        self.offset = offset  # in the file
        self.end = end
        self.first = first
        self.count = count
        self.durable_upto = durable_upto
        self.chain = chain


def encode_frame(
    header: JournalHeader,
    offset: int,
    first: int,
    durable_upto: int,
    chain: bytes,
    entries: "Sequence[tuple[bytes, ...]]",
) -> bytes:
    """The bytes of one frame at `offset`. Entries: event id, salt, envelope, payload, …; none for a closing frame."""
    return frame_of(header, offset, first, durable_upto, chain, len(entries), encode_body(entries))


def encode_body(entries: "Sequence[tuple[bytes, ...]]") -> bytes:
    """The body of a frame, which does not depend on its place."""
    if not entries:
        return b""
    if len(entries) == 1:
        event_id, salt, envelope, payload = entries[0][:4]
        return b"".join((event_id, salt, _LENGTHS.pack(len(envelope), len(payload)), envelope, payload))
    columns = list(zip(*entries, strict=True))
    lengths = [n for pair in zip(map(len, columns[2]), map(len, columns[3]), strict=True) for n in pair]
    packed = struct.pack(f"<{len(lengths)}I", *lengths)
    return b"".join((*columns[0], *columns[1], packed, *columns[2], *columns[3]))


def frame_of(
    header: JournalHeader, offset: int, first: int, durable_upto: int, chain: bytes, count: int, body: bytes
) -> bytes:
    """The frame with this body; see `encode_frame`."""
    checked = _CHECKED.pack(count, first, durable_upto, chain)
    crc = crc32(body, crc32(checked, crc32(_PLACE.pack(offset, len(body)), header.seed)))
    return b"".join((header.salt[:4], _LENGTHS.pack(len(body), crc), checked, body))


def zeros_ahead(offset: int, size: int, capacity: int) -> int:
    """How many zeros to write behind a frame of `size` bytes at `offset`.

    The blocks of a new journal are allocated, but count as unwritten: a file system has to change that in its own journal
    before a sync ends. A small frame that enters a block of ZEROS_BYTES writes it to its end, so the next ones need not.
    """
    end = offset + size
    if size > ZEROS_BYTES // 4 or offset // ZEROS_BYTES == end // ZEROS_BYTES:
        return 0
    return min((end // ZEROS_BYTES + 1) * ZEROS_BYTES, capacity) - end


def frame_at(data: memoryview, at: int, base: int, header: JournalHeader) -> "Frame | None":
    """The valid frame at `data[at]`, where `data` starts at file offset `base`; None if there is none."""
    body_at = at + FRAME.size
    if body_at > len(data):
        return None
    mark, length, crc, count, first, durable_upto, chain = FRAME.unpack_from(data, at)
    if mark != header.salt[:4] or body_at + length > len(data) or length < 40 * count:
        return None
    if count == 0 and length:
        return None
    if crc32(data[at + 12 : body_at + length], crc32(_PLACE.pack(base + at, length), header.seed)) != crc:
        return None
    return Frame(base + at, base + body_at + length, first, count, durable_upto, chain)


def scan(data: memoryview, base: int, header: JournalHeader, expected: int) -> "list[Frame]":
    """The frames from the start of `data` on, up to the first that does not fit. `expected`: next position."""
    frames = []
    at = 0
    while (frame := frame_at(data, at, base, header)) is not None and frame.first == expected:
        frames.append(frame)
        if frame.count == 0:
            break
        expected += frame.count
        at = frame.end - base
    return frames


def says_damaged(data: bytes, base: int, header: JournalHeader) -> bool:
    """Whether a valid frame somewhere in `data` says that file offset `base`, where `data` starts, was on disk.

    Called where no frame begins at `base`: then bytes that were durable are damaged. Otherwise it is a torn tail.
    """
    view = memoryview(data)
    at = data.find(header.salt[:4])
    while at >= 0:
        frame = frame_at(view, at, base, header)
        if frame is not None and frame.durable_upto > base:
            return True
        at = data.find(header.salt[:4], at + 1)
    return False


def entries_of(frame: Frame, data: memoryview, base: int) -> "list[tuple[bytes, bytes, bytes, bytes]]":
    """Event id, salt, envelope, payload of each event of a frame in `data`, which starts at file offset `base`."""
    n = frame.count
    at = frame.offset - base + FRAME.size
    ids, salts, lengths = at, at + 16 * n, at + 32 * n
    sizes = struct.unpack_from(f"<{2 * n}I", data, lengths)
    envelope = lengths + 8 * n
    payload = envelope + sum(sizes[0::2])
    if payload + sum(sizes[1::2]) != frame.end - base:
        raise _corrupt(f"the lengths inside the frame of position {frame.first} do not add up")
    out = []
    for k in range(n):
        e, p = sizes[2 * k], sizes[2 * k + 1]
        out.append(
            (
                bytes(data[ids + 16 * k : ids + 16 * k + 16]),
                bytes(data[salts + 16 * k : salts + 16 * k + 16]),
                bytes(data[envelope : envelope + e]),
                bytes(data[payload : payload + p]),
            )
        )
        envelope += e
        payload += p
    return out


def _corrupt(message: str) -> "LogCorruptError":
    from session_mgmt_mcp.core.errors import LogCorruptError  # 1 ms, where all is well

    return LogCorruptError(message)

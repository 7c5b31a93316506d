"""The files of the vectors: written once, opened as memory maps.

All integers are little endian. A file is a header of 64 bytes and sections that begin at multiples of 64:

    header   8s magic "SMVECT1\\0" · u32 kind (1 map, 2 vectors) · u32 dimension · u64 count · 3 × u32 CRC-32 of the
             sections · 16s model, zeros of a map and of older files · 8 zeros · u32 CRC-32 of the 60 bytes before
    map      int64[count] row ids, ascending · int64[count] passage numbers, ascending within a row
    vectors  int64[count] passage numbers, ascending, distinct · uint64[words, count] binary codes ·
             float16[count, dimension] rows of length 1

A code is the signs of a row (1: above zero), 64 a word, the first in the lowest bit, then zeros. All codes' first words
come first, then all second words: so a scan reads them several times faster than code by code. Opening a file checks all sections but the float16 rows, which would have to be read whole: see `check_rows`.
"""

import contextlib
import os
import re
import secrets
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from session_mgmt_mcp.projections.vector_state import BlockFile

Numbers = npt.NDArray[np.int64]
Codes = npt.NDArray[np.uint64]
Halves = npt.NDArray[np.float16]

MAGIC = b"SMVECT1\0"
KIND_MAP, KIND_VECTORS = 1, 2
ALIGNMENT = 64
ROWS_AT_ONCE = 8192  # in memory while a file is written
_HEADER = struct.Struct("<8sIIQ3I16s8x")  # and the CRC-32 of these 60 bytes
_CRC = struct.Struct("<I")
_MODEL_ID = re.compile(r"[0-9a-f]{32}")
_NO_MODEL = bytes(16)


class DamagedBlockError(Exception):
    """A file that is missing, cut or changed; do without it."""


class Vectors(NamedTuple):
    """Passages with their vectors; mapped, not read."""

    numbers: Numbers
    codes: Codes
    rows: Halves


class Pairs(NamedTuple):
    """Which rows have which passages."""

    ids: Numbers
    numbers: Numbers


def code_words(dimension: int) -> int:
    """Words of a binary code."""
    return -(-dimension // 64)


def codes_of(rows: npt.NDArray[np.floating]) -> Codes:
    """Binary codes [words, n] of vectors [n, dimension]."""
    bits = np.packbits(rows > 0, axis=1, bitorder="little")
    out = np.zeros((len(rows), 8 * code_words(rows.shape[1])), np.uint8)
    out[:, : bits.shape[1]] = bits
    return np.ascontiguousarray(out.view("<u8").T)


def write_vectors(
    folder: Path, numbers: Numbers, rows: npt.NDArray[np.floating], model_id: str = ""
) -> BlockFile:
    """A durable file of these passages; numbers distinct, in any order; rows [n, dimension] of length 1."""
    order = np.argsort(numbers, kind="stable")

    def part(first: int, last: int) -> Halves:
        return rows[order[first:last]].astype("<f2", copy=False)

    return _write_vectors(folder, numbers[order], rows.shape[1], part, model_id)


def write_merged(folder: Path, sources: Sequence[Vectors], wanted: Numbers, model_id: str = "") -> BlockFile:
    """A durable file of the passages `wanted` (ascending), each in one of the sources at least."""
    numbers = np.concatenate([source.numbers for source in sources])
    order = np.argsort(numbers, kind="stable")
    found = order[np.searchsorted(numbers, wanted, sorter=order)]
    starts = np.cumsum([0, *(len(source.numbers) for source in sources)])
    dimension = sources[0].rows.shape[1]

    def part(first: int, last: int) -> Halves:
        picked = found[first:last]
        out = np.empty((len(picked), dimension), "<f2")
        for source, start, end in zip(sources, starts[:-1], starts[1:], strict=True):
            here = (picked >= start) & (picked < end)
            out[here] = source.rows[picked[here] - start]
        return out

    return _write_vectors(folder, wanted, dimension, part, model_id)


def _write_vectors(
    folder: Path, numbers: Numbers, dimension: int, part: Callable[[int, int], Halves], model_id: str
) -> BlockFile:
    """`part(first, last)`: rows first to last - 1; asked for piece by piece, so that few are in memory."""
    n = len(numbers)
    offsets = _vector_offsets(n, dimension)
    codes = np.zeros((code_words(dimension), n), "<u8")
    with _new_file(folder, "vectors") as new:
        crc = 0
        new.file.seek(offsets[2])
        for first in range(0, n, ROWS_AT_ONCE):
            rows = part(first, first + ROWS_AT_ONCE)
            codes[:, first : first + len(rows)] = codes_of(rows)
            crc = zlib.crc32(_bytes(rows), crc)
            new.file.write(_bytes(rows))
        crcs = [new.put(offsets[0], numbers.astype("<i8", copy=False)), new.put(offsets[1], codes), crc]
        model = bytes.fromhex(model_id) if _MODEL_ID.fullmatch(model_id) else _NO_MODEL
        return new.finish(KIND_VECTORS, dimension, n, crcs, model)


def write_map(folder: Path, ids: Numbers, numbers: Numbers) -> BlockFile:
    """A durable file of these pairs, in any order; one that comes twice is kept once."""
    order = np.lexsort((numbers, ids))
    ids, numbers = ids[order], numbers[order]
    if len(ids):
        first = np.ones(len(ids), bool)
        first[1:] = (ids[1:] != ids[:-1]) | (numbers[1:] != numbers[:-1])
        ids, numbers = ids[first], numbers[first]
    n = len(ids)
    with _new_file(folder, "map") as new:
        sections = zip(_map_offsets(n), (ids, numbers), strict=False)
        crcs = [new.put(offset, section.astype("<i8", copy=False)) for offset, section in sections]
        block = new.finish(KIND_MAP, 0, n, [*crcs, 0])
    low, high = (int(ids[0]), int(ids[-1]) + 1) if n else (0, 0)
    return BlockFile(block.name, block.count, block.bytes, block.crc, low, high)


class _NewFile:
    """A file that has its name only when it is whole and on disk."""

    def __init__(self, folder: Path, name: str, file: BinaryIO) -> None:
        self.file = file
        self._folder = folder
        self._name = name

    def put(self, offset: int, section: npt.NDArray[Any]) -> int:
        """Write a section; its CRC-32."""
        self.file.seek(offset)
        self.file.write(_bytes(section))
        return zlib.crc32(_bytes(section))

    def finish(
        self, kind: int, dimension: int, count: int, crcs: Sequence[int], model: bytes = _NO_MODEL
    ) -> BlockFile:
        head = _HEADER.pack(MAGIC, kind, dimension, count, *crcs, model)
        crc = zlib.crc32(head)
        self.file.seek(0)
        self.file.write(head + _CRC.pack(crc))
        self.file.flush()
        os.fsync(self.file.fileno())
        size = os.fstat(self.file.fileno()).st_size
        os.replace(self.file.name, self._folder / self._name)
        return BlockFile(self._name, count, size, crc)


@contextlib.contextmanager
def _new_file(folder: Path, suffix: str) -> Iterator[_NewFile]:
    name = f"{secrets.token_hex(8)}.{suffix}"
    with open(folder / f"{name}.tmp", "wb") as file:
        yield _NewFile(folder, name, file)


def open_vectors(folder: Path, block: BlockFile, dimension: int) -> Vectors:
    """Map a file of vectors; numbers and codes are checked. Raises DamagedBlockError."""
    n, words = block.count, code_words(dimension)
    offsets = _vector_offsets(n, dimension)
    raw = _mapped(folder, block, KIND_VECTORS, dimension, offsets[-1])
    numbers = _section(raw, offsets[0], 8 * n, "<i8")
    codes = _section(raw, offsets[1], 8 * words * n, "<u8").reshape(words, n)
    rows = _section(raw, offsets[2], 2 * dimension * n, "<f2").reshape(n, dimension)
    _check(folder, block, raw, (numbers, codes))
    return Vectors(numbers, codes, rows)


class Named(NamedTuple):
    """What a file of vectors says of itself."""

    model_id: str
    dimension: int
    block: BlockFile


def named_vectors(path: Path) -> Named | None:
    """By its header alone; None where that is damaged or names no model."""
    try:
        with open(path, "rb") as file:
            head = file.read(ALIGNMENT)
            size = os.fstat(file.fileno()).st_size
    except OSError:
        return None
    crc = zlib.crc32(head[: _HEADER.size])
    if len(head) < ALIGNMENT or _CRC.unpack(head[_HEADER.size :])[0] != crc:
        return None
    magic, kind, dimension, count, *_, model = _HEADER.unpack(head[: _HEADER.size])
    if (magic, kind) != (MAGIC, KIND_VECTORS) or model == _NO_MODEL:
        return None
    return Named(model.hex(), dimension, BlockFile(path.name, count, size, crc))


def open_map(folder: Path, block: BlockFile) -> Pairs:
    """Map a file of pairs; all is checked. Raises DamagedBlockError."""
    n = block.count
    offsets = _map_offsets(n)
    raw = _mapped(folder, block, KIND_MAP, 0, offsets[-1])
    pairs = Pairs(_section(raw, offsets[0], 8 * n, "<i8"), _section(raw, offsets[1], 8 * n, "<i8"))
    _check(folder, block, raw, pairs)
    return pairs


def check_rows(folder: Path, block: BlockFile, vectors: Vectors) -> None:
    """Read all float16 rows of an opened file. Raises DamagedBlockError where they are not what was written."""
    with open(folder / block.name, "rb") as file:
        crcs = _HEADER.unpack(file.read(_HEADER.size))[4:7]
    if _crc(vectors.rows) != crcs[2]:
        raise DamagedBlockError(f"{folder / block.name} is damaged")


def _mapped(folder: Path, block: BlockFile, kind: int, dimension: int, size: int) -> npt.NDArray[np.uint8]:
    path = folder / block.name
    try:
        raw: npt.NDArray[np.uint8] = np.asarray(
            np.memmap(path, np.uint8, "r")
        )  # a plain array is sliced faster
    except (OSError, ValueError) as error:  # an empty file cannot be mapped
        raise DamagedBlockError(f"{path}: {error}") from error
    if not len(raw) == block.bytes == size:
        raise DamagedBlockError(f"{path} is not as long as it was")
    head = raw[:ALIGNMENT].tobytes()
    crc = zlib.crc32(head[: _HEADER.size])
    expected = (block.crc, _CRC.unpack(head[_HEADER.size :])[0], (MAGIC, kind, dimension, block.count))
    if (crc, crc, _HEADER.unpack(head[: _HEADER.size])[:4]) != expected:
        raise DamagedBlockError(f"{path} has another header")
    return raw


def _map_offsets(n: int) -> tuple[int, ...]:
    """Where the sections begin, and the end."""
    return _offsets(8 * n, 8 * n)


def _vector_offsets(n: int, dimension: int) -> tuple[int, ...]:
    return _offsets(8 * n, 8 * code_words(dimension) * n, 2 * dimension * n)


def _offsets(*sizes: int) -> tuple[int, ...]:
    starts = [ALIGNMENT]
    for size in sizes[:-1]:
        end = starts[-1] + size
        starts.append(-(-end // ALIGNMENT) * ALIGNMENT)
    return (*starts, starts[-1] + sizes[-1])


def _section(raw: npt.NDArray[np.uint8], start: int, size: int, kind: str) -> npt.NDArray[Any]:
    return raw[start : start + size].view(kind)


def _check(
    folder: Path,
    block: BlockFile,
    raw: npt.NDArray[np.uint8],
    sections: tuple[npt.NDArray[Any], ...],
) -> None:
    crcs = _HEADER.unpack(raw[: _HEADER.size].tobytes())[4:7]
    if any(_crc(section) != crc for section, crc in zip(sections, crcs, strict=False)):
        raise DamagedBlockError(f"{folder / block.name} is damaged")


def _crc(section: npt.NDArray[Any]) -> int:
    return zlib.crc32(_bytes(section))


def _bytes(section: npt.NDArray[Any]) -> memoryview:
    """The array's own memory."""
    return np.ascontiguousarray(section).reshape(-1).view(np.uint8).data

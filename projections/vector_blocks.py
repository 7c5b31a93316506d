"""The files of the vectors: written once, opened as memory maps.

All integers are little endian. A file is a header of 64 bytes and sections that begin at multiples of 64:

    header   8s magic "SMVECT1\\0" · u32 kind (1 map, 2 vectors) · u32 dimension · u64 count · 3 × u32 CRC-32 of the
             sections · zeros · u32 CRC-32 of the 60 bytes before
    map      int64[count] row ids, ascending · int64[count] passage numbers, ascending within a row
    vectors  int64[count] passage numbers, ascending, distinct · uint8[count, code bytes] binary codes ·
             float16[count, dimension] rows of length 1

A code is the signs of a row, eight a byte, the first in the highest bit (1: above zero), then zeros up to a multiple of
eight bytes. Opening a file checks all sections but the float16 rows, which would have to be read whole: see `check_rows`.
"""

import os
import secrets
import struct
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from session_mgmt_mcp.projections.vector_state import BlockFile

Numbers = npt.NDArray[np.int64]
Codes = npt.NDArray[np.uint8]
Halves = npt.NDArray[np.float16]

MAGIC = b"SMVECT1\0"
KIND_MAP, KIND_VECTORS = 1, 2
ALIGNMENT = 64
_HEADER = struct.Struct("<8sIIQ3I24x")  # and the CRC-32 of these 60 bytes
_CRC = struct.Struct("<I")


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


def code_bytes(dimension: int) -> int:
    """Bytes of a binary code."""
    return -(-dimension // 64) * 8


def codes_of(rows: npt.NDArray[np.floating]) -> Codes:
    """Binary codes [n, code bytes] of vectors [n, dimension]."""
    bits = np.packbits(rows > 0, axis=1)
    out = np.zeros((len(rows), code_bytes(rows.shape[1])), np.uint8)
    out[:, : bits.shape[1]] = bits
    return out


def write_vectors(folder: Path, numbers: Numbers, rows: npt.NDArray[np.floating]) -> BlockFile:
    """A durable file of these passages; numbers distinct, in any order; rows [n, dimension] of length 1."""
    order = np.argsort(numbers, kind="stable")
    halves = np.ascontiguousarray(rows[order], "<f2")
    sections = (np.ascontiguousarray(numbers[order], "<i8"), codes_of(halves), halves)
    return _write(folder, "vectors", KIND_VECTORS, rows.shape[1], sections)


def write_map(folder: Path, ids: Numbers, numbers: Numbers) -> BlockFile:
    """A durable file of these pairs, in any order; one that comes twice is kept once."""
    order = np.lexsort((numbers, ids))
    ids, numbers = ids[order], numbers[order]
    if len(ids):
        first = np.ones(len(ids), bool)
        first[1:] = (ids[1:] != ids[:-1]) | (numbers[1:] != numbers[:-1])
        ids, numbers = ids[first], numbers[first]
    sections = (np.ascontiguousarray(ids, "<i8"), np.ascontiguousarray(numbers, "<i8"))
    block = _write(folder, "map", KIND_MAP, 0, sections)
    low, high = (int(ids[0]), int(ids[-1]) + 1) if len(ids) else (0, 0)
    return BlockFile(block.name, block.count, block.bytes, block.crc, low, high)


def _write(
    folder: Path, suffix: str, kind: int, dimension: int, sections: tuple[npt.NDArray[Any], ...]
) -> BlockFile:
    name = f"{secrets.token_hex(8)}.{suffix}"
    temporary = folder / f"{name}.tmp"
    crcs = [_crc(section) for section in sections]
    head = _HEADER.pack(MAGIC, kind, dimension, len(sections[0]), *crcs, *([0] * (3 - len(crcs))))
    crc = zlib.crc32(head)
    with open(temporary, "wb") as file:
        file.write(head + _CRC.pack(crc))
        for section in sections:
            file.write(bytes(-file.tell() % ALIGNMENT))
            file.write(_bytes(section))
        size = file.tell()
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, folder / name)
    return BlockFile(name, len(sections[0]), size, crc)


def open_vectors(folder: Path, block: BlockFile, dimension: int) -> Vectors:
    """Map a file of vectors; numbers and codes are checked. Raises DamagedBlockError."""
    raw = _mapped(folder, block, KIND_VECTORS, dimension)
    numbers, codes, rows = _vector_sections(raw, block.count, dimension)
    _check(folder, block, raw, (numbers, codes))
    return Vectors(numbers, codes, rows)


def open_map(folder: Path, block: BlockFile) -> Pairs:
    """Map a file of pairs; all is checked. Raises DamagedBlockError."""
    raw = _mapped(folder, block, KIND_MAP, 0)
    n = block.count
    second = _aligned(ALIGNMENT + 8 * n)
    if len(raw) < second + 8 * n:
        raise DamagedBlockError(f"{folder / block.name} is cut")
    pairs = Pairs(_section(raw, ALIGNMENT, 8 * n, "<i8"), _section(raw, second, 8 * n, "<i8"))
    _check(folder, block, raw, pairs)
    return pairs


def check_rows(folder: Path, block: BlockFile, vectors: Vectors) -> None:
    """Read all float16 rows of an opened file. Raises DamagedBlockError where they are not what was written."""
    with open(folder / block.name, "rb") as file:
        crcs = _HEADER.unpack(file.read(_HEADER.size))[4:]
    if _crc(vectors.rows) != crcs[2]:
        raise DamagedBlockError(f"{folder / block.name} is damaged")


def _mapped(folder: Path, block: BlockFile, kind: int, dimension: int) -> npt.NDArray[np.uint8]:
    path = folder / block.name
    try:
        raw: npt.NDArray[np.uint8] = np.memmap(path, np.uint8, "r")
    except (OSError, ValueError) as error:  # an empty file cannot be mapped
        raise DamagedBlockError(f"{path}: {error}") from error
    head = raw[:ALIGNMENT].tobytes()
    if len(raw) != block.bytes or len(head) < ALIGNMENT:
        raise DamagedBlockError(f"{path} is not as long as it was")
    crc = zlib.crc32(head[: _HEADER.size])
    found = _HEADER.unpack(head[: _HEADER.size])
    if (
        crc != block.crc
        or _CRC.unpack(head[_HEADER.size :])[0] != crc
        or found[:4] != (MAGIC, kind, dimension, block.count)
    ):
        raise DamagedBlockError(f"{path} has another header")
    return raw


def _vector_sections(raw: npt.NDArray[np.uint8], n: int, dimension: int) -> tuple[Numbers, Codes, Halves]:
    width = code_bytes(dimension)
    second = _aligned(ALIGNMENT + 8 * n)
    third = _aligned(second + width * n)
    if len(raw) < third + 2 * dimension * n:
        raise DamagedBlockError("a file of vectors is cut")
    numbers = _section(raw, ALIGNMENT, 8 * n, "<i8")
    codes = _section(raw, second, width * n, "u1").reshape(n, width)
    return numbers, codes, _section(raw, third, 2 * dimension * n, "<f2").reshape(n, dimension)


def _section(raw: npt.NDArray[np.uint8], start: int, size: int, kind: str) -> npt.NDArray[Any]:
    return raw[start : start + size].view(kind)


def _check(
    folder: Path,
    block: BlockFile,
    raw: npt.NDArray[np.uint8],
    sections: tuple[npt.NDArray[Any], ...],
) -> None:
    crcs = _HEADER.unpack(raw[: _HEADER.size].tobytes())[4:]
    if any(_crc(section) != crc for section, crc in zip(sections, crcs, strict=False)):
        raise DamagedBlockError(f"{folder / block.name} is damaged")


def _crc(section: npt.NDArray[Any]) -> int:
    return zlib.crc32(_bytes(section))


def _bytes(section: npt.NDArray[Any]) -> memoryview:
    """The array's own memory."""
    return np.ascontiguousarray(section).reshape(-1).view(np.uint8).data


def _aligned(offset: int) -> int:
    return -(-offset // ALIGNMENT) * ALIGNMENT

"""Checking a log against its own claims: manifests → file hashes → leaves → chain (FORMAT.md sections 2 and 4)."""

import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from session_mgmt_mcp.core.errors import LogCorruptError
from session_mgmt_mcp.core.log.appender import leaves
from session_mgmt_mcp.core.log.durable import sha256
from session_mgmt_mcp.core.log.frame import HEADER, entries_of, scan
from session_mgmt_mcp.core.log.journals import first_chain, list_journals
from session_mgmt_mcp.core.log.manifest import (
    SegmentEntry,
    load_manifest,
    manifest_path,
    read_manifest,
    versions,
)
from session_mgmt_mcp.core.log.seal import read_journal
from session_mgmt_mcp.core.log.segment import Row, check_ids, read_rows, sha256_of


class Verified(NamedTuple):
    """A log that checks: events, how many payloads were forgotten, and the chain head (hex)."""

    events: int
    forgotten: int
    chain: str


def verify(folder: str, log_id: str) -> Verified:
    """Read every byte of the log. Raises LogCorruptError naming the file or position that fails."""
    _check_manifests(folder)
    manifest = load_manifest(folder)
    chain, expected, forgotten = first_chain(log_id), 1, 0
    for entry in manifest.segments:
        chain, expected = _check_segment(folder, entry, chain, expected)
        forgotten += entry.forgotten
    for first, path in list_journals(folder):
        if first < expected:
            continue  # sealed; its unlinking was interrupted
        header, data = read_journal(path)
        if header.first != expected or header.chain != chain:
            raise LogCorruptError(f"{path} does not continue the log at position {expected}")
        for frame in scan(data[HEADER.size :], HEADER.size, header, expected):
            if frame.count:
                chain = _next_chain(chain, leaves(frame.first, entries_of(frame, data, 0)))
                expected += frame.count
            if chain != frame.chain:
                raise LogCorruptError(f"{path}: the chain breaks at position {frame.first}")
    return Verified(expected - 1, forgotten, chain.hex())


def _next_chain(chain: bytes, frame_leaves: list[bytes]) -> bytes:
    return bytes(sha256(chain + b"".join(frame_leaves)).digest())


def _check_manifests(folder: str) -> None:
    found = versions(folder)
    for version, following in pairwise(found):
        raw = Path(manifest_path(folder, version)).read_bytes()
        named = read_manifest(manifest_path(folder, following)).previous
        if sha256(raw).digest().hex() != named:
            raise LogCorruptError(f"{manifest_path(folder, version)} is not the one its successor names")


def _check_segment(folder: str, entry: SegmentEntry, chain: bytes, expected: int) -> tuple[bytes, int]:
    path, ids = f"{folder}/segments/{entry.file}", f"{folder}/segments/{entry.ids}"
    for name, digest in ((path, entry.sha256), (ids, entry.ids_sha256)):
        if not os.path.exists(name):
            raise LogCorruptError(f"{name} is missing; restore it from a backup")
        if sha256_of(name) != digest:
            raise LogCorruptError(f"{name} is not what the manifest says; restore it from a backup")
    check_ids(ids)
    if entry.first != expected or entry.chain_before != chain.hex():
        raise LogCorruptError(f"{path} does not continue the log at position {expected}")
    for rows in _frames(path):
        if rows[0].position != expected or rows[0].frame != expected:
            raise LogCorruptError(f"{path}: position {expected} is missing")
        chain = _next_chain(chain, [_leaf(row) for row in rows])
        expected += len(rows)
    if entry.last != expected - 1 or entry.chain != chain.hex():
        raise LogCorruptError(f"{path}: its chain is not the one the manifest names")
    return chain, expected


def _frames(path: str) -> Iterator[list[Row]]:
    frame: list[Row] = []
    for group in read_rows(path):
        for row in group:
            if frame and row.frame != frame[0].frame:
                yield frame
                frame = []
            frame.append(row)
    if frame:
        yield frame


def _leaf(row: Row) -> bytes:
    if (row.payload is None) != (row.payload_salt is None):
        raise LogCorruptError(f"position {row.position} has only one of payload and salt")
    if (
        row.payload_salt is not None
        and sha256(row.payload_salt + (row.payload or b"")).digest() != row.payload_hash
    ):
        raise LogCorruptError(f"the payload of position {row.position} is not the one that was appended")
    return bytes(
        sha256(
            b"\0" + row.position.to_bytes(8, "little") + row.event_id + row.payload_hash + row.envelope
        ).digest()
    )

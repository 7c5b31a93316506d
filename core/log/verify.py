"""Checking a log against its own claims: manifests → file hashes → leaves → chain (FORMAT.md sections 2 and 4)."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from session_mgmt_mcp.core.errors import LogCorruptError
from session_mgmt_mcp.core.log.appender import leaves
from session_mgmt_mcp.core.log.durable import sha256
from session_mgmt_mcp.core.log.folder import read_format
from session_mgmt_mcp.core.log.frame import (
    HEADER,
    JournalHeader,
    entries_of,
    frame_at,
    says_damaged,
    scan,
)
from session_mgmt_mcp.core.log.journals import first_chain, list_journals
from session_mgmt_mcp.core.log.manifest import (
    KEEP,
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
    while True:
        before = versions(folder)
        try:
            return _verify(folder, log_id)
        except (LogCorruptError, FileNotFoundError) as error:
            if versions(folder) != before:
                continue  # sealed meanwhile: files were replaced under our hands
            if isinstance(error, FileNotFoundError):
                raise LogCorruptError(f"{error.filename} is missing; restore it from a backup") from error
            raise


def _verify(folder: str, log_id: str) -> Verified:
    _check_manifests(folder, log_id)
    manifest = load_manifest(folder)
    chain, expected, forgotten = first_chain(read_format(folder).origin), 1, 0
    for entry in manifest.segments:
        chain, expected = _check_segment(folder, entry, chain, expected)
        forgotten += entry.forgotten
    for first, path in list_journals(folder):
        if first < expected:
            continue  # sealed; its unlinking was interrupted
        header, data = read_journal(path)
        if header.first != expected or header.chain != chain:
            raise LogCorruptError(f"{path} does not continue the log at position {expected}")
        frame = None
        for frame in scan(data[HEADER.size :], HEADER.size, header, expected):
            if frame.count:
                chain = _next_chain(chain, leaves(frame.first, entries_of(frame, data, 0)))
                expected += frame.count
            if chain != frame.chain:
                raise LogCorruptError(f"{path}: the chain breaks at position {frame.first}")
        _check_rest(path, header, frame.end if frame else HEADER.size, expected)
    return Verified(expected - 1, forgotten, chain.hex())


def _next_chain(chain: bytes, frame_leaves: list[bytes]) -> bytes:
    return bytes(sha256(chain + b"".join(frame_leaves)).digest())


def _check_rest(path: str, header: JournalHeader, end: int, position: int) -> None:
    """Raise where what follows the last good frame was on disk once: a torn tail never was."""
    with open(path, "rb") as file:  # read again: somebody may have appended since
        raw = file.read()
    if frame_at(memoryview(raw), end, 0, header) is None and says_damaged(raw[end:], end, header):
        raise LogCorruptError(
            f"{path} is damaged at byte {end} (position {position}); restore it from a backup"
        )


def _check_manifests(folder: str, log_id: str) -> None:
    digest = None
    for version in versions(folder)[-KEEP:]:  # older ones are left of an interrupted removal, perhaps not all
        path = manifest_path(folder, version)
        manifest = read_manifest(path)
        if manifest.version != version or manifest.log_id != log_id:
            raise LogCorruptError(f"{path} is of another version or log; restore it from a backup")
        if digest is not None and manifest.previous != digest:
            raise LogCorruptError(f"{path} does not follow version {version - 1}; restore it from a backup")
        digest = sha256(Path(path).read_bytes()).digest().hex()


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

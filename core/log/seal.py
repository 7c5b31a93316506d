"""Turning closed journals into immutable Parquet segments (FORMAT.md section 4, Seal). Caller holds maintenance.lock."""

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from zlib import crc32

from session_mgmt_mcp.core.errors import LogCorruptError
from session_mgmt_mcp.core.log.appender import leaves
from session_mgmt_mcp.core.log.durable import sha256, sync_folder, write_new
from session_mgmt_mcp.core.log.folder import read_format
from session_mgmt_mcp.core.log.frame import HEADER, JournalHeader, decode_header, entries_of, scan
from session_mgmt_mcp.core.log.journals import first_chain, list_journals
from session_mgmt_mcp.core.log.manifest import Manifest, SegmentEntry, drop_old, load_manifest, publish
from session_mgmt_mcp.core.log.segment import (
    Known,
    Row,
    encode_ids,
    read_rows,
    sha256_of,
    sync_path,
    write_segment,
)

SEGMENT_BYTES_TARGET = 32 << 20  # of journals put into one segment
ORPHAN_AGE_S = 86_400


def seal(folder: str, log_id: str, progress: Callable[[int], None] | None = None) -> Manifest:
    """Seal every closed journal; the manifest afterwards. `progress` gets the last sealed position.

    Safe to interrupt anywhere and to run again. Raises LogCorruptError (nothing changed), OSError.
    """
    genesis = first_chain(read_format(folder).origin)
    while True:
        manifest = load_manifest(folder)
        drop_sealed_journals(folder, manifest)
        run = _next_run(folder, manifest)
        if not run:
            drop_old(folder)
            drop_orphans(folder, manifest)
            return manifest
        before = manifest.chain or genesis
        rows, chain = _rows_of(run, manifest.last, before, log_id)
        entry = put_segment(folder, rows, before, chain)
        if publish(folder, manifest, log_id, (*manifest.segments, entry)) is None:
            continue  # somebody else published: our segment is an orphan, start over from theirs
        sync_folder(folder + "/segments")
        sync_folder(folder + "/manifest")
        if progress is not None:
            progress(entry.last)


def drop_sealed_journals(folder: str, manifest: Manifest) -> None:
    """Unlink journals whose events are all sealed. Visible is not durable: the folders are synced first."""
    journals = list_journals(folder)
    done = [path for (_, path), (following, _) in pairwise(journals) if following - 1 <= manifest.last]
    if not done:
        return
    sync_folder(folder + "/segments")
    sync_folder(folder + "/manifest")
    for path in done:
        os.unlink(path)
    sync_folder(folder + "/journal")


def _next_run(folder: str, manifest: Manifest) -> list[str]:
    """The closed journals for the next segment."""
    journals = list_journals(folder)
    run: list[str] = []
    size = 0
    for (first, path), _ in pairwise(journals):
        if first <= manifest.last:
            continue
        if not run and first != manifest.last + 1:
            raise LogCorruptError(
                f"{path} begins at position {first}, but the segments end at {manifest.last}; "
                "restore the missing files from a backup"
            )
        size += os.path.getsize(path)
        if run and size > SEGMENT_BYTES_TARGET:
            break
        run.append(path)
    if not run and journals and journals[-1][0] > manifest.last + 1:
        raise LogCorruptError(
            f"{folder}: no journal begins at position {manifest.last + 1}, later ones do; "
            "restore the missing files from a backup"
        )
    return run


def _rows_of(paths: Sequence[str], last: int, chain: bytes, log_id: str) -> tuple[list[Row], bytes]:
    """All events of these closed journals after position `last`, verified from its chain on; and the chain after them."""
    expected = last + 1
    rows: list[Row] = []
    for path in paths:
        header, data = read_journal(path)
        if header.log_id.hex() != log_id:
            raise LogCorruptError(f"{path} is of another log; move it out of the data folder")
        if header.first != expected or header.chain != chain:
            raise LogCorruptError(f"{path} does not continue the log before it; restore it from a backup")
        frames = scan(data[HEADER.size :], HEADER.size, header, expected)
        if not frames or frames[-1].count:
            raise LogCorruptError(
                f"{path} is damaged after position {expected - 1}: a closed journal must end in a closing frame; "
                "restore it from a backup"
            )
        for frame in frames[:-1]:
            entries = entries_of(frame, data, 0)
            chain = sha256(chain + b"".join(leaves(frame.first, entries))).digest()
            if chain != frame.chain:
                raise LogCorruptError(f"{path}: the chain breaks at position {frame.first}; restore it")
            for k, (event_id, salt, envelope, payload) in enumerate(entries):
                digest = sha256(salt + payload).digest()
                rows.append(Row(frame.first + k, frame.first, event_id, envelope, digest, salt, payload))
            expected += frame.count
    return rows, chain


def read_journal(path: str) -> tuple[JournalHeader, memoryview]:
    """Header and whole content of a journal. Raises LogCorruptError, FileNotFoundError."""
    raw = Path(path).read_bytes()
    return decode_header(raw[: HEADER.size], path), memoryview(raw)


def put_segment(folder: str, rows: Sequence[Row], chain_before: bytes, chain: bytes) -> SegmentEntry:
    """Write a segment and its ids durably under their names, having read them back; its manifest entry."""
    base = f"{folder}/segments"
    temporary = f"{base}/{os.urandom(6).hex()}.tmp"
    write_segment(temporary, rows)
    os.chmod(temporary, 0o400)
    sync_path(temporary)
    _compare(temporary, rows)
    digest = sha256_of(temporary)
    name = f"{rows[0].position:020d}-{rows[-1].position:020d}-{digest[:8]}"
    ids = encode_ids([(r.event_id, _known(r)) for r in rows])
    write_new(f"{temporary}.ids.tmp", ids, 0o400)
    size = os.path.getsize(temporary)
    os.rename(f"{temporary}.ids.tmp", f"{base}/{name}.ids")
    os.rename(temporary, f"{base}/{name}.parquet")
    sync_folder(base)
    return SegmentEntry(
        first=rows[0].position,
        last=rows[-1].position,
        file=f"{name}.parquet",
        sha256=digest,
        ids=f"{name}.ids",
        ids_sha256=sha256(ids).digest().hex(),
        bytes=size,
        chain_before=chain_before.hex(),
        chain=chain.hex(),
        forgotten=sum(r.payload is None for r in rows),
    )


def _known(row: Row) -> Known:
    if row.payload is None:
        return Known(row.position, 0, 0)
    return Known(row.position, crc32(row.payload), len(row.payload))


def _compare(path: str, rows: Sequence[Row]) -> None:
    at = 0
    for group in read_rows(path):
        if group != list(rows[at : at + len(group)]):
            raise LogCorruptError(
                f"{path} does not read back as written; check the disk, nothing was published"
            )
        at += len(group)
    if at != len(rows):
        raise LogCorruptError(f"{path} reads back {at} of {len(rows)} events; check the disk")


def drop_orphans(folder: str, manifest: Manifest, age_s: float = ORPHAN_AGE_S) -> None:
    """Collect segments this manifest does not name, once no slow reader or racing sealer can want them."""
    named = {name for entry in manifest.segments for name in (entry.file, entry.ids)}
    limit = time.time() - age_s
    for name in os.listdir(folder + "/segments"):
        path = f"{folder}/segments/{name}"
        with contextlib.suppress(FileNotFoundError):
            if name not in named and os.path.getmtime(path) <= limit:
                os.unlink(path)

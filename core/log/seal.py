"""Turning closed journals into immutable Parquet segments (FORMAT.md section 4, Seal). Caller holds maintenance.lock."""

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise, zip_longest
from pathlib import Path

import msgspec
import pyarrow as pa

from session_mgmt_mcp.core.errors import LogCorruptError
from session_mgmt_mcp.core.log.columns import journal_table
from session_mgmt_mcp.core.log.durable import sha256, sync_folder, write_new
from session_mgmt_mcp.core.log.folder import read_format
from session_mgmt_mcp.core.log.frame import HEADER, JournalHeader, decode_header, scan
from session_mgmt_mcp.core.log.journals import first_chain, list_journals
from session_mgmt_mcp.core.log.manifest import (
    Manifest,
    SegmentEntry,
    drop_old,
    load_manifest,
    manifest_path,
    publish,
    read_manifest,
    versions,
)
from session_mgmt_mcp.core.log.segment import (
    IdRows,
    Row,
    ahead,
    read_tables,
    row_groups,
    segment_writer,
    sha256_of,
    sync_path,
    table_of,
)

SEGMENT_BYTES_TARGET = 32 << 20  # of journals put into one segment
SEAL_LEVEL = 1  # of compression: fast; compaction compresses better
ORPHAN_AGE_S = 86_400
REPLACED_AGE_S = 900  # readers and backups may be about to open what was merged or rewritten


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
        journals = _Journals(run, manifest.last, before, log_id)
        entry = put_segment(folder, journals, before, b"", SEAL_LEVEL)
        entry = msgspec.structs.replace(entry, chain=journals.chain.hex())
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


class _Journals:
    """The events of closed journals as tables, verified and hashed when they are passed first, then kept."""

    def __init__(self, paths: Sequence[str], last: int, chain: bytes, log_id: str) -> None:
        """The journals follow position `last`, after which the chain is `chain`."""
        self.paths = paths
        self.log_id = log_id
        self.expected = last + 1
        self.chain = chain  # after the tables that were made
        self._tables: list[pa.Table] = []

    def __iter__(self) -> Iterator[pa.Table]:
        return ahead(map(self._table, range(len(self.paths))))

    def _table(self, k: int) -> pa.Table:
        if k == len(self._tables):
            self._tables.append(self._read(self.paths[k]))
        return self._tables[k]

    def _read(self, path: str) -> pa.Table:
        header, data = read_journal(path)
        if header.log_id.hex() != self.log_id:
            raise LogCorruptError(f"{path} is of another log; move it out of the data folder")
        if header.first != self.expected or header.chain != self.chain:
            raise LogCorruptError(f"{path} does not continue the log before it; restore it from a backup")
        frames = scan(data[HEADER.size :], HEADER.size, header, self.expected)
        if not frames or frames[-1].count:
            whole = frames[-1].first + frames[-1].count - 1 if frames else self.expected - 1
            raise LogCorruptError(
                f"{path} is damaged after position {whole}: a closed journal must end in a closing frame; "
                "restore it from a backup"
            )
        table, self.chain = journal_table(path, header, data, frames[:-1])
        self.expected += table.num_rows
        return table


def read_journal(path: str) -> tuple[JournalHeader, memoryview]:
    """Header and whole content of a journal. Raises LogCorruptError, FileNotFoundError."""
    raw = Path(path).read_bytes()
    return decode_header(raw[: HEADER.size], path), memoryview(raw)


def put_segment(
    folder: str,
    tables: Iterable[pa.Table] | Sequence[Row],
    chain_before: bytes,
    chain: bytes,
    level: int = 3,
) -> SegmentEntry:
    """Write a segment and its ids durably under their names, having read them back; its manifest entry.

    `tables` hold the events in order and are passed twice: once to write them, once to compare. `level` of compression.
    """
    if isinstance(tables, list) and isinstance(tables[0], Row):
        tables = [table_of(tables)]
    base = f"{folder}/segments"
    temporary = f"{base}/{os.urandom(6).hex()}.tmp"
    try:
        ids, first, last = _write(temporary, tables, level)
        os.chmod(temporary, 0o400)
        sync_path(temporary)
        _compare(temporary, tables)
        digest, size = sha256_of(temporary), os.path.getsize(temporary)
        name, raw_ids = f"{first:020d}-{last:020d}-{digest[:8]}", ids.encode()
        write_new(f"{temporary}.ids.tmp", raw_ids, 0o400)
        os.rename(f"{temporary}.ids.tmp", f"{base}/{name}.ids")
        os.rename(temporary, f"{base}/{name}.parquet")
    except BaseException:
        for path in (temporary, f"{temporary}.ids.tmp"):  # large, and the disk may be full
            with contextlib.suppress(OSError):
                os.unlink(path)
        raise
    sync_folder(base)
    return SegmentEntry(
        first=first,
        last=last,
        file=f"{name}.parquet",
        sha256=digest,
        ids=f"{name}.ids",
        ids_sha256=sha256(raw_ids).digest().hex(),
        bytes=size,
        chain_before=chain_before.hex(),
        chain=chain.hex(),
        forgotten=ids.forgotten,
    )


def _write(path: str, tables: Iterable[pa.Table], level: int) -> tuple[IdRows, int, int]:
    """Write (not sync) a segment file; its ids, first and last position."""
    ids, first, last = IdRows(), 0, 0
    with segment_writer(path, level) as writer:
        for group in row_groups(tables):
            writer.write_table(group)
            ids.add(group)
            positions = group.column("position")
            first, last = first or positions[0].as_py(), positions[-1].as_py()
    return ids, first, last


def _compare(path: str, tables: Iterable[pa.Table]) -> None:
    for found, wanted in zip_longest(ahead(read_tables(path)), row_groups(tables)):
        if found is None or wanted is None or not found.equals(wanted):
            raise LogCorruptError(
                f"{path} does not read back as written; check the disk, nothing was published"
            )


def drop_orphans(folder: str, manifest: Manifest, age_s: float = ORPHAN_AGE_S) -> None:
    """Collect segments this manifest does not name, once no slow reader, backup or racing sealer can want them.

    What an earlier manifest named goes sooner than what none did. With a negative age all go at once.
    """
    named = {name for entry in manifest.segments for name in (entry.file, entry.ids)}
    unnamed = [name for name in os.listdir(folder + "/segments") if name not in named]
    if not unnamed:
        return
    replaced, now = _replaced(folder, manifest), time.time()
    gone = []
    for name in unnamed:
        path = f"{folder}/segments/{name}"
        with contextlib.suppress(FileNotFoundError):
            old = now - os.path.getmtime(path) >= age_s
            if name in replaced:
                old = now - replaced[name] >= min(age_s, REPLACED_AGE_S)
            if old:
                gone.append(path)
    if gone:
        # Its publisher may have died before this: a power cut must not bring back a manifest that names these files.
        sync_folder(folder + "/manifest")
    for path in gone:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def _replaced(folder: str, manifest: Manifest) -> dict[str, float]:
    """Files that manifests still kept name and this one does not: when they ceased to be named, seconds since 1970."""
    out: dict[str, float] = {}
    following = manifest
    for version in reversed(versions(folder)):
        if version < manifest.version:
            try:
                older = read_manifest(manifest_path(folder, version))
            except (LogCorruptError, FileNotFoundError):
                return out  # `verify` says so
            for entry in older.segments:
                for name in (entry.file, entry.ids):
                    out.setdefault(name, following.created_at / 1e6)
            following = older
    return out

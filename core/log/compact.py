"""Merging small segments that follow each other (FORMAT.md section 4, Compact). Caller holds maintenance.lock."""

import shutil
from collections.abc import Callable, Iterator, Sequence

import pyarrow as pa

from session_mgmt_mcp.core.errors import LogCorruptError
from session_mgmt_mcp.core.log.columns import ChainWalk, check_payloads
from session_mgmt_mcp.core.log.durable import sync_folder
from session_mgmt_mcp.core.log.manifest import Manifest, SegmentEntry, drop_old, load_manifest, publish
from session_mgmt_mcp.core.log.seal import drop_orphans, put_segment
from session_mgmt_mcp.core.log.segment import ahead, read_tables, sha256_of

SEGMENT_BYTES_MIN = 64 << 20  # one of this size is left as it is
SEGMENT_BYTES_MAX = 128 << 20
SEGMENT_EVENTS_MAX = 500_000  # its ids are sorted in memory
_GROWTH = 4
Progress = Callable[[int, int], None]  # events merged, events to merge


def compact(folder: str, log_id: str, progress: Progress | None = None) -> Manifest:
    """Merge segments until no run of them is worth it; the manifest afterwards.

    Safe to interrupt anywhere and to run again; readers go on meanwhile. The files that were merged are removed by a later
    seal or compaction; where the disk has no room for both, nothing is merged. Raises LogCorruptError (a file is not what
    the manifest says; it keeps its name), OSError.
    """
    while True:
        manifest = load_manifest(folder)
        run = plan(manifest.segments)
        sources = manifest.segments[run.start : run.stop]
        if not run or shutil.disk_usage(folder).free < 2 * sum(entry.bytes for entry in sources):
            drop_old(folder)
            drop_orphans(folder, manifest)
            return manifest
        merged = _merge(folder, sources, progress)
        segments = (*manifest.segments[: run.start], merged, *manifest.segments[run.stop :])
        if publish(folder, manifest, log_id, segments) is None:
            continue  # somebody else published: our segment is an orphan, start over from theirs
        sync_folder(folder + "/segments")
        sync_folder(folder + "/manifest")


def plan(segments: Sequence[SegmentEntry]) -> range:
    """Indices of the run of segments to merge next, empty for none.

    A run is worth it where it makes a segment four times as large as its largest part, or one that is done. So a byte is
    rewritten a few times at most, however small the segments were it began in.
    """
    for start in range(len(segments)):
        size = events = largest = 0
        stop = start
        for k in range(start, len(segments)):
            entry = segments[k]
            size, events = size + entry.bytes, events + entry.last - entry.first + 1
            done = entry.bytes >= SEGMENT_BYTES_MIN
            if done or size > SEGMENT_BYTES_MAX or events > SEGMENT_EVENTS_MAX:
                break
            largest = max(largest, entry.bytes)
            growth = 2 if size >= SEGMENT_BYTES_MIN else _GROWTH
            if k > start and size >= growth * largest:
                stop = k + 1
        if stop > start:
            return range(start, stop)
    return range(0)


def _merge(folder: str, sources: Sequence[SegmentEntry], progress: Progress | None) -> SegmentEntry:
    for entry in sources:
        path = f"{folder}/segments/{entry.file}"
        if sha256_of(path) != entry.sha256:  # rot must not be given a new name and a new checksum
            raise LogCorruptError(f"{path} is not what the manifest says; restore it from a backup")
    merged = put_segment(
        folder,
        _Events(folder, sources, progress),
        bytes.fromhex(sources[0].chain_before),
        bytes.fromhex(sources[-1].chain),
    )
    found = (merged.first, merged.last, merged.forgotten)
    if found != (sources[0].first, sources[-1].last, sum(entry.forgotten for entry in sources)):
        raise LogCorruptError(f"{folder}/segments/{merged.file} holds other events than its sources: {found}")
    return merged


class _Events:
    """The events of the sources. Passed twice: hashes and chain are recomputed the first time, then only read back."""

    def __init__(self, folder: str, sources: Sequence[SegmentEntry], progress: Progress | None) -> None:
        self.folder = folder
        self.sources = sources
        self.progress = progress
        self.checked = False

    def __iter__(self) -> Iterator[pa.Table]:
        return ahead(self._read() if self.checked else self._checked())

    def _read(self) -> Iterator[pa.Table]:
        for entry in self.sources:
            yield from read_tables(f"{self.folder}/segments/{entry.file}")

    def _checked(self) -> Iterator[pa.Table]:
        first, last = self.sources[0].first, self.sources[-1].last
        walk = ChainWalk(bytes.fromhex(self.sources[0].chain_before), first)
        for entry in self.sources:
            path = f"{self.folder}/segments/{entry.file}"
            for table in read_tables(path):
                walk.take(table, path)
                check_payloads(table, path)
                if self.progress is not None:
                    self.progress(walk.next - first, last - first + 1)
                yield table
            if walk.finish().hex() != entry.chain or walk.next != entry.last + 1:
                raise LogCorruptError(
                    f"{path}: its chain is not the one the manifest names; restore it from a backup"
                )
        self.checked = True

"""Checking a log against its own claims: every byte of FORMAT.json, manifests, segments, ids and journals is read
(FORMAT.md section 4, Verify).
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from session_mgmt_mcp.core.envelope import Event, EventType, decode_envelope
from session_mgmt_mcp.core.errors import (
    DataFolderError,
    ForgetUnfinishedError,
    FormatTooNewError,
    LogCorruptError,
)
from session_mgmt_mcp.core.events import PayloadForgotten
from session_mgmt_mcp.core.log.columns import CHAIN_COLUMNS, ChainWalk, check_payloads
from session_mgmt_mcp.core.log.durable import sha256
from session_mgmt_mcp.core.log.folder import parse_format
from session_mgmt_mcp.core.log.journal_check import Span, check_journal, tail
from session_mgmt_mcp.core.log.journals import first_chain
from session_mgmt_mcp.core.log.manifest import (
    KEEP,
    Manifest,
    SegmentEntry,
    manifest_path,
    read_manifest,
    versions,
)
from session_mgmt_mcp.core.log.segment import ahead, check_ids, read_tables, sha256_of
from session_mgmt_mcp.core.upcast import upcast

_TRIES = 20
_MEND = "restore it from a backup"
_COLUMNS = [*CHAIN_COLUMNS, "event_type", "payload_salt", "payload"]
_forgotten_by = msgspec.json.Decoder(PayloadForgotten).decode

Progress = Callable[[int, int], None]  # events checked, events in all


class Verified(NamedTuple):
    """A log that checks, and what was read of it."""

    events: int
    forgotten: int  # payloads taken out, each named by a PayloadForgotten
    chain: str  # head, hex
    segments: int
    journals: int
    manifests: int
    files: int
    bytes: int


def verify(folder: str, log_id: str, progress: Progress | None = None) -> Verified:
    """Read every byte of the log. Changes nothing; safe while others append, seal and compact.

    Raises LogCorruptError naming the file or position that fails (ForgetUnfinishedError too), FormatTooNewError,
    DataFolderError (a file cannot be read), LockTimeoutError (somebody holds append.lock, which is taken for a moment).
    """
    for left in reversed(range(_TRIES)):
        before = _Pass.folders(folder)
        try:
            return _Pass(folder, log_id, progress).run()
        except (LogCorruptError, FileNotFoundError) as error:
            if left and versions(folder) != before:
                continue  # sealed or compacted meanwhile: files were replaced under our hands
            if isinstance(error, FileNotFoundError):
                raise LogCorruptError(f"{error.filename} is missing; {_MEND}") from error
            raise
        except OSError as error:
            raise DataFolderError(
                f"cannot read {error.filename}: {error.strerror}; mend its permissions or look after the disk"
            ) from error
    raise AssertionError("unreachable: the last try returns or raises")


class _Pass:
    """One reading of the log."""

    def __init__(self, folder: str, log_id: str, progress: Progress | None) -> None:
        self.folder, self.log_id = folder, log_id
        self.files = self.bytes = self.done = self.total = 0
        self._progress = progress
        self._gone: list[tuple[int, int]] = []  # ranges of positions without a payload
        self._said: list[tuple[int, int]] = []  # ranges that PayloadForgotten events name
        self._named_by: dict[tuple[int, int], int] = {}  # range: position of the event that names it

    @staticmethod
    def folders(folder: str) -> list[int]:
        """The versions of the manifest, having seen that the log's folders are there."""
        for name in ("journal", "segments", "manifest"):
            if not os.path.isdir(f"{folder}/{name}"):
                raise LogCorruptError(f"{folder}/{name} is missing: restore the data folder from a backup")
        return versions(folder)

    def run(self) -> Verified:
        genesis = self._format()
        journals, newest = tail(self.folder)  # as of one moment; what is appended later is not looked at
        spans = self._journals(journals, newest)
        manifests = self._manifests()
        manifest = manifests[-1] if manifests else None
        head = self._segments(manifest, genesis, spans)
        for span in spans:
            head = self._continue(head, span)
        self._check_forgotten(head[0])
        return Verified(
            head[0],
            sum(last - first + 1 for first, last in self._gone),
            head[1].hex(),
            len(manifest.segments) if manifest else 0,
            len(spans),
            len(manifests),
            self.files,
            self.bytes,
        )

    def _count(self, size: int) -> None:
        self.files += 1
        self.bytes += size

    def _passed(self, events: int) -> None:
        self.done = min(self.done + events, self.total)
        if self._progress is not None:
            self._progress(self.done, self.total)

    def _format(self) -> bytes:
        """Every byte of FORMAT.json; the chain before position 1."""
        name = f"{self.folder}/FORMAT.json"
        raw = Path(name).read_bytes()
        self._count(len(raw))
        try:
            found = parse_format(raw, name)
        except FormatTooNewError:
            raise
        except DataFolderError as error:
            raise LogCorruptError(str(error)) from error
        if found.log_id != self.log_id:
            raise LogCorruptError(f"{name} is of log {found.log_id}, not {self.log_id}; {_MEND}")
        return first_chain(found.origin)

    # -- journals ------------------------------------------------------------------------------------------------

    def _journals(self, journals: list[tuple[int, str]], newest: bytes) -> list[Span]:
        """Each journal checked in itself. One that went away meanwhile was sealed: its segment is checked instead."""
        spans = []
        for k in reversed(range(len(journals))):  # the newest first: it says how many events there are
            first, path = journals[k]
            try:
                raw = newest if k == len(journals) - 1 else Path(path).read_bytes()
            except FileNotFoundError:
                continue
            self._count(len(raw))
            span, table = check_journal(first, path, raw, self.log_id, newest=k == len(journals) - 1)
            spans.append(span)
            if table is not None:
                self._look_for_tombstones(table, path)
            self.total = max(self.total, span.last)
            self._passed(span.last - span.first + 1)
        return spans[::-1]

    def _continue(self, head: tuple[int, bytes], span: Span) -> tuple[int, bytes]:
        """The head after this journal, which follows the head, or lies before it since it is sealed."""
        position, chain = head
        if span.last <= position and span.first <= position:
            return head  # held against the segments already
        if span.first != position + 1 or span.before != chain:
            raise LogCorruptError(
                f"{span.path} does not continue the log at position {position + 1}; {_MEND}"
            )
        return span.last, span.after

    # -- manifests and segments ----------------------------------------------------------------------------------

    def _manifests(self) -> list[Manifest]:
        """All versions that are there, each following the one before."""
        out: list[Manifest] = []
        digest = ""
        for version in versions(self.folder):
            path = manifest_path(self.folder, version)
            try:
                manifest, raw = read_manifest(path), Path(path).read_bytes()
            except FileNotFoundError:
                if out:
                    raise
                continue  # one of the oldest: removed since they were listed
            self._count(len(raw))
            if manifest.version != version or manifest.log_id != self.log_id:
                raise LogCorruptError(f"{path} is of another version or log; {_MEND}")
            # beyond those that are kept an interrupted removal may have left gaps
            if digest and manifest.previous != digest and out[-1].version == version - 1:
                raise LogCorruptError(f"{path} does not follow version {version - 1}; {_MEND}")
            out.append(manifest)
            digest = sha256(raw).digest().hex()
        kept = [manifest.version for manifest in out[-KEEP:]]
        if kept and kept[-1] - kept[0] != len(kept) - 1:
            raise LogCorruptError(f"{self.folder}/manifest lacks a version before {kept[-1]}; {_MEND}")
        return out

    def _segments(self, manifest: Manifest | None, genesis: bytes, spans: list[Span]) -> tuple[int, bytes]:
        """Position and chain after the segments; journals that are sealed already must agree with them."""
        last = manifest.last if manifest else 0
        sealed = [span for span in spans if span.first <= last]
        walk = ChainWalk(genesis, 1, {p for span in sealed for p in (span.first - 1, span.last)})
        walk.chains[0] = genesis
        self.total = max(self.total, last)
        for entry in manifest.segments if manifest else ():
            self._segment(entry, walk)
        for span in sealed:
            for position, chain in ((span.first - 1, span.before), (span.last, span.after)):
                if position <= last and walk.chains.get(position) != chain:
                    raise LogCorruptError(
                        f"{span.path} is not what was sealed at position {position}; move it out of the data folder"
                    )
        return last, walk.chain

    def _segment(self, entry: SegmentEntry, walk: ChainWalk) -> None:
        path, ids = f"{self.folder}/segments/{entry.file}", f"{self.folder}/segments/{entry.ids}"
        for name, digest in ((path, entry.sha256), (ids, entry.ids_sha256)):
            if sha256_of(name) != digest:
                raise LogCorruptError(f"{name} is not what the manifest says; {_MEND}")
            self._count(os.path.getsize(name))
        check_ids(ids)
        if entry.first != walk.next or entry.chain_before != walk.chain.hex():
            raise LogCorruptError(f"{path} does not continue the log at position {walk.next}; {_MEND}")
        forgotten = 0
        for table in ahead(read_tables(path, _COLUMNS)):
            walk.take(table, path)
            check_payloads(table, path)
            forgotten += self._note_gone(table)
            self._look_for_tombstones(table, path)
            self._passed(table.num_rows)
        if walk.finish().hex() != entry.chain or walk.next != entry.last + 1:
            raise LogCorruptError(f"{path}: its chain is not the one the manifest names; {_MEND}")
        if forgotten != entry.forgotten:
            raise LogCorruptError(
                f"{path} lacks {forgotten} payloads, the manifest says {entry.forgotten}; {_MEND}"
            )

    # -- what was forgotten --------------------------------------------------------------------------------------

    def _note_gone(self, table: pa.Table) -> int:
        payloads = table.column("payload")
        if not payloads.null_count:
            return 0
        for position in table.column("position").filter(payloads.is_null()).to_pylist():
            if self._gone and self._gone[-1][1] == position - 1:
                self._gone[-1] = (self._gone[-1][0], position)
            else:
                self._gone.append((position, position))
        return int(payloads.null_count)

    def _look_for_tombstones(self, table: pa.Table, path: str) -> None:
        mine = pc.equal(table.column("event_type"), EventType.PAYLOAD_FORGOTTEN.value)
        if not pc.any(mine).as_py():
            return
        columns = (table.filter(mine).column(n).to_pylist() for n in ("position", "envelope", "payload"))
        for position, envelope, payload in zip(*columns, strict=True):
            try:
                event = upcast(Event(position, b"", decode_envelope(envelope), payload))
                ranges = _forgotten_by(event.payload or b"").ranges
            except msgspec.MsgspecError as error:
                raise LogCorruptError(
                    f"{path}: position {position} does not say what was forgotten: {error}; {_MEND}"
                ) from error
            self._said += ranges
            self._named_by.update(dict.fromkeys(ranges, position))

    def _check_forgotten(self, last: int) -> None:
        """Payloads are gone where a PayloadForgotten says so, and nowhere else."""
        said = _merged(self._said)
        if said == self._gone:
            return
        if extra := _first_outside(self._gone, said):
            raise LogCorruptError(
                f"the payload of position {extra} is gone, and nothing says that it was forgotten; "
                "restore the data folder from a backup"
            )
        left = _first_outside(said, self._gone)
        by = next((p for (a, b), p in self._named_by.items() if a <= left <= b), 0)
        if left > last:
            raise LogCorruptError(f"position {by} forgets position {left}, which does not exist; {_MEND}")
        raise ForgetUnfinishedError(
            f"position {by} says that the payload of position {left} was forgotten, but it is still there: "
            "the forgetting was interrupted, or is under way; the next maintenance finishes it"
        )


def _merged(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same positions as ranges in order that do not touch each other."""
    out: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if out and first <= out[-1][1] + 1:
            out[-1] = (out[-1][0], max(out[-1][1], last))
        else:
            out.append((first, last))
    return out


def _first_outside(ranges: list[tuple[int, int]], others: list[tuple[int, int]]) -> int:
    """The first position of `ranges` that is in none of `others`, 0 for none; both in order."""
    at = 0
    for first, last in ranges:
        while at < len(others) and others[at][1] < first:
            at += 1
        if at == len(others) or others[at][0] > first:
            return first
        if others[at][1] < last:
            return others[at][1] + 1
    return 0

"""JSON lines of the generic format (FORMAT.md in this folder) into the log: every record once."""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from session_mgmt_mcp.adapters.importing import Batches, Ignoring, ImportReport, Progress, size_of
from session_mgmt_mcp.adapters.lines import LINE_BYTES_MAX, Line, lines
from session_mgmt_mcp.core.envelope import Envelope, EventType, NewEvent, Source, capture_id, now_us
from session_mgmt_mcp.core.errors import InputError
from session_mgmt_mcp.core.ignore import Rules
from session_mgmt_mcp.core.interpret.generic_record import (
    DEFAULT_ASSISTANT,
    FIELDS,
    Entry,
    EntryError,
    microseconds,
    read_entry,
    read_fields,
)
from session_mgmt_mcp.core.interpret.json_record import NotAnObjectError
from session_mgmt_mcp.core.ports import EventLog

SCHEMA_VERSION = 1
STDIN = "-"
_SNIFFED_BYTES = 256 << 10
_SNIFFED_LINES = 3
_SIGNS = frozenset({"session", "text"})
_FOREIGN = frozenset({"sessionId", "uuid", "message", "payload"})
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


class Input(NamedTuple):
    """A file to read, or stdin."""

    name: str
    file: BinaryIO | None = None  # where it is open already


def import_entries(
    inputs: Iterable[Input],
    log: EventLog,
    *,
    redact: Callable[[bytes], bytes],
    redact_many: Callable[[list[bytes]], list[bytes]] | None = None,
    progress: Callable[[Progress], None] | None = None,
    rules: Rules | None = None,
) -> ImportReport:
    """Append the records of files and streams of the generic format, in their order.

    `redact` sees each line before it is appended; `redact_many`, where given, sees a whole batch instead. Records of
    projects that `rules` ignore count as noise; what stands in files they ignore is replaced. A line that
    cannot be read is counted and named, and the next one is read. Raises what `EventLog.append` raises; everything
    acknowledged before stays appended, and reading the same again appends only what is missing.
    """
    run = _Import(log, redact, redact_many, progress, rules)
    run.files(list(inputs))
    return run.report


def find_files(paths: Sequence[Path]) -> list[Path]:
    """Files as they are, folders with all their `*.jsonl` by name, each file once. Raises InputError."""

    def refuse(error: OSError) -> None:
        raise InputError(f"{error.filename}: cannot be read ({error.strerror}); allow it or leave it out")

    found: dict[Path, None] = {}
    for path in paths:
        if not path.is_dir():
            found[path] = None
            continue
        inside = [
            Path(parent, name)
            for parent, _, names in os.walk(path, onerror=refuse)
            for name in names
            if name.endswith(".jsonl")
        ]
        found.update(dict.fromkeys(sorted(inside)))
    return list(found)


def is_generic(path: Path) -> bool:
    """Whether the first objects of a file are plainly of the generic format; False where it cannot be read."""
    try:
        with path.open("rb") as file:
            head = file.read(_SNIFFED_BYTES)
    except OSError:
        return False
    for line in head.splitlines()[:_SNIFFED_LINES]:
        try:
            fields = read_fields(line).keys()
        except NotAnObjectError:
            continue
        return fields >= _SIGNS and not fields & _FOREIGN and not fields.isdisjoint(("actor", "kind"))
    return False


class _Import:
    """One run: reads, batches, counts."""

    def __init__(
        self,
        log: EventLog,
        redact: Callable[[bytes], bytes],
        redact_many: Callable[[list[bytes]], list[bytes]] | None,
        progress: Callable[[Progress], None] | None,
        rules: Rules | None,
    ) -> None:
        self.report = ImportReport()
        self._batches = Batches(log, self.report, redact, redact_many)
        self._progress = progress
        self._ignoring = Ignoring(rules)
        self._noise: Counter[str] = Counter()
        self._unknown_fields: Counter[str] = Counter()
        self._files_total = self._bytes_total = self._bytes_done = 0

    def files(self, inputs: list[Input]) -> None:
        self._files_total = len(inputs)
        sizes = [0 if source.file else size_of(Path(source.name)) for source in inputs]
        self._bytes_total = sum(sizes)
        before = 0
        try:
            for source, size in zip(inputs, sizes, strict=True):
                for line in self._lines(source):
                    self._line(source.name, line)
                    if self._batches.full:
                        self._bytes_done = before + line.end
                        self._flush()
                before += size
                self._bytes_done = before
                self.report.files += 1
            self._flush()
            self._batches.settle()
        finally:
            self._batches.close()
            self.report.noise_by_type = dict(self._noise.most_common())
            self.report.unknown_fields = dict(self._unknown_fields.most_common())

    def _lines(self, source: Input) -> Iterator[Line]:
        try:
            if source.file is not None:
                yield from lines(source.file)
                return
            with open(source.name, "rb") as file:
                yield from lines(file)
        except OSError as error:  # of reading alone: what the log raises does not pass through here
            self.report.fail(source.name, 0, f"cannot be read: {error.strerror or error}")

    def _line(self, name: str, line: Line) -> None:
        report = self.report
        report.read += 1
        if line.too_long:
            report.fail(name, line.number, f"longer than {LINE_BYTES_MAX >> 20} MiB")
            return
        try:
            fields = read_fields(line.raw)
            entry = read_entry(fields)
            event = new_event(entry, line.raw)
        except (NotAnObjectError, EntryError) as error:
            report.fail(name, line.number, str(error))
            return
        if not fields.keys() <= FIELDS:
            self._unknown_fields.update(fields.keys() - FIELDS)
        if entry.says_nothing:
            report.noise += 1
            self._noise["empty"] += 1
            return
        if entry.project and self._ignoring.leaves_out(entry.project):
            report.noise += 1
            self._noise["ignored project"] += 1
            return
        event = self._ignoring.without(event, entry.project or "")
        self._batches.add(event, "" if entry.is_known else f"generic/{entry.what}")

    def _flush(self) -> None:
        report = self.report
        where = Progress(report.files, self._files_total, self._bytes_done, self._bytes_total, report.read)
        self._batches.flush(lambda: self._progress(where) if self._progress else None)


def new_event(entry: Entry, line: bytes) -> NewEvent:
    """The event of a record, its payload the line as read: not yet redacted. Raises EntryError for a bad time.

    A UUID names a record wherever it is copied to; any other id is taken for unique in its session only, since most
    histories number each session from one.
    """
    assistant, session = entry.assistant or DEFAULT_ASSISTANT, str(entry.session)
    record = "" if entry.record is None else str(entry.record)
    if not record:
        event_id = capture_id(assistant, "entry", session, hashlib.sha256(line).digest())
    elif _UUID.fullmatch(record):
        event_id = capture_id(assistant, "entry", record)
    else:
        event_id = capture_id(assistant, "entry", session, record)
    envelope = Envelope(
        stream=f"{assistant}/{session}",
        event_type=EventType.ENTRY_IMPORTED.value,
        schema_version=SCHEMA_VERSION,
        recorded_at=now_us(),
        occurred_at=microseconds(entry.time),
        actor=entry.speaker,
        source=Source.RECORD.value,
    )
    return NewEvent(event_id, envelope, line)

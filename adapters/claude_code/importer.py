"""Claude Code's transcripts into the log: every record once, whatever was imported before."""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import msgspec

from session_mgmt_mcp.adapters.claude_code.bookmarks import Bookmark, Bookmarks
from session_mgmt_mcp.adapters.claude_code.sniff import other_assistant
from session_mgmt_mcp.adapters.claude_code.transcript_files import (
    find_transcripts,
    plain_session_id,
    session_of_file,
)
from session_mgmt_mcp.adapters.claude_code.transcript_lines import LINE_BYTES_MAX, Line, lines
from session_mgmt_mcp.core import blobs
from session_mgmt_mcp.core.envelope import Envelope, EventType, NewEvent, Receipt, Source, capture_id, now_us
from session_mgmt_mcp.core.interpret.claude_types import (
    ClaudeRecord,
    is_known,
    noise_of,
    origin_of,
    read_record,
)
from session_mgmt_mcp.core.interpret.json_record import NotAnObjectError
from session_mgmt_mcp.core.ports import EventLog

__all__ = ["Bookmarks", "ErrorSample", "ImportReport", "Progress", "find_transcripts", "import_files"]

ASSISTANT = "claude-code"
SCHEMA_VERSION = 1
_BATCH_BYTES = 1 << 20
_BATCH_EVENTS = 500
_SAMPLES_MAX = 20
_SAVE_EVERY_APPENDS = 64
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_TOOL_RESULT = re.compile(rb'"type"\s*:\s*"tool_result"')


class ErrorSample(msgspec.Struct, frozen=True):
    """A line that could not be taken; it is still where it was read."""

    path: str
    line: int  # from 1; 0: the file itself could not be read
    reason: str


class ImportReport(msgspec.Struct):
    """What became of every line that was read: read = appended + duplicates + noise + errors."""

    files: int = 0
    read: int = 0  # lines that are not blank; a file that cannot be read counts as one
    appended: int = 0
    duplicates: int = 0
    changed: int = 0  # a part of duplicates: the stored payload differs
    noise: int = 0
    errors: int = 0
    unknown: int = 0  # a part of appended: of a type this version does not know
    noise_by_type: dict[str, int] = msgspec.field(default_factory=dict)
    unknown_by_type: dict[str, int] = msgspec.field(default_factory=dict)
    error_samples: list[ErrorSample] = msgspec.field(default_factory=list)  # the first 20


class Progress(NamedTuple):
    """How far an import is."""

    files: int
    files_total: int
    bytes: int
    bytes_total: int
    read: int


def import_files(
    paths: Sequence[Path],
    log: EventLog,
    *,
    redact: Callable[[bytes], bytes],
    redact_many: Callable[[list[bytes]], list[bytes]] | None = None,
    progress: Callable[[Progress], None] | None = None,
    bookmarks: Bookmarks | None = None,
    stop: Callable[[], bool] | None = None,
    leave_out: Callable[[int], bool] | None = None,
) -> ImportReport:
    """Append the records of transcripts; `paths` are files and folders (see `find_transcripts`).

    Without `bookmarks` every file is read whole and taken as finished: a last line that does not parse is an
    error. With them, reading goes on where it ended, and such a line is left for the next time. `redact` sees
    each line before it is appended; `redact_many`, where given, sees a whole batch instead and returns it in
    the same order. `stop` is asked after each batch; what was read until then is reported. `leave_out` is asked for
    each record by its time (µs since the epoch; of one without a time, that of the record before it in this run, or
    now); what it leaves out counts as noise. Raises InputError,
    and what `EventLog.append` and `Bookmarks.save` raise; everything acknowledged before stays appended and
    bookmarked.
    """
    run = _Import(log, redact, redact_many, progress, bookmarks, stop, leave_out)
    run.files(find_transcripts(paths))
    return run.report


class _Pending(NamedTuple):
    event: NewEvent
    unknown: str  # its origin where this version does not know it


class _Import:
    """One run: reads, batches, counts."""

    def __init__(
        self,
        log: EventLog,
        redact: Callable[[bytes], bytes],
        redact_many: Callable[[list[bytes]], list[bytes]] | None,
        progress: Callable[[Progress], None] | None,
        bookmarks: Bookmarks | None,
        stop: Callable[[], bool] | None,
        leave_out: Callable[[int], bool] | None,
    ) -> None:
        self.report = ImportReport()
        self._log, self._redact, self._redact_many = log, redact, redact_many
        self._bookmarks = bookmarks
        self._progress, self._stop, self._leave_out = progress, stop, leave_out
        self._time_us = 0  # of the last record of this file that has one
        self._batch: list[_Pending] = []
        self._batch_bytes = 0
        self._marks: dict[Path, Bookmark] = {}  # of lines in the batch, or before it
        self._noise: Counter[str] = Counter()
        self._unknown: Counter[str] = Counter()
        self._files_total = self._bytes_total = self._bytes_done = self._appends = 0
        self._stopped = False
        # One thread, so batches are appended in the order they were read. Searching for secrets, hashing and syncing
        # let go of the interpreter, so reading goes on beside them.
        self._appender = ThreadPoolExecutor(1, "append")
        self._appending: tuple[list[_Pending], dict[Path, Bookmark], Progress, Future[list[Receipt]]] | None
        self._appending = None

    def files(self, paths: list[Path]) -> None:
        sizes = [_size(path) for path in paths]
        self._files_total, self._bytes_total = len(paths), sum(sizes)
        before = 0
        try:
            for path, size in zip(paths, sizes, strict=True):
                self._file(path, before)
                if self._stopped:
                    break
                before += size
                self._bytes_done = before
                self.report.files += 1
            self._flush()
            self._settle()
        finally:
            self._appender.shutdown()
            self.report.noise_by_type = dict(self._noise.most_common())
            self.report.unknown_by_type = dict(self._unknown.most_common())
            if self._bookmarks is not None:
                self._bookmarks.save()

    def _file(self, path: Path, bytes_before: int) -> None:
        try:
            if other := other_assistant(path):
                self._fail(path, 0, f"is of {other}; this version imports Claude Code's transcripts")
                return
            session, file = session_of_file(path), path.open("rb")
        except OSError as error:
            self._fail(path, 0, f"cannot be read: {error.strerror or error}")
            return
        with file:
            self._time_us = 0
            offset, number = self._bookmarks.position(path, file) if self._bookmarks else (0, 0)
            for line in self._lines(path, file, offset, number):
                self._line(path, line, session)
                if line.complete:
                    offset, number = line.end, line.number
                if len(self._batch) >= _BATCH_EVENTS or self._batch_bytes >= _BATCH_BYTES:
                    self._bytes_done = bytes_before + line.end
                    self._mark(path, file, offset, number)
                    self._flush()
                    if self._stopped:
                        return
            self._mark(path, file, offset, number)

    def _lines(self, path: Path, file: BinaryIO, offset: int, number: int) -> Iterator[Line]:
        try:
            yield from lines(file, offset=offset, number=number)
        except OSError as error:  # of reading alone: what the log raises does not pass through here
            self._fail(path, 0, f"cannot be read on: {error.strerror or error}")

    def _line(self, path: Path, line: Line, session: str) -> None:
        if line.too_long:
            self.report.read += 1
            self._fail(path, line.number, f"longer than {LINE_BYTES_MAX >> 20} MiB")
            return
        try:
            record = read_record(line.raw)
        except NotAnObjectError as error:
            if line.complete or self._bookmarks is None:
                self.report.read += 1
                self._fail(path, line.number, str(error))
            return
        self.report.read += 1
        if noise := noise_of(record):
            self.report.noise += 1
            self._noise[noise] += 1
            return
        origin = origin_of(record)
        event = new_event(record, line.raw, session)
        self._time_us = event.envelope.occurred_at or self._time_us
        if self._leave_out is not None and self._leave_out(self._time_us or now_us()):
            self.report.noise += 1
            self._noise["while paused"] += 1
            return
        self._batch.append(_Pending(event, "" if is_known(origin) else origin))
        self._batch_bytes += len(line.raw)

    def _fail(self, path: Path, line: int, reason: str) -> None:
        if not line:
            self.report.read += 1
        self.report.errors += 1
        if len(self.report.error_samples) < _SAMPLES_MAX:
            self.report.error_samples.append(ErrorSample(str(path), line, reason))

    def _mark(self, path: Path, file: BinaryIO, offset: int, number: int) -> None:
        if self._bookmarks is not None:
            self._marks[path] = self._bookmarks.at(file, offset, number)

    def _flush(self) -> None:
        """Hand the batch over to be redacted and appended, while the next one is read."""
        self._settle()
        batch, self._batch, self._batch_bytes = self._batch, [], 0
        marks, self._marks = self._marks, {}
        self._appending = (batch, marks, self._where(), self._appender.submit(self._append, batch))
        self._stopped = self._stop is not None and self._stop()

    def _append(self, batch: list[_Pending]) -> list[Receipt]:
        events = self._redacted([pending.event for pending in batch])
        if not events:
            return []
        blobs, events = with_blobs_apart(events, self._log)
        return self._log.append([*blobs, *events], dedupe=True)[len(blobs) :]

    def _settle(self) -> None:
        """Wait until the batch before is durable, then count it and move the bookmarks over it."""
        if self._appending is None:
            return
        batch, marks, where, appended = self._appending
        self._appending = None
        for pending, receipt in zip(batch, appended.result(), strict=True):
            self.report.appended += receipt.appended
            self.report.duplicates += not receipt.appended
            self.report.changed += receipt.changed
            if receipt.appended and pending.unknown:
                self.report.unknown += 1
                self._unknown[pending.unknown] += 1
        if self._bookmarks is not None:
            self._bookmarks.advance(marks)
            self._appends += 1
            if self._appends % _SAVE_EVERY_APPENDS == 0:
                self._bookmarks.save()
        if self._progress is not None:
            self._progress(where)

    def _redacted(self, events: list[NewEvent]) -> list[NewEvent]:
        payloads = [event.payload for event in events]
        kept = self._redact_many(payloads) if self._redact_many else list(map(self._redact, payloads))
        return [event._replace(payload=payload) for event, payload in zip(events, kept, strict=True)]

    def _where(self) -> Progress:
        report = self.report
        return Progress(report.files, self._files_total, self._bytes_done, self._bytes_total, report.read)


def with_blobs_apart(events: list[NewEvent], log: EventLog) -> tuple[list[NewEvent], list[NewEvent]]:
    """The blobs of these events, as events of their own, and the events with references in their place."""

    def forgotten(blob_ids: list[bytes]) -> list[bytes]:
        places = log.positions_of(blob_ids)
        found = log.get(places.values())
        return [i for i, position in places.items() if found[position].payload is None]

    parted = [blobs.split(event.payload, forgotten) for event in events]
    holders = [event.event_id for event, (_, found) in zip(events, parted, strict=True) if found]
    known = log.positions_of(holders) if holders else {}  # what is in the log already brings no blobs
    contents = {
        blob_id: content
        for event, (_, found) in zip(events, parted, strict=True)
        if event.event_id not in known
        for blob_id, content in found
    }
    about = Envelope(blobs.STREAM, EventType.BLOB_STORED.value, 1, now_us(), 0, "system", Source.RECORD.value)
    return (
        [NewEvent(blob_id, about, content) for blob_id, content in contents.items()],
        [event._replace(payload=rest) for event, (rest, _) in zip(events, parted, strict=True)],
    )


def new_event(record: ClaudeRecord, line: bytes, file_session: str) -> NewEvent:
    """The event of a record, its payload the line as read: not yet redacted."""
    named = record.sessionId
    session = plain_session_id(named) if isinstance(named, str) and named else file_session
    uuid = record.uuid
    if isinstance(uuid, str) and uuid:
        event_id = capture_id(ASSISTANT, "record", uuid)
    else:
        event_id = capture_id(ASSISTANT, "record", session, hashlib.sha256(line).digest())
    envelope = Envelope(
        stream=f"{ASSISTANT}/{session}",
        event_type=EventType.RECORD_IMPORTED.value,
        schema_version=SCHEMA_VERSION,
        recorded_at=now_us(),
        occurred_at=_microseconds(record.timestamp),
        actor=_actor(record),
        source=Source.RECORD.value,
    )
    return NewEvent(event_id, envelope, line)


def _actor(record: ClaudeRecord) -> str:
    if record.type == "assistant":
        agent = record.agentId
        return f"agent:{agent}" if isinstance(agent, str) and agent else "assistant"
    if record.type == "user":
        if _TOOL_RESULT.search(bytes(record.message)):
            return "tool"
        return "system" if record.isMeta or record.isCompactSummary else "user"
    return "system"


def _microseconds(timestamp: Any) -> int:
    """µs since the epoch of an ISO 8601 time, UTC where it names no zone; 0 for anything else."""
    if not isinstance(timestamp, str):
        return 0
    try:
        moment = datetime.fromisoformat(timestamp)
    except ValueError:
        return 0
    return ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH) // _MICROSECOND


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0

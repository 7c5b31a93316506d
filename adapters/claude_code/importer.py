"""Claude Code's transcripts into the log: every record once, whatever was imported before."""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO

from session_mgmt_mcp.adapters.claude_code.bookmarks import Bookmark, Bookmarks
from session_mgmt_mcp.adapters.claude_code.sniff import other_assistant
from session_mgmt_mcp.adapters.claude_code.transcript_files import (
    find_transcripts,
    plain_session_id,
    session_of_file,
)
from session_mgmt_mcp.adapters.importing import (
    Batches,
    ErrorSample,
    Ignoring,
    ImportReport,
    Progress,
    size_of,
)
from session_mgmt_mcp.adapters.lines import LINE_BYTES_MAX, Line, lines
from session_mgmt_mcp.core.envelope import Envelope, EventType, NewEvent, Source, capture_id, now_us
from session_mgmt_mcp.core.ignore import Rules, string_after
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
_SAVE_EVERY_BATCHES = 16
_HEAD_BYTES = 256 << 10
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_TOOL_RESULT = re.compile(rb'"type"\s*:\s*"tool_result"')


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
    rules: Rules | None = None,
) -> ImportReport:
    """Append the records of transcripts; `paths` are files and folders (see `find_transcripts`).

    Without `bookmarks` every file is read whole and taken as finished: a last line that does not parse is an
    error. With them, reading goes on where it ended, and such a line is left for the next time. `redact` sees
    each line before it is appended; `redact_many`, where given, sees a whole batch instead and returns it in
    the same order. `stop` is asked after each batch; what was read until then is reported. `leave_out` is asked for
    each record by its time (µs since the epoch; of one without a time, that of the record before it in this run, or
    now); what it leaves out counts as noise, and so do records of projects that `rules` ignore; what stands in files they
    ignore is replaced. Raises InputError,
    and what `EventLog.append` and `Bookmarks.save` raise; everything acknowledged before stays appended, and
    whole batches of it bookmarked.
    """
    run = _Import(log, redact, redact_many, progress, bookmarks, stop, leave_out, rules)
    run.files(find_transcripts(paths))
    return run.report


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
        rules: Rules | None,
    ) -> None:
        self.report = ImportReport()
        self._batches = Batches(log, self.report, redact, redact_many)
        self._bookmarks = bookmarks
        self._progress, self._stop, self._leave_out = progress, stop, leave_out
        self._rules = rules
        self._ignoring = Ignoring(rules)
        self._folders: tuple[str, str] = (
            "",
            "",
        )  # the one the session began in, and the last one this file names
        self._time_us = 0  # of the last record of this file that has one
        self._marks: dict[Path, Bookmark] = {}  # of lines in the batch, or before it
        self._noise: Counter[str] = Counter()
        self._files_total = self._bytes_total = self._bytes_done = self._settled_batches = 0
        self._stopped = False

    def files(self, paths: list[Path]) -> None:
        sizes = [size_of(path) for path in paths]
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
            self._batches.settle()
        finally:
            self._batches.close()
            self.report.noise_by_type = dict(self._noise.most_common())
            if self._bookmarks is not None:
                self._bookmarks.save()

    def _file(self, path: Path, bytes_before: int) -> None:
        try:
            if other := other_assistant(path):
                self.report.fail(path, 0, f"is of {other}; this version imports Claude Code's transcripts")
                return
            session, file = session_of_file(path), path.open("rb")
        except OSError as error:
            self.report.fail(path, 0, f"cannot be read: {error.strerror or error}")
            return
        with file:
            self._time_us = 0
            offset, number = self._bookmarks.position(path, file) if self._bookmarks else (0, 0)
            self._begin_ignoring(file, offset)
            for line in self._lines(path, file, offset, number):
                self._line(path, line, session)
                if line.complete:
                    offset, number = line.end, line.number
                if self._batches.full:
                    self._bytes_done = bytes_before + line.end
                    self._mark(path, file, offset, number)
                    self._flush()
                    if self._stopped:
                        return
            self._mark(path, file, offset, number)

    def _begin_ignoring(self, file: BinaryIO, offset: int) -> None:
        """Learn what lines say that are not read: where the session began, and calls that await their results."""
        self._ignoring = Ignoring(self._rules)
        self._folders = ("", "")
        if not file.seekable() or not (offset or self._ignoring.has_projects):
            return
        if self._ignoring.has_projects:
            file.seek(0)
            first = string_after(file.read(_HEAD_BYTES), b'"cwd"').decode("utf-8", "surrogateescape")
            self._folders = (first, first)
        if offset:
            file.seek(max(0, offset - _HEAD_BYTES))
            for line in file.read(min(offset, _HEAD_BYTES)).splitlines():
                self._ignoring.learn(line)
        file.seek(offset)

    def _is_ignored(self, record: ClaudeRecord) -> bool:
        if not self._ignoring.has_projects:
            return False
        if isinstance(record.cwd, str):
            self._folders = (self._folders[0] or record.cwd, record.cwd)
        return self._ignoring.leaves_out(*self._folders)

    def _lines(self, path: Path, file: BinaryIO, offset: int, number: int) -> Iterator[Line]:
        try:
            yield from lines(file, offset=offset, number=number)
        except OSError as error:  # of reading alone: what the log raises does not pass through here
            self.report.fail(path, 0, f"cannot be read on: {error.strerror or error}")

    def _line(self, path: Path, line: Line, session: str) -> None:
        if line.too_long:
            self.report.read += 1
            self.report.fail(path, line.number, f"longer than {LINE_BYTES_MAX >> 20} MiB")
            return
        try:
            record = read_record(line.raw)
        except NotAnObjectError as error:
            if line.complete or self._bookmarks is None:
                self.report.read += 1
                self.report.fail(path, line.number, str(error))
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
        if self._is_ignored(record):
            self.report.noise += 1
            self._noise["ignored project"] += 1
            return
        self._batches.add(self._ignoring.without(event, self._folders[1]), "" if is_known(origin) else origin)

    def _mark(self, path: Path, file: BinaryIO, offset: int, number: int) -> None:
        if self._bookmarks is not None:
            self._marks[path] = self._bookmarks.at(file, offset, number)

    def _flush(self) -> None:
        """Hand the batch over to be redacted and appended, while the next one is read."""
        marks, self._marks = self._marks, {}
        self._batches.flush(lambda: self._settled(marks, where))
        where = self._where()  # what `flush` waited for is counted
        self._stopped = self._stop is not None and self._stop()

    def _settled(self, marks: dict[Path, Bookmark], where: Progress) -> None:
        """Move the bookmarks over what is durable."""
        if self._bookmarks is not None:
            self._bookmarks.advance(marks)
            self._settled_batches += 1
            if self._settled_batches % _SAVE_EVERY_BATCHES == 0:
                self._bookmarks.save()
        if self._progress is not None:
            self._progress(where)

    def _where(self) -> Progress:
        report = self.report
        return Progress(report.files, self._files_total, self._bytes_done, self._bytes_total, report.read)


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

"""What every importer of histories needs: the report, and batches that are redacted and appended beside the reading."""

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import msgspec

from session_mgmt_mcp.core import blobs
from session_mgmt_mcp.core.envelope import Envelope, EventType, NewEvent, Receipt, Source, now_us
from session_mgmt_mcp.core.ignore import Rules
from session_mgmt_mcp.core.ignore_contents import Contents
from session_mgmt_mcp.core.ports import EventLog

_SAMPLES_MAX = 20
# Read and redacted at once: the search for secrets costs the same few milliseconds again for each batch.
_BATCH_EVENTS = 2000
_BATCH_BYTES = 4 << 20
# Appended at once: hooks wait meanwhile.
_APPEND_EVENTS = 500
_APPEND_BYTES = 1 << 20


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
    unknown_fields: dict[str, int] = msgspec.field(default_factory=dict)  # of the generic format; kept raw

    def fail(self, path: Path | str, line: int, reason: str) -> None:
        """Count a line as an error; line 0: the file itself, which then counts as read."""
        self.read += not line
        self.errors += 1
        if len(self.error_samples) < _SAMPLES_MAX:
            self.error_samples.append(ErrorSample(str(path), line, reason))

    def joined(self, other: "ImportReport") -> "ImportReport":
        """The sums of both; the first samples."""
        out = ImportReport()
        for name in self.__struct_fields__:
            mine, theirs = getattr(self, name), getattr(other, name)
            if isinstance(mine, dict):
                mine, theirs = Counter(mine), Counter(theirs)
            both = mine + theirs
            setattr(out, name, dict(both) if isinstance(both, Counter) else both)
        out.error_samples = out.error_samples[:_SAMPLES_MAX]
        return out


class Progress(NamedTuple):
    """How far an import is."""

    files: int
    files_total: int
    bytes: int
    bytes_total: int  # 0: not known
    read: int


class Ignoring:
    """What is left out of one file or stream that is imported, by the user's rules."""

    def __init__(self, rules: Rules | None) -> None:
        self._rules = rules or Rules(paths=())
        self._contents = Contents(self._rules)

    @property
    def has_projects(self) -> bool:
        return bool(self._rules.projects)

    def leaves_out(self, *folders: str) -> bool:
        """Whether one of the folders is in an ignored project."""
        return bool(self._rules.projects) and bool(self._rules.project(*folders))

    def without(self, event: NewEvent, folder: str = "") -> NewEvent:
        """The event without what stands in ignored files. Its id stays: it was made of what was read."""
        payload = self._contents.without(event.payload, folder)
        return event if payload is event.payload else event._replace(payload=payload)

    def learn(self, line: bytes) -> None:
        """See a line that was imported before: results that follow may answer a call in it."""
        self._contents.without(line)


class Pending(NamedTuple):
    """An event that is not appended yet."""

    event: NewEvent
    unknown: str  # its type where this version does not know it, else ""


class _Appending(NamedTuple):
    batch: list[Pending]
    settled: Callable[[], None]
    receipts: Future[list[Receipt]]


class Batches:
    """Collects events, and redacts and appends full batches in a thread while the next one is read.

    One thread, so batches are appended in the order they were read. Searching for secrets, hashing and syncing let go
    of the interpreter, so reading goes on beside them. Counts what was appended in the report.
    """

    def __init__(
        self,
        log: EventLog,
        report: ImportReport,
        redact: Callable[[bytes], bytes],
        redact_many: Callable[[list[bytes]], list[bytes]] | None,
    ) -> None:
        self._log, self._report = log, report
        self._redact, self._redact_many = redact, redact_many
        self._batch: list[Pending] = []
        self._bytes = 0
        self._unknown: Counter[str] = Counter()
        self._thread = ThreadPoolExecutor(1, "append")
        self._appending: _Appending | None = None

    @property
    def full(self) -> bool:
        return len(self._batch) >= _BATCH_EVENTS or self._bytes >= _BATCH_BYTES

    def add(self, event: NewEvent, unknown: str = "") -> None:
        self._batch.append(Pending(event, unknown))
        self._bytes += len(event.payload)

    def flush(self, settled: Callable[[], None]) -> None:
        """Hand the batch over; `settled` is called from this thread once it is durable and counted.

        Raises what `EventLog.append` raised for the batch before.
        """
        self.settle()
        batch, self._batch, self._bytes = self._batch, [], 0
        self._appending = _Appending(batch, settled, self._thread.submit(self._append, batch))

    def settle(self) -> None:
        """Wait until what was handed over is durable. Raises what `EventLog.append` raises."""
        if self._appending is None:
            return
        batch, settled, receipts = self._appending
        self._appending = None
        report = self._report
        for pending, receipt in zip(batch, receipts.result(), strict=True):
            report.appended += receipt.appended
            report.duplicates += not receipt.appended
            report.changed += receipt.changed
            if receipt.appended and pending.unknown:
                report.unknown += 1
                self._unknown[pending.unknown] += 1
        settled()

    def close(self) -> None:
        """End the thread; what it was given is appended. What was not handed over is dropped."""
        self._thread.shutdown()
        self._report.unknown_by_type = dict(self._unknown.most_common())

    def _append(self, batch: list[Pending]) -> list[Receipt]:
        receipts: list[Receipt] = []
        for events in _portions(self._redacted([pending.event for pending in batch])):
            apart, rest = with_blobs_apart(events, self._log)
            receipts += self._log.append([*apart, *rest], dedupe=True)[len(apart) :]
        return receipts

    def _redacted(self, events: list[NewEvent]) -> list[NewEvent]:
        payloads = [event.payload for event in events]
        kept = self._redact_many(payloads) if self._redact_many else list(map(self._redact, payloads))
        return [event._replace(payload=payload) for event, payload in zip(events, kept, strict=True)]


def _portions(events: list[NewEvent]) -> Iterator[list[NewEvent]]:
    """The events in order, parted into what is appended at once."""
    portion: list[NewEvent] = []
    size = 0
    for event in events:
        portion.append(event)
        size += len(event.payload)
        if len(portion) >= _APPEND_EVENTS or size >= _APPEND_BYTES:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion


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


def size_of(path: Path) -> int:
    """Bytes of a file, 0 where it cannot be told."""
    try:
        return path.stat().st_size
    except OSError:
        return 0

"""Reading the journals: a cursor that goes on from where it was, across rolls, seals and replaced files."""

import os

from session_mgmt_mcp.core.envelope import Event, decode_envelope
from session_mgmt_mcp.core.log.frame import HEADER, Frame, JournalHeader, decode_header, entries_of, frame_at
from session_mgmt_mcp.core.log.journals import journal_name, list_journals

_BLOCK = 256 << 10


class VanishedError(Exception):
    """A file went away between listing and opening: sealed, replaced or forgotten meanwhile. Look again."""


class Tail:
    """An open journal, and the offset of the next frame in it."""

    def __init__(self, folder: str, position: int) -> None:
        """Open the journal that holds `position` or will. Raises VanishedError, LogCorruptError."""
        best, journals = "", list_journals(folder)
        for first, path in journals:
            if first <= position:
                best = path
        if not best:
            found = f"the journals begin at {journals[0][0]}" if journals else "there is no journal"
            raise VanishedError(f"{found}, expected position {position}")
        try:
            self.fd = os.open(best, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise VanishedError(f"{best} is gone") from None
        try:
            self.header: JournalHeader = decode_header(os.pread(self.fd, HEADER.size, 0), best)
        except BaseException:
            os.close(self.fd)
            raise
        self.folder = folder
        self.offset = HEADER.size
        self.next = self.header.first
        self.chain = self.header.chain

    def close(self) -> None:
        os.close(self.fd)

    def is_current(self) -> bool:
        """Whether the file still has its name: a poisoned journal is replaced, a sealed one unlinked."""
        try:
            found = os.stat(f"{self.folder}/journal/{journal_name(self.header.first)}")
        except FileNotFoundError:
            return False
        return found.st_ino == os.fstat(self.fd).st_ino

    def take(self, after: int, events: list[Event] | None) -> bool:
        """Pass the frames there are now, adding events beyond `after`; whether the journal is closed."""
        size = _BLOCK
        while True:
            base = self.offset
            data = memoryview(os.pread(self.fd, min(size, self.header.capacity - base), base))
            closed = self._take_block(data, base, after, events)
            if closed:
                return True
            rest = bytes(data[self.offset - base : self.offset - base + 64])
            if len(data) < size or not rest.strip(b"\0"):
                return False  # the end, or a frame that is being written
            # a frame goes on beyond this block; where none was passed, it is larger than the block
            size = _BLOCK if self.offset > base else size * 4

    def _take_block(self, data: memoryview, base: int, after: int, events: list[Event] | None) -> bool:
        while True:
            frame = frame_at(data, self.offset - base, base, self.header)
            if frame is None or frame.first != self.next:
                return False
            if frame.count == 0:
                return True
            if events is not None and frame.first + frame.count - 1 > after:
                events += _events_of(frame, data, base)
            self.next, self.chain, self.offset = frame.first + frame.count, frame.chain, frame.end


def _events_of(frame: Frame, data: memoryview, base: int) -> list[Event]:
    return [
        Event(frame.first + k, event_id, decode_envelope(envelope), payload)
        for k, (event_id, _, envelope, payload) in enumerate(entries_of(frame, data, base))
    ]


class TailCursor:
    """Reads on in the journals of one folder. Not thread-safe."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._tail: Tail | None = None

    def close(self) -> None:
        if self._tail is not None:
            self._tail.close()
            self._tail = None

    def read(self, after: int) -> list[Event]:
        """Events beyond `after` of one journal, empty at the end of the log. Raises VanishedError."""
        tail = self._at(after + 1)
        while True:
            events: list[Event] = []
            closed = tail.take(after, events)
            events = [e for e in events if e.position > after]
            following = self._following(tail) if closed and not events else None
            if following is None:
                return events
            tail = following

    def head(self, sealed_last: int) -> tuple[int, bytes]:
        """The last position and its chain, going on from where the cursor is. Raises VanishedError."""
        tail = self._tail
        if tail is None or tail.next <= sealed_last or not tail.is_current():
            tail = self._open(sealed_last + 1)
        while tail.take(0, None):
            following = self._following(tail)
            if following is None:
                break
            tail = following
        return tail.next - 1, tail.chain

    def _at(self, position: int) -> Tail:
        tail = self._tail
        if tail is not None and tail.next == position and tail.is_current():
            return tail
        return self._open(position)

    def _following(self, closed: Tail) -> Tail | None:
        """The journal after a closed one; None while a writer is still making it."""
        tail = self._open(closed.next)
        return None if tail.header.salt == closed.header.salt else tail

    def _open(self, position: int) -> Tail:
        self.close()
        self._tail = Tail(self.folder, position)
        return self._tail

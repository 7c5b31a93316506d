"""Reading the journals: a cursor that goes on from where it was, across rolls, seals and replaced files."""

import os

import msgspec

from session_mgmt_mcp.core.envelope import Event, decode_envelope
from session_mgmt_mcp.core.errors import LogCorruptError
from session_mgmt_mcp.core.log.frame import (
    HEADER,
    Frame,
    JournalHeader,
    decode_header,
    entries_of,
    frame_at,
    says_damaged,
)
from session_mgmt_mcp.core.log.journals import journal_name, list_journals

_BLOCK = 256 << 10


class VanishedError(Exception):
    """A file went away between listing and opening: sealed, replaced or forgotten meanwhile. Look again."""


class NoJournalError(Exception):
    """No journal at all: nothing was appended since the log was made. Roll and seal always leave one."""


class Tail:
    """An open journal, and the offset of the next frame in it."""

    def __init__(self, folder: str, position: int) -> None:
        """Open the journal that holds `position` or will. Raises NoJournalError, VanishedError, LogCorruptError."""
        best, journals = "", list_journals(folder)
        if not journals:
            raise NoJournalError
        for first, path in journals:
            if first <= position:
                best = path
        if not best:
            raise VanishedError(f"the journals begin at {journals[0][0]}, expected position {position}")
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
        """Pass the frames there are now, adding events beyond `after`; whether the journal is closed.

        Raises LogCorruptError where no frame begins at the next offset, but a later one says that there was one.
        """
        size = _BLOCK
        while True:
            base = self.offset
            data = memoryview(os.pread(self.fd, min(size, self.header.capacity - base), base))
            closed = self._take_block(data, base, after, events)
            if closed:
                return True
            rest = bytes(data[self.offset - base : self.offset - base + 64])
            if len(data) < size or (rest and not rest.strip(b"\0")):
                if rest.strip(b"\0"):
                    self._refuse_damage()
                return False  # the end, or a frame that is being written
            # a frame goes on beyond this block; where none was passed, it is larger than the block
            size = _BLOCK if self.offset > base else size * 4

    def _refuse_damage(self) -> None:
        raw = os.pread(self.fd, self.header.capacity - self.offset, self.offset)
        if not says_damaged(raw, self.offset, self.header):
            return
        # Looked at again: the frame here was whole before that later one was begun.
        raw = os.pread(self.fd, self.header.capacity - self.offset, self.offset)
        if frame_at(memoryview(raw), 0, self.offset, self.header) is None:
            raise LogCorruptError(
                f"{self.folder}/journal/{journal_name(self.header.first)} is damaged at byte {self.offset} "
                f"(position {self.next}); restore it from a backup"
            )

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
    try:
        return [
            Event(frame.first + k, event_id, decode_envelope(envelope), payload)
            for k, (event_id, _, envelope, payload) in enumerate(entries_of(frame, data, base))
        ]
    except msgspec.MsgspecError as error:
        raise LogCorruptError(
            f"an envelope in the frame of position {frame.first} does not decode: {error}"
        ) from error


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
        """Events beyond `after` of one journal, empty at the end of the log. Raises VanishedError, LogCorruptError."""
        tail: Tail | None = self._at(after + 1)
        events: list[Event] = []
        while tail is not None and not events:
            closed = tail.take(after, events)
            events = [e for e in events if e.position > after]
            if not events:
                tail = self._following(tail, closed)
        return events

    def head(self, sealed_last: int) -> tuple[int, bytes]:
        """The last position and its chain, going on from where the cursor is. Raises VanishedError, LogCorruptError."""
        tail = self._tail
        if tail is None or tail.next <= sealed_last or not tail.is_current():
            tail = self._open(sealed_last + 1)
        while (following := self._following(tail, tail.take(0, None))) is not None:
            tail = following
        return tail.next - 1, tail.chain

    def _at(self, position: int) -> Tail:
        tail = self._tail
        if tail is not None and tail.next == position and tail.is_current():
            return tail
        return self._open(position)

    def _following(self, tail: Tail, closed: bool) -> Tail | None:
        """The journal to go on in, None at the end of the log: `tail` is open, or its successor still being made."""
        later = any(first > tail.header.first for first, _ in list_journals(self.folder))
        if not closed and not later:
            return None
        following = Tail(self.folder, tail.next)
        if following.header.salt != tail.header.salt:
            self.close()
            self._tail = following
            return following
        following.close()
        if later and not tail.take(0, None):
            raise VanishedError(
                f"the journal of position {tail.header.first} breaks off at position {tail.next}"
            )
        if later:
            raise VanishedError(f"no journal begins at position {tail.next}, later ones do")
        return None

    def _open(self, position: int) -> Tail:
        self.close()
        self._tail = Tail(self.folder, position)
        return self._tail

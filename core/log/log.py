"""The event log in a data folder: the port's file-based implementation."""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from threading import Lock
from typing import Self
from zlib import crc32

from session_mgmt_mcp.core.envelope import Event, NewEvent, Receipt, encode_envelope
from session_mgmt_mcp.core.errors import DataFolderError, LogCorruptError
from session_mgmt_mcp.core.log import folder as folders
from session_mgmt_mcp.core.log.appender import Appender
from session_mgmt_mcp.core.log.idindex import IdIndex
from session_mgmt_mcp.core.log.reader import LogReader
from session_mgmt_mcp.core.ports import Head


class FileLog:
    """`core.ports.EventLog` over journals and segments. Thread-safe; open one a process."""

    def __init__(self, folder: Path | str, *, create: bool = False) -> None:
        """Open the log in `folder`; with `create`, make it where there is none.

        Raises DataFolderError (foreign, unreadable, on a network file system, or absent), FormatTooNewError.
        """
        self.folder = str(folder)
        if create:
            folders.create_or_refuse(self.folder)
        found = folders.read_format(self.folder)
        self._log_id, self._origin = found.log_id, found.origin
        folders.refuse_network(self.folder)
        self.appender = Appender(self.folder)
        self._ids = IdIndex(self.folder)
        self._append_lock = Lock()  # receipts are compared with the index as of their own append
        try:
            self.reader = LogReader(self.folder, self._origin)
        except OSError as error:
            if not os.path.isdir(f"{self.folder}/manifest"):
                raise LogCorruptError(
                    f"{self.folder}/manifest is missing: without it nobody knows which segments are the log's; "
                    "restore it from a backup"
                ) from None
            raise DataFolderError(
                f"cannot read {self.folder}: {error.strerror}; mend its permissions"
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.appender.close()
        self.reader.close()

    @property
    def log_id(self) -> str:
        return self._log_id

    @property
    def origin(self) -> str:
        """The log whose first chain this one continues: itself, unless it was forked by a point-in-time restore."""
        return self._origin

    def append(self, events: Sequence[NewEvent], *, dedupe: bool = True) -> list[Receipt]:
        """See `EventLog.append`. One call is one frame of at most 64 MiB (InputError beyond)."""
        entries = [(e.event_id, encode_envelope(e.envelope), e.payload) for e in events]
        if not dedupe:
            return [Receipt(position, True, False) for position, _ in self.appender.append(entries)]
        with self._append_lock:
            placed = self.appender.append(entries, self._ids.find)
            return [
                Receipt(position, new, not new and self._differs(event, position, placed, events))
                for event, (position, new) in zip(events, placed, strict=True)
            ]

    def _differs(
        self,
        event: NewEvent,
        position: int,
        placed: Sequence[tuple[int, bool]],
        events: Sequence[NewEvent],
    ) -> bool:
        """Whether a duplicate's payload is another than the stored one."""
        known = self._ids.lookup(event.event_id)
        if known is not None:
            return known.length > 0 and (known.crc, known.length) != (
                crc32(event.payload),
                len(event.payload),
            )
        original = next(e for e, p in zip(events, placed, strict=True) if p == (position, True))
        return original.payload != event.payload

    def read(self, after: int = 0, upto: int | None = None) -> Iterator[list[Event]]:
        return self.reader.read(after, upto)

    def get(self, positions: Iterable[int]) -> dict[int, Event]:
        return self.reader.get(positions)

    def positions_of(self, event_ids: Sequence[bytes]) -> dict[bytes, int]:
        """See `EventLog.positions_of`. Takes the append lock for a moment."""
        return self.appender.locked(lambda app: self._ids.find(app, list(event_ids)))

    def head(self) -> Head:
        return self.reader.head()

    def sealed(self) -> Head:
        return self.reader.sealed()

    def chain_at(self, position: int) -> bytes | None:
        return self.reader.chain_at(position)

    def roll(self) -> int:
        """Close the open journal if it holds anything; the position of the last event."""
        from session_mgmt_mcp.core.log import journals

        def close_journal(app: Appender) -> int:
            if app.next > app.header.first:
                journals.roll(app)
            return app.next - 1

        return self.appender.locked(close_journal)

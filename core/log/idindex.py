"""Which event ids are in the log: the id files of the segments, and what the journals hold beyond them."""

import os
from itertools import pairwise
from zlib import crc32

from session_mgmt_mcp.core.errors import AppendError, LogCorruptError
from session_mgmt_mcp.core.log.appender import Appender
from session_mgmt_mcp.core.log.frame import HEADER, decode_header, entries_of, scan
from session_mgmt_mcp.core.log.journals import journal_name, list_journals
from session_mgmt_mcp.core.log.manifest import load_manifest, versions
from session_mgmt_mcp.core.log.seal import read_journal
from session_mgmt_mcp.core.log.segment import IdFile, Known

_TRIES = 5


class IdIndex:
    """Looks ids up for one data folder. `find` must be called under the append lock."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._version = 0
        self._sealed_last = 0
        self._segments: dict[str, IdFile] = {}
        self._recent: dict[bytes, Known] = {}  # of events after the last sealed one
        self._closed: dict[bytes, int] = {}  # salt of a closed journal: position after it
        self._salt = b""  # of the open journal
        self._offset = 0
        self._next = 0

    def find(self, app: Appender, ids: list[bytes]) -> dict[bytes, int]:
        """{id: position} of those that are in the log."""
        self._refresh(app)
        out = {}
        for event_id in ids:
            known = self.lookup(event_id)
            if known is not None:
                out[event_id] = known.position
        return out

    def lookup(self, event_id: bytes) -> Known | None:
        """What is kept of an id, as of the last `find`."""
        known = self._recent.get(event_id)
        if known is not None:
            return known
        for segment in self._segments.values():
            known = segment.find(event_id)
            if known is not None:
                return known
        return None

    def _refresh(self, app: Appender) -> None:
        for _ in range(_TRIES):
            try:
                found = versions(self.folder)
                if found and found[-1] != self._version:
                    self._load_segments()
                if self._salt != app.header.salt:
                    self._read_closed(app)
                break
            except FileNotFoundError as error:  # sealed or forgotten between listing and reading: look again
                self._version, missing = -1, error
        else:
            raise LogCorruptError(f"{missing}; restore it from a backup") from missing
        if self._salt != app.header.salt:
            # a journal whose sync failed is replaced under the same position; what only the old one held is gone
            self._recent = {i: k for i, k in self._recent.items() if k.position < app.header.first}
            self._salt, self._offset, self._next = app.header.salt, HEADER.size, app.header.first
        if app.end > self._offset:
            self._take_frames(
                memoryview(os.pread(app.fd, app.end - self._offset, self._offset)), self._offset, app
            )

    def _load_segments(self) -> None:
        manifest = load_manifest(self.folder)
        wanted = {entry.ids for entry in manifest.segments}
        for name in list(self._segments):
            if name not in wanted:
                self._segments.pop(name).close()
        for name in wanted - self._segments.keys():
            self._segments[name] = IdFile(f"{self.folder}/segments/{name}")
        self._version, self._sealed_last = manifest.version, manifest.last
        self._recent = {i: k for i, k in self._recent.items() if k.position > manifest.last}

    def _read_closed(self, app: Appender) -> None:
        """Take in the closed journals that no segment covers yet. Raises FileNotFoundError where one is missing."""
        expected = self._sealed_last + 1
        for (first, path), (following, _) in pairwise(list_journals(self.folder)):
            if following <= self._sealed_last + 1:
                continue
            if first > expected:
                break
            with open(path, "rb") as file:
                salt = decode_header(file.read(HEADER.size), path).salt
            if salt not in self._closed:
                header, data = read_journal(path)
                # the one that was open until now was read up to some offset already
                offset, start = (self._offset, self._next) if salt == self._salt else (HEADER.size, first)
                self._closed[salt] = start
                for frame in scan(data[offset:], offset, header, start):
                    self._keep(frame.first, entries_of(frame, data, 0))
                    self._closed[salt] = frame.first + frame.count
            expected = self._closed[salt]
        if expected < app.header.first:
            raise FileNotFoundError(
                f"positions {expected} to {app.header.first - 1} are in no segment and no journal of {self.folder}"
            )

    def _take_frames(self, data: memoryview, base: int, app: Appender) -> None:
        for frame in scan(data, base, app.header, self._next):
            self._keep(frame.first, entries_of(frame, data, base))
            self._offset, self._next = frame.end, frame.first + frame.count
        if self._offset != app.end:
            if self._offset >= app.durable_upto():
                app.poison()  # the next append goes on without it: nobody was told that it is there
                raise AppendError(
                    f"what another process appended to {self.folder} did not reach the disk; append again"
                )
            raise LogCorruptError(
                f"{self.folder}/journal/{journal_name(app.header.first)} is damaged at byte {self._offset} "
                f"(position {self._next}); restore it from a backup"
            )

    def _keep(self, first: int, entries: list[tuple[bytes, bytes, bytes, bytes]]) -> None:
        for k, (event_id, _, _, payload) in enumerate(entries):
            if first + k > self._sealed_last:
                self._recent[event_id] = Known(first + k, crc32(payload), len(payload))

"""Which transcripts are being written: hooks name them, and maintenance reads on in each from where it was.

Assistant texts and token counts stand only in transcripts, so a session is whole only once its transcript was read.
"""

import contextlib
import time
from pathlib import Path

import msgspec

from session_mgmt_mcp.adapters.claude_code.bookmarks import Bookmarks
from session_mgmt_mcp.adapters.claude_code.transcript_files import find_transcripts
from session_mgmt_mcp.core.envelope import Event, EventType, Source
from session_mgmt_mcp.core.ports import EventLog

QUIET_DAYS = 7


class _Named(msgspec.Struct):
    transcript_path: str | None = None
    agent_transcript_path: str | None = None


class _State(msgspec.Struct):
    log_id: str = ""
    position: int = 0  # hooks up to here were looked at
    paths: list[str] = []
    pauses: list[tuple[int, int]] = []  # µs since the epoch; from, until (0: still on)


_named = msgspec.json.Decoder(_Named)


class LiveTranscripts:
    """The transcripts hooks have named lately, and how far each was read. State lies in `folder`, which may be deleted:
    what is read again is left out by its id.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = folder / "live.json"
        self._marks = folder / "bookmarks.json"
        self._state = _State()
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            self._state = msgspec.json.decode(self._path.read_bytes(), type=_State)
        self.bookmarks = Bookmarks(self._marks)

    def update(self, log: EventLog) -> list[Path]:
        """The transcripts to read on in, originals before their copies; takes in the hooks since the last time."""
        if self._state.log_id != log.log_id or self._state.position > log.head().position:
            # another log, or one restored to an earlier point: what was read is not in it
            self._state = _State(log_id=log.log_id)
            self._marks.unlink(missing_ok=True)
            self.bookmarks = Bookmarks(self._marks)
        paths = dict.fromkeys(self._state.paths)
        for batch in log.read(self._state.position):
            for event in batch:
                paths.update(dict.fromkeys(_paths_of(event)))
                self._note_pause(event)
            self._state.position = batch[-1].position
        # A file that became quiet before anybody read it is read all the same: `settle` drops it afterwards.
        self._state.paths = [path for path in paths if _is_there(Path(path))]
        found = []
        for path in map(Path, self._state.paths):
            found.append(path)
            subagents = path.with_suffix("") / "subagents"
            if subagents.is_dir():
                found.append(subagents)
        return find_transcripts(found)

    def was_paused(self, at_us: int) -> bool:
        """Whether capture was paused then, by what the log said at the last `update`."""
        return any(start <= at_us and (at_us < end or not end) for start, end in self._state.pauses)

    def _note_pause(self, event: Event) -> None:
        pauses, at_us = self._state.pauses, event.envelope.occurred_at
        if event.envelope.event_type == EventType.CAPTURE_PAUSED:
            pauses.append((at_us, 0))
        elif event.envelope.event_type == EventType.CAPTURE_RESUMED:
            pauses[:] = [(start, end or at_us) for start, end in pauses]

    def settle(self) -> None:
        """Keep what was learned; called once the transcripts were read."""
        self._state.paths = [path for path in self._state.paths if _is_live(Path(path))]
        temporary = self._path.with_suffix(".tmp")
        temporary.write_bytes(msgspec.json.encode(self._state))
        temporary.replace(self._path)


def _paths_of(event: Event) -> list[str]:
    if event.envelope.source != Source.HOOK or not event.payload or b"transcript_path" not in event.payload:
        return []
    try:
        named = _named.decode(event.payload)
    except msgspec.MsgspecError:
        return []
    return [path for path in (named.transcript_path, named.agent_transcript_path) if path]


def _is_there(path: Path) -> bool:
    return path.is_absolute() and path.is_file()


def _is_live(path: Path) -> bool:
    """Whether the file was written in the last days."""
    try:
        return time.time() - path.stat().st_mtime < QUIET_DAYS * 86_400
    except OSError:
        return False

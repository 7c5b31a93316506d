"""What tests of the log share: events, a sealed log, the parts of its files."""

from collections.abc import Iterable
from pathlib import Path

from session_mgmt_mcp.core.envelope import Envelope, Event, EventType, NewEvent, Source, uuid7
from session_mgmt_mcp.core.log.frame import HEADER, Frame, JournalHeader, decode_header, scan
from session_mgmt_mcp.core.log.journals import list_journals
from session_mgmt_mcp.core.log.log import FileLog
from session_mgmt_mcp.core.log.manifest import Manifest
from session_mgmt_mcp.core.log.seal import seal

NOON = 1_770_000_000_000_000
HINTS = {"tail.shm", "append.lock", "maintenance.lock"}


def event(payload: bytes, session: str = "s-1", event_id: bytes | None = None) -> NewEvent:
    """A hook's report with this payload."""
    envelope = Envelope(
        f"claude-code/{session}", EventType.HOOK_REPORTED.value, 1, NOON, NOON, "tool", Source.HOOK.value
    )
    return NewEvent(event_id or uuid7(), envelope, payload)


def events(*payloads: bytes) -> list[NewEvent]:
    return [event(payload) for payload in payloads]


def content(log: FileLog, after: int = 0) -> list[Event]:
    """Everything a reader sees."""
    return [e for batch in log.read(after) for e in batch]


def payloads(log: FileLog, after: int = 0) -> list[bytes | None]:
    return [e.payload for e in content(log, after)]


def seal_all(log: FileLog) -> Manifest:
    """Roll and seal: everything appended so far is in segments afterwards."""
    log.roll()
    return seal(log.folder, log.log_id)


def journal_paths(folder: Path | str) -> list[Path]:
    return [Path(path) for _, path in list_journals(str(folder))]


def frames_of(path: Path) -> tuple[JournalHeader, bytes, list[Frame]]:
    """Header, whole content and valid frames of a journal."""
    raw = path.read_bytes()
    header = decode_header(raw[: HEADER.size], str(path))
    return header, raw, scan(memoryview(raw)[HEADER.size :], HEADER.size, header, header.first)


def snapshot(folder: Path | str) -> dict[str, bytes]:
    """Every file of a folder but its locks and hints."""
    base = Path(folder)
    return {
        str(path.relative_to(base)): path.read_bytes()
        for path in sorted(base.rglob("*"))
        if path.is_file() and path.name not in HINTS
    }


def files_with(folder: Path | str, needles: Iterable[bytes]) -> list[str]:
    """Files that hold one of these byte strings, as they are or in a Parquet page."""
    import pyarrow.parquet as pq

    wanted = list(needles)
    found = []
    for name, raw in snapshot(folder).items():
        if name.endswith(".parquet"):
            table = pq.read_table(Path(folder) / name)
            raw += b"\n".join(
                value
                for column in ("payload", "payload_salt", "envelope")
                for value in table[column].to_pylist()
                if value
            )
        if any(needle in raw for needle in wanted):
            found.append(name)
    return found

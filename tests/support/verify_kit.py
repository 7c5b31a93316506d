"""A log with every kind of file, for tests of what verification notices."""

from pathlib import Path

from log_kit import events, journal_paths, seal_all

from session_mgmt_mcp.core.log.folder import read_log_id
from session_mgmt_mcp.core.log.forget import forget
from session_mgmt_mcp.core.log.log import FileLog
from session_mgmt_mcp.core.log.manifest import load_manifest
from session_mgmt_mcp.core.log.seal import seal
from session_mgmt_mcp.core.log.verify import Verified, verify


def trim(path: Path, zeros: int = 200) -> None:
    """Leave a few of a journal's zeros: the rest costs time only."""
    path.write_bytes(path.read_bytes().rstrip(b"\0") + bytes(zeros))


def make_log(folder: Path) -> Path:
    """A log with every kind of file: segments, one with forgotten payloads, a journal that is sealed but not unlinked, a
    closed one that is not sealed, and the open one.
    """
    with FileLog(folder, create=True) as log:
        log.append(events(b"one", b"two"))
        log.append(events(b"three"))
        seal_all(log)
        forget(log, [2], lambda _: ["own:2"])
        log.append(events(b"sealed, but its journal is there"))
        log.roll()
        sealed = journal_paths(folder)[0]
        raw = sealed.read_bytes()
        seal(log.folder, log.log_id)
        sealed.write_bytes(raw)
        log.append(events(b"in a closed journal", b""))
        log.roll()
        log.append(events(b"in the open one"))
        log.append(events(b"the last"))
    for path in journal_paths(folder):
        trim(path)
    (folder / "tail.shm").unlink()
    return folder


def check(folder: Path) -> Verified:
    return verify(str(folder), read_log_id(str(folder)))


def parts_of(folder: Path) -> list[Path]:
    """Every file of the log."""
    manifest = load_manifest(str(folder))
    segments = [folder / "segments" / name for entry in manifest.segments for name in (entry.file, entry.ids)]
    manifests = sorted((folder / "manifest").iterdir())
    return [folder / "FORMAT.json", *manifests, *segments, *journal_paths(folder)]

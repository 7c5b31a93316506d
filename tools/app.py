"""The one composition root: a data folder opened, and everything a command or a server asks of it."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import msgspec

from session_mgmt_mcp.adapters.claude_code.importer import (
    ImportReport,
    Progress,
    find_transcripts,
    import_files,
)
from session_mgmt_mcp.core.entropy import redact_thorough, redact_thorough_many
from session_mgmt_mcp.core.envelope import (
    Envelope,
    EventType,
    NewEvent,
    Receipt,
    Source,
    capture_id,
    now_us,
    uuid7,
)
from session_mgmt_mcp.core.errors import AppendError, DataFolderError, IdempotencyConflictError, InputError
from session_mgmt_mcp.core.events import ReflectionStored
from session_mgmt_mcp.core.ignore import read_rules
from session_mgmt_mcp.core.log.log import FileLog
from session_mgmt_mcp.core.settings import DATA_DIR_VARIABLE, data_dir
from session_mgmt_mcp.projections.views import Views
from session_mgmt_mcp.tools import embedding, maintenance
from session_mgmt_mcp.tools.maintenance import MaintenanceReport, Report, maintenance_lock

if TYPE_CHECKING:
    from session_mgmt_mcp.projections.embedding import Embedder

REFLECTION_BYTES_MAX = 64 << 10
MAINTENANCE_WAIT_S = 120.0


def _embedder() -> "Embedder":
    from session_mgmt_mcp.projections.embedding import Embedder

    return Embedder.open()


class App:
    """One data folder. `log` and `views` are its parts; the methods are what needs both, or a lock."""

    def __init__(self, folder: Path, log: FileLog) -> None:
        self.folder = folder
        self.log = log
        self.views = Views(log, folder, _embedder, behind=lambda: maintenance.start(log.folder))
        self.redactions = 0  # secrets taken out of what was appended here

    @classmethod
    def open(cls, folder: Path | None = None, *, create: bool = False) -> Self:
        """Open the data folder (default: `core.settings.data_dir`). Raises DataFolderError."""
        folder = folder or data_dir()
        try:
            str(folder).encode()
        except UnicodeEncodeError:  # neither settings files nor the engines can name it
            raise DataFolderError(
                f"the data folder's path is no UTF-8 text: {str(folder)!a}; set {DATA_DIR_VARIABLE} to another"
            ) from None
        return cls(folder, FileLog(folder, create=create))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.views.close()
        self.log.close()

    # -- writing -------------------------------------------------------------------------------------------------

    def import_claude(
        self, paths: Sequence[Path], progress: Callable[[Progress], None] | None = None
    ) -> ImportReport:
        """Append what these transcripts and folders hold; reading all of it again appends nothing."""
        return import_files(
            find_transcripts(paths),
            self.log,
            redact=redact_thorough,
            redact_many=redact_thorough_many,
            progress=progress,
            rules=read_rules(str(self.folder)),
        )

    def maintain(
        self,
        report: Report | None = None,
        *,
        force: bool = True,
        wait_s: float = MAINTENANCE_WAIT_S,
    ) -> MaintenanceReport:
        """Drain, import live transcripts, seal, publish; vectors follow behind. Raises LockTimeoutError."""
        done = maintenance.maintain(self.log, wait_s=wait_s, force=force, report=report)
        embedding.start(self.log.folder)
        return done

    def replay(self, names: Sequence[str] | None = None, report: Report | None = None) -> dict[str, str]:
        """Rebuild projections from the log alone; their digests. What serves now serves until the swap."""
        from session_mgmt_mcp.projections import publish

        with maintenance_lock(self.log.folder, MAINTENANCE_WAIT_S):
            return publish.replay(
                self.log,
                self.folder,
                names,
                report and (lambda name, at, end: report(f"rebuilding the {name} view", at, end)),
            )

    def remember(
        self,
        text: str,
        tags: Sequence[str] = (),
        project: str | None = None,
        session: str | None = None,
        key: str | None = None,
        actor: str = "user",
    ) -> Receipt:
        """Store a reflection. The same key with the same content is stored once; with other content it is refused."""
        if not text.strip():
            raise InputError("there is nothing to remember: the text is empty")
        if len(text.encode()) > REFLECTION_BYTES_MAX:
            raise InputError(
                f"a reflection holds at most {REFLECTION_BYTES_MAX} bytes; shorten it or split it"
            )
        stored = ReflectionStored(text, tuple(tags), project or "", session or "")
        payload = msgspec.json.encode(stored)
        receipt = self.append_own(EventType.REFLECTION_STORED, payload, session, key, actor)
        if receipt.changed:
            raise IdempotencyConflictError(
                f"the key {key!r} was used at position {receipt.position} for another reflection; use a new key"
            )
        return receipt

    def append_own(
        self,
        event_type: EventType,
        payload: bytes,
        session: str | None = None,
        key: str | None = None,
        actor: str = "user",
    ) -> Receipt:
        """Append an event of the log's own, redacted; under the same key only once."""
        now = now_us()
        event_id = capture_id("session-mgmt", "command", key) if key else uuid7(now)
        stream = f"claude-code/{session}" if session else "session-mgmt/log"
        envelope = Envelope(stream, event_type, 1, now, now, actor, Source.COMMAND)
        redacted = redact_thorough(payload)
        self.redactions += max(0, redacted.count(b"[redacted") - payload.count(b"[redacted"))
        return self.log.append([NewEvent(event_id, envelope, redacted)], dedupe=bool(key))[0]

    # -- pause ---------------------------------------------------------------------------------------------------

    @property
    def paused_since(self) -> int | None:
        """µs since the epoch when capture was paused, None while it runs."""
        try:
            return int((self.folder / "paused").read_text())
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            return 0  # the file is what hooks look at, whatever is in it

    def pause(self) -> bool:
        """Stop capture; False where it was paused already. Recorded in the log."""
        if self.paused_since is not None:
            return False
        try:
            (self.folder / "paused").write_text(str(now_us()))
        except OSError as error:
            raise DataFolderError(
                f"cannot write {self.folder}/paused: {error.strerror}; mend its permissions"
            ) from error
        self.append_own(EventType.CAPTURE_PAUSED, b"{}")
        return True

    def resume(self) -> bool:
        """Go on capturing; False where it was not paused."""
        if self.paused_since is None:
            return False
        try:
            (self.folder / "paused").unlink(missing_ok=True)
        except OSError as error:
            raise AppendError(
                f"cannot remove {self.folder}/paused: {error.strerror}; remove it by hand"
            ) from error
        self.append_own(EventType.CAPTURE_RESUMED, b"{}")
        return True

    # -- reading -------------------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """How far log and views are, what waits, what is wrong; plain data."""
        self.views.refresh()
        folder = str(self.folder)
        view = self.views.status()
        disk = os.statvfs(folder)
        state = {
            "folder": folder,
            "log_id": self.log.log_id,
            "position": self.log.head().position,
            "sealed": self.log.sealed().position,
            "paused_since": self.paused_since,
            "spooled": _count(f"{folder}/spool", ".event"),
            "unreadable_spooled": _count(f"{folder}/spool", ".bad"),
            "quarantined": _count(f"{folder}/quarantine", ".torn"),
            "log_bytes": sum(_size(f"{folder}/{name}") for name in ("segments", "journal", "manifest")),
            "views_bytes": _size(f"{folder}/views"),
            "private": not os.stat(folder).st_mode & 0o077,
            "disk_free_bytes": disk.f_bavail * disk.f_frsize,
            "views": msgspec.to_builtins(view),
        }
        return {**state, "findings": _findings(state)}


def _findings(state: dict[str, Any]) -> list[str]:
    """What a user should know or mend, a sentence each."""
    out = []
    if state["paused_since"] is not None:
        out.append("capture is paused: `session-mgmt-mcp resume` goes on")
    if state["spooled"]:
        out.append(
            f"{state['spooled']} events wait in spool/: `session-mgmt-mcp maintain --once` appends them"
        )
    if state["unreadable_spooled"]:
        out.append(f"{state['unreadable_spooled']} files in spool/ hold no event; they are kept as .bad")
    if state["quarantined"]:
        out.append(
            f"{state['quarantined']} torn writes lie in quarantine/: never acknowledged, kept to look at"
        )
    if why := state["views"]["vectors"]["unavailable"]:
        out.append(f"nothing is found by meaning: {why}")
    if not state["private"]:
        out.append(f"others may look into {state['folder']}: `chmod 700` makes it private")
    if state["disk_free_bytes"] < 512 << 20:
        out.append("less than 512 MiB are free on the disk: free some before appends fail")
    return out


def _count(folder: str, suffix: str) -> int:
    """Files of this ending; 0 where the folder is not there: backups leave out empty ones."""
    return sum(name.endswith(suffix) for name in os.listdir(folder)) if os.path.isdir(folder) else 0


def _size(folder: str) -> int:
    """Bytes on disk, allocated ones: journals are preallocated."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(parent, name)).st_size
            except FileNotFoundError:
                continue
    return total

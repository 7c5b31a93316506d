"""All checks in order. Each stands alone: what one cannot look at is its finding, and the others go on."""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from session_mgmt_mcp.adapters.claude_code.client import find_client
from session_mgmt_mcp.core.envelope import now_us
from session_mgmt_mcp.core.errors import DataFolderError, LogCorruptError, SessionMgmtError
from session_mgmt_mcp.core.log.folder import read_format
from session_mgmt_mcp.core.log.log import FileLog
from session_mgmt_mcp.core.log.manifest import Manifest
from session_mgmt_mcp.tools import auditing, retention
from session_mgmt_mcp.tools.app import App
from session_mgmt_mcp.tools.doctor import (
    assistant,
    derived,
    folder,
    journal,
    keys,
    locks,
    sealed,
    settings,
    vectors,
)
from session_mgmt_mcp.tools.doctor.finding import Finding, Patient, Severity
from session_mgmt_mcp.tools.doctor.journal import Latest

Progress = Callable[[str, int, int], None]
_EXIT_CODES = (DataFolderError.exit_code, LogCorruptError.exit_code)
_RANK = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.NOTE: 2}


class Diagnosis(NamedTuple):
    """What was found, the worst first."""

    findings: tuple[Finding, ...]

    @property
    def to_mend(self) -> tuple[Finding, ...]:
        return tuple(f for f in self.findings if f.severity is not Severity.NOTE)

    @property
    def exit_code(self) -> int:
        """0 nothing to mend · 1 something · 3 data folder unusable · 4 log corrupt."""
        codes = [f.exit_code for f in self.to_mend]
        return max(codes, default=0)

    @property
    def is_grave(self) -> bool:
        """Whether the log itself is not to be touched before somebody looked."""
        return self.exit_code in _EXIT_CODES


def diagnose(path: Path, *, deep: bool = False, progress: Progress | None = None) -> Diagnosis:
    """Look the data folder at `path` over, and what should report into it. Changes nothing.

    Without `deep` no segment is read whole.
    """
    findings: list[Finding] = []

    def look(check: str, looks: Callable[[], Iterable[Finding]]) -> None:
        findings.extend(_guarded(check, str(path), looks))

    base = str(path)
    look("settings", lambda: settings.check_settings(base))
    look("folder", lambda: folder.access(base))
    if not any(f.exit_code == DataFolderError.exit_code for f in findings):
        look("folder", lambda: folder.owner_and_mode(base))
        look("disk", lambda: folder.room(base))
        with _form_of(base, findings) as patient:
            if patient is not None:
                _look_inside(patient, look, findings, deep, progress)
    return Diagnosis(tuple(sorted(findings, key=lambda f: (_RANK[f.severity], f.exit_code == 1))))


@contextlib.contextmanager
def _form_of(base: str, findings: list[Finding]) -> Iterator[Patient | None]:
    try:
        patient = Patient(base, read_format(base), now_us())
    except SessionMgmtError as error:
        findings.append(_of_error("format", base, error))
        patient = None
    yield patient


def _look_inside(
    patient: Patient,
    look: Callable[[str, Callable[[], Iterable[Finding]]], None],
    findings: list[Finding],
    deep: bool,
    progress: Progress | None,
) -> None:
    manifests: list[Manifest] = []

    def segments() -> list[Finding]:
        found = sealed.check_sealed(patient)
        manifests.append(found.manifest)
        return found.findings

    look("folder", lambda: folder.contents(patient))
    look("keys", lambda: keys.check_keys(patient))
    look("locks", lambda: locks.check_locks(patient))
    look("segments", segments)
    look("journal", lambda: journal.check_journal(patient, manifests[0].last if manifests else 0))
    look("beside", lambda: derived.check_beside(patient))
    latest = Latest()
    with contextlib.suppress(SessionMgmtError, OSError):  # what is damaged was found above
        latest = latest_of(patient, manifests[0] if manifests else None)
    look("clock", lambda: derived.check_clock(patient, latest))
    if not any(f.exit_code == LogCorruptError.exit_code for f in findings):
        look("views", lambda: _views(patient))
        look("vectors", lambda: _vectors(patient))
        look("retention", lambda: _retention(patient))
    look("hooks", lambda: _assistants(patient, latest))
    if deep:
        look("verify", lambda: _deep(patient, progress))


def latest_of(patient: Patient, manifest: Manifest | None) -> Latest:
    """When the last event, and the last of a hook, was recorded."""
    found = journal.latest_in_journals(patient.folder)
    if manifest is None or (found.event_us and found.hook_us):
        return found
    older = sealed.latest_in_segments(patient, manifest)
    return Latest(found.event_us or older.event_us, found.hook_us or older.hook_us)


def _views(patient: Patient) -> list[Finding]:
    with FileLog(patient.folder) as log:
        return list(derived.check_views(patient, log))


def _vectors(patient: Patient) -> list[Finding]:
    with FileLog(patient.folder) as log:
        return list(vectors.check_vectors(patient, log))


def _retention(patient: Patient) -> list[Finding]:
    """What the retention policy has to say, in the words `status` uses."""
    with App.open(Path(patient.folder)) as app:
        said = retention.findings(app)
    mend = "see `session-mgmt-mcp retention`"
    return [Finding("retention", Severity.WARNING, text, patient.folder, mend) for text in said]


def _assistants(patient: Patient, latest: Latest) -> Iterator[Finding]:
    yield from assistant.check_others(os.environ.get("PATH", ""))
    client = find_client()
    if client is None:
        what = "no Claude Code was found: there is nothing that could call this program"
        yield Finding(
            "hooks", Severity.NOTE, what, patient.folder, "after installing it run `session-mgmt-mcp setup`"
        )
        return
    yield from assistant.check_registration(client, Path(patient.folder))
    paused = os.path.exists(patient.path("paused"))
    yield from assistant.check_firing(client, latest, patient.now_us, paused)


def _deep(patient: Patient, progress: Progress | None) -> list[Finding]:
    verified = auditing.verify_folder(Path(patient.folder), progress)
    what = f"every byte of {verified.events} events is what the chain says"
    return [Finding("verify", Severity.NOTE, what, patient.folder, "nothing")]


def _guarded(check: str, where: str, looks: Callable[[], Iterable[Finding]]) -> list[Finding]:
    found: list[Finding] = []
    try:
        found.extend(looks())
    except SessionMgmtError as error:
        found.append(_of_error(check, where, error))
    except OSError as error:
        what = f"it could not be looked at: {error.strerror or error}"
        found.append(
            Finding(check, Severity.ERROR, what, str(error.filename or where), "mend its permissions")
        )
    return found


def _of_error(check: str, where: str, error: SessionMgmtError) -> Finding:
    code = error.exit_code if error.exit_code in _EXIT_CODES else 1
    what, _, mend = str(error).rpartition("; ")
    return Finding(check, Severity.ERROR, what or str(error), where, mend or "see there", exit_code=code)

"""What is made of the log and waits beside it: views, spool, quarantine; and whether the clock can be right."""

import os
from collections.abc import Iterator
from pathlib import Path

from session_mgmt_mcp.core.log.log import FileLog
from session_mgmt_mcp.projections.protocol import views_folder
from session_mgmt_mcp.tools.doctor.finding import Finding, Fix, Patient, Severity, age_of, age_text, names_in
from session_mgmt_mcp.tools.doctor.folder import LEFTOVER_AGE_S
from session_mgmt_mcp.tools.doctor.journal import Latest

CLOCK_AHEAD_US = 120 * 1_000_000
LAG_EVENTS = 16_000  # twice what makes maintenance due


def check_views(patient: Patient, log: FileLog) -> Iterator[Finding]:
    """Whether what is published can be used, and how far behind the sealed log it is."""
    from session_mgmt_mcp.projections.lexical import lexical_folder, open_indexes, published_generation
    from session_mgmt_mcp.projections.query_files import QueryFiles, load_state, query_folder

    views, sealed = views_folder(Path(patient.folder)), log.sealed().position
    folder = query_folder(views)
    state = load_state(views, log)
    if state is None:
        if (folder / "state.json").exists():
            yield _unusable("the query view", str(folder), "is of another history or version, or damaged")
        elif sealed:
            yield _unusable("the query view", str(folder), "was never published")
    else:
        try:
            QueryFiles(views, state).close()
        except Exception as error:  # noqa: BLE001  # a damaged file, whatever DuckDB says of it
            yield _unusable("the query view", str(folder), f"cannot be opened: {error}", Fix.REPLAY)
        yield from _lag("the query view", str(folder), state.position, sealed)
    folder = lexical_folder(views)
    generation = published_generation(folder, log)
    if not generation:
        if (folder / "state.json").exists():
            yield _unusable("the lexical index", str(folder), "is of another history or version, or damaged")
        elif sealed:
            yield _unusable("the lexical index", str(folder), "was never published")
        return
    try:
        positions = [index.watermark.position for index in open_indexes(folder / generation)]
    except Exception as error:  # noqa: BLE001  # a damaged file, whatever tantivy says of it
        yield _unusable("the lexical index", str(folder), f"cannot be opened: {error}", Fix.REPLAY)
        return
    yield from _lag("the lexical index", str(folder), min(positions), sealed)


def _unusable(what: str, where: str, why: str, fix: Fix = Fix.MAINTAIN) -> Finding:
    mend = f"`{fix.value}` builds it anew; until then answers come from the log, slowly"
    return Finding("views", Severity.WARNING, f"{what} {why}", where, mend, fix)


def _lag(what: str, where: str, position: int, sealed: int) -> Iterator[Finding]:
    behind = sealed - position
    if behind > 0:
        severity = Severity.WARNING if behind > LAG_EVENTS else Severity.NOTE
        text = f"{what} is {behind} events behind the sealed log"
        fix = Fix.MAINTAIN if severity is Severity.WARNING else None
        yield Finding("views", severity, text, where, "`maintain` brings it up to date", fix)


def old_leftovers(patient: Patient) -> list[str]:
    """What interrupted writers left in the data folder and in views/: files nobody reads."""
    found = [patient.path(name) for name in names_in(patient.folder) if name.endswith(".tmp")]
    for parent, _, names in os.walk(patient.path("views")):
        found += [os.path.join(parent, name) for name in names if name.endswith(".tmp")]
    return [path for path in found if os.path.isfile(path) and age_of(path) > LEFTOVER_AGE_S]


def check_beside(patient: Patient) -> Iterator[Finding]:
    """Spool, quarantine, leftovers in views/, and whether capture is paused."""
    spool = patient.path("spool")
    waiting = [name for name in names_in(spool) if name.endswith(".event")]
    if waiting:
        oldest = age_text(int(max(age_of(os.path.join(spool, name)) for name in waiting) * 1e6))
        what = f"{len(waiting)} events could not be appended and wait here, the oldest for {oldest}"
        yield Finding("spool", Severity.WARNING, what, spool, "`maintain` appends them", Fix.MAINTAIN)
    bad = [name for name in names_in(spool) if name.endswith(".bad")]
    if bad:
        what = f"{len(bad)} files hold no event that can be read"
        yield Finding("spool", Severity.NOTE, what, spool, "look at them; remove the .bad files when done")
    torn = [name for name in names_in(patient.path("quarantine")) if name.endswith(".torn")]
    if torn:
        what = f"{len(torn)} torn writes lie here; none was ever acknowledged"
        mend = "nothing; remove them when you have looked"
        yield Finding("quarantine", Severity.NOTE, what, patient.path("quarantine"), mend)
    left = [path for path in old_leftovers(patient) if path.startswith(patient.path("views"))]
    if left:
        what = f"interrupted publishers left {len(left)} files"
        yield Finding("views", Severity.WARNING, what, patient.path("views"), "remove them", Fix.LEFTOVERS)
    if os.path.exists(patient.path("paused")):
        what = "capture is paused: hooks record nothing"
        yield Finding(
            "capture", Severity.WARNING, what, patient.path("paused"), "`session-mgmt-mcp resume` goes on"
        )


def check_clock(patient: Patient, latest: Latest) -> Iterator[Finding]:
    """Whether the last event, or the log itself, was recorded in what is now the future."""
    for what, moment in (("the last event", latest.event_us), ("the log itself", patient.form.created_at)):
        if moment > patient.now_us + CLOCK_AHEAD_US:
            ahead = age_text(moment - patient.now_us)
            text = f"{what} was recorded {ahead} ahead of this machine's clock"
            yield Finding(
                "clock", Severity.WARNING, text, patient.folder, "set the clock; positions keep the order"
            )

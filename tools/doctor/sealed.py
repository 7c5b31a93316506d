"""Manifest and segments, without reading them whole: there, of the right size, following each other, nothing left over."""

import os
from collections.abc import Iterator
from typing import NamedTuple

from session_mgmt_mcp.core.envelope import Source
from session_mgmt_mcp.core.log.journals import first_chain, list_journals
from session_mgmt_mcp.core.log.manifest import Manifest, load_manifest
from session_mgmt_mcp.core.log.seal import ORPHAN_AGE_S
from session_mgmt_mcp.core.log.segment import open_segment, read_group
from session_mgmt_mcp.tools.doctor.finding import Finding, Fix, Patient, Severity, age_of, names_in
from session_mgmt_mcp.tools.doctor.journal import Latest

CHECK = "segments"
_SEGMENTS_SEARCHED = 5


class Sealed(NamedTuple):
    """The manifest, and what is wrong with what it names."""

    manifest: Manifest
    findings: list[Finding]


def check_sealed(patient: Patient) -> Sealed:
    """Raises LogCorruptError where the newest manifest does not check."""
    manifest = load_manifest(patient.folder)
    return Sealed(
        manifest, [*_named(patient, manifest), *_gap(patient, manifest), *_left_over(patient, manifest)]
    )


def _corrupt(what: str, where: str) -> Finding:
    return Finding(CHECK, Severity.ERROR, what, where, "restore it from a backup", exit_code=4)


def _named(patient: Patient, manifest: Manifest) -> Iterator[Finding]:
    if manifest.version and manifest.log_id != patient.form.log_id:
        yield _corrupt(
            f"manifest {manifest.version} is of log {manifest.log_id}, the folder of log {patient.form.log_id}",
            patient.path("manifest"),
        )
        return
    expected, chain = 1, first_chain(patient.form.origin).hex()
    for entry in manifest.segments:
        path, ids = patient.path("segments", entry.file), patient.path("segments", entry.ids)
        if (entry.first, entry.chain_before) != (expected, chain):
            yield _corrupt(f"it does not continue the log at position {expected}", path)
        missing = [name for name in (path, ids) if not os.path.exists(name)]
        for name in missing:
            yield _corrupt("the manifest names it, and it is missing", name)
        if not missing and os.path.getsize(path) != entry.bytes:
            yield _corrupt(f"it has {os.path.getsize(path)} bytes, the manifest says {entry.bytes}", path)
        expected, chain = entry.last + 1, entry.chain


def _gap(patient: Patient, manifest: Manifest) -> Iterator[Finding]:
    """The journals must go on where the segments end; one that is older was sealed, its removal interrupted."""
    if not os.path.isdir(patient.path("journal")):
        return
    firsts = [first for first, _ in list_journals(patient.folder)]
    following = next((first for first in firsts if first > manifest.last), None)
    if (
        following is not None
        and following != manifest.last + 1
        and not any(f <= manifest.last for f in firsts)
    ):
        yield _corrupt(
            f"positions {manifest.last + 1} to {following - 1} are neither in a segment nor in a journal",
            patient.path("journal"),
        )


def _left_over(patient: Patient, manifest: Manifest) -> Iterator[Finding]:
    named = {name for entry in manifest.segments for name in (entry.file, entry.ids)}
    base = patient.path("segments")
    old = [n for n in names_in(base) if n not in named and age_of(os.path.join(base, n)) > ORPHAN_AGE_S]
    if old:
        size = sum(os.path.getsize(os.path.join(base, name)) for name in old)
        what = f"{len(old)} files ({size >> 10} KiB) that no manifest names are more than a day old"
        yield Finding(CHECK, Severity.WARNING, what, base, "`maintain` collects them", Fix.MAINTAIN)
    base = patient.path("manifest")
    old = [n for n in names_in(base) if n.endswith(".tmp") and age_of(os.path.join(base, n)) > ORPHAN_AGE_S]
    if old:
        what = f"{len(old)} unfinished manifests are more than a day old"
        yield Finding(CHECK, Severity.WARNING, what, base, "`maintain` removes them", Fix.MAINTAIN)


def latest_in_segments(patient: Patient, manifest: Manifest) -> Latest:
    """When the last sealed event, and the last of a hook, was recorded; of the newest few segments."""
    event_us = hook_us = 0
    for entry in manifest.segments[: -_SEGMENTS_SEARCHED - 1 : -1]:
        path = patient.path("segments", entry.file)
        with open_segment(path) as file:
            for group in reversed(range(file.num_row_groups)):
                table = read_group(file, group, ["recorded_at", "source"], path)
                times, sources = table.column("recorded_at").to_pylist(), table.column("source").to_pylist()
                event_us = event_us or times[-1]
                hooks = [t for t, source in zip(times, sources, strict=True) if source == Source.HOOK]
                if hooks:
                    return Latest(event_us, hooks[-1])
    return Latest(event_us, hook_us)

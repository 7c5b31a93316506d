"""The file of API keys: readable for its owner alone, well-formed, and which keys open nothing."""

import os
from collections.abc import Iterator

from session_mgmt_mcp.core.errors import SettingsError
from session_mgmt_mcp.tools.access_keys import FILE, read_keys
from session_mgmt_mcp.tools.doctor.finding import Finding, Patient, Severity

CHECK = "keys"


def check_keys(patient: Patient) -> Iterator[Finding]:
    """Nothing where there is no file: then nobody asked for keys."""
    path = patient.path(FILE)
    if not os.path.exists(path):
        return
    mode = os.stat(path).st_mode
    if mode & 0o077:
        what = f"others may read or change who comes in (mode {mode & 0o777:04o})"
        yield Finding(CHECK, Severity.ERROR, what, path, f"`chmod 600 {path}`")
    try:
        keys = read_keys(patient.folder)
    except SettingsError as error:
        yield Finding(CHECK, Severity.ERROR, str(error), path, "until then every key is refused")
        return
    expired = [key for key in keys if key.state(patient.now_us) == "expired"]
    for key in expired:
        mend = f"`session-mgmt-mcp keys rotate` refuses it; make {key.name} another, or revoke it"
        yield Finding(CHECK, Severity.NOTE, f"the key {key.id} of {key.name} has expired", path, mend)
    if keys and all(key.state(patient.now_us) != "valid" for key in keys):
        mend = "`session-mgmt-mcp keys create` makes another"
        yield Finding(CHECK, Severity.WARNING, "no key opens anything any more", path, mend)

"""Settings: the environment's and the file's."""

import os
from collections.abc import Iterator

from session_mgmt_mcp.core.config import config_file, read, unknown_variables
from session_mgmt_mcp.core.errors import SettingsError
from session_mgmt_mcp.tools.doctor.finding import Finding, Severity
from session_mgmt_mcp.tools.settings_file import unreadable

CHECK = "settings"


def check_settings(folder: str) -> Iterator[Finding]:
    """Malformed settings, files they name that cannot be read, variables of ours that nothing reads."""
    for name, hint in unknown_variables(os.environ).items():
        what = f"nothing reads the variable {name}{hint}"
        yield Finding(CHECK, Severity.WARNING, what, "the environment", "unset or rename it")
    try:
        where = config_file() or "the environment"
        loaded = read()
    except SettingsError as error:
        yield Finding(
            CHECK, Severity.ERROR, str(error), folder, "`session-mgmt-mcp config check` says it again"
        )
        return
    for what in unreadable({key: value.value for key, value in loaded.values.items()}):
        yield Finding(CHECK, Severity.WARNING, what, where, "mend the path or its permissions")

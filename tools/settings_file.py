"""The settings file as people meet it: its values for commands and servers, a file to begin with, a table to read."""

import os
from collections.abc import Mapping
from typing import Any

from session_mgmt_mcp.core import settings
from session_mgmt_mcp.core.errors import InputError, SettingsError

_HEAD = """\
# Settings of session-mgmt-mcp. What is commented out is the default. The environment wins over this file, and the
# command line over both; `session-mgmt-mcp config show` tells what is in force. The data folder is named by the
# environment alone (SESSION_MGMT_DATA_DIR). "HUP": taken over when the service gets that signal, the rest at its start.
"""


def use() -> None:
    """Have settings that no variable names looked up in the file, in this process. Hooks do not: they read no file."""

    def from_file(variable: str) -> str:
        from session_mgmt_mcp.core.config import file_value

        return file_value(variable)

    settings.look_also(from_file)


def initial_text() -> str:
    """A file with every setting commented out, and what it means."""
    from session_mgmt_mcp.core.config import TABLE

    parts = [_HEAD]
    for row in TABLE.values():
        notes = [row.allowed, row.variable, *(["HUP"] if row.about.reload else [])]
        parts.append(f"# {row.about.meaning} ({'; '.join(notes)})\n# {row.key} = {toml_value(row.default)}\n")
    return "\n".join(parts)


def write_initial(path: str | None) -> str:
    """Write `initial_text`, 0600, where nothing is yet; the path. Raises InputError, SettingsError."""
    from session_mgmt_mcp.core.config import FILE_VARIABLE, default_config_file

    path = path or os.environ.get(FILE_VARIABLE) or default_config_file(os.environ)
    if path is None:
        raise SettingsError("HOME is not set, so there is no place for the settings file; name one")
    path = os.path.abspath(os.path.expanduser(path))
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise InputError(f"{path} is there already; edit it, or name another file") from None
    except OSError as error:
        raise SettingsError(f"cannot write {path}: {error.strerror}; name another file") from error
    with open(fd, "w", encoding="utf-8") as file:
        file.write(initial_text())
    return path


def in_force(environ: Mapping[str, str]) -> dict[str, Any]:
    """Plain data: the file that is read, each setting with value, origin, default and meaning, strange variables.

    A secret's value is not in it. Raises SettingsError where something is malformed.
    """
    from session_mgmt_mcp.core.config import TABLE, read, unknown_variables

    loaded = read(environ)
    rows = {
        key: {
            "value": hidden(loaded.values[key].value) if row.about.secret else loaded.values[key].value,
            "origin": loaded.values[key].origin,
            "where": loaded.values[key].where,
            "default": row.default,
            "variable": row.variable,
            "allowed": row.allowed,
            "meaning": row.about.meaning,
            "reload": row.about.reload,
        }
        for key, row in TABLE.items()
    }
    return {
        "file": loaded.file,
        "settings": rows,
        "unknown_variables": [name + hint for name, hint in unknown_variables(environ).items()],
    }


def unreadable(values: Mapping[str, Any]) -> list[str]:
    """What settings of files name and cannot be read, a sentence each; `values`: key -> value."""
    from session_mgmt_mcp.core.config import TABLE

    out = []
    for key, row in TABLE.items():
        path = values[key]
        if row.about.path and path and key != "log_dir" and not os.access(path, os.R_OK):
            out.append(f"{key}: {path} cannot be read, or is not there; mend the path or its permissions")
    return out


def hidden(value: str) -> str:
    """What is shown of a secret."""
    return "(set, not shown)" if value else ""


def toml_value(value: Any) -> str:
    """A value as a settings file has it."""
    import json

    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(toml_value(word) for word in value)}]"
    return f"{value:g}" if isinstance(value, float) else str(value)

"""Every setting of the service (`core.config_table`), read from the environment and a TOML file.

The environment wins over the file; what the command line says wins over both. The data folder is named by the
environment alone, because hooks read no file. Not for hooks: they use `core.settings`.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from typing import Any, NamedTuple

from session_mgmt_mcp.core import settings as light
from session_mgmt_mcp.core.config_table import TABLE, Row, ServiceSettings, is_loopback
from session_mgmt_mcp.core.errors import SettingsError

__all__ = ["TABLE", "Row", "ServiceSettings", "is_loopback", "load"]

FILE_VARIABLE = "SESSION_MGMT_CONFIG"
# origins of a value
DEFAULT, FILE, ENVIRONMENT, COMMAND_LINE = "default", "file", "environment", "command line"
# Variables of ours that are no settings of the service.
OTHER_VARIABLES = frozenset(
    [
        light.DATA_DIR_VARIABLE,
        FILE_VARIABLE,
        "SESSION_MGMT_BRIEF",
        "SESSION_MGMT_EMBED",
        "SESSION_MGMT_BENCH_DATA",
        "SESSION_MGMT_CLIENTS",
        "SESSION_MGMT_DEPLOY_TOOLS",
        "SESSION_MGMT_REAL_DATA",
        "SESSION_MGMT_MODEL_SOURCE",
    ]
)
_FILE_CHARACTERS_MAX = 1 << 20


class Value(NamedTuple):
    """A setting as it is in force, and where it comes from."""

    value: Any
    origin: str  # DEFAULT, FILE, ENVIRONMENT or COMMAND_LINE
    where: str  # the variable, or `file:line`; "" for a default


class Loaded(NamedTuple):
    """All settings, each with its origin."""

    settings: ServiceSettings
    values: dict[str, Value]
    file: str | None  # the file that was read


def load(
    environ: Mapping[str, str] | None = None, file: str | None = None, **overrides: Any
) -> ServiceSettings:
    """The settings in force. `file` None: `config_file`; `overrides`: what the command line says, None for nothing.

    Raises SettingsError: it names the key, where it stands and what is allowed, never a secret's value.
    """
    return read(environ, file, **overrides).settings


def read(environ: Mapping[str, str] | None = None, file: str | None = None, **overrides: Any) -> Loaded:
    """As `load`, with the origin of each value."""
    environ = os.environ if environ is None else environ
    path = file or config_file(environ)
    given = read_file(path) if path else {}
    values = {}
    for key, row in TABLE.items():
        if overrides.get(key) is not None:
            values[key] = _from_command_line(row, overrides[key])
        else:
            values[key] = _from_environment(row, environ) or given.get(key) or Value(row.default, DEFAULT, "")
    settings = ServiceSettings(**{key: value.value for key, value in values.items()})
    _check_together(settings, values)
    derived = {key: v._replace(value=getattr(settings, key)) for key, v in values.items()}
    return Loaded(settings, derived, path)


def config_file(environ: Mapping[str, str] | None = None) -> str | None:
    """`SESSION_MGMT_CONFIG`, else `$XDG_CONFIG_HOME/session-mgmt-mcp/config.toml`; None where there is none.

    Raises SettingsError where the variable names a file that is not there.
    """
    environ = os.environ if environ is None else environ
    named = environ.get(FILE_VARIABLE, "").strip()
    if named:
        path = os.path.abspath(os.path.expanduser(named))
        if not os.path.exists(path):
            raise SettingsError(f"{FILE_VARIABLE} is {named!a}: there is no such file; mend it or unset it")
        return path
    default = default_config_file(environ)
    return default if default and os.path.isfile(default) else None


def default_config_file(environ: Mapping[str, str]) -> str | None:
    """Where the file lies when nobody says otherwise; None where the user has no home."""
    base = os.path.expanduser(environ.get("XDG_CONFIG_HOME") or "")
    if not os.path.isabs(base):  # a relative one does not count, as its specification says
        base = os.path.expanduser("~/.config")
    return os.path.normpath(base) + "/session-mgmt-mcp/config.toml" if os.path.isabs(base) else None


def read_file(path: str) -> dict[str, Value]:
    """The settings of a file. Raises SettingsError."""
    text = _text_of(path)
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(
            f"{path} is no TOML: {error}; `session-mgmt-mcp config check` reads it again"
        ) from None
    out = {}
    for key, given in found.items():
        where = f"{path}:{_line_of(key, text)}"
        if key not in TABLE:
            raise SettingsError(f"{where}: there is no setting {key!a}{near_miss(key, TABLE)}")
        out[key] = Value(_from_toml(TABLE[key], given, where, os.path.dirname(path)), FILE, where)
    return out


def file_value(variable: str) -> str:
    """What the file says of a variable that `core.settings` reads, as the environment would; "" for nothing."""
    path = config_file()
    row = next((row for row in TABLE.values() if variable in row.variables), None)
    if path is None or row is None:
        return ""
    value = read_file(path).get(row.key)
    return "" if value is None else str(value.value)


def unknown_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Variables with our prefix that nothing reads, each with the hint that its name may be meant for another."""
    known = {name for row in TABLE.values() for name in row.variables} | OTHER_VARIABLES
    strange = sorted(name for name in environ if name.startswith(light.PREFIX) and name not in known)
    return {name: near_miss(name, known) for name in strange}


def needs_restart(old: ServiceSettings, new: ServiceSettings) -> tuple[str, ...]:
    """Keys that changed and are not taken over on HUP."""
    return tuple(
        key for key, row in TABLE.items() if not row.about.reload and getattr(old, key) != getattr(new, key)
    )


def near_miss(word: str, known: "Mapping[str, Any] | frozenset[str] | set[str]") -> str:
    """`; did you mean X?`, or the empty text."""
    import difflib

    names = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), list(names), n=1, cutoff=0.7)
    return f"; did you mean {names[close[0]]}?" if close else ""


def _from_command_line(row: Row, given: Any) -> Value:
    where = f"--{row.key.removeprefix('http_')}"
    checked = _checked_number(row, given, where) if row.kind in (int, float) else given
    return Value(checked, COMMAND_LINE, where)


def _from_environment(row: Row, environ: Mapping[str, str]) -> Value | None:
    for name in row.variables:
        text = environ.get(name, "").strip()
        if text:
            return Value(_from_text(row, text, name), ENVIRONMENT, name)
    return None


def _from_text(row: Row, text: str, where: str) -> Any:
    """A variable's text as the setting's type."""
    if row.kind is tuple:
        return tuple(part for word in text.split(",") if (part := word.strip()))
    if row.kind is str:
        return _checked_text(row, text, where, "")
    if not re.fullmatch(r"\d{1,15}" if row.kind is int else r"\d{1,15}(\.\d{1,9})?", text, re.ASCII):
        raise _refused(row, where, text)
    return _checked_number(row, row.kind(text), where)


def _from_toml(row: Row, given: Any, where: str, folder: str) -> Any:
    """A value of the file as the setting's type."""
    if row.kind is tuple and isinstance(given, list) and all(isinstance(word, str) for word in given):
        return tuple(given)
    if row.kind is str and isinstance(given, str):
        return _checked_text(row, given, where, folder)
    number = isinstance(given, int) or (row.kind is float and isinstance(given, float))
    if row.kind in (int, float) and number and not isinstance(given, bool):
        return _checked_number(row, given, where)
    quoted = isinstance(given, str) and row.kind in (int, float)
    raise _refused(row, where, given, "; without quotes" if quoted else "")


def _checked_text(row: Row, text: str, where: str, folder: str) -> str:
    if "\0" in text:
        raise _refused(row, where, text)
    if row.about.choices and text:
        chosen = {word.lower(): word for word in row.about.choices}.get(text.lower())
        if chosen is None:
            raise _refused(row, where, text, near_miss(text, set(row.about.choices)))
        return chosen
    if not row.about.path or not text:
        return text
    return os.path.abspath(os.path.join(folder, os.path.expanduser(text)))


def _checked_number(row: Row, number: float, where: str) -> float:
    if not row.about.low <= number <= row.about.high:
        raise _refused(row, where, number)
    return row.kind(number)  # type: ignore[no-any-return]


def _refused(row: Row, where: str, given: Any, hint: str = "") -> SettingsError:
    shown = "malformed" if row.about.secret else ascii(given)[:60]
    key = "" if row.key in where else f"{row.key} "
    return SettingsError(f"{where}: {key}is {shown}: give {row.allowed}{hint}")


def _check_together(settings: ServiceSettings, values: Mapping[str, Value]) -> None:
    """Raise SettingsError for settings that are right by themselves and wrong beside each other."""
    if settings.auth == "none" and not is_loopback(settings.http_host):
        raise SettingsError(
            f"auth is 'none' ({values['auth'].where}) and http_host is {settings.http_host!a}: off loopback "
            "everybody could read everything; leave auth unset and make keys with `session-mgmt-mcp keys create`"
        )
    if bool(settings.tls_cert_file) != bool(settings.tls_key_file):
        one, other = ("tls_cert_file", "tls_key_file")[:: 1 if settings.tls_cert_file else -1]
        raise SettingsError(f"{one} is set ({values[one].where}) and {other} is not: TLS needs both")


def _text_of(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(_FILE_CHARACTERS_MAX + 1)
    except OSError as error:
        raise SettingsError(
            f"cannot read the settings of {path}: {error.strerror}; mend its permissions"
        ) from None
    except UnicodeDecodeError:
        raise SettingsError(
            f"{path} is no UTF-8 text; write it anew with `session-mgmt-mcp config init`"
        ) from None
    if len(text) > _FILE_CHARACTERS_MAX:
        raise SettingsError(
            f"{path} is longer than {_FILE_CHARACTERS_MAX} characters, so it is no settings file"
        )
    return text


def _line_of(key: str, text: str) -> int:
    """The line on which a key of the file stands first; tomllib does not tell."""
    found = re.search(rf"""^[ \t]*(\[+[ \t]*)?["']?{re.escape(key)}["']?[ \t]*[.=\]]""", text, re.MULTILINE)
    return text.count("\n", 0, found.start()) + 1 if found else 1

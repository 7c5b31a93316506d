"""Settings from the environment. Imported by hooks: kept light."""

import os

from session_mgmt_mcp.core.errors import DataFolderError, SettingsError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DATA_DIR_VARIABLE = "SESSION_MGMT_DATA_DIR"
PREFIX = "SESSION_MGMT_"  # before a variable's name it says the same and wins, where another program reads the bare name
MODEL_VARIABLE = "EMBEDDING_MODEL_PATH"
CACHE_VARIABLE = "EMBEDDING_CACHE_SIZE"
VECTOR_MEMORY_VARIABLE = "VECTOR_MEMORY_MB"
VECTOR_MEMORY_DEFAULT, VECTOR_MEMORY_MAX = 0, 1_000_000  # a scan is as fast: benchmarks/vector_index.py
WORKERS_VARIABLE = "MAX_WORKERS"
BRIEF_TOKENS_VARIABLE = "SESSION_MGMT_BRIEF_TOKENS"
BRIEF_TOKENS_DEFAULT, BRIEF_TOKENS_MIN, BRIEF_TOKENS_MAX = 800, 300, 10_000
CACHE_DEFAULT = 512
CACHE_MAX = 1_000_000  # 1.5 GB of the shipped model's vectors
WORKERS_DEFAULT = 1
WORKERS_MAX = 256

_look_further: "Callable[[str], str] | None" = None


def data_folder() -> str:
    """`SESSION_MGMT_DATA_DIR`, default `$XDG_DATA_HOME/session-mgmt-mcp` (`~/.local/share/…`). Not created here.

    Raises DataFolderError where the user has no home.
    """
    explicit = os.environ.get(DATA_DIR_VARIABLE)
    if explicit:
        return os.path.abspath(os.path.expanduser(explicit))
    return default_data_folder()


def default_data_folder() -> str:
    """Where data lies when nobody says otherwise. Raises DataFolderError where the user has no home.

    A relative XDG_DATA_HOME does not count, as its specification says: it would be another folder in every project.
    """
    base = os.path.expanduser(os.environ.get("XDG_DATA_HOME") or "")
    if not os.path.isabs(base):
        base = os.path.expanduser("~/.local/share")
    if not os.path.isabs(base):
        raise DataFolderError(f"HOME is not set, so there is no default data folder; set {DATA_DIR_VARIABLE}")
    return os.path.normpath(base) + "/session-mgmt-mcp"


def data_dir() -> "Path":
    """`data_folder` as a Path."""
    from pathlib import Path

    return Path(data_folder())


def embedding_model_path() -> "Path | None":
    """`EMBEDDING_MODEL_PATH`: the folder of the user's own embedding model. None: the shipped one."""
    from pathlib import Path

    _, named = _read(MODEL_VARIABLE)
    return Path(os.path.abspath(os.path.expanduser(named))) if named else None


def embedding_cache_size() -> int:
    """`EMBEDDING_CACHE_SIZE`: how many queries' vectors are kept, 0 for none. Raises SettingsError."""
    return _number(CACHE_VARIABLE, CACHE_DEFAULT, 0, CACHE_MAX)


def max_workers() -> int:
    """`MAX_WORKERS`: threads that embed at once. Raises SettingsError."""
    return _number(WORKERS_VARIABLE, WORKERS_DEFAULT, 1, WORKERS_MAX)


def vector_memory_bytes() -> int:
    """`VECTOR_MEMORY_MB`: memory for graphs over vectors; 0, the default: all are scanned. Raises SettingsError."""
    return _number(VECTOR_MEMORY_VARIABLE, VECTOR_MEMORY_DEFAULT, 0, VECTOR_MEMORY_MAX) << 20


def brief_tokens() -> int:
    """`SESSION_MGMT_BRIEF_TOKENS`: how long the brief at a session's start may be. Raises SettingsError."""
    return _number(BRIEF_TOKENS_VARIABLE, BRIEF_TOKENS_DEFAULT, BRIEF_TOKENS_MIN, BRIEF_TOKENS_MAX)


def look_also(lookup: "Callable[[str], str]") -> None:
    """Ask `lookup` for variables that the environment does not name: "" for nothing. Commands and servers do."""
    global _look_further
    _look_further = lookup


def _read(variable: str) -> tuple[str, str]:
    """The name under which a variable is set, and its value; "" where it is not, or empty."""
    for name in (PREFIX + variable, variable):
        value = os.environ.get(name, "").strip()
        if value:
            return name, value
    return variable, _look_further(variable) if _look_further is not None else ""


def _number(variable: str, default: int, low: int, high: int) -> int:
    name, value = _read(variable)
    if not value:
        return default
    if not (len(value) < 10 and value.isascii() and value.isdigit() and low <= int(value) <= high):
        raise SettingsError(
            f"{name} is {value[:40]!r}: set it to a whole number from {low} to {high}, or unset it"
        )
    return int(value)

"""Settings from the environment. Imported by hooks: kept light."""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

DATA_DIR_VARIABLE = "SESSION_MGMT_DATA_DIR"


def data_folder() -> str:
    """`SESSION_MGMT_DATA_DIR`, default `$XDG_DATA_HOME/session-mgmt-mcp` (`~/.local/share/…`). Not created here."""
    explicit = os.environ.get(DATA_DIR_VARIABLE)
    if explicit:
        return os.path.abspath(os.path.expanduser(explicit))
    return default_data_folder()


def default_data_folder() -> str:
    """Where data lies when nobody says otherwise."""
    base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return os.path.abspath(os.path.expanduser(base)) + "/session-mgmt-mcp"


def data_dir() -> "Path":
    """`data_folder` as a Path."""
    from pathlib import Path

    return Path(data_folder())

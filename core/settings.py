"""Settings from the environment. Imported by hooks: kept light."""

import os

from session_mgmt_mcp.core.errors import DataFolderError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

DATA_DIR_VARIABLE = "SESSION_MGMT_DATA_DIR"
BLOB_BYTES_MIN = 8192  # shorter strings stay in their payload: an event of their own costs about 200 bytes


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

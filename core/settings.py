"""Settings from the environment."""

import os
from pathlib import Path

DATA_DIR_VARIABLE = "SESSION_MGMT_DATA_DIR"


def data_dir() -> Path:
    """`SESSION_MGMT_DATA_DIR`, default `$XDG_DATA_HOME/session-mgmt-mcp` (`~/.local/share/…`). Not created here."""
    explicit = os.environ.get(DATA_DIR_VARIABLE)
    if explicit:
        return Path(explicit).expanduser().absolute()
    base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(base).expanduser().absolute() / "session-mgmt-mcp"

"""onnxruntime leaves its maker's telemetry in whoever imports it: not here."""

import os
import subprocess
import sys
from pathlib import Path

LOAD = "from session_mgmt_mcp.projections.embedding import Embedder; Embedder.open()"


def test_loading_the_model_leaves_nothing_in_the_users_home(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "ORT_"))}
    subprocess.run([sys.executable, "-B", "-c", LOAD], env={**inherited, "HOME": str(home)}, check=True)
    assert [path for path in home.rglob("*") if path.is_file()] == []

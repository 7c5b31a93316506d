"""What all tests share."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

_OF_THE_TESTS = ("REAL_DATA", "CLIENTS", "MODEL_SOURCE", "DEPLOY_TOOLS", "BENCH_DATA", "CRASH_", "FAULT_")
for name in [name for name in os.environ if name.startswith("SESSION_MGMT_")]:
    if not name.removeprefix("SESSION_MGMT_").startswith(_OF_THE_TESTS):
        del os.environ[name]  # no test depends on the settings of who runs them
os.environ["SESSION_MGMT_EMBED"] = "off"  # no test leaves a process behind; those that embed say so
os.environ["SESSION_MGMT_CONFIG"] = os.devnull  # nor does one read the settings file of who runs them
_UNSYNCED = {"audit", "doctor", "forget", "lifecycle", "projections", "projects", "tools"}


@pytest.fixture(autouse=True)
def keeps_its_priority(monkeypatch: pytest.MonkeyPatch) -> None:
    """`maintain` lowers that of its process: not that of the tests, which could not be raised again."""
    monkeypatch.setattr(os, "nice", lambda _: 0)


@pytest.fixture(autouse=True)
def unsynced(request: pytest.FixtureRequest) -> Iterator[None]:
    """Tests of these folders end with their process, not with a power cut: nothing they do waits for the disk.

    Child processes do wait. What is durable, and when, is tested in tests/log, tests/backup and tests/sim.
    """
    if Path(request.path).parent.name not in _UNSYNCED:
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        for name in ("fsync", "fdatasync"):
            if hasattr(os, name):
                patch.setattr(os, name, lambda fd: None)
        yield


@pytest.fixture(scope="session")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with the bundled history, sealed and published; copied, never used itself."""
    from session_mgmt_mcp.adapters.claude_code import install
    from session_mgmt_mcp.tools.app import App

    folder = tmp_path_factory.mktemp("history") / "data"
    with App.open(folder, create=True) as app:
        app.import_claude([Path(install.__file__).parent / "demo" / "projects"])
        app.maintain()
    return folder


@pytest.fixture
def run(data: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Runs a command on the folder's `data`; what it says to machines."""
    from session_mgmt_mcp.tools.cli import main

    def call(*words: str, code: int = 0) -> Any:
        found = main([*words, "--json"])
        said = capsys.readouterr()
        assert found == code, said.out + said.err
        return json.loads(said.out)

    return call

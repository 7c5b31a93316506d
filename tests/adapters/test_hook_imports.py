"""A hook imports as little as it can: what it does without, it does as well."""

import ast
import json
import os
import posix
import subprocess
import sys
from pathlib import Path

import pytest

from session_mgmt_mcp.adapters.claude_code import capture
from session_mgmt_mcp.core.log.log import FileLog
from session_mgmt_mcp.core.project import _real
from session_mgmt_mcp.core.settings import data_folder

ROOT = Path(capture.__file__).parents[2]
SCRIPT = Path(capture.__file__).with_name("hook.py")
# as hook.py does it, and then what is loaded
PROGRAM = f"""
import sys
sys.path.append({str(SCRIPT.parents[3])!r})
from session_mgmt_mcp.adapters.claude_code import capture
capture.spawn_maintenance = lambda folder: 0
capture.main(sys.argv[1:])
print(*sorted(sys.modules))
"""
HEAVY = {"os", "re", "json", "pathlib", "enum", "typing", "session_mgmt_mcp.core.errors"}
LIGHT = (
    "core/log/durable.py",
    "core/log/appender.py",
    "core/log/journals.py",
    "core/live.py",
    "core/project.py",
)
LIGHT_HOOKS = ("adapters/claude_code/capture.py", "adapters/claude_code/living.py")


@pytest.mark.parametrize("event", ["PostToolUse", "UserPromptSubmit", "Stop", "PreCompact", "SessionEnd"])
def test_a_hook_does_without_heavy_modules(event: str, tmp_path: Path) -> None:
    FileLog(tmp_path, create=True).close()
    capture.capture(str(tmp_path), b"{}")  # starts the first journal
    where = tmp_path / "mill" / ".git"
    where.mkdir(parents=True)
    payload = {"session_id": "s", "cwd": str(where.parent), "hook_event_name": event, "prompt": "hello"}
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", PROGRAM, "--data-dir", str(tmp_path)],
        input=json.dumps(payload).encode(),
        capture_output=True,
        check=True,
    )

    assert done.stderr == b""
    assert FileLog(tmp_path).head().position == 2
    assert HEAVY.isdisjoint(done.stdout.decode().split())


@pytest.mark.parametrize("file", [*LIGHT, *LIGHT_HOOKS])
def test_what_stands_for_os_in_a_hook_has_all_that_is_asked_of_it(file: str) -> None:
    tree = ast.parse((ROOT / file).read_text())
    asked = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os"
    }

    assert asked
    assert {name for name in asked if not hasattr(posix, name)} == set()


@pytest.mark.parametrize(
    "environment",
    [
        {"HOME": "/home/mira"},
        {"HOME": "/home/mira/"},
        {"HOME": "/"},
        {"HOME": "/home/mira", "XDG_DATA_HOME": "/data"},
        {"HOME": "/home/mira", "XDG_DATA_HOME": "relative"},
        {"HOME": "/home/mira", "XDG_DATA_HOME": "~/data"},
        {"HOME": "/home/mira", "XDG_DATA_HOME": ""},
        {"HOME": "/home/mira", "SESSION_MGMT_DATA_DIR": "/data/log"},
        {"HOME": "/home/mira", "SESSION_MGMT_DATA_DIR": "/data/../log/"},
        {"HOME": "/home/mira", "SESSION_MGMT_DATA_DIR": "/data/ü"},
        {"HOME": "/home/mira", "SESSION_MGMT_DATA_DIR": "~/log"},
        {"HOME": "/home/mira", "SESSION_MGMT_DATA_DIR": "log"},
        {"HOME": "/home/mira", "SESSION_MGMT_DATA_DIR": ""},
    ],
)
def test_a_hook_finds_the_data_folder_where_the_settings_say(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HOME", "XDG_DATA_HOME", "SESSION_MGMT_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    assert capture._data_folder() == data_folder()


@pytest.mark.parametrize(
    "path",
    ["mill", "mill/src", "link", "link/src", "mill/../link", "mill//src", "mill/.", "gone/away", "loop/x"],
)
def test_a_path_is_resolved_as_the_library_does(path: str, tmp_path: Path) -> None:
    (tmp_path / "mill" / "src").mkdir(parents=True)
    (tmp_path / "link").symlink_to("mill")
    (tmp_path / "loop").symlink_to("loop")

    assert _real(f"{tmp_path}/{path}") == os.path.realpath(f"{tmp_path}/{path}")


def test_a_relative_home_is_resolved_as_the_library_does() -> None:
    assert _real("mill") == os.path.realpath("mill")

"""The server process: how it starts, and that it always ends."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from mcp_raw_client import FAKE_SERVER, HANG_S_MAX, RawClient, alive

pytestmark = pytest.mark.slow  # whole processes or whole replays each

BUSY = b'{"jsonrpc": "2.0", "id": 9, "method": "tools/call", "params": {"name": "search", "arguments": {"query": "q"}}}'


def make_busy(client: RawClient) -> None:
    """Returns once a tool is running in a thread and will not come back."""
    client.initialize()
    client.write(BUSY)
    assert client.process.stderr is not None
    assert client.process.stderr.readline() == b"searching\n"


def test_the_end_of_input_ends_an_idle_server() -> None:
    with RawClient() as client:
        client.initialize()
        client.close_input()
        assert client.ends() == 0


def test_the_end_of_input_ends_a_server_whose_tool_never_returns() -> None:
    with RawClient("slow") as client:
        make_busy(client)
        client.close_input()
        assert client.ends() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it_with_code_0_though_input_is_open_and_a_tool_runs(number: signal.Signals) -> None:
    with RawClient("slow") as client:
        make_busy(client)
        client.process.send_signal(number)
        assert client.ends() == 0


def test_two_signals_in_a_row_end_it_once() -> None:
    with RawClient("slow", "stuck-close") as client:
        make_busy(client)
        client.process.send_signal(signal.SIGINT)
        client.process.send_signal(signal.SIGTERM)
        assert client.ends() == 0


@pytest.mark.parametrize("modes", [[], ["no-pidfd"]], ids=["told-by-the-system", "by-looking"])
def test_it_ends_when_its_parent_dies_though_its_input_stays_open(modes: list[str]) -> None:
    read_end, write_end = os.pipe()
    launcher = (
        "import subprocess, sys\n"
        "server = subprocess.Popen([sys.executable, *sys.argv[1:]], stdin=0, stdout=subprocess.PIPE)\n"
        "server.stdout.readline()\n"
        "print(server.pid, flush=True)\n"
        "server.wait()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", launcher, FAKE_SERVER, *modes],
        stdin=read_end,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        os.write(write_end, b'{"jsonrpc": "2.0", "id": 1, "method": "ping"}\n')
        assert parent.stdout is not None and parent.stderr is not None
        pid = int(parent.stdout.readline())
        assert alive(pid)
        guard = threading.Timer(HANG_S_MAX / 2, os.kill, (pid, signal.SIGKILL))
        guard.start()
        parent.kill()
        parent.wait()
        # The server holds this pipe's other end: its end of file is the server's end.
        assert parent.stderr.read() == b""
        assert guard.is_alive(), "the server outlived its parent and had to be killed"
        guard.cancel()
    finally:
        for pipe in (parent.stdout, parent.stderr):
            if pipe is not None:
                pipe.close()
        os.close(read_end)
        os.close(write_end)


def test_the_client_closing_its_reading_end_ends_the_server() -> None:
    with RawClient() as client:
        client.initialize()
        assert client.process.stdout is not None
        client.process.stdout.close()
        client.write(BUSY)
        assert client.ends() == 0


def test_what_the_tools_opened_is_closed_at_the_end(tmp_path: Path) -> None:
    with RawClient(f"mark={tmp_path / 'mark'}") as client:
        client.initialize()
        client.call("search", query="q")
        client.process.send_signal(signal.SIGTERM)
        assert client.ends() == 0
    assert (tmp_path / "mark").read_text() == "closed"


def test_closing_that_hangs_does_not_keep_the_process() -> None:
    with RawClient("stuck-close") as client:
        client.initialize()
        client.call("search", query="q")
        client.close_input()
        assert client.ends() == 0


def test_services_are_not_opened_before_a_tool_is_called(tmp_path: Path) -> None:
    with RawClient(f"mark={tmp_path / 'mark'}") as client:
        client.initialize()
        client.request("tools/list")
        client.close_input()
        assert client.ends() == 0
    assert not (tmp_path / "mark").exists()


def test_a_log_level_that_does_not_exist_is_reported_and_not_fatal() -> None:
    with RawClient(env={**os.environ, "SESSION_MGMT_LOG_LEVEL": "loud"}) as client:
        client.initialize()
        client.close_input()
        assert client.ends() == 0
        assert "SESSION_MGMT_LOG_LEVEL='LOUD'" in client.errors()


# What a project may well hold, and what we or the SDK import after the path is put right.
POISON = [
    "core",
    "tools",
    "adapters",
    "projections",
    "json",
    "msgspec",
    "mcp",
    "pydantic",
    "logging",
    "asyncio",
    "duckdb",
]


def test_modules_of_the_working_folder_shadow_nothing(tmp_path: Path) -> None:
    for name in POISON:
        if name in ("core", "tools"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "__init__.py").write_text(f"raise SystemExit('poisoned {name}')\n")
        else:
            (tmp_path / f"{name}.py").write_text(f"raise SystemExit('poisoned {name}')\n")
    command = [sys.executable, "-m", "session_mgmt_mcp.server"]
    environment = {**os.environ, "SESSION_MGMT_DATA_DIR": str(tmp_path / "data")}
    with RawClient(command=command, cwd=tmp_path, env=environment) as client:
        assert client.initialize()["result"]["serverInfo"]["name"] == "session-mgmt"
        text, _ = client.call("status")
        assert "poisoned" not in text
        client.close_input()
        assert client.ends() == 0
        assert "poisoned" not in client.errors()


def test_a_working_folder_that_was_deleted_is_no_obstacle(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    command = [
        "sh",
        "-c",
        f'cd "{gone}" && rmdir "{gone}" && exec "$0" -m session_mgmt_mcp.server',
        sys.executable,
    ]
    with RawClient(command=command) as client:
        assert client.initialize()["result"]["serverInfo"]["name"] == "session-mgmt"


def test_importing_the_server_module_loads_neither_the_sdk_nor_an_engine() -> None:
    code = (
        "import sys, session_mgmt_mcp.server\n"
        "print([n for n in ('mcp', 'pydantic', 'duckdb', 'tantivy', 'pyarrow', 'msgspec') if n in sys.modules])\n"
        "from session_mgmt_mcp.server import mcp\n"
        "print(mcp.name, [n for n in ('duckdb', 'tantivy', 'pyarrow') if n in sys.modules])\n"
        "from pydantic import BaseModel\n"
        "print(BaseModel.model_config)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "session-mgmt []", "{}"]

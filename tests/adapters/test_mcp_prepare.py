"""While a model thinks, the server that will serve its first call loads what that takes; the others load nothing."""

import json
import os
import select
import sys
from pathlib import Path
from typing import Any

import pytest
from mcp_raw_client import HANG_S_MAX, RawClient

from session_mgmt_mcp.adapters.mcp import front as fronts
from session_mgmt_mcp.adapters.mcp.fast import Opening
from session_mgmt_mcp.adapters.mcp.front import Front
from session_mgmt_mcp.adapters.mcp.host import LOCK, try_host_lock
from session_mgmt_mcp.adapters.mcp.sharing import Sharing
from session_mgmt_mcp.adapters.mcp.stdio import Wire
from session_mgmt_mcp.adapters.mcp.surface import Surface

SERVER = str(Path(__file__).parent.parent / "support" / "mcp_shared_server.py")


class _Engine:
    """Counts how often it was prepared."""

    def __init__(self) -> None:
        self.prepared = 0

    def prepare(self) -> None:
        self.prepared += 1


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "FORMAT.json").write_text("{}")
    return tmp_path


def _prepared(folder: Path | None) -> int:
    engine: Any = _Engine()
    sharing = Sharing(None if folder is None else str(folder), "mark", engine)
    try:
        sharing.prepare()
    finally:
        sharing.leave()
    prepared: int = engine.prepared
    return prepared


def test_who_becomes_the_host_is_prepared_and_holds_the_lock(folder: Path) -> None:
    assert _prepared(folder) == 1
    assert try_host_lock(str(folder)) is None


def test_beside_a_host_nothing_is_loaded(folder: Path) -> None:
    lock = try_host_lock(str(folder))
    assert lock is not None
    assert _prepared(folder) == 0
    os.close(lock)


def test_where_there_is_no_log_nothing_is_loaded_or_made(tmp_path: Path) -> None:
    assert _prepared(tmp_path) == _prepared(None) == 0
    assert not (tmp_path / LOCK).exists()


class _Leaving:
    """Notes that the end of input was told."""

    def input_ended(self) -> None: ...

    def leave(self, code: int = 0) -> None: ...


class _Finder:
    def __init__(self, fails: bool) -> None:
        self.fails = fails
        self.prepared_read, self._prepared_write = os.pipe()

    def prepare(self) -> None:
        os.close(self._prepared_write)
        if self.fails:
            raise RuntimeError("it cannot be loaded")


@pytest.mark.parametrize("fails", [False, True])
def test_a_client_that_listed_the_tools_and_is_quiet_is_prepared_for_and_answered_on(
    fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fronts, "QUIET_S", 0.0)
    (in_read, in_write), (out_read, out_write) = os.pipe(), os.pipe()
    wire = Wire(os.fdopen(in_read, "rb"), os.fdopen(out_write, "wb"))
    leaving: Any = _Leaving()
    finder: Any = _Finder(fails)
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "c", "version": "1"}}
    for number, (method, params) in enumerate(
        [("initialize", hello), ("tools/list", {}), ("ping", {}), ("tools/list", {})]
    ):
        line = json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
        os.write(in_write, line.encode() + b"\n")
    os.close(in_write)

    with wire.reader, wire.writer:
        Front(wire, leaving, Opening(Surface.load()), finder).run()

    with os.fdopen(finder.prepared_read, "rb") as prepared:
        assert select.select([prepared], [], [], HANG_S_MAX)[0]
    with os.fdopen(out_read, "rb") as answers:
        assert [json.loads(line)["id"] for line in answers] == [0, 1, 2, 3]


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="this system does not tell what is loaded")
def test_a_server_left_alone_after_its_list_loads_the_sdk_before_it_is_called(folder: Path) -> None:
    with RawClient(command=[sys.executable, SERVER, str(folder)]) as client:
        client.initialize()
        maps = Path(f"/proc/{client.process.pid}/maps")
        assert "pydantic" not in maps.read_text()
        client.request("tools/list")
        while "pydantic" not in maps.read_text():  # the client's guard ends the server after a while
            assert client.process.poll() is None, f"not within {HANG_S_MAX} s"
            os.sched_yield()
        assert f'"pid": {client.process.pid}' in client.call("search", query="who")[0]

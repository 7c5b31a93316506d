"""The official conformance suite against the real server on Streamable HTTP, for each revision it has requirements of."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conformance_kit import SUITE, WHY_NOT, baseline, run_suite

HERE = Path(__file__).parent
BASELINE = baseline(HERE / "baseline.yml")

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


@pytest.mark.skipif(not SUITE.exists(), reason=WHY_NOT)
@pytest.mark.parametrize(("revision", "required"), [("2025-11-25", 30), ("2026-07-28", 37)])
def test_every_required_scenario_passes(url: str, tmp_path: Path, revision: str, required: int) -> None:
    """The exit code speaks of what the revision requires; the list, of all that was run."""
    done = run_suite(url, tmp_path, revision)
    assert done.code == 0, done.output
    assert done.failing == BASELINE & done.scenarios
    assert len(done.scenarios - BASELINE) >= required


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

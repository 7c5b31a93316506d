"""The official conformance suite against the service itself: no sessions, limits, and all that stands before the server."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conformance_kit import SUITE, WHY_NOT, baseline, run_suite
from service_process import ServiceProcess

HERE = Path(__file__).parent
EXTENSION = baseline(HERE / "baseline.yml")
# A question of the server in the middle of a call needs a session in revisions before 2026-07-28 (there it is the answer,
# and the call comes again). The service keeps no sessions, so that any process may answer any request; no tool asks.
SESSIONS = {
    "2025-11-25": {
        "tools-call-sampling",
        "tools-call-elicitation",
        "elicitation-sep1034-defaults",
        "elicitation-sep1330-enums",
    },
    "2026-07-28": set(),
}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    command = (sys.executable, str(HERE / "conformance_service.py"))
    folder = tmp_path_factory.mktemp("conformance") / "data"
    with ServiceProcess(folder, command=command, hang_s=600.0) as running:
        yield running


@pytest.mark.skipif(not SUITE.exists(), reason=WHY_NOT)
@pytest.mark.parametrize(("revision", "passing"), [("2025-11-25", 29), ("2026-07-28", 40)])
def test_every_scenario_passes_but_those_that_need_a_session(
    service: ServiceProcess, tmp_path: Path, revision: str, passing: int
) -> None:
    done = run_suite(service.url, tmp_path, revision)
    assert done.failing == (EXTENSION | SESSIONS[revision]) & done.scenarios, done.output
    assert len(done.scenarios - done.failing) >= passing

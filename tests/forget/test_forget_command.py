"""`forget` takes what was chosen out of log, views and every other file of the data folder, for good."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from forget_kit import PLAIN, SECRET, hook, left_in, reply, report, transcript, user

from session_mgmt_mcp.core.log.verify import verify
from session_mgmt_mcp.tools.app import App

Run = Callable[..., Any]


@pytest.fixture
def told(run: Run, data: Path, tmp_path: Path) -> Path:
    """The secret in a hook's report, in the transcript, and in a sealed segment and a journal; the transcript."""
    path = transcript(
        tmp_path, "s-1", user("u-1", SECRET), reply("a-1", "I will not tell."), user("u-2", "go on")
    )
    report_ = run("import", str(path))
    assert report_["appended"] == 3
    report(data, hook(prompt=SECRET), hook(prompt="go on"))
    assert left_in(data)
    return path


def checks(data: Path) -> int:
    with App.open(data) as app:
        verified = verify(app.log.folder, app.log.log_id)
        return verified.forgotten


def test_no_byte_of_a_pattern_is_left_and_the_log_still_verifies(run: Run, data: Path, told: Path) -> None:
    done = run("forget", "--pattern", "heron-[0-9]+", "--yes")
    assert done["forgotten"] == 2
    assert left_in(data) == []
    assert checks(data) == 2
    assert run("search", "heron")["results"] == []
    assert [r["excerpt"] for r in run("search", "go on")["results"]]


def test_importing_again_brings_nothing_back(run: Run, data: Path, told: Path) -> None:
    run("forget", "--pattern", PLAIN, "--yes")
    assert run("import", str(told))["appended"] == 0
    run("replay")
    assert left_in(data) == []
    assert run("search", "heron")["results"] == []

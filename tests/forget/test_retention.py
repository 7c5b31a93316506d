"""Nothing is deleted unless asked; then whole sessions, the least recently active first."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from forget_kit import left_in, transcript

from session_mgmt_mcp.core.envelope import Envelope, NewEvent, now_us, uuid7
from session_mgmt_mcp.core.errors import InputError
from session_mgmt_mcp.core.log.verify import verify
from session_mgmt_mcp.tools import retention
from session_mgmt_mcp.tools.app import App
from session_mgmt_mcp.tools.retention import Policy, parse_age, parse_size

Run = Callable[..., Any]


def said(session: str, days_ago: float, text: str) -> str:
    moment = datetime.now(UTC) - timedelta(days=days_ago)
    record = {"type": "user", "uuid": f"u-{session}-{days_ago}", "sessionId": session, "cwd": f"/{session}"}
    return json.dumps(
        {**record, "timestamp": moment.isoformat(), "message": {"role": "user", "content": text}}
    )


@pytest.fixture
def years(run: Run, data: Path, tmp_path: Path) -> None:
    """Sessions last active 800, 400, 20 days and an hour ago; a reflection of the first."""
    for session, days in (("old", 800.0), ("older-than-a-year", 400.0), ("recent", 20.0), ("running", 0.04)):
        path = transcript(tmp_path, session, said(session, days, f"words of {session} " * 400))
    with App.open(data, create=True) as app:
        at = now_us() - 800 * 86_400_000_000
        envelope = Envelope("claude-code/old", "ReflectionStored", 1, at, at, "user", "command")
        app.log.append(
            [NewEvent(uuid7(), envelope, json.dumps({"text": "keep this", "session": "old"}).encode())]
        )
    run("import", str(path.parent))


def head_of(data: Path) -> int:
    with App.open(data) as app:
        return app.log.head().position


def removed_by(run: Run, *words: str) -> list[str]:
    return [r["session"] for r in run("retention", *words)["removals"]]


def test_everything_is_kept_by_default(run: Run, data: Path, years: None) -> None:
    before = head_of(data)
    shown = run("retention")
    assert shown["policy"] == {"max_age_days": None, "quota_bytes": None, "automatic": False}
    assert (shown["removals"], run("retention", "--apply", "--yes")["removals"]) == ([], [])
    run("maintain", "--once", "--force")
    assert head_of(data) == before
    assert left_in(data, [b"words of old"])
    assert not (data / "retention.json").exists()


def test_a_policy_alone_removes_nothing_and_shows_what_it_would(run: Run, data: Path, years: None) -> None:
    assert removed_by(run, "--max-age", "1y") == ["old", "older-than-a-year"]
    run("maintain", "--once", "--force")
    assert len(run("sessions")["sessions"]) == 4
    assert set(run("retention")["projects"]) == {"/old", "/older-than-a-year", "/recent", "/running"}


def test_applied_it_removes_old_sessions_whole_and_shrinks_the_log(run: Run, data: Path, years: None) -> None:
    sizes = run("retention", "--max-age", "365d")["sizes"]
    done = run("retention", "--apply", "--yes")
    assert done["applied"]["forgotten"] == 2
    assert left_in(data, [b"words of old"]) == []
    assert {s["session"] for s in run("sessions")["sessions"]} == {
        "old",
        "recent",
        "running",
    }  # old: its reflection
    assert run("search", "keep this")["results"]
    assert run("retention")["sizes"]["segments"] < sizes["segments"] + 20_000
    with App.open(data) as app:
        assert verify(app.log.folder, app.log.log_id).forgotten == 2
    assert removed_by(run) == []


def test_reflections_go_only_where_asked(run: Run, data: Path, years: None) -> None:
    run("retention", "--max-age", "365d", "--apply", "--reflections", "--yes")
    assert run("search", "keep this")["results"] == []
    assert left_in(data, [b"keep this"]) == []


def test_a_quota_removes_the_least_recently_active_but_never_a_running_session(
    run: Run, data: Path, years: None
) -> None:
    found = run("retention", "--quota", "1KB", code=1)
    assert [r["session"] for r in found["removals"]] == ["old", "older-than-a-year", "recent"]
    assert "of its quota" in found["findings"][0]
    run("retention", "--apply", "--yes", code=1)
    assert "running" in {s["session"] for s in run("sessions")["sessions"]}
    assert left_in(data, [b"words of recent"]) == []


def test_automatic_retention_is_applied_by_maintenance(run: Run, data: Path, years: None) -> None:
    run("retention", "--max-age", "365d", "--automatic", "yes")
    assert run("maintain", "--once", "--force")["forgotten"] == 2
    assert left_in(data, [b"words of old"]) == []
    assert run("maintain", "--once", "--force")["forgotten"] == 0


def test_a_policy_that_cannot_be_read_removes_nothing_and_is_said(run: Run, data: Path, years: None) -> None:
    (data / "retention.json").write_text('{"max_age_days": "soon", "automatic": true}')
    assert "is no retention policy" in run("retention", code=3)["error"]["message"]
    assert run("maintain", "--once", "--force")["forgotten"] == 0
    with App.open(data) as app:
        assert "is no retention policy" in retention.findings(app)[0]
    run("retention", "--max-age", "none", "--quota", "none", "--automatic", "no")
    assert run("retention")["policy"]["automatic"] is False


def test_what_is_not_asked_for_clearly_removes_nothing(run: Run, data: Path, years: None) -> None:
    assert removed_by(run, "--quota", "10GB") == []
    run("retention", "--quota", "none")
    assert "nothing to apply" in run("retention", "--automatic", "yes", code=2)["error"]["message"]
    assert "cannot be undone" in run("retention", "--max-age", "365d", "--apply", code=2)["error"]["message"]
    assert left_in(data, [b"words of old"])


def test_ages_and_sizes_are_read() -> None:
    assert [parse_age(t) for t in ("365d", "2w", "1y", "none")] == [365, 14, 365, None]
    assert [parse_size(t) for t in ("10GB", "1.5GiB", "500MB", "none")] == [10**10, 3 << 29, 5 * 10**8, None]
    for wrong in ("", "0d", "-1d", "12", "1month"):
        with pytest.raises(InputError):
            parse_age(wrong)
    for wrong in ("", "0GB", "10", "10XB", "IB"):
        with pytest.raises(InputError):
            parse_size(wrong)


def test_a_policy_survives_being_written_and_read(data: Path) -> None:
    with App.open(data, create=True) as app:
        assert retention.load(app.log.folder) == Policy()
        policy = Policy(30, 10**9, True)
        retention.save(app.log.folder, policy)
        assert retention.load(app.log.folder) == policy

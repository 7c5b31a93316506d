"""The quality signal: facts of the log, each point taken off with its reason, nothing where nothing can be judged."""

from pathlib import Path

from story_kit import REFUSED, Session, views_of

from session_mgmt_mcp.projections import quality
from session_mgmt_mcp.projections.briefing import earlier_score
from session_mgmt_mcp.projections.quality import Deduction, assess


def test_talk_is_not_scored(tmp_path: Path) -> None:
    story = Session().prompt("explain how the parser reads dates").reply("So.").story(tmp_path)
    assert assess(story.facts).score is None


def test_tested_and_committed_work_has_nothing_taken_off(tmp_path: Path) -> None:
    session = (
        Session()
        .prompt("make the date parser accept week numbers")
        .edit("a.py")
        .bash("pytest", "3 passed in 0.1s")
    )
    story = session.bash("git commit -am 'Weeks'", "[main 3f91520] Weeks").reply("Done.").story(tmp_path)
    found = assess(story.facts)
    assert (found.score, found.deductions) == (100, ())
    assert story.facts["tests_passed_last"] == 3
    assert story.facts["tests_failed_last"] == 0


def test_every_point_taken_off_has_its_reason(tmp_path: Path) -> None:
    session = Session().prompt("make the date parser accept week numbers").edit("a.py")
    session.bash("pytest", "2 failed, 3 passed in 0.1s").edit("b.py").edit("c.py").edit("README.md")
    session.bash("mypy", "Found 1 error in 1 file", error=True).bash(
        "ruff check", "Found 3 errors.", error=True
    )
    session.bash("make", "boom", error=True).bash("git checkout -- a.py").bash("ls", REFUSED, error=True)
    found = assess(session.story(tmp_path).facts)
    assert found.deductions[:7] == (
        Deduction(quality.LAST_TEST_FAILED, "the last test run failed: 2 tests"),
        Deduction(2 * quality.UNTESTED_FILE, "2 files changed after the last test run"),
        Deduction(quality.LAST_LINT_FAILED, "the last linter run failed"),
        Deduction(quality.LAST_LINT_FAILED, "the last type check failed"),
        Deduction(quality.LAST_BUILD_FAILED, "the last build failed"),
        Deduction(quality.TAKEN_BACK, "1 change taken back"),
        Deduction(quality.CORRECTED, "1 interruption or refusal by the user"),
    )
    assert found.score == 100 - sum(d.points for d in found.deductions)


def test_what_the_log_does_not_show_is_no_zero(tmp_path: Path) -> None:
    facts = (
        Session()
        .prompt("change the parser of dates")
        .edit("a.py")
        .bash("make test | head -2", "…")
        .story(tmp_path)
        .facts
    )
    assert facts["test_runs"] == 1
    for name in ("test_last_ok", "tests_passed_last", "minutes_since_commit", "lint_last_ok"):
        assert name not in facts


def test_changes_without_any_test_run_are_said(tmp_path: Path) -> None:
    found = assess(Session().prompt("change the parser of dates").edit("a.py").story(tmp_path).facts)
    assert found.deductions == (Deduction(quality.NO_TEST_RUN, "1 file changed, no test run seen"),)


def test_the_score_never_falls_below_nothing() -> None:
    facts = {
        name: 50
        for name in ("files_changed", "files_untested", "test_runs", "reverts", "interruptions", "tool_calls")
    }
    facts |= {f"{kind}_last_ok": 0 for kind in ("test", "lint", "types", "build")}
    facts |= {"tool_failures": 50, "minutes_since_commit": 1000, "files_uncommitted": 9}
    assert assess(facts).score == 0


def test_a_few_failed_calls_are_nothing_to_mention() -> None:
    facts = {"files_changed": 1, "tool_calls": 63, "tool_failures": 4}
    assert assess(facts).deductions == ()
    assert assess({**facts, "tool_failures": 32}).deductions == (Deduction(10, "32 of 63 tool calls failed"),)


def test_the_trend_is_the_difference_to_the_checkpoint_before(tmp_path: Path) -> None:
    session = Session().prompt("change the parser of dates").edit("a.py").checkpoint(score=85)
    checkpoint = len(session.events)
    session.bash("pytest", "1 passed in 0.1s").checkpoint(score=100)
    views = views_of(tmp_path, session)
    earlier = earlier_score(views, "s-1")
    assert earlier == (85, f"the checkpoint at [{checkpoint}]")
    found = assess(views.story("s-1").facts, earlier)
    assert (found.score, found.trend) == (100, 15)
    views.close()


def test_a_first_checkpoint_is_compared_with_the_session_before(tmp_path: Path) -> None:
    before = Session("s-0").prompt("change the parser of dates").edit("a.py").checkpoint(score=70)
    elsewhere = Session("s-x", "/home/u/other").prompt("change the parser of dates").checkpoint(score=10)
    now = Session("s-1", start=500).prompt("go on with the parser of dates").edit("b.py")
    views = views_of(tmp_path, before, elsewhere, now)
    assert earlier_score(views, "s-1") == (70, f"the session before, checkpoint [{len(before.events)}]")
    assert earlier_score(views, "s-x") is None
    views.close()

"""What the log shows of how a session's work stands: facts as whole numbers, a small explained score, its trend."""

from collections.abc import Mapping, Sequence

import msgspec

from session_mgmt_mcp.projections.open_items import uncommitted_files, untested_files
from session_mgmt_mcp.projections.story import Run, Story

# What is taken off 100. Each names a fact of the log that usually has to be mended before work can be called done; the
# sizes say which weighs more than which, no more.
LAST_TEST_FAILED = 30
NO_TEST_RUN = 15  # files were changed, and no test was run
UNTESTED_FILE = 3  # each file changed after the last test run
UNTESTED_MAX = 15
LAST_LINT_FAILED = 10  # of linters, or of type checkers, each
LAST_BUILD_FAILED = 15
TAKEN_BACK = 4  # each revert, and each edit taken back by another
TAKEN_BACK_MAX = 12
CORRECTED = 3  # each interruption and refusal by the user
CORRECTED_MAX = 12
FAILED_CALLS = 10  # at most: a point for every 4 % of calls that failed beyond the first 10 %
FAILED_CALLS_FROM = 10  # of fewer calls nothing is said
UNCOMMITTED_MINUTES = 60  # files changed this long after the last commit
UNCOMMITTED = 5


class Deduction(msgspec.Struct, frozen=True):
    """Points taken off, and why."""

    points: int
    why: str


class Quality(msgspec.Struct, frozen=True):
    """`score`: 100 less the deductions, None where nothing was changed and nothing checked. `trend`: the score less that
    of what it is compared with, None without one.
    """

    facts: dict[str, int]
    score: int | None
    deductions: tuple[Deduction, ...] = ()
    trend: int | None = None
    compared_with: str = ""  # in words


def facts_of(story: Story, counts: Mapping[str, int], minutes_since_commit: int | None) -> dict[str, int]:
    """Whole numbers. What the log does not show is left out: a missing `tests_passed_last` is not a 0."""
    facts = {
        name: counts.get(name, 0)
        for name in ("tool_calls", "tool_failures", "refused", "interruptions", "reverts", "undone_edits")
    }
    facts["corrections"] = len(story.corrections)
    changed = [f for f in story.files if f.position and not f.outside]
    facts["files_changed"] = len(changed)
    facts["edits"] = sum(f.edits + f.writes for f in changed)
    facts["files_untested"] = len(untested_files(story))
    facts["files_uncommitted"] = len(uncommitted_files(story))
    facts["commits"] = len(story.commits)
    if minutes_since_commit is not None:
        facts["minutes_since_commit"] = minutes_since_commit
    for kind in ("test", "lint", "types", "build"):
        _add_runs(facts, kind, [run for run in story.runs if run.kind == kind])
    return facts


def _add_runs(facts: dict[str, int], kind: str, runs: Sequence[Run]) -> None:
    facts[f"{kind}_runs"] = len(runs)
    judged = [run for run in runs if run.ok is not None]
    if not judged:
        return
    facts[f"{kind}_runs_failed"] = sum(run.ok is False for run in judged)
    last = judged[-1]
    facts[f"{kind}_last_ok"] = int(bool(last.ok))
    if kind == "test" and last.passed is not None and last.failed is not None and last.unit == "tests":
        facts["tests_passed_last"], facts["tests_failed_last"] = last.passed, last.failed
    if kind in ("lint", "types") and last.found is not None:
        facts[f"{kind}_found_last"] = last.found


def assess(facts: Mapping[str, int], earlier: tuple[int, str] | None = None) -> Quality:
    """The score these facts come to. `earlier`: a score to compare with, and of what it is (`the checkpoint at [1042]`)."""
    if not facts.get("files_changed") and not any(
        facts.get(f"{k}_runs") for k in ("test", "lint", "types", "build")
    ):
        return Quality(dict(facts), None)
    deductions = tuple(_deductions(facts))
    score = max(0, 100 - sum(d.points for d in deductions))
    if earlier is None:
        return Quality(dict(facts), score, deductions)
    return Quality(dict(facts), score, deductions, score - earlier[0], earlier[1])


def _deductions(facts: Mapping[str, int]) -> list[Deduction]:
    def number(name: str) -> int:
        return facts.get(name, 0)

    out = []
    if facts.get("test_last_ok") == 0:
        failed = number("tests_failed_last")
        told = f": {_n(failed, 'test')}" if failed else ""
        out.append(Deduction(LAST_TEST_FAILED, f"the last test run failed{told}"))
    untested = number("files_untested")
    if untested and not number("test_runs"):
        out.append(Deduction(NO_TEST_RUN, f"{_n(number('files_changed'), 'file')} changed, no test run seen"))
    elif untested:
        points = min(UNTESTED_MAX, UNTESTED_FILE * untested)
        out.append(Deduction(points, f"{_n(untested, 'file')} changed after the last test run"))
    for kind, name, points in (
        ("lint", "linter run", LAST_LINT_FAILED),
        ("types", "type check", LAST_LINT_FAILED),
        ("build", "build", LAST_BUILD_FAILED),
    ):
        if facts.get(f"{kind}_last_ok") == 0:
            out.append(Deduction(points, f"the last {name} failed"))
    if back := number("reverts") + number("undone_edits"):
        out.append(Deduction(min(TAKEN_BACK_MAX, TAKEN_BACK * back), f"{_n(back, 'change')} taken back"))
    if corrected := number("interruptions") + number("refused"):
        points = min(CORRECTED_MAX, CORRECTED * corrected)
        out.append(
            Deduction(
                points, f"{_n(corrected, 'interruption or refusal', 'interruptions or refusals')} by the user"
            )
        )
    calls, failed = number("tool_calls"), number("tool_failures")
    points = min(FAILED_CALLS, (100 * failed // calls - 10) // 4) if calls >= FAILED_CALLS_FROM else 0
    if points > 0:
        out.append(Deduction(points, f"{failed} of {_n(calls, 'tool call')} failed"))
    if number("files_uncommitted") and number("minutes_since_commit") >= UNCOMMITTED_MINUTES:
        out.append(Deduction(UNCOMMITTED, f"the last commit is {number('minutes_since_commit')} minutes old"))
    return out


def _n(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"

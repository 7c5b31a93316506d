"""How runs ended, read from what the tools themselves print."""

import pytest

from session_mgmt_mcp.projections.outcomes import (
    Committed,
    Outcome,
    commits_of,
    error_gist,
    interesting,
    never_ran,
    outcome_of,
    problems_found,
)
from session_mgmt_mcp.projections.runners import recognise
from session_mgmt_mcp.projections.shell import simple_commands
from session_mgmt_mcp.projections.tallies import Counts, counts_in

GO_VERBOSE = """=== RUN   TestA
--- PASS: TestA (0.00s)
=== RUN   TestB
    b_test.go:7: want 1
--- FAIL: TestB (0.01s)
--- SKIP: TestC (0.00s)
FAIL
FAIL\texample.com/app/b\t0.012s
FAIL
"""
GO_PACKAGES = (
    "ok  \texample.com/app\t0.3s\n?   \texample.com/x\t[no test files]\nok  \texample.com/b\t(cached)\n"
)


def outcome(command: str, output: str, *, error: bool = False, index: int = 0) -> Outcome:
    simple = simple_commands(command)[index]
    return outcome_of(recognise(simple), simple, interesting(output), error)


@pytest.mark.parametrize(
    ("output", "counts"),
    [
        ("==== 12 passed in 0.31s ====", Counts(12)),
        ("=== 2 failed, 10 passed, 1 skipped, 3 warnings in 1.02s ===", Counts(10, 2, 1)),
        ("1 error in 0.05s", Counts(0, 1)),
        ("3 failed, 1 passed, 2 errors in 61.30s (0:01:01)", Counts(1, 5)),
        ("Ran 7 tests in 0.003s\n\nOK (skipped=2)", Counts(5, 0, 2)),
        ("Ran 7 tests in 0.003s\n\nFAILED (failures=1, errors=2)", Counts(4, 3)),
        ("Tests:       1 failed, 2 skipped, 30 passed, 33 total", Counts(30, 1, 2)),
        (" Test Files  1 passed (1)\n      Tests  2 failed | 30 passed (32)", Counts(30, 2)),
        ("test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured\ntest result: FAILED. 3 passed; 2 failed; 0 ignored",
         Counts(15, 2, 1, summed=True)),
        ("     Summary [   0.5s] 12 tests run: 11 passed, 1 failed, 3 skipped", Counts(11, 1, 3)),
        ("DONE 12 tests, 2 skipped, 1 failure in 3.2s", Counts(9, 1, 2)),
        ("  12 passing (3s)\n  1 pending\n  2 failing", Counts(12, 2, 1)),
        ("14 examples, 1 failure, 2 pending", Counts(11, 1, 2)),
        ("12 runs, 30 assertions, 1 failures, 2 errors, 0 skips", Counts(9, 3)),
        ("OK (12 tests, 30 assertions)", Counts(12)),
        ("Tests: 12, Assertions: 30, Failures: 1, Skipped: 2.", Counts(9, 1, 2)),
        ("[ERROR] Tests run: 12, Failures: 1, Errors: 1, Skipped: 2", Counts(8, 2, 2)),
        ("12 tests completed, 3 failed, 1 skipped", Counts(8, 3, 1)),
        ("Failed!  - Failed:     1, Passed:    11, Skipped:     0, Total:    12", Counts(11, 1)),
        ("# tests 4\n# pass 3\n# fail 1\n", Counts(3, 1)),
        (" 12 pass\n 1 fail\nRan 13 tests", Counts(12, 1)),
        ("ok | 12 passed (3 steps) | 0 failed (2s)", Counts(12)),
        ("92% tests passed, 1 tests failed out of 12", Counts(11, 1)),
        ("Executed 12 tests, with 1 failure (0 unexpected) in 0.5 seconds", Counts(11, 1)),
        ("00:05 +12 ~1 -2: Some tests failed.", Counts(12, 2, 1)),
        ("  2 failed\n    a.spec.ts:3\n  10 passed (4.2s)", Counts(10, 2)),
        (GO_VERBOSE, Counts(1, 1, 1, summed=True)),
        (GO_PACKAGES, Counts(2, 0, 0, "packages", summed=True)),
        ("collected 0 items", None),
        ("all good", None),
        ("", None),
    ],
)  # fmt: skip
def test_a_summarys_numbers_are_read(output: str, counts: Counts | None) -> None:
    assert counts_in(output) == counts


def test_failing_tests_have_their_names() -> None:
    assert outcome("go test -v ./...", GO_VERBOSE).names == ("TestB",)
    assert outcome("pytest", "FAILED tests/test_a.py::test_b - assert 1\n1 failed in 0.1s").names == (
        "tests/test_a.py::test_b",
    )
    assert outcome("npm test", "  ● cart › adds up\n\nTests: 1 failed, 1 total").names == ("cart › adds up",)
    assert (
        len(outcome("go test", "\n".join(f"--- FAIL: T{i} (0s)" for i in range(40)) + "\nFAIL\n").names) == 5
    )


def test_what_the_output_says_counts_more_than_the_exit_status_of_a_pipe() -> None:
    assert outcome("pytest | tail -3", "1 failed, 2 passed in 0.1s").ok is False
    assert outcome("pytest | tail -3", "2 passed in 0.1s").ok is True
    assert outcome("pytest || true", "1 failed in 0.1s").ok is False


def test_an_outcome_nobody_shows_is_not_guessed() -> None:
    assert outcome("make test | head -5", "building…").ok is None
    assert outcome("pytest; ls", "a.py").ok is None
    assert outcome("mise run test", "Command running in background with ID: b1").ok is None
    assert outcome("mise run lint && mise run test", "boom", error=True, index=1).ok is None


def test_the_exit_status_counts_where_it_is_the_commands_own() -> None:
    assert outcome("make test", "all fine").ok is True
    assert outcome("cd a && make test", "boom", error=True).ok is False
    assert outcome("pytest", "2 passed in 0.1s\ncoverage is below 80", error=True) == Outcome(
        False, Counts(2)
    )


def test_lines_that_were_cut_away_are_not_counted_as_all_there_was() -> None:
    tailed = outcome("go test ./... | tail -2", GO_PACKAGES)
    assert tailed.ok is True
    assert tailed.counts is None
    assert outcome("go test ./... | head -2", "ok  \ta\t0.1s\n=== RUN TestX\n").ok is None
    assert (
        outcome("go test ./... -v | tail -30", "--- PASS: TestA (0s)\nFAIL\nFAIL\tx\t0.1s\nFAIL\n").ok
        is False
    )


def test_what_does_not_compile_fails() -> None:
    assert (
        outcome("go test ./... | tail -9", "# app\na.go:3: syntax error\nFAIL\tapp [build failed]\nFAIL").ok
        is False
    )
    assert outcome("mise run test | tail", "[test] ERROR task failed").ok is False


def test_another_tasks_failure_is_not_this_ones() -> None:
    assert (
        outcome("mise run lint; mise run test", "[lint] ERROR task failed\nok  \ta\t0.1s\n", index=1).ok
        is True
    )


@pytest.mark.parametrize(
    ("command", "output", "ok", "found"),
    [
        ("golangci-lint run", "0 issues.", True, 0),
        ("mise run lint | tail", "[lint:go] 6 issues:\n[lint:go] * noctx: 6", False, 6),
        ("ruff check . | tail", "Found 3 errors.\n[*] 1 fixable", False, 3),
        ("ruff check .", "All checks passed!", True, 0),
        ("mypy; ls", "Found 2 errors in 1 file (checked 9 source files)", False, 2),
        ("mypy; ls", "Success: no issues found in 9 source files", True, 0),
        ("pyright", "1 error, 2 warnings, 0 informations", False, 1),
        ("npx tsc", "a.ts(1,2): error TS2304: no\nb.ts(3,4): error TS1: x", False, 2),
        ("npx eslint .", "✖ 5 problems (3 errors, 2 warnings)", False, 3),
        ("shellcheck a.sh", "", True, None),
        ("shellcheck a.sh | cat", "", None, None),
    ],
)
def test_what_linters_found_is_read(command: str, output: str, ok: bool | None, found: int | None) -> None:
    assert outcome(command, output)[:3:2] == (ok, found)


def test_commits_are_as_git_reports_them() -> None:
    output = "[main (root-commit) 3f91520] init\n 1 file changed\n[feat/a-b c7e7d7f] fix: a [b] c\n"
    assert commits_of(output) == [
        Committed("main", "3f91520", "init"),
        Committed("feat/a-b", "c7e7d7f", "fix: a [b] c"),
    ]


def test_a_call_that_was_refused_never_ran() -> None:
    assert never_ran("The user doesn't want to proceed with this tool use. The tool use was rejected", True)
    assert never_ran("<tool_use_error>Sibling tool call errored</tool_use_error>", True)
    assert not never_ran("Exit code 1\nThe user doesn't want", True)
    assert not never_ran("<tool_use_error>", False)


@pytest.mark.parametrize(
    ("output", "gist"),
    [
        ("Exit code 1\n[lint] $ golangci-lint run\ncmd/a.go:9:2: imported and not used\n1 issues", "cmd/a.go:9:2: imported and not used"),
        ("Traceback (most recent call last):\n  File x\nKeyError: 'token'", "KeyError: 'token'"),
        ("Exit code 128\nfatal: not a git repository", "fatal: not a git repository"),
        ("something odd", "something odd"),
        ("", ""),
    ],
)  # fmt: skip
def test_the_line_that_tells_most_is_found(output: str, gist: str) -> None:
    assert error_gist(output) == gist


@pytest.mark.parametrize(
    "piece", ["\n", " ", "= ", "1 passed ", "-", "a.", "● ", "Tests:\n", "\x1b[", "[x] ", "a:1", "\r"]
)
def test_no_output_takes_longer_than_its_length_asks(piece: str) -> None:
    """Read whole, at the largest size that is looked at; patterns that went back over it would not come to an end."""
    output = interesting(piece * (200_000 // len(piece)))
    assert counts_in(output) is None
    assert problems_found(output) in (None, 0)
    assert isinstance(error_gist(output), str)

"""Counts of tests, read from the summaries that test runners print."""

import re
from collections.abc import Callable
from typing import NamedTuple


class Counts(NamedTuple):
    """What a test runner says of itself. `unit`: tests, or packages where only those are told. `summed`: counted line by
    line, so that an output of which a part was cut away counts too little.
    """

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    unit: str = "tests"
    summed: bool = False


_Reader = Callable[[str], Counts | None]

_PYTEST = re.compile(
    r"^[= \t]*((?:\d+ (?:passed|failed|errors?|skipped|xfailed|xpassed|deselected|warnings?|rerun|subtests passed)"
    r"(?:, )?)+) in \d+(?:\.\d+)?s\b",
    re.MULTILINE,
)
_NUMBERED = re.compile(r"(\d+) ([a-z]+)")
_UNITTEST = re.compile(
    r"^Ran (\d+) tests? in [\d.]+s\s+(OK|FAILED|NO TESTS RAN)(?: \(([^)]*)\))?", re.MULTILINE
)
_JEST = re.compile(
    r"^[ \t]*Tests:?[ \t]+((?:\d+ [a-z]+(?:, | \| )?)+)(?:,? ?\(?\d+(?: total)?\)?)?[ \t]*$", re.MULTILINE
)
_CARGO = re.compile(r"^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored", re.MULTILINE)
_NEXTEST = re.compile(r"^[ \t]*Summary \[.*?\] .*?tests? run: (.*)$", re.MULTILINE)
_GOTESTSUM = re.compile(
    r"^DONE (?:\d+ runs?, )?(\d+) tests?(?:, (\d+) skipped)?(?:, (\d+) failures?)?", re.MULTILINE
)
_GO_TOP = re.compile(r"^--- (PASS|FAIL|SKIP): ", re.MULTILINE)
_GO_PACKAGE = re.compile(r"^(?:\[[\w:.-]+\] )?(ok\s\s|FAIL\t)\s*\S+", re.MULTILINE)
_MOCHA = re.compile(r"^[ \t]*(\d+) (passing|failing|pending)\b(?: \([\d.]+m?s\))?[ \t]*$", re.MULTILINE)
_RSPEC = re.compile(r"^(\d+) (?:examples?|tests?|runs?)(?:, \d+ assertions?)?, (\d+) failures?(?:, (\d+) (errors?|pending|skipped))?", re.MULTILINE)  # fmt: skip
_PHPUNIT_OK = re.compile(r"^OK \((\d+) tests?, ", re.MULTILINE)
_PHPUNIT = re.compile(r"^Tests: (\d+), Assertions: \d+(.*)", re.MULTILINE)
_MAVEN = re.compile(r"Tests run: (\d+), Failures: (\d+), Errors: (\d+), Skipped: (\d+)")
_GRADLE = re.compile(r"^(\d+) tests? completed, (\d+) failed(?:, (\d+) skipped)?", re.MULTILINE)
_DOTNET = re.compile(r"Failed:\s+(\d+), Passed:\s+(\d+), Skipped:\s+(\d+)")
_TAP = re.compile(r"^(?:#|ℹ) (pass|fail|skipped) (\d+)[ \t]*$", re.MULTILINE)
_BUN = re.compile(r"^[ \t]*(\d+) (pass|fail|skip)[ \t]*$", re.MULTILINE)
_DENO = re.compile(r"^(?:ok|FAILED) \| (\d+) passed(?: \(\d+ steps?\))? \| (\d+) failed", re.MULTILINE)
_CTEST = re.compile(r"tests passed, (\d+) tests? failed out of (\d+)")
_SWIFT = re.compile(r"Executed (\d+) tests?, with (?:\d+ tests? skipped and )?(\d+) failures?")
_PLAYWRIGHT = re.compile(
    r"^[ \t]+(\d+) (passed|failed|skipped|flaky)(?: \([\d.]+m?s?\))?[ \t]*$", re.MULTILINE
)
_FLUTTER = re.compile(r"\+(\d+)(?: ~(\d+))?(?: -(\d+))?: (?:All tests passed|Some tests failed)")


def counts_in(output: str) -> Counts | None:
    """What a test runner's summary says, whichever it is; None where there is no summary. The last summary of one form
    counts, or the sum where a runner prints one for each part.
    """
    for words, read in _READERS:
        if not any(word in output for word in words):
            continue
        counts = read(output)
        if counts is not None and counts.passed + counts.failed + counts.skipped:
            return counts
    return None


def _words(text: str) -> dict[str, int]:
    out: dict[str, int] = {}
    for number, word in _NUMBERED.findall(text):
        out[word] = out.get(word, 0) + int(number)
    return out


def _named(words: dict[str, int]) -> Counts:
    def total(*names: str) -> int:
        return sum(words.get(name, 0) for name in names)

    return Counts(
        total("passed", "xfailed", "xpassed", "passing", "pass"),
        total("failed", "error", "errors", "failing", "fail"),
        total("skipped", "pending", "todo", "skip"),
    )


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    found = None
    for found in pattern.finditer(text):  # noqa: B007
        pass
    return found


def _pytest(text: str) -> Counts | None:
    found = _last(_PYTEST, text)
    return _named(_words(found[1])) if found else None


def _jest(text: str) -> Counts | None:
    found = _last(_JEST, text)
    return _named(_words(found[1])) if found else None


def _nextest(text: str) -> Counts | None:
    found = _last(_NEXTEST, text)
    return _named(_words(found[1])) if found else None


def _unittest(text: str) -> Counts | None:
    found = _last(_UNITTEST, text)
    if found is None:
        return None
    said = dict(re.findall(r"(\w+)=(\d+)", found[3] or ""))
    failed = int(said.get("failures", 0)) + int(said.get("errors", 0))
    skipped = int(said.get("skipped", 0))
    return Counts(max(0, int(found[1]) - failed - skipped), failed, skipped)


def _cargo(text: str) -> Counts | None:
    found = _CARGO.findall(text)
    passed, failed, skipped = (sum(int(f[i]) for f in found) for i in range(3))
    return Counts(passed, failed, skipped, summed=True) if found else None


def _gotestsum(text: str) -> Counts | None:
    found = _last(_GOTESTSUM, text)
    if found is None:
        return None
    skipped, failed = int(found[2] or 0), int(found[3] or 0)
    return Counts(max(0, int(found[1]) - skipped - failed), failed, skipped)


def _go(text: str) -> Counts | None:
    """`go test` prints no sum: with -v its tests are counted, else its packages (failed tests where named)."""
    tops = _GO_TOP.findall(text)
    if "PASS" in tops or "SKIP" in tops:
        return Counts(tops.count("PASS"), tops.count("FAIL"), tops.count("SKIP"), summed=True)
    packages = _GO_PACKAGE.findall(text)
    failed = sum(p.startswith("FAIL") for p in packages)
    if packages:
        return Counts(len(packages) - failed, failed, 0, "packages", summed=True)
    return Counts(0, len(tops), 0, summed=True) if tops else None


def _totalled(pattern: re.Pattern[str], order: tuple[int, int, int | None]) -> _Reader:
    """A reader of (total, failed, skipped) by group numbers; the last match counts."""

    def read(text: str) -> Counts | None:
        found = _last(pattern, text)
        if found is None:
            return None
        total, failed = int(found[order[0]]), int(found[order[1]])
        skipped = int(found[order[2]] or 0) if order[2] else 0
        return Counts(max(0, total - failed - skipped), failed, skipped)

    return read


def _ctest(text: str) -> Counts | None:
    found = _last(_CTEST, text)
    return Counts(int(found[2]) - int(found[1]), int(found[1])) if found else None


def _each_named(pattern: re.Pattern[str], *, word_first: bool = False) -> _Reader:
    """A reader of lines of a number and a word; the last of each word counts."""

    def read(text: str) -> Counts | None:
        found = pattern.findall(text)
        pairs = {(a if word_first else b): int(b if word_first else a) for a, b in found}
        return _named(pairs) if pairs else None

    return read


def _rspec(text: str) -> Counts | None:
    found = _last(_RSPEC, text)
    if found is None:
        return None
    other = int(found[3] or 0)
    errors = other if (found[4] or "").startswith("error") else 0
    failed, skipped = int(found[2]) + errors, other - errors
    return Counts(max(0, int(found[1]) - failed - skipped), failed, skipped)


def _phpunit(text: str) -> Counts | None:
    if found := _last(_PHPUNIT_OK, text):
        return Counts(int(found[1]))
    if found := _last(_PHPUNIT, text):
        said = {name: int(n) for name, n in re.findall(r"(\w+): (\d+)", found[2])}
        failed, skipped = said.get("Failures", 0) + said.get("Errors", 0), said.get("Skipped", 0)
        return Counts(max(0, int(found[1]) - failed - skipped), failed, skipped)
    return None


def _maven(text: str) -> Counts | None:
    found = _last(_MAVEN, text)
    if found is None:
        return None
    total, failures, errors, skipped = (int(found[i]) for i in range(1, 5))
    return Counts(max(0, total - failures - errors - skipped), failures + errors, skipped)


def _in_order(pattern: re.Pattern[str], passed: int, failed: int, skipped: int = 0) -> _Reader:
    """A reader of groups that are counts themselves."""

    def read(text: str) -> Counts | None:
        found = pattern.findall(text)
        if not found:
            return None

        def total(group: int) -> int:
            return sum(int(f[group - 1] or 0) for f in found) if group else 0

        return Counts(total(passed), total(failed), total(skipped))

    return read


def _flutter(text: str) -> Counts | None:
    found = _last(_FLUTTER, text)
    return Counts(int(found[1]), int(found[3] or 0), int(found[2] or 0)) if found else None


# What an output must hold for a reader to find its summary: words are looked for faster than patterns
_READERS: tuple[tuple[tuple[str, ...], _Reader], ...] = (
    ((" passed", " failed", " error", " skipped", " deselected", " xfailed"), _pytest),
    (("Ran ",), _unittest),
    (("Summary [",), _nextest),
    (("test result:",), _cargo),
    (("DONE ",), _gotestsum),
    (("Tests",), _jest),
    (("Assertions: ", "OK ("), _phpunit),
    ((" failure",), _rspec),
    (("Tests run: ",), _maven),
    ((" completed, ",), _totalled(_GRADLE, (1, 2, 3))),
    (("Passed: ",), _in_order(_DOTNET, 2, 1, 3)),
    ((" | ",), _in_order(_DENO, 1, 2)),
    (("tests passed, ",), _ctest),
    (("Executed ",), _totalled(_SWIFT, (1, 2, None))),
    (("ests passed", "ests failed"), _flutter),
    ((" passing", " failing"), _each_named(_MOCHA)),
    (("# ", "ℹ "), _each_named(_TAP, word_first=True)),
    ((" pass", " fail"), _each_named(_BUN)),
    ((" passed", " failed"), _each_named(_PLAYWRIGHT)),
    (("ok ", "FAIL", "--- "), _go),
)

"""How a command's run ended, read from its output: counts of tests, what linters found, commits."""

import re
from typing import NamedTuple

from session_mgmt_mcp.projections.plain_text import clean
from session_mgmt_mcp.projections.runners import Recognised
from session_mgmt_mcp.projections.shell import Simple
from session_mgmt_mcp.projections.tallies import Counts, counts_in

HEAD_CHARS = 8_000
TAIL_CHARS = 24_000
NAMES_MAX = 5
LINE_CHARS_MAX = 500
NAME_CHARS_MAX = 120

# What a client answers where a call never ran
_NEVER_RAN = (
    "The user doesn't want to proceed with this tool use",
    "<tool_use_error>",
    "[Request interrupted",
    "Permission to use ",
    "This command requires approval",
    "Claude requested permissions",
)
_CUT = "\n[…]\n"
_BACKGROUND = re.compile(r"(?:Command|Process) (?:is )?running in (?:the )?background", re.IGNORECASE)


class Outcome(NamedTuple):
    """`ok`: None where the output does not say and the exit status is another command's."""

    ok: bool | None
    counts: Counts | None = None
    found: int | None = None  # problems a linter or type checker counted
    names: tuple[str, ...] = ()  # of failed tests


class Committed(NamedTuple):
    """A commit as git reports it."""

    branch: str
    hash: str
    subject: str


def never_ran(text: str, is_error: bool) -> bool:
    """Whether an error is the client's: refused by the user, not allowed, cancelled with its siblings."""
    return is_error and text.lstrip().startswith(_NEVER_RAN)


def refused_by_user(text: str) -> bool:
    return text.lstrip().startswith(_NEVER_RAN[0])


def interesting(text: str) -> str:
    """The parts of an output summaries stand in: its beginning and its end, without colours."""
    if len(text) > HEAD_CHARS + TAIL_CHARS:
        text = f"{text[:HEAD_CHARS]}{_CUT}{text[-TAIL_CHARS:]}"
    return clean(text.replace("\r", "\n"))


def outcome_of(what: Recognised, command: Simple, output: str, is_error: bool) -> Outcome:
    """How a recognised run ended. `output`: `interesting` text of the call's result; `is_error`: of the whole call."""
    if _BACKGROUND.search(output[:300]):
        return Outcome(None)
    if what.kind == "test":
        return _tests(what, command, output, is_error)
    if what.kind in ("lint", "types"):
        return _problems(what, command, output, is_error)
    return Outcome(_by_status(command, is_error))


def _by_status(command: Simple, is_error: bool) -> bool | None:
    """By the call's exit status, where that is this command's."""
    if not is_error:
        return True if command.decides else None
    return False if command.alone else None


def _tests(what: Recognised, command: Simple, output: str, is_error: bool) -> Outcome:
    counts = counts_in(output)
    broken = _is_broken(what, output)
    if counts is not None and counts.summed and not counts.failed and (command.filtered or _CUT in output):
        counts = None  # lines are missing
        if not broken and _ends_well(output):
            return Outcome(True)
    if broken or (counts is not None and counts.failed):
        return Outcome(False, counts, names=failed_names(output))
    status = _by_status(command, is_error)
    if counts is not None:
        return Outcome(status is not False, counts)
    return Outcome(status)


# Did not compile, or a runner says so
_BROKEN = re.compile(
    r"^(?:FAIL\b|npm (?:ERR!|error) |make(?:\[\d+\])?: \*\*\* |error: could not compile|error: test failed"
    r"|error: Recipe |ELIFECYCLE|error Command failed with exit)",
    re.MULTILINE,
)
_MISE_FAILED = re.compile(r"^\[([\w:.-]+)\] ERROR task failed", re.MULTILINE)
# What `go test` and `cargo test` end with, and what others print behind it
_GOOD_END = re.compile(r"(?:ok\s+\S+\s.*|PASS|\?\s+\S+\s+\[no test files\]|test result: ok\..*)\s*")
_AFTERWORD = re.compile(
    r"(?:\[[\w:.-]+\] (?:\$|Finished).*|Finished in .*|Shell cwd was reset.*|\d+ issues\.|\s*)"
)


def _is_broken(what: Recognised, output: str) -> bool:
    if _BROKEN.search(output):
        return True
    task = what.runner.rpartition(" ")[2]
    return any(name == task or name.startswith(f"{task}:") for name in _MISE_FAILED.findall(output))


def _ends_well(output: str) -> bool:
    for line in reversed(output[-2000:].split("\n")):
        if not _AFTERWORD.fullmatch(line):
            return _GOOD_END.fullmatch(line) is not None
    return False


# names of failed tests --------------------------------------------------------------------------------------

_FAILED_NAMES = (
    re.compile(r"^(?:FAILED|ERROR) (\S+::\S+)", re.MULTILINE),  # pytest
    re.compile(r"^[ \t]*--- FAIL: (\S+)", re.MULTILINE),  # go
    re.compile(r"^test (\S+) \.\.\. FAILED", re.MULTILINE),  # cargo
    re.compile(r"^(?:FAIL|ERROR): (\w+ \([\w.]+\))", re.MULTILINE),  # unittest
    re.compile(r"^[ \t]*● (.+ › .+)$", re.MULTILINE),  # jest
    re.compile(r"^[ \t]*(?:✕|×|✗) (.+?)(?: \(?\d+ ?ms\)?)?$", re.MULTILINE),
    re.compile(r"^not ok \d+ (?:- )?(.+)$", re.MULTILINE),  # TAP
    re.compile(r"^rspec (\S+:\d+)", re.MULTILINE),
)


def failed_names(output: str) -> tuple[str, ...]:
    """Names of failed tests, each once, at most NAMES_MAX."""
    for pattern in _FAILED_NAMES:
        if found := dict.fromkeys(name.strip()[:NAME_CHARS_MAX] for name in pattern.findall(output)):
            return tuple(found)[:NAMES_MAX]
    return ()


# linters and type checkers ----------------------------------------------------------------------------------

_FOUND = (
    re.compile(r"^[ \t]*(?:\[[\w:.-]+\] )?(\d+) issues?(?:\.|:)", re.MULTILINE),  # golangci-lint
    re.compile(r"^Found (\d+) errors?\b", re.MULTILINE),  # mypy, ruff, tsc, biome
    re.compile(r"^(\d+) errors?, \d+ warnings?", re.MULTILINE),  # pyright
    re.compile(r"✖ \d+ problems? \((\d+) errors?", re.MULTILINE),  # eslint
    re.compile(r"(\d+) offenses? detected"),  # rubocop
    re.compile(r"^could not compile .* due to (\d+) previous errors?", re.MULTILINE),  # clippy
)
_NONE_FOUND = re.compile(
    r"All checks passed|Success: no issues found|no offenses detected|No issues found|Contracts: \d+ kept, 0 broken"
)
_ONE_EACH = re.compile(r"error TS\d+:")


def problems_found(output: str) -> int | None:
    """How many problems a linter or type checker says it found; None where it prints no sum."""
    if (each := len(_ONE_EACH.findall(output))) > 0:
        return each
    numbers = [int(n) for pattern in _FOUND for n in pattern.findall(output)]
    if numbers:
        return sum(numbers)
    return 0 if _NONE_FOUND.search(output) else None


def _problems(what: Recognised, command: Simple, output: str, is_error: bool) -> Outcome:
    found = problems_found(output)
    status = _by_status(command, is_error)
    if found or status is False or _is_broken(what, output):
        return Outcome(False, found=found)
    return Outcome(True if found == 0 else status, found=found)


# commits ----------------------------------------------------------------------------------------------------

_COMMITTED = re.compile(r"^\[([^\]\n]{1,200}?)(?: \(root-commit\))? ([0-9a-f]{7,40})\] (.*)$", re.MULTILINE)


def commits_of(output: str) -> list[Committed]:
    """The commits an output reports, in order."""
    return [Committed(*found) for found in _COMMITTED.findall(output)]


# errors -----------------------------------------------------------------------------------------------------

# A place in a file, then words that tell of an error
_PLACED = re.compile(r"^[ \t]*\S+?[:(]\d+(?:[:,]\d+)?\)?:? \S")
_TELLING = re.compile(
    r"\b(?:[\w.]{0,80}(?:Error|Exception)\b|error(?:\[\w+\])?:|ERROR\b|fatal:|panic:|FAIL\b|not found|undefined|cannot "
    r"|Permission denied|No such file|assert)"
)
_NOTHING_TELLING = re.compile(
    r"^(?:\[[\w:.-]+\] (?:ERROR task failed|Finished.*)|Exit code \d+|\$ .*|> .*|Traceback \(most recent.*|\[[\w:.-]+\] \$ .*|={3,}.*|-{3,}.*|\s*)$"
)


def error_gist(output: str) -> str:
    """The line of an output that says best what went wrong, "" where there is none."""
    first = telling = ""
    for line in (line[:LINE_CHARS_MAX] for line in output.split("\n")[:400]):
        if _NOTHING_TELLING.match(line):
            continue
        if _PLACED.match(line):
            return line.strip()
        if not telling and _TELLING.search(line):
            telling = line.strip()
        first = first or line.strip()
    return telling or first

"""What a session ran in shells: tests and other checks, commits, failures and what mended them."""

import posixpath
import re
from collections.abc import Callable
from typing import NamedTuple

from session_mgmt_mcp.projections.outcomes import Outcome, commits_of, error_gist, interesting, outcome_of
from session_mgmt_mcp.projections.plain_text import one_line
from session_mgmt_mcp.projections.runners import Recognised, recognise
from session_mgmt_mcp.projections.shell import Simple, command_of, simple_commands
from session_mgmt_mcp.projections.story import CommandUse, Commit, Failure, Run

COMMAND_CHARS_MAX = 160
GIST_CHARS_MAX = 200
SUBJECT_CHARS_MAX = 120
RUNS_MAX = 2000
USES_MAX = 500
FAILURES_MAX = 200
CHECKS = frozenset(("test", "lint", "types", "build"))
# Commands that change something beyond the files of the project
_CHANGES = re.compile(
    r"(?:npm|pnpm|yarn|bun) (?:install|i|ci|add|remove|publish|up|update)\b|pip3? install|uv (?:add|remove|sync|lock|pip)\b"
    r"|poetry (?:add|remove|install|lock)|cargo (?:add|remove|update|publish|install)|go (?:get|mod)\b|brew (?:install|upgrade)"
    r"|apt(?:-get)? install|gh (?:pr|release|issue) (?:create|merge|close|edit)|git (?:rebase|merge|cherry-pick|tag|pull)\b"
    r"|docker(?: |-)compose (?:up|down)|docker (?:run|push)|kubectl (?:apply|delete|rollout)|terraform (?:apply|destroy)"
    r"|helm (?:install|upgrade)|fly deploy|vercel|netlify deploy|alembic|prisma migrate|rails db:|rake db:|manage\.py migrate"
    r"|gem install|bundle (?:install|add|update)|composer (?:require|install|update)|mix deps|dotnet add|firebase deploy"
)
# Tasks that run all the tests of a project, whichever runner they name
_ALL_TESTS = re.compile(
    r"(?:npm|yarn|pnpm|make|mise|just|task|composer|gradlew?|mvnw?|rake) (?:tests?|check|ci|t)|tox|nox"
)
_TASK = re.compile(r"(?:npm|yarn|pnpm|bun|make|mise|just|task|composer|rake|nx|turbo|poe|hatch)\b")


class _Family(NamedTuple):
    """Runs that answer each other: one kind of one runner; others by their whole line."""

    kind: str
    runner: str


class _Broken:
    """A failure that may be mended yet."""

    def __init__(self, run: Run, at: int, gist: str) -> None:
        self.run, self.at, self.gist, self.times = run, at, gist, 1
        self.lines = {run.command}
        self.whole = run.whole


class ShellWork:
    """Takes a session's shell calls, in order. `changed_between(a, b)`: the files changed between two moments."""

    def __init__(self, changed_between: Callable[[int, int], tuple[str, ...]]) -> None:
        self._changed_between = changed_between
        self.runs: list[Run] = []
        self.commits: list[Commit] = []
        self.commit_moments: list[tuple[int, int]] = []  # moment, µs since the epoch
        self.test_moments: list[int] = []
        self.reverts: list[tuple[int, str]] = []  # position, command
        self.failures: list[Failure] = []
        self._uses: dict[str, CommandUse] = {}
        self._broken: dict[_Family, _Broken] = {}

    def take(self, text: str, output: str, is_error: bool, position: int, moment: int, time: int) -> None:
        """A shell call that ran. `text`, `output`: of its call and its result; `moment`: its place in the session."""
        shown: str | None = None
        reached = True
        for command in simple_commands(command_of(text)):
            if not reached:
                reached = command.after != "&&"
                continue
            what = recognise(command)
            if what.kind in ("look", "format"):
                continue
            if shown is None:
                shown = interesting(output)
            outcome = outcome_of(what, command, shown, is_error)
            reached = not (outcome.ok is False and command.after == "&&")
            if what.kind in CHECKS:
                self._take_run(what, command, outcome, shown, position, moment)
            elif what.kind == "commit":
                self._take_commit(command, outcome, shown, position, moment, time)
            elif what.kind == "revert" and outcome.ok and not _elsewhere(command.folder):
                self.reverts.append((position, one_line(command.line, COMMAND_CHARS_MAX)))
            else:
                self._take_other(what, command, outcome, shown, position, moment)

    def _take_run(
        self, what: Recognised, command: Simple, outcome: Outcome, output: str, position: int, moment: int
    ) -> None:
        counts = outcome.counts
        run = Run(
            kind=what.kind,
            runner=what.runner,
            command=one_line(command.line, COMMAND_CHARS_MAX),
            position=position,
            ok=outcome.ok,
            passed=counts.passed if counts and (counts.passed or not counts.summed) else None,
            failed=counts.failed if counts else None,
            skipped=counts.skipped if counts else None,
            unit=counts.unit if counts else "tests",
            found=outcome.found,
            names=tuple(one_line(name, COMMAND_CHARS_MAX) for name in outcome.names),
            whole=what.whole,
        )
        self.runs.append(run)
        if len(self.runs) > RUNS_MAX:
            del self.runs[: RUNS_MAX // 2]
        if what.kind == "test":
            self.test_moments.append(moment)
        self._answer(run, outcome, output, moment)

    def _take_commit(
        self, command: Simple, outcome: Outcome, output: str, position: int, moment: int, time: int
    ) -> None:
        if _elsewhere(command.folder):  # a repository made to try something
            return
        made = commits_of(output)
        known = {commit.hash for commit in self.commits}
        for branch, digest, subject in made:
            if digest in known:
                continue
            if "--amend" in command.words and self.commits:
                self.commits.pop()
            self.commits.append(
                Commit(one_line(subject, SUBJECT_CHARS_MAX), digest, one_line(branch, 80), position)
            )
        silent = not made and outcome.ok is True  # `-q`, or its output goes elsewhere
        if silent:
            self.commits.append(Commit(one_line(_message(command), SUBJECT_CHARS_MAX), "", "", position))
        if made or silent:
            self.commit_moments.append((moment, time))

    def _take_other(
        self, what: Recognised, command: Simple, outcome: Outcome, output: str, position: int, moment: int
    ) -> None:
        line = one_line(command.line, COMMAND_CHARS_MAX)
        used = self._uses.pop(line, None) or CommandUse(line, 0, 0, position)
        if len(self._uses) >= USES_MAX:
            del self._uses[next(iter(self._uses))]
        failed = used.failed + (outcome.ok is False)
        self._uses[line] = CommandUse(line, used.times + 1, failed, position)
        run = Run(what.kind, line, line, position, outcome.ok, whole=True)
        self._answer(run, outcome, output, moment)

    def _answer(self, run: Run, outcome: Outcome, output: str, moment: int) -> None:
        """Open a failure, or close what this run shows to be mended."""
        family = _Family(run.kind, run.runner)
        if outcome.ok is False:
            broken = self._broken.get(family)
            gist = ", ".join(run.names) or one_line(error_gist(output), GIST_CHARS_MAX)
            if broken is None:
                if len(self._broken) >= FAILURES_MAX:
                    del self._broken[next(iter(self._broken))]
                self._broken[family] = _Broken(run, moment, gist)
            else:
                broken.times += 1
                broken.lines.add(run.command)
                broken.gist = gist or broken.gist
                broken.whole = broken.whole or run.whole
        elif outcome.ok:
            for other, broken in list(self._broken.items()):
                again = other == family and (run.whole or (run.command in broken.lines and not broken.whole))
                if again or (run.whole and _covers(run.runner, broken.run)):
                    self._close(other, broken, run, moment)

    def _close(self, family: _Family, broken: _Broken, run: Run, moment: int) -> None:
        del self._broken[family]
        self._add_failure(broken, run.position, self._changed_between(broken.at, moment))

    def _add_failure(self, broken: _Broken, fixed_at: int, files: tuple[str, ...]) -> None:
        # A command that only had to be run again tells nothing; a check does
        if broken.run.kind in CHECKS or (fixed_at and files) or (not fixed_at and broken.times > 1):
            self.failures.append(
                Failure(broken.run.runner, broken.gist, broken.run.position, broken.times, fixed_at, files)
            )

    def all_failures(self) -> list[Failure]:
        """Mended ones and those that are open, in order."""
        mended = list(self.failures)
        for broken in self._broken.values():
            self._add_failure(broken, 0, ())
        found, self.failures = self.failures, mended
        return sorted(found, key=lambda failure: failure.position)

    def still_failing(self) -> list[tuple[Run, Run | None]]:
        """Checks that failed and were not seen to succeed since: the last failed run, and a narrower one of the same kind
        that succeeded later.
        """
        out = []
        for family in self._broken:
            if family.kind not in CHECKS:
                continue
            runs = [run for run in self.runs if (run.kind, run.runner) == family]
            failed = max((i for i, run in enumerate(runs) if run.ok is False), default=None)
            if failed is not None:
                later = [run for run in runs[failed + 1 :] if run.ok]
                out.append((runs[failed], later[-1] if later else None))
        return out

    def uses(self) -> list[CommandUse]:
        """Commands that changed something, and those that were run again and again."""
        return [
            use
            for use in self._uses.values()
            if use.times > use.failed
            and (_CHANGES.match(use.command) or use.command.startswith("git push") or use.times > 1)
        ]


def _covers(runner: str, failed: Run) -> bool:
    """Whether a task for all tests ran what failed by itself: `npm test` what `jest a.test.js` did, not `npm run e2e`."""
    return (
        failed.kind == "test"
        and _ALL_TESTS.fullmatch(runner) is not None
        and not _TASK.match(failed.runner)
        and "-tags" not in failed.command
    )


def _elsewhere(folder: str) -> bool:
    return folder.startswith(
        ("/tmp", "/private/tmp", "/var/folders", "$(mktemp", "$TMP")
    ) or posixpath.basename(folder).startswith("$")


def _message(command: Simple) -> str:
    """The first line of what `-m`, `-am`, `--message` say."""
    for word, following in zip(command.words, (*command.words[1:], ""), strict=True):
        if word == "--message" or re.fullmatch(r"-[a-zA-Z]*m", word):
            return following.split("\n")[0]
        if word.startswith("--message="):
            return word.partition("=")[2].split("\n")[0]
    return "no message seen"

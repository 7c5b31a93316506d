"""Parts of a story in words, as handoffs, checkpoints and briefs share them."""

from collections.abc import Sequence

from session_mgmt_mcp.projections.quality import Quality
from session_mgmt_mcp.projections.story import Commit, Failure, FileWork, Run, Story

KINDS = {"test": "tests", "lint": "linter", "types": "type check", "build": "build"}


def count(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def at(*positions: int) -> str:
    """References to the log: `[1042]`."""
    return "".join(f"[{position}]" for position in positions if position)


def run_outcome(run: Run) -> str:
    """How a run ended: `passed (12 tests, 1 skipped)`."""
    said = []
    if run.failed:
        said.append(f"{run.failed} failed")
    if run.passed:
        said.append(f"{count(run.passed, run.unit.removesuffix('s'))}{' passed' if run.failed else ''}")
    if run.skipped:
        said.append(f"{run.skipped} skipped")
    if run.found:
        said.append(count(run.found, "problem"))
    word = {True: "passed", False: "failed", None: "outcome not shown"}[run.ok]
    return word + (f" ({', '.join(said)})" if said else "")


def last_runs(story: Story) -> list[tuple[Run, int, int]]:
    """Of each kind and runner the last run whose outcome shows (else the last), how many runs there were, and how many of
    them failed; tests first, in each kind the latest first.
    """
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in story.runs:
        groups.setdefault((run.kind, run.runner), []).append(run)
    out = []
    for runs in groups.values():
        shown = [run for run in runs if run.ok is not None]
        out.append(((shown or runs)[-1], len(runs), sum(run.ok is False for run in runs)))
    order = list(KINDS)
    return sorted(out, key=lambda entry: (order.index(entry[0].kind), -entry[0].position))


def failure_text(failure: Failure) -> str:
    """A failure and what came of it, without its positions."""
    times = f" {failure.times} times" if failure.times > 1 else ""
    text = f"{failure.what} failed{times}" + (f": {failure.gist}" if failure.gist else "")
    if not failure.fixed_at:
        return f"{text}; not seen to succeed since"
    files = ", ".join(failure.fixed_by[:4])
    if len(failure.fixed_by) > 4:
        files += f" and {len(failure.fixed_by) - 4} more"
    return f"{text}; succeeded after changes in {files}" if files else f"{text}; succeeded later"


def changed_files(story: Story) -> list[FileWork]:
    """Those of the project that were changed, the most worked on first."""
    changed = [f for f in story.files if f.position and not f.outside]
    return sorted(changed, key=lambda f: (-(f.edits + f.writes), -f.position))


def listed(words: Sequence[str], most: int) -> str:
    """Words with commas, and how many more there are."""
    more = len(words) - most
    return ", ".join(words[:most]) + (f" and {more} more" if more > 0 else "")


def commit_text(commit: Commit) -> str:
    return f"{commit.hash} {commit.subject}".strip()


def quality_lines(quality: Quality) -> list[str]:
    """The score and what it is made of; nothing where nothing could be judged."""
    if quality.score is None:
        return []
    trend = ""
    if quality.trend is not None:
        change = "unchanged" if not quality.trend else f"{quality.trend:+d}"
        trend = f" ({change} since {quality.compared_with})"
    return [f"{quality.score} of 100{trend}", *(f"-{d.points}: {d.why}" for d in quality.deductions)]


def state(story: Story) -> str:
    """Whether it ended."""
    if not story.end:
        return "no end recorded"
    return "ended" if story.end != "orphaned" else "broke off, no end reported"

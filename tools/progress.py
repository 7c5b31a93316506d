"""Progress on stderr: a bar where that is a terminal, a line now and then where it is not."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

if TYPE_CHECKING:
    from session_mgmt_mcp.adapters.claude_code.importer import Progress as ImportProgress

_LINE_EVERY_S = 5.0


@contextmanager
def import_progress() -> "Iterator[Callable[[ImportProgress], None]]":
    """A callback for `import_files`."""
    if not sys.stderr.isatty():
        yield _lines()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("importing", total=None)

        def show(at: "ImportProgress") -> None:
            bar.update(
                task,
                completed=at.bytes,
                total=at.bytes_total,
                description=f"importing file {at.files} of {at.files_total}, {at.read} records",
            )

        yield show


def _lines() -> "Callable[[ImportProgress], None]":
    last = time.monotonic()

    def show(at: "ImportProgress") -> None:
        nonlocal last
        if time.monotonic() - last >= _LINE_EVERY_S:
            last = time.monotonic()
            share = 100 * at.bytes // at.bytes_total if at.bytes_total else 100
            print(
                f"importing: {share} % · file {at.files} of {at.files_total} · {at.read} records",
                file=sys.stderr,
            )

    return show


@contextmanager
def stages() -> "Iterator[Callable[[str, int, int], None]]":
    """A callback for long jobs: (what is being done, how far, of how much)."""
    if not sys.stderr.isatty():
        yield _stage_lines()
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=None)
        yield lambda stage, at, end: bar.update(task, description=stage, completed=at, total=end or None)


@contextmanager
def byte_stages(*in_bytes: str) -> "Iterator[Callable[[str, int, int], None]]":
    """`stages` for jobs of which these stages are measured in bytes."""
    if not sys.stderr.isatty():
        show = _stage_lines()
        yield (
            lambda stage, at, end: (
                show(f"{stage}, MB", at // 1_000_000, end // 1_000_000)
                if stage in in_bytes and end >= 1_000_000
                else show(stage, at, end)
            )
        )
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=None)

        def update(stage: str, at: int, end: int) -> None:
            of = f"{at / 1e6:.1f} of {end / 1e6:.1f} MB" if stage in in_bytes else f"{at} of {end}"
            bar.update(task, description=f"{stage}: {of}" if end else stage, completed=at, total=end or None)

        yield update


class _Rate(ProgressColumn):
    """How many a second, once that is known."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f}/s" if task.speed else "")


def _stage_lines() -> Callable[[str, int, int], None]:
    stage_before, last, began, first = "", 0.0, 0.0, 0

    def show(stage: str, at: int, end: int) -> None:
        nonlocal stage_before, last, began, first
        now = time.monotonic()
        if stage != stage_before:
            began, first = now, at
        if stage != stage_before or now - last >= _LINE_EVERY_S:
            stage_before, last = stage, now
            pace = _pace(at - first, end - at, now - began)
            print(f"{stage}: {at} of {end}{pace}" if end else stage, file=sys.stderr, flush=True)

    return show


def _pace(done: int, left: int, seconds: float) -> str:
    """How many a second, and how long the rest will take at that rate; "" before anything is known."""
    if done <= 0 or seconds <= 0:
        return ""
    rate = done / seconds
    return f" · {rate:,.0f}/s · {max(left, 0) / rate:,.0f} s left"


def quiet(*_: object) -> None:
    """A callback that shows nothing."""

"""How statistics look: a plot of activity and tables for people, plain data for machines."""

from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import msgspec
from rich.table import Table
from rich.text import Text

from session_mgmt_mcp.tools.render import ago, iso, minute, short_path
from session_mgmt_mcp.tools.terminal import Output, printable

if TYPE_CHECKING:
    from session_mgmt_mcp.projections.statistics import Day, Lengths, Statistics

_PIPE_BARS = 60
_HEIGHT = 6  # lines of the plot
_BLOCKS = " ▁▂▃▄▅▆▇█"


def statistics_json(found: "Statistics") -> dict[str, Any]:
    """The numbers as they are, times in ISO 8601."""
    plain: dict[str, Any] = msgspec.to_builtins(found)
    for part in (plain, *plain["projects"], *plain["assistants"]):
        part.update({name: iso(part[name]) for name in ("first_at", "last_at") if name in part})
    return plain


def print_statistics(found: "Statistics", out: Output) -> None:
    summary = (
        f"{found.sessions:,} sessions · {found.prompts:,} prompts · {found.tool_calls:,} tool calls · "
        f"{found.actions:,} actions"
    )
    out.console.print(Text(summary, "bold"))
    out.console.print(Text(f"{minute(found.first_at)} – {minute(found.last_at)}", "dim"))
    _print_activity(found.days, out)
    _print_lengths(found, out)
    for title, kind in (("project", found.projects), ("assistant", found.assistants)):
        rows = [
            (
                short_path(p.name) if out.live else p.name,
                *(f"{n:,}" for n in (p.sessions, p.prompts, p.tool_calls, p.actions)),
                (ago(p.last_at) or "time unknown") if out.live else minute(p.last_at),
            )
            for p in kind
        ]
        _print_table(out, (title, "sessions", "prompts", "calls", "actions", "last active"), rows)
    tools = [(t.tool, f"{t.calls:,}", f"{t.failed:,}") for t in found.tools]
    _print_table(out, ("tool", "calls", "failed"), tools)
    edited = [
        (short_path(f.file) if out.live else f.file, f"{f.edits:,}", f"{f.sessions:,}") for f in found.files
    ]
    _print_table(out, ("file", "edits", "sessions"), edited)
    tokens = [
        (t.model or "unnamed", *(f"{n:,}" for n in (t.messages, t.input_tokens, t.output_tokens)),
         f"{t.cache_read_tokens:,}", f"{t.cache_write_tokens:,}")
        for t in found.tokens
    ]  # fmt: skip
    _print_table(out, ("model", "messages", "tokens in", "out", "cache read", "cache written"), tokens)


def _print_table(out: Output, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table with names on the left and numbers on the right; nothing where it would be empty."""
    rows = list(rows)
    if not rows:
        return
    table = Table(box=None, pad_edge=False, header_style="bold cyan")
    for number, column in enumerate(columns):
        if number:
            table.add_column(column, justify="right", no_wrap=True)
        else:
            table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    out.console.print()
    out.console.print(table)


def _print_lengths(found: "Statistics", out: Output) -> None:
    def row(name: str, lengths: "Lengths") -> tuple[str, ...]:
        return (name, *(f"{n:,}" for n in (lengths.median, lengths.p90, lengths.longest)))

    seconds = found.session_seconds
    rows = [
        row("actions", found.session_actions),
        row("prompts", found.session_prompts),
        ("first to last", *map(duration, (seconds.median, seconds.p90, seconds.longest))),
    ]
    _print_table(out, ("a session's length", "median", "9 in 10 below", "longest"), rows)


def duration(seconds: int) -> str:
    """Seconds, minutes, hours or days, with one digit after the point where it is below ten."""
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            count = seconds / size
            return f"{count:.1f} {unit}" if count < 10 else f"{count:.0f} {unit}"
    return f"{seconds} s"


def _print_activity(days: "Sequence[Day]", out: Output) -> None:
    if not days:
        return
    width = min(120, out.console.width - 10) if out.live else _PIPE_BARS
    unit, bars = periods([(date.fromisoformat(day.day), day.actions) for day in days], max(10, width))
    highest = max(count for _, count in bars)
    blocks = _BLOCKS if _can_draw(out) else " ..::++##"
    out.console.print(Text(f"\nactions a {unit}", "bold cyan"))
    wide = max(1, min(4, width // len(bars)))
    for line in range(_HEIGHT, 0, -1):
        scale = f"{highest:>8,} " if line == _HEIGHT else f"{0:>8} " if line == 1 else " " * 9
        drawn = "".join(_cell(count, highest, line, blocks) * wide for _, count in bars)
        out.console.print(Text.assemble((scale, "dim"), (drawn.rstrip(), "green")))
    first, last = bars[0][0].isoformat(), bars[-1][0].isoformat()
    gap = " " * max(1, len(bars) * wide - len(first) - len(last))
    out.console.print(Text(" " * 9 + (first + gap + last if len(bars) > 1 else first), "dim"))


def _can_draw(out: Output) -> bool:
    try:
        _BLOCKS.encode(out.console.encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _cell(count: int, highest: int, line: int, blocks: str) -> str:
    """What a bar shows on a line, counted from the bottom; anything at all shows on the lowest."""
    eighths = max(1, round(count / highest * _HEIGHT * 8)) if count else 0
    return blocks[min(8, max(0, eighths - (line - 1) * 8))]


def periods(days: Sequence[tuple[date, int]], most: int) -> tuple[str, list[tuple[date, int]]]:
    """(unit, [(its first day, sum)]) of the smallest unit of which at most `most` cover the days, empty ones included.

    The days are in order. Of what covers too long a time even in years, the last `most` years are shown.
    """
    for unit in ("day", "week", "month", "year"):
        sums: dict[date, int] = {}
        at, end = _start(days[0][0], unit), days[-1][0]
        for _ in range(most + 1):
            if at > end:
                break
            sums[at] = 0
            at = _next(at, unit)
        if at > end and len(sums) <= most:
            break
    else:
        sums = {date(year, 1, 1): 0 for year in range(max(1, end.year - most + 1), end.year + 1)}
    for day, count in days:
        start = _start(day, unit)
        if start in sums:
            sums[start] += count
    return unit, sorted(sums.items())


def _start(day: date, unit: str) -> date:
    if unit == "week":
        return day - timedelta(days=min(day.weekday(), day.toordinal() - 1))
    if unit == "day":
        return day
    return day.replace(day=1) if unit == "month" else day.replace(month=1, day=1)


def _next(start: date, unit: str) -> date:
    """Raises nothing: the last day there is ends the last period."""
    try:
        if unit in ("day", "week"):
            return start + timedelta(days=7 if unit == "week" else 1)
        if unit == "year" or start.month == 12:
            return start.replace(year=start.year + 1, month=1)
        return start.replace(month=start.month + 1)
    except (OverflowError, ValueError):
        return date.max

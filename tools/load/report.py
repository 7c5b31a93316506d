"""A load test's report: text for a terminal, a plot as SVG."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

from session_mgmt_mcp.tools.load.run import LoadReport

_BARS: Final = "▁▂▃▄▅▆▇█"
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _GAP = 720, 170, 70, 130, 40, 60
_COLOURS: Final = ("#0b6bcb", "#c4511a", "#2e7d32", "#7b3fa0")

Points = Sequence[tuple[float, float]]
OverTime = Mapping[str, Sequence[tuple[float, float, float, float]]]  # as LoadTest.over_time


def text(report: LoadReport, over_time: OverTime) -> str:
    """The report for people; small plots of p50 over time."""
    lines = [
        f"{report.clients} clients, {report.seconds:g} s, {report.answers:,} answers, {report.per_s:g}/s"
        + (" (interrupted)" if report.interrupted else ""),
        f"{'':10}{'answers':>9}{'/s':>9}{'p50 ms':>10}{'p90':>9}{'p95':>9}{'p99':>9}{'max':>9}",
    ]
    for tool, found in report.tools.items():
        times = "".join(f"{found.ms[name]:>9.1f}" for name in ("p90", "p95", "p99", "max"))
        lines.append(f"{tool:10}{found.answers:>9,}{found.per_s:>9.1f}{found.ms['p50']:>10.1f}{times}")
    for tool, points in over_time.items():
        lines.append(f"{tool:10}p50 over time {spark([p50 for _, _, p50, _ in points])}")
    errors = ", ".join(f"{kind} {count:,}" for kind, count in report.errors.items())
    lines.append(
        f"errors: {errors or 'none'}; {report.retried:,} calls answered at a later try (longest wait "
        f"{report.longest_wait_s:g} s), {report.unanswered:,} never"
    )
    if report.acknowledged:
        lines.append(
            f"{report.acknowledged:,} notes acknowledged, looked up {report.looked_up:,} times, "
            f"{report.wrong:,} missing or wrong"
        )
    if report.memory_mb:
        sizes = [size for _, size in report.memory_mb]
        lines.append(
            f"the service's own memory: {sizes[0]:g} MB at first, {max(sizes):g} at most, {sizes[-1]:g} at last"
        )
    return "\n".join([*lines, *report.findings])


def spark(values: Sequence[float]) -> str:
    """A plot of one line, from 0 to the largest value."""
    most = max(values, default=0.0) or 1.0
    return "".join(_BARS[min(len(_BARS) - 1, int(value / most * len(_BARS)))] for value in values)


def svg(report: LoadReport, over_time: OverTime) -> str:
    """Three plots over time: duration (p50 whole, p99 dashed), answers a second, memory of the service."""
    panels: list[tuple[str, dict[str, Points], dict[str, Points]]] = [
        (
            "duration, ms: p50, p99 dashed",
            {tool: [(at, p50) for at, _, p50, _ in found] for tool, found in over_time.items()},
            {tool: [(at, p99) for at, _, _, p99 in found] for tool, found in over_time.items()},
        ),
        (
            "answers a second",
            {tool: [(at, rate) for at, rate, _, _ in found] for tool, found in over_time.items()},
            {},
        ),
    ]
    if report.memory_mb:
        panels.append(("own memory of the service, MB", {"memory": report.memory_mb}, {}))
    height = _TOP + len(panels) * (_HEIGHT + _GAP)
    title = f"{report.clients} clients, {report.seconds:g} s, {report.per_s:g} answers/s"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif">',
        f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>',
        _label(_LEFT, 20, title, "start", 14),
    ]
    for number, (name, whole, dashed) in enumerate(panels):
        parts += _panel(_TOP + 20 + number * (_HEIGHT + _GAP), name, whole, dashed, report.seconds)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(
    top: float, name: str, whole: Mapping[str, Points], dashed: Mapping[str, Points], seconds: float
) -> list[str]:
    values = [value for series in (whole, dashed) for points in series.values() for _, value in points]
    most = _round_up(max(values, default=0.0))
    last = max([seconds, *(at for points in whole.values() for at, _ in points)])

    def at(x: float, y: float) -> str:
        across = _LEFT + x / last * (_WIDTH - _LEFT - _RIGHT)
        return f"{across:.1f},{top + _HEIGHT - y / most * _HEIGHT:.1f}"

    parts = [_label(_LEFT, top - 6, name, "start")]
    for share in (0, 0.25, 0.5, 0.75, 1):
        y = top + _HEIGHT * (1 - share)
        parts.append(f'<path d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}" stroke="#eee"/>')
        parts.append(_label(_LEFT - 6, y + 4, f"{most * share:g}", "end"))
        x = _LEFT + share * (_WIDTH - _LEFT - _RIGHT)
        parts.append(_label(x, top + _HEIGHT + 16, f"{last * share:.3g} s", "middle"))
    for number, (series, points) in enumerate(whole.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        parts.append(_line(" ".join(at(x, y) for x, y in points), colour, ""))
        if series in dashed:
            parts.append(
                _line(" ".join(at(x, y) for x, y in dashed[series]), colour, ' stroke-dasharray="4 3"')
            )
        y = top + 12 + 18 * number
        parts.append(f'<rect x="{_WIDTH - _RIGHT + 12}" y="{y - 9}" width="10" height="10" fill="{colour}"/>')
        parts.append(_label(_WIDTH - _RIGHT + 28, y, series, "start"))
    return parts


def _line(points: str, colour: str, style: str) -> str:
    return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"{style}/>'


def _label(x: float, y: float, words: str, anchor: str, size: int = 11) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="#333">{escape(words)}</text>'


def _round_up(value: float) -> float:
    """The next of 1, 2, 5 times a power of ten; 1 for 0."""
    step = 1e-3
    while True:
        for factor in (1, 2, 5):
            if step * factor >= value > 0:
                return step * factor
        if value <= 0:
            return 1.0
        step *= 10

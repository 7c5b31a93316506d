"""A line plot as SVG, without any library: both axes logarithmic."""

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 64, 150, 34, 46
COLOURS = ("#0b6bcb", "#c4511a", "#2e7d32", "#7b3fa0", "#5f6368", "#b8860b", "#00838f", "#ad1457")
_STEPS = (1, 2, 5)


def lines(title: str, x_name: str, y_name: str, series: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """The points (x, y), all above 0, of each series joined in order of x."""
    points = [point for found in series.values() for point in found]
    if not points or any(x <= 0 or y <= 0 for x, y in points):
        raise ValueError(f"{title}: there must be points, and all values above 0")
    xs, ys = _axis([x for x, _ in points]), _axis([y for _, y in points])

    def at(x: float, y: float) -> tuple[float, float]:
        across, up = _share(x, xs), _share(y, ys)
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    parts = [_text(LEFT, 20, title, "start", 14), *_grid(xs, ys, at)]
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, x_name))
    parts.append(
        f'<g transform="translate(14 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)">{_text(0, 0, y_name)}</g>'
    )
    for number, (name, found) in enumerate(series.items()):
        parts += _series(number, name, [at(x, y) for x, y in sorted(found)])
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif">'
    back = f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>'
    return "\n".join([head, back, *parts, "</svg>"]) + "\n"


def _series(number: int, name: str, points: Sequence[tuple[float, float]]) -> list[str]:
    colour = COLOURS[number % len(COLOURS)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points]
    y = TOP + 8 + 18 * number
    key = f'<rect x="{WIDTH - RIGHT + 12}" y="{y - 8}" width="10" height="10" fill="{colour}"/>'
    return [
        f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>',
        *dots,
        key,
        _text(WIDTH - RIGHT + 28, y + 1, name, "start"),
    ]


def _grid(xs: tuple[float, float], ys: tuple[float, float], at: object) -> list[str]:
    out = []
    for value in _ticks(xs, (1,)):
        x, bottom = at(value, ys[0])  # type: ignore[operator]
        out.append(f'<path d="M{x:.1f} {TOP}V{bottom:.1f}" stroke="#eee"/>')
        out.append(_text(x, HEIGHT - BOTTOM + 16, _short(value)))
    steps = _STEPS if ys[1] / ys[0] < 2000 else (1,)
    for value in _ticks(ys, steps):
        left, y = at(xs[0], value)  # type: ignore[operator]
        out.append(f'<path d="M{left:.1f} {y:.1f}H{WIDTH - RIGHT}" stroke="#eee"/>')
        out.append(_text(LEFT - 6, y + 4, _short(value), "end"))
    return out


def _axis(values: Sequence[float]) -> tuple[float, float]:
    """From and to: the next tick on each side."""
    low, high = min(values), max(values)
    begin = max(t for t in _ticks((low / 10, low), _STEPS) if t <= low)
    end = min(t for t in _ticks((high, high * 10), _STEPS) if t >= high)
    return begin, end if end > begin else begin * 10


def _ticks(axis: tuple[float, float], steps: Sequence[int]) -> list[float]:
    first, last = math.floor(math.log10(axis[0])), math.ceil(math.log10(axis[1]))
    found = [step * 10.0**power for power in range(first, last + 1) for step in steps]
    return [t for t in found if axis[0] * 0.999 <= t <= axis[1] * 1.001]


def _share(value: float, axis: tuple[float, float]) -> float:
    return math.log(value / axis[0]) / math.log(axis[1] / axis[0])


def _short(value: float) -> str:
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def _text(x: float, y: float, text: str, anchor: str = "middle", size: int = 11) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">{escape(text)}</text>'

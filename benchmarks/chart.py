"""A line chart as SVG, for result pages: a few lines over a few named positions. No dependency, no script in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 60, 150, 40, 50
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd")


def chart(title: str, x: str, y: str, places: Sequence[str], lines: Mapping[str, Sequence[float]]) -> str:
    """An SVG document: `lines` by name, each with a value for each of `places`; the vertical axis begins at zero.

    Raises ValueError where a line does not have as many values as there are places.
    """
    if any(len(values) != len(places) for values in lines.values()):
        raise ValueError("each line needs a value for each place")
    top = _ceiling(max((max(values) for values in lines.values()), default=1.0))
    parts = [_text(WIDTH / 2, 20, title, size=15), _text(WIDTH / 2 - 45, HEIGHT - 10, x), _text(LEFT, TOP - 10, y)]
    for i in range(5):
        at = _down(top * i / 4, top)
        parts.append(f'<path d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}" stroke="#ccc"/>')
        parts.append(_text(LEFT - 6, at + 4, f"{top * i / 4:g}", anchor="end"))
    parts += [_text(_across(i, places), HEIGHT - BOTTOM + 18, place) for i, place in enumerate(places)]
    for number, (name, values) in enumerate(lines.items()):
        parts += _line(name, values, places, top, COLOURS[number % len(COLOURS)])
    body = "\n".join(parts)
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">\n'
        f'<rect width="100%" height="100%" fill="white"/>\n{body}\n</svg>\n'
    )


def _line(name: str, values: Sequence[float], places: Sequence[str], top: float, colour: str) -> list[str]:
    points = [(_across(i, places), _down(value, top)) for i, value in enumerate(values)]
    joined = " ".join(f"{across:.1f},{down:.1f}" for across, down in points)
    marks = [f'<circle cx="{across:.1f}" cy="{down:.1f}" r="3" fill="{colour}"/>' for across, down in points]
    label = _text(points[-1][0] + 8, points[-1][1] + 4, name, anchor="start", colour=colour)
    return [f'<polyline points="{joined}" fill="none" stroke="{colour}" stroke-width="2"/>', *marks, label]


def _text(x: float, y: float, text: str, *, anchor: str = "middle", size: int = 12, colour: str = "black") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{colour}">{escape(text)}</text>'
    )


def _across(index: int, places: Sequence[str]) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * (index + 0.5) / len(places)


def _down(value: float, top: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / top


def _ceiling(value: float) -> float:
    """The next round number above a value: 1, 2, 4 or 8 times a power of ten."""
    power = 1.0
    while power * 10 <= value:
        power *= 10
    while power > value > 0:
        power /= 10
    return next(m * power for m in (1, 2, 4, 8, 10) if m * power >= value)

"""Results as pictures: SVG text, made without any package."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

FONT = 'font-family="sans-serif" font-size="12"'
WIDTH = 960
LEFT = 270
ROW = 17


class Group(NamedTuple):
    """Bars that belong together."""

    title: str
    bars: Mapping[str, float]
    """By contender."""


class Lines(NamedTuple):
    """A diagram of lines."""

    title: str
    lines: Mapping[str, Sequence[tuple[float, float]]]
    """By contender: x and y."""


def colour(name: str) -> str:
    """The colour of a contender, the same in all pictures."""
    if name.startswith("ldreader"):
        return "#1b6ca8" if name == "ldreader" else "#8dbbe0"
    if name.startswith("official"):
        return "#e07b39" if name == "official SDK" else "#f2bd95"
    if name.startswith("python -"):
        return "#8a8a8a"
    return "#8e5ea2" if name.startswith("PHP") else "#5c946e"


def bars(title: str, groups: Sequence[Group]) -> str:
    """Groups of horizontal bars on one logarithmic scale; a bar begins at 1 and ends at its value."""
    values = [value for group in groups for value in group.bars.values()] or [1.0]
    low, high = math.floor(math.log10(min(values))), max(math.ceil(math.log10(max(values))), 1)

    def across(value: float) -> float:
        return LEFT + (WIDTH - LEFT - 70) * (math.log10(value) - low) / (high - low)

    shapes = []
    top = 56
    for group in groups:
        shapes.append(_text(10, top + 13, group.title, weight="bold"))
        for name, value in group.bars.items():
            top += ROW
            start, end = sorted((across(1.0), across(value)))
            shapes.append(_text(LEFT - 6, top + 13, name, anchor="end"))
            shapes.append(
                f'<rect x="{start:.1f}" y="{top + 2}" width="{max(end - start, 1):.1f}" height="{ROW - 4}" '
                f'fill="{colour(name)}"/>'
            )
            shapes.append(_text(end + 5, top + 13, f"{value:.3g} ×"))
        top += ROW + 14
    grid = []
    for decade in range(low, high + 1):
        x = across(10.0**decade)
        grid.append(f'<line x1="{x:.1f}" y1="50" x2="{x:.1f}" y2="{top}" stroke="#ddd"/>')
        grid.append(_text(x, 44, f"{10.0**decade:g} ×", anchor="middle"))
    return _svg(WIDTH, top + 10, [_text(10, 22, title, weight="bold"), *grid, *shapes])


def diagrams(title: str, panels: Sequence[Lines], unit: str) -> str:
    """Diagrams side by side, two in a row, both axes logarithmic."""
    width, height = WIDTH // 2, 260
    shapes = [_text(10, 22, title, weight="bold")]
    for index, name in enumerate(dict.fromkeys(name for panel in panels for name in panel.lines)):
        shapes.append(f'<rect x="{330 + 150 * index}" y="12" width="12" height="12" fill="{colour(name)}"/>')
        shapes.append(_text(347 + 150 * index, 22, name))
    for index, panel in enumerate(panels):
        shapes += _panel(panel, unit, index % 2 * width, 40 + index // 2 * height, width, height)
    return _svg(WIDTH, 40 + (len(panels) + 1) // 2 * height, shapes)


def _panel(panel: Lines, unit: str, left: int, top: int, width: int, height: int) -> list[str]:
    points = [point for line in panel.lines.values() for point in line]
    if not points:
        return []
    x0, x1 = _bounds([x for x, _ in points])
    y0, y1 = _bounds([y for _, y in points])

    def place(x: float, y: float) -> tuple[float, float]:
        across = (math.log10(x) - x0) / (x1 - x0)
        up = (math.log10(y) - y0) / (y1 - y0)
        return left + 70 + across * (width - 100), top + height - 40 - up * (height - 75)

    shapes = [_text(left + 70, top + 20, panel.title, weight="bold")]
    for decade in range(math.ceil(y0), math.floor(y1) + 1):
        x, y = place(10**x0, 10**decade)
        shapes.append(f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{left + width - 30}" y2="{y:.1f}" stroke="#ddd"/>')
        shapes.append(_text(x - 6, y + 4, f"{10.0**decade:g} {unit}", anchor="end"))
    for x in sorted({x for x, _ in points}):
        shapes.append(_text(place(x, 10**y0)[0], top + height - 22, f"{x:g}", anchor="middle"))
    for name, line in panel.lines.items():
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in line))
        shapes.append(f'<polyline points="{path}" fill="none" stroke="{colour(name)}" stroke-width="2"/>')
        for point in line:
            x, y = place(*point)
            shapes.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour(name)}"/>')
    return shapes


def _bounds(values: Sequence[float]) -> tuple[float, float]:
    """The decimal logarithms that an axis begins and ends with."""
    low, high = math.log10(min(values)), math.log10(max(values))
    low, high = math.floor(low * 2) / 2, math.ceil(high * 2) / 2
    return low, max(high, low + 0.5)


def _text(x: float, y: float, words: str, *, anchor: str = "start", weight: str = "normal") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text {place} font-weight="{weight}" fill="#222">{escape(words)}</text>'


def _svg(width: int, height: int, shapes: Sequence[str]) -> str:
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    background = f'<rect width="{width}" height="{height}" fill="white"/>'
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" {size} {FONT}>', background, *shapes, "</svg>", ""])

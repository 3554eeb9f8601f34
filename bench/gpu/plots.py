"""A small line plot as an SVG file, readable on light and dark pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 720, 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 200, 40, 36
COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#999933", "#882255", "#ee8866", "#777777")


@dataclass(frozen=True)
class Series:
    """One line: a value for each place on the x axis, None where there is none."""

    name: str
    values: Sequence[float | None]


def line_plot(title: str, places: Sequence[str], series: Sequence[Series]) -> str:
    """An SVG of `series` over the named `places`, from 0 up. A line breaks where a value is missing."""
    highest = max((value for one in series for value in one.values if value is not None), default=1.0)
    top = nice_top(highest)
    parts = [f'<text x="{_LEFT}" y="22" font-size="14">{escape(title)}</text>', *_axes(places, top)]
    for index, one in enumerate(series):
        colour = COLOURS[index % len(COLOURS)]
        points = [
            None if value is None else (_x(place, len(places)), _y(value, top))
            for place, value in enumerate(one.values)
        ]
        parts += [f'<polyline points="{" ".join(run)}" fill="none" stroke="{colour}"/>' for run in _runs(points)]
        parts += [f'<circle cx="{p[0]:.1f}" cy="{p[1]:.1f}" r="3" fill="{colour}"/>' for p in points if p]
        y = _TOP + 18 * index
        parts.append(f'<circle cx="{WIDTH - _RIGHT + 16}" cy="{y}" r="4" fill="{colour}"/>')
        parts.append(f'<text x="{WIDTH - _RIGHT + 26}" y="{y + 4}">{escape(one.name)}</text>')
    style = 'font-family="sans-serif" font-size="12" fill="#808080" stroke-width="2"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" {style}>'
    return "\n".join([head, *parts, "</svg>"]) + "\n"


def nice_top(value: float) -> float:
    """The end of the axis: the next of 1, 2, 3, 5 times a power of ten at or above `value`."""
    power = 1.0
    while power > value:
        power /= 10
    while power * 10 <= value:
        power *= 10
    return next((factor * power for factor in (1, 2, 3, 5, 10) if factor * power >= value), 10 * power)


def _axes(places: Sequence[str], top: float) -> list[str]:
    parts = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = _y(top * share, top)
        line = (
            f'<line x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#808080" stroke-width="0.4"/>'
        )
        parts += [line, f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{top * share:.3g}</text>']
    for place, name in enumerate(places):
        x = _x(place, len(places))
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - 12}" text-anchor="middle">{escape(name)}</text>')
    return parts


def _runs(points: Sequence[tuple[float, float] | None]) -> list[list[str]]:
    """The stretches of at least two points without a gap."""
    runs: list[list[str]] = [[]]
    for point in points:
        if point is None:
            runs.append([])
        else:
            runs[-1].append(f"{point[0]:.1f},{point[1]:.1f}")
    return [run for run in runs if len(run) > 1]


def _x(place: int, count: int) -> float:
    return _LEFT + (WIDTH - _LEFT - _RIGHT) * ((place + 0.5) / count)


def _y(value: float, top: float) -> float:
    return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * value / top

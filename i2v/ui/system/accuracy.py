"""Predicted against measured as HTML: two charts, time and memory, and the last runs in words. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from html import escape
from statistics import median

from i2v.messages import message
from i2v.planning.known import PHASES
from i2v.planning.ledger import Entry, PhaseMeasured
from i2v.ui.shown.format import GIB
from i2v.ui.texts import text

RUNS_DRAWN = 200
RUNS_LISTED = 8
LEAST_SECONDS = 1.0  # the tenth of a second that a phase takes may be ten times as much as predicted, to nobody's harm
LEAST, MOST = 1e-6, 1e18  # seconds or bytes: beyond them nothing was measured
WIDTH, HEIGHT = 320, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 12, 34
_PAD = 1.3  # the axes end that far beyond the outermost points


@dataclass(frozen=True)
class Point:
    """One phase of one run: seconds, or GiB."""

    phase: str
    model: str
    predicted: float
    measured: float


def accuracy(entries: Sequence[Entry], locale: str) -> str:
    """The charts over the last runs and a list of the newest; a sentence where there are none."""
    if not entries:
        return f'<p class="i2v-calm">{escape(text("accuracy_empty", locale))}</p>'
    drawn = entries[-RUNS_DRAWN:]
    shown = {"time": time_points(drawn), "memory": memory_points(drawn)}
    charts = "".join(_chart(points, f"accuracy_{name}", locale) for name, points in shown.items())
    phases = {point.phase for points in shown.values() for point in points}
    keys = "".join(
        f'<span class="i2v-key {phase}">{escape(text(f"phase_{phase}", locale))}</span>'
        for phase in PHASES
        if phase in phases
    )
    return (
        f'<div class="i2v-accuracy">{charts}</div><div class="i2v-keys i2v-phase-keys">{keys}</div>'
        f"{_last_runs(entries, locale)}"
    )


def time_points(entries: Sequence[Entry]) -> list[Point]:
    """Seconds by phase, of runs under one plan; predicted for a processor as busy as it was. Phases that take no time
    to speak of are left out."""
    points = [
        replace(point, predicted=point.predicted * entry.slowdown)
        for entry in entries
        for point in _points([entry], lambda phase: (phase.predicted_seconds, phase.measured_seconds))
    ]
    return [point for point in points if max(point.predicted, point.measured) >= LEAST_SECONDS]


def memory_points(entries: Sequence[Entry]) -> list[Point]:
    """GiB by phase, of runs on a card: without one no phase's memory was measured."""
    on_cards = [entry for entry in entries if entry.plan.get("device") != "cpu"]
    points = _points(on_cards, lambda phase: (phase.predicted_bytes, phase.measured_bytes))
    return [Point(p.phase, p.model, p.predicted / GIB, p.measured / GIB) for p in points]


def ticks(low: float, high: float) -> list[float]:
    """Round numbers from `low` to `high` for an axis by powers: 1, 2 and 5 where there is room, else powers of ten."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    fine = [step * 10.0**power for power in powers for step in (1, 2, 5) if low <= step * 10.0**power <= high]
    return fine if len(fine) <= 6 else [10.0**power for power in powers if low <= 10.0**power <= high]


def _points(entries: Sequence[Entry], of: Callable[[PhaseMeasured], tuple[float, float]]) -> Iterator[Point]:
    """Figures that an axis by powers can show; the ledger is a file that anybody may have edited."""
    for entry in entries:
        for phase in entry.phases:
            figures = of(phase)
            if phase.name in PHASES and all(
                isinstance(figure, int | float) and LEAST <= figure <= MOST for figure in figures
            ):
                yield Point(phase.name, str(entry.setup.model), *map(float, figures))


def _chart(points: Sequence[Point], name: str, locale: str) -> str:
    title = escape(text(name, locale))
    if not points:
        none = escape(text(f"{name}_none", locale))
        return f'<figure class="i2v-chart"><figcaption>{title}</figcaption><p class="i2v-calm">{none}</p></figure>'
    figures = [figure for point in points for figure in (point.predicted, point.measured)]
    low, high = min(figures) / _PAD, max(figures) * _PAD
    span = math.log(high / low)

    def share(figure: float) -> float:
        return math.log(figure / low) / span

    def x(figure: float) -> float:
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * share(figure)

    def y(figure: float) -> float:
        return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * share(figure)

    grid = "".join(
        f'<line class="grid" x1="{x(low):.1f}" x2="{x(high):.1f}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>'
        f'<line class="grid" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{y(low):.1f}" y2="{y(high):.1f}"/>'
        f'<text x="{_LEFT - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>'
        f'<text x="{x(tick):.1f}" y="{HEIGHT - 20}" text-anchor="middle">{tick:g}</text>'
        for tick in ticks(low, high)
    )
    dots = "".join(
        f'<circle class="{point.phase}" cx="{x(point.predicted):.1f}" cy="{y(point.measured):.1f}" r="4">'
        f"<title>{escape(_told(point, name, locale))}</title></circle>"
        for point in points
    )
    same = f'<line class="same" x1="{x(low):.1f}" y1="{y(low):.1f}" x2="{x(high):.1f}" y2="{y(high):.1f}"/>'
    predicted, measured = (escape(text(f"accuracy_{axis}", locale)) for axis in ("predicted", "measured"))
    labels = (
        f'<text x="{WIDTH - _RIGHT}" y="{HEIGHT - 4}" text-anchor="end">{predicted}</text>'
        f'<text x="{_LEFT + 6}" y="{_TOP + 10}">{measured}</text>'
    )
    return (
        f'<figure class="i2v-chart"><figcaption>{title}</figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(_summary(points, locale))}">'
        f"{grid}{same}{dots}{labels}</svg>"
        f'<p class="i2v-calm">{escape(_summary(points, locale))}</p></figure>'
    )


def _told(point: Point, name: str, locale: str) -> str:
    return text(
        f"{name}_point", locale, model=point.model, phase=text(f"phase_{point.phase}", locale),
        predicted=f"{point.predicted:.3g}", measured=f"{point.measured:.3g}",
    )  # fmt: skip


def _summary(points: Sequence[Point], locale: str) -> str:
    """By phase, in the middle: measured as a multiple of predicted."""
    parts = []
    for phase in PHASES:
        ratios = [point.measured / point.predicted for point in points if point.phase == phase]
        if ratios:
            name = text(f"phase_{phase}", locale)
            parts.append(text("accuracy_ratio", locale, phase=name, ratio=f"{median(ratios):.2f}", count=len(ratios)))
    return " · ".join(parts)


def _last_runs(entries: Sequence[Entry], locale: str) -> str:
    """The newest runs, the newest first, with the rungs that were taken where memory ran out."""
    rows = []
    for entry in reversed(entries[-RUNS_LISTED:]):
        setup = entry.setup
        figures = [p for p in time_points([entry]) if p.phase == "denoise"]
        if entry.healed:
            said = message("ui.accuracy_healed", rungs=", ".join(entry.healed))
        elif figures:
            said = message(
                "ui.accuracy_run", predicted=f"{figures[0].predicted:.3g}", measured=f"{figures[0].measured:.3g}"
            )
        else:
            said = message("ui.accuracy_no_figures")
        what = " · ".join(str(part) for part in (setup.model, setup.precision, setup.card) if part)
        rows.append(f"<li><span>{escape(what)}</span> · <span>{escape(said.render(locale))}</span></li>")
    return f'<h3>{escape(text("accuracy_last", locale))}</h3><ul class="i2v-runs">{"".join(rows)}</ul>'

"""How steady an opened video is: the report in words, and small plots of it over time. Pure functions; every text is
escaped here."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from i2v.ui.shown.folded import folded
from i2v.ui.texts import text
from i2v.video.steadiness import Steadiness, drift_of
from i2v.video.steadiness_words import findings, measured_with, told

WIDTH, HEIGHT = 320, 84
_LEFT, _RIGHT, _TOP, _BOTTOM = 4, 4, 8, 4
_LEAST_SPAN = {"luma": 4.0, "drift": 5.0, "error": 4.0, "motion": 1.0}
"""What the height of a plot stands for at least: noise that nobody sees is drawn small."""


def steadiness_of(job_id: str, report: Steadiness | None, locale: str) -> str:
    """The report under its title, folded; without one the button that has it measured."""
    if report is None:
        title, body = text("gallery_steadiness_none", locale), _to_measure(job_id, locale)
    else:
        title = text("gallery_steadiness_is", locale, found=findings(report, locale))
        body = f"{_table(report, locale)}{plots(report, locale)}<p>{escape(measured_with(report).render(locale))}</p>"
    return folded(title, f'<div class="i2v-steadiness">{body}</div>', "gallery-steadiness")


def plots(report: Steadiness, locale: str) -> str:
    """Four small drawings over the time of the clip: brightness, drift of the colours, error, motion. A line stands
    where a cut or a seam is."""
    if len(report.frames) < 2:
        return ""
    frames, cuts = report.frames, report.cuts
    changes = np.array([frame.luma_change for frame in frames])
    changes[[0, *cuts]] = 0
    curves = {
        "luma": 100 * (frames[0].luma + np.cumsum(changes)),
        "drift": drift_of(frames, report.fps, cuts),
        "error": np.array([100 * frame.error for frame in frames]),
        "motion": np.array([100 * frame.motion for frame in frames]),
    }
    for name in ("error", "motion"):  # what is not measured in the first frame and at a cut goes on as it was
        for index in (0, *cuts):
            curves[name][index] = curves[name][index - 1] if index else curves[name][1]
    drawn = "".join(_plot(name, list(map(float, values)), report, locale) for name, values in curves.items())
    return f'<div class="i2v-plots">{drawn}</div>'


def _plot(name: str, values: Sequence[float], report: Steadiness, locale: str) -> str:
    low, high = _span(values, _LEAST_SPAN[name], from_zero=name != "luma")
    wide, tall = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM

    def x(index: float) -> float:
        return _LEFT + wide * index / (len(values) - 1)

    points = " ".join(
        f"{x(index):.1f},{_TOP + tall * (high - value) / (high - low):.1f}" for index, value in enumerate(values)
    )
    marks = "".join(
        f'<line class="{kind}" x1="{x(at - 0.5):.1f}" x2="{x(at - 0.5):.1f}" y1="{_TOP}" y2="{HEIGHT - _BOTTOM}"/>'
        for kind, places in (("cut", report.cuts), ("seam", report.seams))
        for at in places
    )
    ground = "".join(
        f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>' for y in (_TOP, HEIGHT - _BOTTOM)
    )
    shown = _say(
        f"plot_{name}", locale, low=f"{low:.3g}", high=f"{high:.3g}", seconds=f"{len(values) / report.fps:.2f}"
    )
    return (
        f'<figure class="i2v-plot" data-plot="{name}"><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img"'
        f' aria-label="{shown}">{ground}{marks}<polyline points="{points}"/></svg>'
        f'<figcaption aria-hidden="true">{shown}</figcaption></figure>'
    )


def _span(values: Sequence[float], least: float, *, from_zero: bool) -> tuple[float, float]:
    """What the height of a plot goes from and to."""
    low, high = (0.0, max(values)) if from_zero else (min(values), max(values))
    more = max(0.0, least - (high - low))
    return (low, high + more) if from_zero else (low - more / 2, high + more / 2)


def _table(report: Steadiness, locale: str) -> str:
    rows = "".join(
        f"<tr><th scope=row>{escape(line.name.render(locale))}</th><td>{escape(line.value.render(locale))}"
        f'<span class="i2v-about">{escape(line.about.render(locale))}</span></td></tr>'
        for line in told(report)
    )
    return f'<div class="i2v-table"><table><tbody>{rows}</tbody></table></div>'


def _to_measure(job_id: str, locale: str) -> str:
    button = (
        f'<button type="button" class="i2v-act" data-act="measure" data-id="{escape(job_id)}">'
        f"{_say('act_measure', locale)}</button>"
    )
    return f"<p>{_say('gallery_not_measured', locale)} {button}</p>"


def _say(name: str, locale: str, /, **params: object) -> str:
    return escape(text(name, locale, **params))

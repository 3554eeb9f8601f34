"""The loss of every step so far as an SVG, in the colours of the page's own light or dark theme."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from i2v.messages import message

WIDTH, HEIGHT = 640, 190
MOST_POINTS = 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 12, 12, 24
_SMOOTHED_OVER = 20.0
"""The loss of a single step says little: the strong line is the running mean, over about a tenth of the steps and no
more than this."""


def loss_chart(losses: Sequence[tuple[int, float]], locale: str) -> str:
    """Loss by step as HTML: each step faintly, their running mean strongly. The axis is logarithmic where all losses
    are above zero."""
    known = [(step, loss) for step, loss in losses if math.isfinite(loss)]
    if not known:
        return f'<div class="i2v-chart i2v-empty">{_say("loss_empty", locale)}</div>'
    mean = running_mean([loss for _, loss in known])
    drawn = thinned(range(len(known)))
    low, high = (pick(pick(known[at][1], mean[at]) for at in drawn) for pick in (min, max))
    logarithmic = low > 0
    if low == high:
        low, high = (low / 2, high * 2) if logarithmic else (low - 1, high + 1)
    first, last = known[0][0], known[-1][0]

    def x(step: int) -> float:
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * (step - first) / max(last - first, 1)

    def y(loss: float) -> float:
        share = math.log(loss / low) / math.log(high / low) if logarithmic else (loss - low) / (high - low)
        return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * share

    middle = math.sqrt(low * high) if logarithmic else (low + high) / 2
    grid = "".join(
        f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>'
        f'<text x="{_LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.2g}</text>'
        for value in (low, middle, high)
    )
    for step, anchor in ((first, "start"), (last, "end"))[: 1 if first == last else 2]:
        grid += f'<text x="{x(step):.1f}" y="{HEIGHT - 6}" text-anchor="{anchor}">{step}</text>'
    if first == last:
        lines = f'<circle class="mean" cx="{x(first):.1f}" cy="{y(known[0][1]):.1f}" r="3"/>'
    else:
        lines = ""
        for name, values in (("loss", [loss for _, loss in known]), ("mean", mean)):
            points = " ".join(f"{x(known[at][0]):.1f},{y(values[at]):.1f}" for at in drawn)
            lines += f'<polyline class="{name}" points="{points}"/>'
    caption = _say("loss_caption_log" if logarithmic else "loss_caption", locale)
    return (
        f'<div class="i2v-chart i2v-loss"><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{caption}">'
        f"{grid}{lines}</svg>"
        f'<div class="i2v-keys"><span class="i2v-key loss">{_say("loss_step", locale)} {known[-1][1]:.4g}</span>'
        f'<span class="i2v-key mean">{_say("loss_mean", locale)} {mean[-1]:.4g}</span>'
        f'<span class="i2v-unit">{caption}</span></div></div>'
    )


def running_mean(values: Sequence[float]) -> list[float]:
    """The exponential mean of the values up to each, as if none came before the first."""
    keep = 1 - 1 / max(1.0, min(_SMOOTHED_OVER, len(values) / 10))
    means, total, weight = [], 0.0, 0.0
    for value in values:
        total, weight = keep * total + value, keep * weight + 1
        means.append(total / weight)
    return means


def thinned(places: Sequence[int]) -> Sequence[int]:
    """At most MOST_POINTS of `places`, evenly, the first and the last among them."""
    if len(places) <= MOST_POINTS:
        return places
    return [places[round(at * (len(places) - 1) / (MOST_POINTS - 1))] for at in range(MOST_POINTS)]


def _say(name: str, locale: str) -> str:
    return escape(message(f"training_page.{name}").render(locale))

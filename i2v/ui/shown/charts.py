"""The memory curve as an SVG: light, sharp at any width, coloured by the page's own light or dark theme."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

from i2v.events import MemorySampled
from i2v.messages import message
from i2v.ui.shown.folded import SMALL_SHARE, folded
from i2v.ui.shown.format import GIB, gib

WIDTH, HEIGHT = 640, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 10, 12, 22

# CSS class, message id, value. Drawn in this order, so that what matters most lies on top.
_CARD_CURVES: tuple[tuple[str, str, Callable[[MemorySampled], int]], ...] = (
    ("device", "ui.memory_device", lambda sample: sample.device_used_bytes),
    ("reserved", "ui.memory_reserved", lambda sample: sample.reserved_bytes),
    ("allocated", "ui.memory_allocated", lambda sample: sample.allocated_bytes),
)
_PROCESS_CURVES = (("allocated", "ui.memory_process", lambda sample: sample.process_rss_bytes),)


def memory_panel(samples: Sequence[MemorySampled], budget_bytes: int | None, locale: str) -> str:
    """The memory of a run below its title, folded unless the run comes near its budget."""
    chart = memory_chart(samples, budget_bytes, locale)
    return folded(message("ui.memory_title").render(locale), chart, "memory", open=_matters(samples, budget_bytes))


def _matters(samples: Sequence[MemorySampled], budget_bytes: int | None) -> bool:
    """Whether memory is worth a look. A process's own figures say nothing of what there is."""
    if not samples:
        return False
    process = samples[-1].source == "process"
    budget = budget_bytes or (None if process else samples[-1].device_total_bytes)
    highest = max(max(sample.peak_allocated_bytes, sample.allocated_bytes) for sample in samples)
    return bool(budget) and highest >= SMALL_SHARE * budget


def memory_chart(samples: Sequence[MemorySampled], budget_bytes: int | None, locale: str) -> str:
    """Memory by step as HTML: an SVG with its legend. Without a card the process's own memory, and it says so."""
    if not samples:
        return f'<div class="i2v-chart i2v-empty">{escape(message("ui.memory_empty").render(locale))}</div>'
    process = samples[-1].source == "process"
    curves = _PROCESS_CURVES if process else _CARD_CURVES
    highest = max(value(sample) for _, _, value in curves for sample in samples)
    # On a card the budget is the top to watch; a process is far below the RAM, whose line would flatten its curve.
    budget = None if process else budget_bytes or samples[-1].device_total_bytes or None
    top = nice_top(max(highest, budget or 0))
    lines = "".join(_polyline(name, [value(sample) for sample in samples], top) for name, _, value in curves)
    labels = "".join(
        f'<span class="i2v-key {name}">{escape(message(text).render(locale))} {gib(value(samples[-1]), 2)}</span>'
        for name, text, value in curves
    )
    if budget:
        y = _y(budget, top)
        lines += f'<line class="budget" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        text = escape(message("ui.memory_budget").render(locale))
        labels += f'<span class="i2v-key budget">{text} {gib(budget, 2)}</span>'
    caption = escape(message("ui.memory_caption_process" if process else "ui.memory_caption").render(locale))
    return (
        f'<div class="i2v-chart"><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{caption}">'
        f"{_grid(top, samples)}{lines}</svg>"
        f'<div class="i2v-keys">{labels}<span class="i2v-unit">GiB · {caption}</span></div></div>'
    )


def nice_top(value_bytes: float) -> float:
    """The axis end in bytes: the next of 1, 2, 5 times a power of ten (and halves of GiB) above the value."""
    value = max(value_bytes / GIB, 0.01) * 1.05
    power = 10.0 ** (len(str(int(value))) - 1) if value >= 1 else 0.1 if value >= 0.1 else 0.01
    for factor in (1, 1.5, 2, 3, 4, 5, 6, 8, 10):
        if value <= factor * power:
            return factor * power * GIB
    return 10 * power * GIB


def _y(value_bytes: float, top: float) -> float:
    return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * min(value_bytes / top, 1.0)


def _x(index: int, count: int) -> float:
    return _LEFT + (WIDTH - _LEFT - _RIGHT) * (index / max(count - 1, 1))


def _polyline(name: str, values: Sequence[int], top: float) -> str:
    if len(values) == 1:
        return f'<circle class="{name}" cx="{_x(0, 1):.1f}" cy="{_y(values[0], top):.1f}" r="3"/>'
    points = " ".join(f"{_x(i, len(values)):.1f},{_y(value, top):.1f}" for i, value in enumerate(values))
    return f'<polyline class="{name}" points="{points}"/>'


def _grid(top: float, samples: Sequence[MemorySampled]) -> str:
    parts = []
    for share in (0.0, 0.5, 1.0):
        y = _y(top * share, top)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{top * share / GIB:.3g}</text>')
    # Steps count denoising; before it models are read and after it frames are written, which have no step.
    steps = [index for index, sample in enumerate(samples) if sample.phase == "denoise"]
    for index in {steps[0], steps[-1]} if steps else ():
        x = _x(index, len(samples))
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - 6}" text-anchor="middle">{samples[index].step}</text>')
    return "".join(parts)

"""Why a plan is as it is, in a few messages."""

from __future__ import annotations

from collections.abc import Iterator

from i2v.messages import Message, message
from i2v.planning.planner import Considered, Planned
from i2v.units import GIB, amount


def why(planned: Planned) -> Iterator[Message]:
    """What was chosen and what the next faster plan would have needed; where nothing fits, what is short."""
    plan, prediction = planned.plan, planned.prediction
    if planned.asked is not None:
        yield message("planning.fewer_frames", frames=planned.request.num_frames, asked=planned.asked.num_frames)
    yield message(f"planning.offload_{plan.offload}")
    if not plan.keep_loaded:
        yield message("planning.not_kept_loaded")
    if plan.chunk_frames or plan.chunk_pixels:
        yield message("planning.chunked", frames=plan.chunk_frames, pixels=plan.chunk_pixels)
    else:
        yield message("planning.whole")
    if plan.weights != "full":
        yield message("planning.weights", weights=plan.weights)
    if planned.guided:
        yield message(f"planning.cfg_{plan.cfg}")
    faster = _next_faster(planned)
    if faster is not None:
        short = faster.prediction.peak.peak_bytes + faster.prediction.margin_bytes - prediction.budget_bytes
        yield message(
            "planning.faster",
            seconds=max(1, round(prediction.seconds - faster.prediction.seconds)),
            gib=_gib(max(short, 0)),
        )
    if prediction.verdict == "wont_fit":
        yield from shortages(planned)
    if not prediction.exact:
        yield message("planning.bound")


def _next_faster(planned: Planned) -> Considered | None:
    """The slowest of the plans that would be at least a second faster and do not fit."""
    faster = [
        one
        for one in planned.considered
        if one.prediction.verdict != "fits" and one.prediction.seconds + 1 < planned.prediction.seconds
    ]
    return max(faster, key=lambda one: one.prediction.seconds, default=None)


def shortages(planned: Planned) -> Iterator[Message]:
    """What is missing where, the most first."""
    prediction = planned.prediction
    for short in prediction.shortages(planned.plan.device):
        yield message(
            f"planning.short_{short.place}", missing=amount(short.short_bytes, up=True), phase=prediction.peak.name
        )


def _gib(size: int) -> str:
    return f"{size / GIB:.2f}"

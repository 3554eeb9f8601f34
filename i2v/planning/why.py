"""Why a plan is as it is, in a few messages."""

from __future__ import annotations

from collections.abc import Iterator

from i2v.messages import Message, message
from i2v.plan import Prediction
from i2v.planning.planner import Considered, Planned
from i2v.request import GenerationRequest
from i2v.units import GIB, amount
from i2v.vae_window import OWN

NOTICED_SHARE = 0.01
"""Of a run's time: a gain of seconds is none to a run of hours."""


def why(planned: Planned) -> Iterator[Message]:
    """What was chosen and what the next faster plan would have needed; where nothing fits, what is short."""
    plan, prediction = planned.plan, planned.prediction
    if planned.asked is not None:
        yield message("planning.fewer_frames", frames=planned.request.num_frames, asked=planned.asked.num_frames)
    if planned.windows > 1:
        yield message("planning.windows", windows=planned.windows, frames=planned.window_frames)
    if planned.request.two_stages:
        yield _stages(planned.request)
    place = "files" if plan.device == "cpu" and plan.offload == "streamed" else plan.offload
    yield message(f"planning.offload_{place}")
    if not plan.keep_loaded:
        yield message("planning.not_kept_loaded")
    if prediction.load_seconds >= 1:
        yield _load(prediction)
    if prediction.read_again_bytes:
        yield _read_again(prediction)
    if plan.chunk_tokens:
        yield message("planning.chunked_tokens", tokens=plan.chunk_tokens)
    elif plan.chunk_frames or plan.chunk_pixels:
        yield message("planning.chunked", frames=plan.chunk_frames, pixels=plan.chunk_pixels)
    else:
        yield message("planning.whole")
    if plan.decode_rows:
        yield message("planning.decoded_rows", rows=plan.decode_rows)
    if plan.weights != "full":
        yield message("planning.weights", weights=plan.weights)
    if (told := window_told(planned)) is not None:
        yield told
    if plan.step_cache:
        yield message("planning.step_cache", share=f"{plan.step_cache:g}")
    if planned.guided:
        yield message(f"planning.cfg_{plan.cfg}")
    if prediction.finish_seconds:
        memory = amount(prediction.finish_bytes, up=True)
        yield message("planning.finishing", seconds=max(1, round(prediction.finish_seconds)), memory=memory)
    faster = _next_faster(planned)
    if faster is not None:
        place = "ram" if plan.device == "cpu" else "card"
        seconds = round(prediction.seconds - faster.prediction.seconds)
        yield message(f"planning.faster_{place}", seconds=seconds, gib=_gib(_short_bytes(faster)))
    if prediction.verdict == "wont_fit":
        yield from shortages(planned)
    if not prediction.exact:
        yield message("planning.bound")


def _load(prediction: Prediction) -> Message:
    """What is read once, before anything is computed."""
    seconds = f"{prediction.load_seconds:.0f}"
    return message("planning.load", gib=_gib(prediction.load_bytes), seconds=seconds)


def _read_again(prediction: Prediction) -> Message:
    """That each step waits for the disk, for how long, and how sure that is."""
    rate = prediction.read_again_bytes / prediction.read_again_seconds / 1e6
    known = {
        "gib": _gib(prediction.read_again_bytes),
        "seconds": f"{prediction.read_again_seconds:.3g}",
        "rate": f"{rate:.0f}",
    }
    return message("planning.read_again_measured" if prediction.disk_measured else "planning.read_again", **known)


def window_told(planned: Planned) -> Message | None:
    """What another window than the autoencoder's own does to the picture; None where it is the own one."""
    window, psnr_db = planned.plan.vae_window, planned.window_psnr_db
    if window == OWN:
        return None
    if psnr_db is None:
        return message("planning.window_not_measured", window=window)
    return message("planning.window", window=window, psnr=f"{psnr_db:.1f}")


def _stages(request: GenerationRequest) -> Message:
    """In which sizes a video is denoised that is so in two stages."""
    width, height = request.width, request.height
    half, whole = f"{width // 2}x{height // 2}", f"{width}x{height}"
    return message("planning.two_stages", steps=request.num_inference_steps, half=half, whole=whole)


def _next_faster(planned: Planned) -> Considered | None:
    """The slowest of the plans that would be faster by what somebody would notice, and that memory is short for."""
    least_seconds = max(1.0, NOTICED_SHARE * planned.prediction.seconds)
    faster = [
        one
        for one in planned.considered
        if _short_bytes(one) > 0 and one.prediction.seconds + least_seconds < planned.prediction.seconds
    ]
    return max(faster, key=lambda one: one.prediction.seconds, default=None)


def _short_bytes(one: Considered) -> int:
    """What is missing for `one` to fit well, where it computes."""
    prediction = one.prediction
    return prediction.peak.peak_bytes + prediction.margin_bytes - prediction.budget_bytes


def shortages(planned: Planned) -> Iterator[Message]:
    """What is missing where, the most first."""
    prediction = planned.prediction
    phase = phase_name(prediction.peak.name).to_json()
    for short in prediction.shortages(planned.plan.device):
        yield message(f"planning.short_{short.place}", missing=amount(short.short_bytes, up=True), phase=phase)


def phase_name(name: str) -> Message:
    """The phase, or the stage of encoding, called `name` in people's words."""
    return message(f"planning.phase_{name}")


def _gib(size: int) -> str:
    return f"{size / GIB:.2f}"

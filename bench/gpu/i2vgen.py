"""Suite `i2vgen`: I2VGen-XL's denoising and decoding, diffusers' ways against plans of ours for cards of several sizes.

For each precision and size all contenders run in turn, twice, the second time in reverse: ratios are within a round, so
that what changes on the machine meanwhile is in both. The first round's latents are compared, all from the same noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any

import torch
from torch import Tensor

from bench.gpu.contenders import OURS, PEERS, STOCK, Contender, Ours, Peer, Run, encode, relative_difference, run
from bench.gpu.models import in_float32
from bench.gpu.record import Clock, Record, Row
from bench.gpu.suite import Bench
from i2v.families.base import Conditioning
from i2v.families.i2vgen_xl.model import I2VGenXL
from i2v.plan import Plan, Prediction, everywhere

STEP_SECONDS = 3.0  # at 1024x1024x32, planned; only what the first case of a size is asked to have left
REFERENCE_TIMES = 10  # float32 outside the matrix units' half-precision rate
REFERENCE_SHARE = 0.25  # of the time left that a reference may take


@dataclass
class Entrant:
    """A contender in one group, and what its runs came to."""

    case: str
    contender: Contender
    cap_bytes: int | None
    about: Row
    runs: list[Run] = field(default_factory=list)


def suite(bench: Bench, record: Record, clock: Clock) -> None:
    """All groups in order of worth: half precision by size, the sweep, then the other precision."""
    record.note(measurement=vars(bench.measurement(clock)), caps_bytes=list(bench.scale.caps))
    peers: list[Peer] = []
    for precision in bench.scale.precisions:
        peers.clear()  # their copies of the model before
        model = bench.model(precision, clock)
        peers = [Peer(name, model) for name in PEERS]
        for size in bench.scale.sizes:
            group(bench, record, clock, precision, size, peers)
        if precision == bench.scale.precisions[0]:
            sweep(bench, record, clock, precision)


def group(
    bench: Bench, record: Record, clock: Clock, precision: str, size: tuple[int, int, int], peers: Sequence[Peer]
) -> None:
    """One size in one precision. Raises OutOfTime."""
    name = f"{precision} {size[0]}x{size[1]}x{size[2]}"
    if record.has(f"{name} whole"):
        return
    model, job = bench.model(precision, clock), bench.scale.job(size)
    volume = size[0] * size[1] * size[2] / 2**25
    bench.need(clock, 2 * STEP_SECONDS * bench.scale.steps * volume)
    base = bench.rig.base_plan(precision)
    conditioning, encode_peak, encode_seconds = encode(bench.rig, model, job, base)
    about = {"precision": precision, "width": size[0], "height": size[1], "frames": size[2]}
    entrants = [Entrant(f"{name} {peer.name}", peer, None, {**about, "who": peer.name}) for peer in peers]
    for plan, caps, prediction in plans(bench, clock, precision, size):
        told = {**about, "who": OURS, "caps_bytes": caps, **planned(plan, prediction, bench.scale.steps)}
        told |= {"encode": encode_peak.to_json(), "encode_seconds": encode_seconds}
        if prediction.verdict == "wont_fit":
            record.put(f"{name} ours, {caps[0]} bytes", {**told, "error": "no plan fits"})
            continue
        cap = min((cap for cap in caps if cap), default=None)
        entrants.append(Entrant(f"{name} ours, {cap or 'all'} bytes", Ours(model, plan), cap, told))
    reference: Tensor | None = None
    for number, order in enumerate((entrants, entrants[::-1])):
        for entrant in order:
            if entrant.runs and entrant.runs[0].error:
                continue
            known = entrant.runs[0].step_seconds if entrant.runs else ()
            steps = bench.scale.steps if number == 0 else bench.scale.timed_steps
            bench.need(clock, sum(known[:steps]) if known else 2 * STEP_SECONDS * volume)
            found = run(
                bench.rig, entrant.contender, job, conditioning,
                cap_bytes=entrant.cap_bytes, steps=steps, decode=number == 0, room_for=clock.room_for,
            )  # fmt: skip
            entrant.runs.append(found)
            told = row(entrant, entrants[0], reference)
            record.put(entrant.case, told)
            print(line(told), flush=True)
        if number == 0:
            stock = entrants[0].runs[0]
            took = sum(stock.step_seconds) * REFERENCE_TIMES
            if stock.latents is not None and took < REFERENCE_SHARE * clock.left_seconds:
                reference = float32_latents(bench, model, conditioning, size)
    for entrant in entrants:
        told = row(entrant, entrants[0], reference)
        if entrant.about["who"] != OURS and not entrant.runs[0].error:
            told["runs_in_bytes"] = smallest_cap(bench, clock, entrant, size, conditioning)
        record.put(entrant.case, told)
    record.put(f"{name} whole", {**about, "who": "", "note": "every contender of this size has run"})


def plans(
    bench: Bench, clock: Clock, precision: str, size: tuple[int, int, int]
) -> list[tuple[Plan, list[int], Prediction]]:
    """The planner's choice for each card: plans, the caps each is chosen for (0 is the whole card), and for the
    smallest of these what is predicted. The largest cards come first: they are what stock is compared with."""
    fitting: dict[Plan, tuple[list[int], Prediction]] = {}
    others: list[tuple[Plan, list[int], Prediction]] = []
    for cap in (None, *reversed(bench.scale.caps)):
        machine = bench.rig.machine(cap, bench.measurement(clock))
        one = bench.dry.plan(machine, bench.scale.job(size), bench.rig.base_plan(precision))
        if one.prediction.verdict == "wont_fit":
            others.append((one.plan, [cap or 0], one.prediction))
        else:
            caps, _ = fitting.get(one.plan, ([], None))
            fitting[one.plan] = [*caps, cap or 0], one.prediction
    return [*((plan, caps, prediction) for plan, (caps, prediction) in fitting.items()), *others]


def planned(plan: Plan, prediction: Prediction, steps: int) -> Row:
    """A plan and what was predicted of it, for `steps` steps."""
    denoise = next(phase for phase in prediction.phases if phase.name == "denoise")
    return {
        "plan": plan_json(plan),
        "predicted_peak_bytes": prediction.peak.peak_bytes,
        "predicted_step_seconds": denoise.seconds / steps,
        "short_bytes": max(0, prediction.short_bytes),
    }


def plan_json(plan: Plan) -> Row:
    """The decisions that the tables name."""
    names = ("offload", "cfg", "chunk_frames", "chunk_pixels", "decode_frames")
    return {name: getattr(plan, name) for name in names}


def row(entrant: Entrant, stock: Entrant, reference: Tensor | None) -> Row:
    """What an entrant's runs came to, beside stock's of the same rounds."""
    first = entrant.runs[0] if entrant.runs else Run()
    seconds = [list(one.step_seconds) for one in entrant.runs]
    told: Row = {**entrant.about, "step_seconds": seconds, "error": first.error, "cap_bytes": entrant.cap_bytes}
    told |= {"denoise": first.denoise.to_json(), "decode": first.decode.to_json() if first.decode else None}
    told |= {"peak": first.peak.to_json(), "decode_seconds": first.decode_seconds}
    told["seconds_per_step"] = pace([value for one in seconds for value in one[1:]])
    rounds = zip(entrant.runs, stock.runs, strict=False)
    ratios = [_ratio(pace(mine.step_seconds[1:]), pace(theirs.step_seconds[1:])) for mine, theirs in rounds]
    told["ratio_to_stock"] = pace([ratio for ratio in ratios if ratio is not None])
    plain = stock.runs[0].latents if stock.runs else None
    told["from_stock"] = _difference(first.latents, plain)
    told["from_float32"] = _difference(first.latents, reference)
    return told


def pace(values: Sequence[float]) -> float | None:
    """The median; None of nothing."""
    return median(values) if values else None


def _ratio(one: float | None, other: float | None) -> float | None:
    return one / other if one is not None and other else None


def _difference(one: Tensor | None, other: Tensor | None) -> float | None:
    if one is None or other is None:
        return None
    value = relative_difference(one, other)
    return value if value != float("inf") else None


def float32_latents(
    bench: Bench, model: I2VGenXL, conditioning: Conditioning, size: tuple[int, int, int]
) -> Tensor | None:
    """What stock diffusers makes of the same weights, noise and conditioning in float32.

    With all of its bits: by torch's default cuDNN's convolutions round float32 to TF32, whose ten bits are float16's.
    """
    stock, wide = Peer(STOCK, in_float32(model)), {name: tensor.float() for name, tensor in conditioning.items()}
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        return run(bench.rig, stock, bench.scale.job(size), wide, decode=False).latents


def smallest_cap(
    bench: Bench, clock: Clock, entrant: Entrant, size: tuple[int, int, int], conditioning: Conditioning
) -> int | None:
    """The smallest card that one step and the decoding run on; None where it is none of ours."""
    least = entrant.runs[0].peak.allocated_bytes + bench.rig.context_bytes
    for cap in bench.scale.caps:
        if cap < least:
            continue
        bench.need(clock, 2 * entrant.runs[0].step_seconds[0])
        if not run(bench.rig, entrant.contender, bench.scale.job(size), conditioning, cap_bytes=cap, steps=1).error:
            return cap
    return None


def sweep(bench: Bench, record: Record, clock: Clock, precision: str) -> None:
    """Chunk sizes one by one at the middle size, resident, guidance split. Raises OutOfTime."""
    size = bench.scale.sizes[len(bench.scale.sizes) // 2]
    model, job = bench.model(precision, clock), bench.scale.job(size)
    base = replace(bench.rig.base_plan(precision), cfg="split", places=everywhere("resident"))
    conditioning = None
    for frames, pixels in bench.scale.sweep:
        case = f"{precision} {size[0]}x{size[1]}x{size[2]} chunks {frames} {pixels}"
        if record.has(case):
            continue
        bench.need(clock, 2 * STEP_SECONDS * size[0] * size[1] * size[2] / 2**25)
        if conditioning is None:
            conditioning, _, _ = encode(bench.rig, model, job, base)
        contender = Ours(model, replace(base, chunk_frames=frames, chunk_pixels=pixels))
        found = run(
            bench.rig, contender, job, conditioning,
            steps=bench.scale.timed_steps, decode=False, room_for=clock.room_for,
        )  # fmt: skip
        about: Row = {"precision": precision, "width": size[0], "height": size[1], "frames": size[2], "who": "chunks"}
        told = {"chunk_frames": frames, "chunk_pixels": pixels, "error": found.error}
        told |= {"peak": found.denoise.to_json(), "seconds_per_step": pace(found.step_seconds[1:])}
        record.put(case, {**about, **told})


def line(told: dict[str, Any]) -> str:
    """A row as it is printed while the suite runs."""
    size = f"{told['precision']:9} {told['width']}x{told['height']}x{told['frames']}"
    peak, step = told["peak"]["reserved_bytes"] / 2**30, told["seconds_per_step"]
    cap = f"{told['cap_bytes'] / 2**30:.3g} GiB" if told["cap_bytes"] else ""
    took = "-" if step is None else f"{step:.3f} s"
    return f"{size:22} {told['who']:26} {cap:9} {peak:7.2f} GiB reserved, {took} a step {told['error']}"

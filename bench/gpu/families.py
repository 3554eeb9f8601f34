"""Suite `families`: is what the planner predicts of each large model what the card does?

Every model at full size, on cards of several sizes with the plan that was chosen for each: the whole sentence, a few
steps of each part of denoising, and all frames decoded. Measured are, for each phase of the engine, what the allocator
of torch reserved and the time, beside what was predicted without corrections. The time of a job is that of a whole
one: the steps that were not made count as the last of their part.
"""

from __future__ import annotations

import gc
import tempfile
import time
from collections import Counter
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.gpu.family_model import random_family
from bench.gpu.record import Clock, Record, Row
from bench.gpu.rig import NOTHING, Peak, Rig
from bench.gpu.scale import MIB, Dry
from bench.gpu.suite import Bench
from bench.whole_job import whole_job
from i2v.dryrun.runner import blank_inputs, module_bytes
from i2v.families import SPECS
from i2v.families.base import Conditioning, FamilyModel
from i2v.families.phases import Phases
from i2v.memory.errors import is_out_of_memory
from i2v.plan import Plan, Prediction
from i2v.planning.known import engine_phase
from i2v.request import GenerationRequest, Task
from i2v.units import GIB
from tests.wan_checkpoints import build_wan

PRECISION, SMALL_PRECISION = "bfloat16", "float32"
DRAWN_BYTES_PER_SECOND = 2e9  # of weights that are drawn and brought to the host; a plan, not a measurement
OUT_OF_MEMORY = "out of memory"
CHUNKS = ("chunk_tokens", "chunk_frames", "chunk_pixels", "decode_frames", "decode_rows")


@dataclass(frozen=True)
class Case:
    """A model at a size, on cards with so many GiB free (None: the whole card), so many steps of each part."""

    family: str
    task: Task
    width: int
    height: int
    frames: int
    caps: tuple[float | None, ...]
    steps: int = 3

    def name(self, cap_bytes: int | None) -> str:
        return f"{self.family} {self.task} {self.width}x{self.height}x{self.frames} on {cap_bytes or 'all'} bytes"

    @property
    def request(self) -> GenerationRequest:
        return whole_job(self.family, self.task, self.width, self.height, self.frames)


CASES = (
    Case("wan", "t2v", 832, 480, 81, (6, None)),
    Case("ltx", "i2v", 1216, 704, 121, (6, None)),
    Case("cogvideox_5b_i2v", "i2v", 720, 480, 49, (8, None)),
    Case("svd", "i2v", 1024, 576, 25, (8, None)),
    Case("wan22_5b", "i2v", 1280, 704, 121, (8, None)),
    Case("hunyuan_video_15_i2v", "i2v", 848, 480, 121, (8, None)),
    Case("framepack", "i2v", 640, 640, 145, (8, None)),
    Case("wan_i2v", "i2v", 832, 480, 81, (8, 24), steps=2),
    Case("ltx2", "t2v", 1280, 768, 121, (12, 24), steps=2),  # a picture would be made as ffmpeg makes it
    Case("wan22_i2v", "i2v", 832, 480, 81, (8, 24), steps=2),
)
SMALL_CASES = (Case("wan", "t2v", 96, 128, 9, (MIB / GIB, 15 * MIB / GIB, None)),)


@dataclass(frozen=True)
class Ran:
    """What each phase of the engine held at most and took, and the seconds of every step by part of denoising."""

    peaks: dict[str, Peak]
    seconds: dict[str, float]
    steps: dict[str, list[float]]
    error: str = ""


def suite(bench: Bench, record: Record, clock: Clock) -> None:
    """Model after model. Raises OutOfTime."""
    record.note(measurement=vars(bench.measurement(clock)))
    bench.forget_model()
    small = bench.scale.small
    with tempfile.TemporaryDirectory() as temporary:
        for case in SMALL_CASES if small else CASES:
            caps = [cap and int(cap * GIB) for cap in case.caps]
            left = [cap for cap in caps if not record.has(case.name(cap))]
            if left:
                folder = build_wan(Path(temporary) / case.family) if small else None
                _group(bench, record, clock, case, left, folder)
                record.note(summary=summary(record))


def _group(bench: Bench, record: Record, clock: Clock, case: Case, caps: list[int | None], folder: Path | None) -> None:
    """One model at one size, card by card. Raises OutOfTime."""
    small, spec, request = bench.scale.small, SPECS[case.family], case.request
    precision = SMALL_PRECISION if small else PRECISION
    dry = Dry(folder, small, spec)
    model: FamilyModel | None = None
    for cap in caps:
        began = time.perf_counter()
        machine = bench.rig.machine(cap, bench.measurement(clock))
        planned = dry.plan(machine, request, bench.rig.base_plan(precision))
        prediction, planning = planned.prediction, time.perf_counter() - began
        told = about(case, cap, precision, planned.plan, prediction) | {"planning_seconds": planning}
        if prediction.verdict == "wont_fit":
            record.put(case.name(cap), {**told, "error": "no plan fits", "short_bytes": prediction.short_bytes})
            continue
        weights = dry(request, planned.plan)[0].weights
        drawing = 0.0 if model else sum(weights.values()) / DRAWN_BYTES_PER_SECOND
        bench.need(clock, drawing + _short_job_seconds(case, prediction))
        model = model or random_family(case.family, folder, precision, bench.rig.device)
        found = run(bench.rig, model, request, planned.plan, cap, case.steps)
        own = {name: module_bytes(module) for name, module in model.modules.items() if name in weights}
        told |= {"weights_as_predicted": own == dict(weights), "error": found.error}
        record.put(case.name(cap), told | ({} if found.error else came(bench, found, prediction)))
        print(line(record.get(case.name(cap)) or {}), flush=True)
    del model
    gc.collect()


def _short_job_seconds(case: Case, prediction: Prediction) -> float:
    """What is predicted of so few steps."""
    whole = sum(phase.seconds for phase in prediction.phases if engine_phase(phase.name) == "denoise")
    return prediction.seconds - whole * (1 - min(1.0, 2 * case.steps / case.request.num_inference_steps))


def run(rig: Rig, model: FamilyModel, request: GenerationRequest, plan: Plan, cap: int | None, steps: int) -> Ran:
    """All phases under `plan` on a card of `cap` bytes, with `steps` steps of each part of denoising. Running out of
    memory is a result."""
    peaks: dict[str, Peak] = {}
    seconds: dict[str, float] = {}
    by_part: dict[str, list[float]] = {}
    phase = ""
    try:
        with rig.card(cap, precision=plan.precision) as card, card.running():
            phases = Phases(model, card, request, plan)
            conditioning: Conditioning = {}
            phase = "encode"
            rig.reset_peak()
            began = time.perf_counter()
            for _stage, made in phases.encode(blank_inputs(request)):
                conditioning |= made
            rig.synchronize()
            seconds[phase], peaks[phase] = time.perf_counter() - began, rig.peak()
            phase = "denoise"
            rig.reset_peak()
            began = time.perf_counter()
            with closing(phases.denoise(conditioning, most=steps)) as denoising:
                for on_card in denoising:
                    rig.synchronize()
                    by_part.setdefault(phases.stage, []).append(time.perf_counter() - began)
                    latents = card.to_host(on_card)
                    del on_card
                    began = time.perf_counter()
            peaks[phase] = rig.peak()
            all_steps = request.num_inference_steps * SPECS[request.model].sections(request.num_frames)
            counted = Counter(model.denoise_stage(index) for index in range(all_steps))
            seconds[phase] = sum(sum(took) + took[-1] * (counted[name] - len(took)) for name, took in by_part.items())
            phase = "decode"
            rig.reset_peak()
            began = time.perf_counter()
            for _frame in phases.decode(conditioning, latents):
                pass
            rig.synchronize()
            seconds[phase], peaks[phase] = time.perf_counter() - began, rig.peak()
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return Ran(peaks, seconds, by_part, f"{OUT_OF_MEMORY} in {phase}")
    return Ran(peaks, seconds, by_part)


def about(case: Case, cap: int | None, precision: str, plan: Plan, prediction: Prediction) -> Row:
    """The case, its plan and what was predicted of that: by phase of the engine, bytes without the context."""
    held: dict[str, int] = {}
    took: dict[str, float] = {}
    for phase in prediction.phases:
        name = engine_phase(phase.name)
        held[name] = max(held.get(name, 0), phase.peak_bytes - prediction.context_bytes)
        took[name] = took.get(name, 0.0) + phase.seconds
    names = ("offload", "cfg", *CHUNKS, "encode_on_host")
    return {
        "family": case.family,
        "task": case.task,
        "width": case.width,
        "height": case.height,
        "frames": case.frames,
        "precision": precision,
        "cap_bytes": cap,
        "plan": {name: getattr(plan, name) for name in names},
        "places": [asdict(one) for one in plan.places],
        "predicted_peak_bytes": prediction.peak.peak_bytes,
        "predicted_bytes": held,
        "predicted_seconds": took,
    }


def came(bench: Bench, found: Ran, prediction: Prediction) -> Row:
    """What was measured, in the same terms."""
    highest = NOTHING
    for peak in found.peaks.values():
        highest = highest.joined(peak)
    return {
        "peaks": {name: peak.to_json() for name, peak in found.peaks.items()},
        "measured_peak_bytes": highest.reserved_bytes + bench.rig.context_bytes,
        "device_bytes": highest.device_bytes,
        "measured_seconds": found.seconds,
        "step_seconds": found.steps,
        "job_seconds": sum(found.seconds.values()),
        "job_predicted_seconds": sum(phase.seconds for phase in prediction.phases),
    }


def line(told: Row) -> str:
    """A row as it is printed while the suite runs."""
    size = f"{told['family']} {told['width']}x{told['height']}x{told['frames']} on {told['cap_bytes'] or 'all'}"
    if told["error"]:
        return f"{size}: {told['error']}"
    held = f"{told['predicted_peak_bytes'] / GIB:.2f} GiB predicted, {told['measured_peak_bytes'] / GIB:.2f} measured"
    pairs = ((name, told["predicted_seconds"].get(name, 0.0), took) for name, took in told["measured_seconds"].items())
    times = "; ".join(f"{name} {predicted:.1f} s, {took:.1f}" for name, predicted, took in pairs)
    weights = "" if told["weights_as_predicted"] else "; other weights than predicted"
    return f"{size}: {told['plan']['offload']}; {held}; {times}{weights}"


def summary(record: Record) -> Row:
    """The worst of all rows: memory and time, measured to predicted, and how often memory ran out."""
    rows = [row for row in record.rows() if not row["error"]]
    held = [row["measured_peak_bytes"] / row["predicted_peak_bytes"] for row in rows]
    took = [row["job_seconds"] / row["job_predicted_seconds"] for row in rows]
    return {
        "memory_measured_to_predicted": [min(held), max(held)] if held else None,
        "time_measured_to_predicted": [min(took), max(took)] if took else None,
        "out_of_memory": sum(OUT_OF_MEMORY in row["error"] for row in record.rows()),
    }

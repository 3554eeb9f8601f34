"""Suite `limits`: what share of the card's own rates each phase reaches, and what the slowest step spends its time on.

The ceilings are the self-measurement's: a large matrix product and a large copy. A phase's operations are counted by
torch, its floor (each operation the longer of computing and moving at those ceilings) by the dry run. The profile is
torch.profiler's; the time in which the card ran nothing is one of its items.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from bench.gpu.contenders import Ours, encode, run
from bench.gpu.i2vgen import STEP_SECONDS, pace, plan_json, plans
from bench.gpu.planner import STEPS_OF_A_JOB
from bench.gpu.record import Clock, Record, Row
from bench.gpu.rig import Rig
from bench.gpu.suite import Bench
from i2v.dryrun.runner import module_bytes
from i2v.families.base import Conditioning
from i2v.families.i2vgen_xl.model import I2VGenXL
from i2v.memory.card import Card
from i2v.plan import Plan
from i2v.planning.measured import Measurement
from i2v.planning.work import Work
from i2v.request import GenerationRequest

LARGEST_ITEMS = 3
IDLE = "the card waits for the host"


def suite(bench: Bench, record: Record, clock: Clock) -> None:
    """The copy of the weights, the fastest and the smallest plan of each size, and the profile. Raises OutOfTime."""
    measured = bench.measurement(clock)
    record.note(measurement=vars(measured))
    precision = bench.scale.precisions[0]
    _placing(bench, record, clock, precision, measured)
    slowest: tuple[tuple[int, int, int], Plan] | None = None
    for size in bench.scale.sizes:
        fitting = [plan for plan, _, prediction in plans(bench, clock, precision, size) if _fits(prediction.verdict)]
        for plan in dict.fromkeys((fitting[0], fitting[-1])):
            slowest = size, plan
            case = f"{precision} {size[0]}x{size[1]}x{size[2]} {' '.join(map(str, plan_json(plan).values()))}"
            if not record.has(case):
                record.put(case, _shares(bench, clock, size, plan, measured))
    if slowest and not record.has("profile"):
        record.put("profile", _profile(bench, clock, *slowest))
        items = record.get("profile") or {}
        print("\n".join(f"{i['share']:6.1%} {i['name'][:90]}" for i in items["items"][:LARGEST_ITEMS]), flush=True)


def _fits(verdict: str) -> bool:
    return verdict != "wont_fit"


def _placing(bench: Bench, record: Record, clock: Clock, precision: str, measured: Measurement) -> None:
    """The denoiser's weights from the host, as `Card.place` copies them."""
    if record.has("placing"):
        return
    model = bench.model(precision, clock)
    size = module_bytes(model.unet)
    with bench.rig.card() as card, card.running():
        times = []
        for _ in range(3):
            card.evict(model.unet)
            bench.rig.synchronize()
            began = time.perf_counter()
            card.place(model.unet)
            bench.rig.synchronize()
            times.append(time.perf_counter() - began)
    rate = size / (pace(times) or 1)
    told: Row = {"bytes": size, "seconds": times, "rate": rate}
    record.put(
        "placing", {**told, "share_of_link": rate / measured.link, "share_of_pinned": rate / measured.link_pinned}
    )


def _shares(bench: Bench, clock: Clock, size: tuple[int, int, int], plan: Plan, measured: Measurement) -> Row:
    """One plan's phases: operations counted in a run of their own, times without counting."""
    job = bench.scale.job(size)
    bench.need(clock, 3 * STEP_SECONDS * bench.scale.timed_steps * size[0] * size[1] * size[2] / 2**25)
    model = bench.model(plan.precision, clock)
    conditioning, _, _ = encode(bench.rig, model, job, plan)
    contender = Ours(model, plan)
    timed = run(bench.rig, contender, job, conditioning, steps=bench.scale.timed_steps, room_for=clock.room_for)
    with FlopCounterMode(display=False) as counter:
        counted = Counted(model, plan, counter)
        run(bench.rig, counted, job, conditioning, steps=1)
    step_flops, decode_flops = counted.step_flops, counter.get_total_flops() - counted.step_flops
    found, _ = bench.dry(job, plan)
    phases = {phase.name: phase for phase in found.phases}
    single = plan.precision == "float32"
    told: Row = {"width": size[0], "height": size[1], "frames": size[2], "precision": plan.precision}
    told |= {"plan": plan_json(plan), "error": timed.error}
    step = pace(timed.step_seconds[1:])
    told["denoise"] = _phase(step, step_flops, phases["denoise"].each, measured, single)
    told["decode"] = _phase(timed.decode_seconds, decode_flops, phases["decode"].once, measured, single)
    return told


def _phase(seconds: float | None, flops: int, work: Work, measured: Measurement, single: bool) -> Row | None:
    """Achieved rate and shares of the ceilings; None where the phase did not come to its end."""
    if not seconds:
        return None
    rate = measured.single_flops if single else measured.half_flops
    floor = work.at_ridge(rate / measured.bandwidth) / rate
    return {
        "seconds": seconds,
        "flops": flops,
        "flops_per_second": flops / seconds,
        "share_of_matrix_rate": flops / seconds / rate,
        "floor_seconds": floor,
        "share_of_floor": floor / seconds,
        "launches": work.launches,
        "launching_seconds": work.launches * measured.launch_seconds,
    }


def _profile(bench: Bench, clock: Clock, size: tuple[int, int, int], plan: Plan) -> Row:
    """The step after the first, profiled: its items by the time they take on the card, and what each would be worth at
    most: the seconds that a job would save if it took none."""
    job = bench.scale.job(size)
    bench.need(clock, 4 * STEP_SECONDS * size[0] * size[1] * size[2] / 2**25)
    model = bench.model(plan.precision, clock)
    conditioning, _, _ = encode(bench.rig, model, job, plan)
    contender = Profiled(Ours(model, plan), bench.rig.device.type == "cuda")
    run(bench.rig, contender, job, conditioning, steps=2, decode=False)
    items = sorted(contender.items.items(), key=lambda item: -item[1])
    whole = contender.seconds
    told: Row = {"width": size[0], "height": size[1], "frames": size[2], "plan": plan_json(plan), "seconds": whole}
    told["items"] = [
        {
            "name": name,
            "seconds": seconds,
            "share": seconds / whole,
            "worth_seconds_of_a_job": seconds * STEPS_OF_A_JOB,
        }
        for name, seconds in items[: 4 * LARGEST_ITEMS]
    ]
    return told


class Counted(Ours):
    """As its plan, and `counter` read after the last step."""

    def __init__(self, model: I2VGenXL, plan: Plan, counter: FlopCounterMode) -> None:
        super().__init__(model, plan)
        self._counter = counter
        self.step_flops = 0

    def decode(self, rig: Rig, card: Card, job: GenerationRequest, latents: Tensor, conditioning: Conditioning) -> None:
        self.step_flops = self._counter.get_total_flops()
        super().decode(rig, card, job, latents, conditioning)


class Profiled(Ours):
    """As the plan it is given, with its second step under torch's profiler. `items`: seconds by name."""

    def __init__(self, ours: Ours, cuda: bool) -> None:
        super().__init__(ours.model, ours.plan)
        self._cuda = cuda
        self.items: dict[str, float] = {}
        self.seconds = 0.0

    def steps(self, rig: Rig, card: Card, job: GenerationRequest, conditioning: Conditioning) -> Iterator[Tensor]:
        # A card alone: beside it, torch would follow what the host does, for minutes where a step has 100,000 launches.
        kinds = [ProfilerActivity.CUDA if self._cuda else ProfilerActivity.CPU]
        with contextlib.closing(super().steps(rig, card, job, conditioning)) as stepping:
            yield next(stepping)
            rig.synchronize()
            began = time.perf_counter()
            with profile(activities=kinds) as profiler:
                latents = next(stepping)
                rig.synchronize()
                self.seconds = time.perf_counter() - began
            for item in profiler.key_averages():
                # On a card only what ran there; torch keeps the operations that launched it beside, without own time.
                own = item.self_device_time_total if self._cuda else item.self_cpu_time_total
                if own > 0 and (not self._cuda or "CUDA" in str(item.device_type)):
                    self.items[item.key] = self.items.get(item.key, 0.0) + own * 1e-6
            if self._cuda:
                self.items[IDLE] = max(0.0, self.seconds - sum(self.items.values()))
            yield latents
